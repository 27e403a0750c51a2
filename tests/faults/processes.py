"""Service processes beside the test: started, killed or stopped, and started again on their ports."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parents[2]
READY_WAIT_S = 60


class ServiceProcess:
    """One `tests.faults.served` on a port of its own; `arguments` are all but the port."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.port = _free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, "-m", "tests.faults.served", *arguments, "--port", str(self.port)]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )

    async def ready(self) -> None:
        """Returns when it answers. Raises `RuntimeError` with its log when it ended, `TimeoutError` in the end."""
        async with asyncio.timeout(READY_WAIT_S), aiohttp.ClientSession() as session:
            while not await self._answers(session):
                if self._process is None or self._process.poll() is not None:
                    raise RuntimeError(f"the service did not start:\n{self._log.read_text()[-4000:]}")
                await asyncio.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is cleaned up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def ended(self) -> None:
        """Returns when it has come to an end, for whatever reason."""
        assert self._process is not None
        await asyncio.to_thread(self._process.wait)

    async def stop(self) -> float:
        """SIGTERM, and how many seconds the process took to its end. Raises `RuntimeError` if that was not orderly."""
        assert self._process is not None
        since = time.monotonic()
        self._process.terminate()
        if code := await asyncio.to_thread(self._process.wait):
            raise RuntimeError(f"the service ended with {code}:\n{self._log.read_text()[-4000:]}")
        return time.monotonic() - since

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.base}/livez"):
                return True
        except aiohttp.ClientError:
            return False


@asynccontextmanager
async def processes(
    number: int, folder: Path, database_url: str, redis_url: str, data_dir: Path, *switches: str
) -> AsyncIterator[list[ServiceProcess]]:
    """So many service processes on one database, ready; killed in the end."""
    arguments = ["--database", database_url, "--redis", redis_url, "--data-dir", str(data_dir), *switches]
    running = [ServiceProcess(arguments, folder / f"served-{index}.log") for index in range(number)]
    try:
        for process in running:
            process.start()
        for process in running:
            await process.ready()
        yield running
    finally:
        for process in running:
            process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
