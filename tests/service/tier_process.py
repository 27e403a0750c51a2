"""Replicas of the face tier beside a test: `python -m checkin_service face-tier`, with an engine that obeys marks.

python -m tests.service.tier_process CACHE_DIR
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from checkin_service import __main__ as command_line
from face import WorkerPool, engine_id

ROOT = Path(__file__).resolve().parents[2]
ENGINE = engine_id(("sface", "dlib"), False)
TOKEN = "a-secret-of-the-tests-for-the-tier-alone"
READY_WAIT_S = 900
FACTORY = "tests.faults.marked_engine:marked_or_real"


class TierProcess:
    """One replica at a port of its own, that keeps it when it is started again."""

    def __init__(self, folder: Path, cache_dir: Path, **settings: str) -> None:
        folder.mkdir()
        self.port = _free_port()
        scheme = "https" if "CHECKIN_FACE_TIER_CERT_FILE" in settings else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.temporary, self.log = folder / "temporary", folder / "log"
        self.temporary.mkdir()
        self._command = [sys.executable, "-m", "tests.service.tier_process", str(cache_dir)]
        self._environment = {
            **os.environ,
            "CHECKIN_PORT": str(self.port),
            "CHECKIN_DATA_DIR": str(folder / "data"),
            "CHECKIN_FACE_TIER_TOKEN_FILE": str(token_file(folder)),
            "TMPDIR": str(self.temporary),
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.wait()

    async def stop(self) -> int:
        """SIGTERM; what it ends with."""
        assert self._process is not None
        self._process.terminate()
        return await asyncio.to_thread(self._process.wait)

    async def ready(self, session: aiohttp.ClientSession) -> None:
        """Returns when it is to be asked. Raises `RuntimeError` with its log when it ended."""
        async with asyncio.timeout(READY_WAIT_S):
            while not await self._is_ready(session):
                assert self._process is not None
                if self._process.poll() is not None:
                    raise RuntimeError(f"the replica did not start:\n{self.log.read_text()[-4000:]}")
                await asyncio.sleep(0.05)

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(f"{self.url}/v2/models/{ENGINE}/ready", ssl=False) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


@asynccontextmanager
async def tier(*replicas: TierProcess) -> AsyncIterator[None]:
    """They run, and are killed in the end."""
    try:
        for replica in replicas:
            replica.start()
        async with aiohttp.ClientSession() as session:
            for replica in replicas:
                await replica.ready(session)
        yield
    finally:
        for replica in replicas:
            replica.kill()


def token_file(folder: Path) -> Path:
    path = folder / "token"
    path.write_text(f"{TOKEN}\n")
    return path


def pool_settings() -> dict[str, Any]:
    """One worker each, and a deadline that only what hangs for ever misses."""
    return {"workers": 1, "spares": 0, "deadline_s": 600.0, "patience_s": 600.0}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    service: Any = command_line
    options = {"cache_dir": sys.argv.pop()}
    service.worker_pool = lambda _: WorkerPool(FACTORY, options, **pool_settings())
    sys.exit(command_line.main(["face-tier"]))
