"""The pool's hold on one worker process."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from face.frames import MOST_REPLY_BYTES, PREFIX, body_length, frame, reply_from

_ROOT = Path(__file__).resolve().parent.parent
_DYING_S = 1.0
_KEPT_VARIABLES = ("LANG", "LC_ALL", "LD_LIBRARY_PATH")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


class WorkerFailed(Exception):
    """A worker ended without an answer: it crashed, ran out of memory or could not start. ``cause``: why, in a word; a
    signal's name, or an exception's."""

    def __init__(self, text: str, cause: str = "") -> None:
        super().__init__(text)
        self.cause = cause or type(self).__name__


class WorkerProcess:
    """A warm worker. One request at a time; ``jobs`` counts those it has answered."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.jobs = 0
        self.model_id = ""
        self.confined_by: tuple[str, ...] = ()

    @classmethod
    async def start(cls, command: Sequence[str], start_limit_s: float) -> Self:
        """A worker whose engine is built and warm; ``command`` is what follows ``face.worker FD``.

        Raises :class:`WorkerFailed` with the worker's reason.
        """
        worker = await cls._spawned(command)
        try:
            async with asyncio.timeout(start_limit_s):
                worker._introduce(await worker._reply())
        except TimeoutError:
            await worker.end()
            raise WorkerFailed(f"the worker was not ready after {start_limit_s:g} s") from None
        except BaseException:
            await worker.end()
            raise
        return worker

    @classmethod
    async def _spawned(cls, command: Sequence[str]) -> Self:
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await _connected(ours)
            launch = asyncio.create_task(_launched(theirs.fileno(), command))
            try:
                process = await asyncio.shield(launch)
            except (
                asyncio.CancelledError
            ):  # whoever is cancelled while a process starts must not leave it behind
                await cls(await launch, reader, writer).end()
                raise
            except BaseException:
                writer.close()
                raise
        return cls(process, reader, writer)

    def _introduce(self, reply: dict[str, Any]) -> None:
        """What it says of itself once its engine is warm."""
        match reply:
            case {"ready": str(model_id), "confined_by": [*mechanisms]}:
                self.model_id, self.confined_by = model_id, tuple(map(str, mechanisms))
            case _:
                raise WorkerFailed("the worker did not say that it is ready")

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None and not self._reader.at_eof()

    async def ask(self, photo: bytes) -> dict[str, Any]:
        """The worker's reply. Raises :class:`WorkerFailed` when it ends or talks nonsense instead."""
        with suppress(
            ConnectionError, RuntimeError
        ):  # a closed end (uvloop: RuntimeError) is found by reading
            self._writer.write(frame(photo))
            await self._writer.drain()
        reply = await self._reply()
        self.jobs += 1
        return reply

    async def _reply(self) -> dict[str, Any]:
        try:
            prefix = await self._reader.readexactly(PREFIX.size)
            body = await self._reader.readexactly(body_length(prefix, MOST_REPLY_BYTES))
            reply = reply_from(body)
        except (asyncio.IncompleteReadError, ConnectionError):
            cause = await self._cause_of_death()
            raise WorkerFailed(f"the worker ended ({cause})", cause.replace(" ", "_")) from None
        except ValueError as fault:
            raise WorkerFailed(f"the worker's reply is unusable: {fault}") from None
        if "fault" in reply:
            raise WorkerFailed(str(reply["fault"]), str(reply["fault"]).partition(":")[0])
        return reply

    async def _cause_of_death(self) -> str:
        with suppress(TimeoutError):  # its end of the socket closes a moment before it is gone
            async with asyncio.timeout(_DYING_S):
                await self._process.wait()
        await self.end()
        code = self._process.returncode or 0
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    async def exited(self) -> None:
        await self._process.wait()

    async def end(self) -> None:
        """Kill it and wait until nothing of it is left."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        self._writer.close()
        await self._process.wait()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


async def _connected(ours: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_unix_connection(sock=ours)
    except BaseException:
        ours.close()
        raise


async def _launched(channel: int, command: Sequence[str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-s", "-m", "face.worker"),
        *(str(channel), *command),
        pass_fds=(channel,),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """Nothing of the service's own: its variables name databases and keys."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | _ONE_THREAD | {"PYTHONPATH": str(_ROOT)}
