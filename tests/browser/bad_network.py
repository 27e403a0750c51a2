"""A network that breaks in the middle of an upload."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(slots=True)
class BadNetwork:
    """A way to the service, with an address of its own. While it `breaks`, of every check-in `passes` bytes get
    through, then its connection is gone; `cuts` counts them."""

    base: str
    breaks: bool = False
    passes: int = 40_000
    cuts: int = 0

    async def send(self, phone: StreamReader, service: StreamWriter) -> None:
        left: int | None = None
        while chunk := await phone.read(4096):
            if self.breaks and b"POST /v1/check-ins" in chunk:
                left = self.passes
            service.write(chunk if left is None else chunk[:left])
            await service.drain()
            if left is not None and (left := left - len(chunk)) <= 0:
                self.cuts += 1
                return


@asynccontextmanager
async def bad_network(base: str) -> AsyncIterator[BadNetwork]:
    there = urlsplit(base)
    network = BadNetwork("")

    async def carry(phone: StreamReader, to_phone: StreamWriter) -> None:
        service, to_service = await asyncio.open_connection(there.hostname, there.port)
        answers = asyncio.create_task(_pass_on(service, to_phone))
        with suppress(ConnectionError):
            await network.send(phone, to_service)
        for end in (to_phone, to_service):
            end.transport.abort()
        await answers

    server = await asyncio.start_server(carry, "127.0.0.1", 0)
    network.base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield network
    finally:
        server.close()


async def _pass_on(source: StreamReader, sink: StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await source.read(65536):
            sink.write(chunk)
            await sink.drain()
