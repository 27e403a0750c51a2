"""What a test does to the service's stores: servers of its own that it kills, freezes and starts again at the same
address and on the same data, and wires to them that it cuts.

    with own_stores() as stores:
        url = await stores.databases.make()
        stores.postgres.kill()
        await stores.postgres.restart()

    async with wire_to_database(url) as wire:  # a service is given wire.url
        wire.cut(after=0, mark=b'"outcome"')  # the answer to the next request with this in it is lost, whole
"""

import asyncio
import os
import shutil
import signal
import tempfile
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

import redis

from checkin_service.adapters.embedded.place import taken
from checkin_service.adapters.embedded.postgres import PORT, launch_postgres
from checkin_service.adapters.embedded.server import Server, wait_until_ready
from checkin_service.adapters.embedded.stores import NO_SETTINGS
from checkin_service.adapters.embedded.valkey import launch_valkey
from tests.embedded.temporary import temporary_data_dir
from tests.service.databases import Databases

PASSWORD = "the-same-after-a-restart"
Ends = tuple[StreamReader, StreamWriter]


# --- Servers ---


class OwnServer:
    """A PostgreSQL or a Valkey that runs. Belongs to the main thread, which its processes end with."""

    def __init__(self, launch: Callable[[], Server], end: signal.Signals) -> None:
        self._launch, self._end = launch, end
        self._server = launch()

    @property
    def url(self) -> str:
        """Stays the same over every start."""
        return self._server.url

    def kill(self) -> None:
        """SIGKILL of the server with all its processes: none finishes anything, no other takes notice."""
        self.freeze()
        family = self._family()
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        self._server.process.wait()
        _wait_until(lambda: all(_state(pid) in {"", "Z"} for pid in family))

    def freeze(self) -> None:
        """SIGSTOP of the server with all its processes: connections stay and nothing answers."""
        os.kill(self._server.process.pid, signal.SIGSTOP)  # first, for it forks the others
        _wait_until(lambda: _state(self._server.process.pid) == "T")
        for pid in self._family():
            os.kill(pid, signal.SIGSTOP)
        _wait_until(lambda: all(_state(pid) in {"T", "Z"} for pid in self._family()))

    def thaw(self) -> None:
        for pid in self._family():
            os.kill(pid, signal.SIGCONT)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """As long as the block lasts."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def start(self) -> None:
        """Starts a killed one on its data, without waiting for it."""
        self._server = self._launch()

    async def ready(self) -> None:
        """Returns once it answers, after a kill when its log was replayed."""
        await asyncio.to_thread(self.wait)

    def wait(self) -> None:
        """`ready`, for who has no event loop."""
        wait_until_ready(self._server)

    async def restart(self) -> None:
        """Kills it, unless that was done, starts it and waits until it answers."""
        if self._server.process.poll() is None:
            self.kill()
        self.start()
        await self.ready()

    def end(self) -> None:
        """For good, at once; of its data nothing is promised."""
        if self._server.process.poll() is None:
            self.thaw()
            self._server.process.send_signal(self._end)
            self._server.process.wait()

    def _family(self) -> list[int]:
        pid = self._server.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]


@dataclass(frozen=True, slots=True)
class OwnStores:
    """Servers of one test or module. `databases` makes databases at this version's schema."""

    postgres: OwnServer
    valkey: OwnServer
    databases: Databases

    @property
    def redis_url(self) -> str:
        return self.valkey.url

    def flush(self) -> None:
        """Empties Valkey."""
        with redis.Redis.from_url(self.redis_url, socket_timeout=10) as client:
            client.flushall()


@contextmanager
def own_stores(postgres_settings: Mapping[str, str] = NO_SETTINGS) -> Iterator[OwnStores]:
    """A PostgreSQL and a Valkey for whoever kills or freezes them; blocks for the second that initdb takes.

    `postgres_settings` are server settings by name, over the embedded server's, at every start.
    """
    with temporary_data_dir() as data_dir, taken(data_dir) as place:
        valkey = OwnServer(partial(launch_valkey, place, PASSWORD), signal.SIGTERM)
        try:
            postgres = OwnServer(partial(launch_postgres, place, postgres_settings), signal.SIGQUIT)
            try:
                valkey.wait()
                postgres.wait()
                yield OwnStores(postgres, valkey, Databases(postgres.url))
            finally:
                postgres.end()
        finally:
            valkey.end()


def _state(pid: int) -> str:
    """The kernel's letter for what a process does; empty when there is none."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    return ""


def _wait_until(condition: Callable[[], bool]) -> None:
    """The kernel's own work, done in less than a slice of time: waited for without a pause."""
    while not condition():
        os.sched_yield()


# --- Wires ---


@dataclass(slots=True)
class Wire:
    """A proxy before a server. `url` is the server's with the wire's address in it; `cuts` counts what was cut,
    `answered` the bytes of answers that came through."""

    url: str
    cuts: int = 0
    answered: int = 0
    _after: int | None = None
    _mark: bytes = b""
    _passes: asyncio.Event = field(default_factory=asyncio.Event)
    _ends: set[StreamWriter] = field(default_factory=set)

    def cut(self, after: int, mark: bytes = b"") -> None:
        """Once: of the answer to the next request that holds `mark`, `after` bytes come through, then the connection
        ends on both sides. The server had made its answer: what it would have said to be done is done."""
        self._after, self._mark = after, mark

    def hold(self) -> None:
        """From now on nothing passes, in either direction; connections stay, new ones are taken and not served."""
        self._passes.clear()

    def release(self) -> None:
        self._passes.set()

    def drop(self) -> None:
        """Resets every connection there is."""
        for end in list(self._ends):
            end.transport.abort()

    async def carry(self, client: Ends, server: Ends) -> None:
        """One connection, until either side ends it."""
        line = _Line(self, client, server)
        ends = {client[1], server[1]}
        self._ends |= ends
        both = [asyncio.create_task(line.requests()), asyncio.create_task(line.answers())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.close()
            for way in both:
                way.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            self._ends -= ends


@dataclass(slots=True)
class _Line:
    """One connection through a wire. `left`: how many bytes of the answer still come through, None for all."""

    wire: Wire
    client: Ends
    server: Ends
    left: int | None = None
    _tail: bytes = b""

    async def requests(self) -> None:
        async for chunk in _chunks(self.client[0]):
            await self.wire._passes.wait()
            self._look_for_mark(chunk)
            await _pass_on(self.server[1], chunk)

    async def answers(self) -> None:
        async for chunk in _chunks(self.server[0]):
            await self.wire._passes.wait()
            passed = chunk[: self.left]
            self.wire.answered += len(passed)
            await _pass_on(self.client[1], passed)
            if self.left is not None and (left := self.left - len(chunk)) < 0:
                self.wire.cuts += 1
                return
            self.left = None if self.left is None else left

    def _look_for_mark(self, chunk: bytes) -> None:
        """Also where the mark lies across two chunks."""
        mark, seen = self.wire._mark, self._tail + chunk
        if self.wire._after is not None and mark in seen:
            self.left, self.wire._after = self.wire._after, None
        self._tail = seen[len(seen) - max(0, len(mark) - 1) :]


async def _chunks(source: StreamReader) -> AsyncIterator[bytes]:
    with suppress(ConnectionError):
        while chunk := await source.read(2**16):
            yield chunk


async def _pass_on(sink: StreamWriter, chunk: bytes) -> None:
    with suppress(ConnectionError):
        sink.write(chunk)
        await sink.drain()


@asynccontextmanager
async def wire_to_service(base: str) -> AsyncIterator[Wire]:
    """Before a service process's `base`, for its callers."""
    host, port = urlsplit(base).hostname, urlsplit(base).port
    wire = Wire(url="")
    async with _listening(
        wire, lambda: asyncio.open_connection(host, port), host="127.0.0.1", port=0
    ) as server:
        wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield wire


@asynccontextmanager
async def wire_to_database(url: str) -> AsyncIterator[Wire]:
    """Before an embedded PostgreSQL, for services."""
    place = parse_qs(urlsplit(url).query)["host"][0]
    with _socket_folder() as folder:
        wire = Wire(url.replace(quote(place, safe="/"), quote(str(folder), safe="/")))
        there, here = (f"{directory}/.s.PGSQL.{PORT}" for directory in (place, folder))
        async with _listening(wire, lambda: asyncio.open_unix_connection(there), path=here):
            yield wire


@asynccontextmanager
async def wire_to_redis(url: str) -> AsyncIterator[Wire]:
    """Before an embedded Valkey, for services."""
    parts = urlsplit(url)
    with _socket_folder() as folder:
        here = f"{folder}/valkey"
        wire = Wire(urlunsplit(parts._replace(path=quote(here, safe="/"))))
        there = unquote(parts.path)
        async with _listening(wire, lambda: asyncio.open_unix_connection(there), path=here):
            yield wire


@asynccontextmanager
async def _listening(
    wire: Wire, connect: Callable[[], Coroutine[Any, Any, Ends]], **address: Any
) -> AsyncIterator[asyncio.Server]:
    async def take(*client: Any) -> None:
        with suppress(ConnectionError, FileNotFoundError, asyncio.CancelledError):
            try:
                await wire.carry((client[0], client[1]), await connect())
            finally:
                client[1].close()

    listen = asyncio.start_unix_server if "path" in address else asyncio.start_server
    wire.release()
    server = await listen(take, **address)
    try:
        yield server
    finally:
        server.close()
        wire.drop()


@contextmanager
def _socket_folder() -> Iterator[Path]:
    """Short enough for a socket's path."""
    folder = tempfile.mkdtemp(prefix="wire-", dir="/tmp")
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder)
