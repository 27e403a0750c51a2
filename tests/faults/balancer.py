"""A balancer before service processes as many are: it asks each for its readiness now and then, gives every new
connection to the next one that was ready, and passes on what it hears, a reset as a reset. It never tries another."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

import aiohttp

from tests.faults.processes import ServiceProcess

ASKED_EVERY_S = 0.2


class Balancer:
    """`ready`: the ports that said so when they last said anything."""

    def __init__(self) -> None:
        self.ready: set[int] = set()
        self._turn = count()

    async def ask_on(self, process: ServiceProcess) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                (self.ready.add if await _is_ready(session, process) else self.ready.discard)(process.port)
                await asyncio.sleep(ASKED_EVERY_S)

    async def until_ready(self, process: ServiceProcess) -> None:
        while process.port not in self.ready:  # noqa: ASYNC110  asked for often enough
            await asyncio.sleep(0.02)

    async def take(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            port = sorted(self.ready)[next(self._turn) % len(self.ready)]
            its_reader, its_writer = await asyncio.open_connection("127.0.0.1", port)
        except (ConnectionError, ZeroDivisionError):
            writer.transport.abort()
            return
        await asyncio.gather(_pass_on(reader, its_writer), _pass_on(its_reader, writer))
        its_writer.close()
        writer.close()


@asynccontextmanager
async def balancing(processes: Sequence[ServiceProcess]) -> AsyncIterator[tuple[str, Balancer]]:
    """Its address, once every process is ready."""
    balancer = Balancer()
    asking = [asyncio.create_task(balancer.ask_on(process)) for process in processes]
    try:
        async with asyncio.timeout(60):
            for process in processes:
                await balancer.until_ready(process)
        listener = await asyncio.start_server(balancer.take, "127.0.0.1", 0)
        async with listener:
            yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", balancer
    finally:
        for task in asking:
            task.cancel()


async def _is_ready(session: aiohttp.ClientSession, process: ServiceProcess) -> bool:
    try:
        async with session.get(f"{process.base}/readyz", headers={"Connection": "close"}) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def _pass_on(reader: StreamReader, writer: StreamWriter) -> None:
    """To the end of it: theirs is ours."""
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except (ConnectionError, OSError):
        writer.transport.abort()
