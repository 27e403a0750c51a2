"""`python -m checkin_service serve` as a process of its own, on embedded stores, a free port and a data directory that
goes away."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CONFIGURED = (
    "DATABASE_URL",
    "REDIS_URL",
    "CHECKIN_JWKS",
    "CHECKIN_KEY_FILE",
    "CHECKIN_RECEIPT_KEY_FILE",
    "CHECKIN_EVIDENCE_URL",
)
STOP_TIMEOUT_S = 40


@dataclass(frozen=True, slots=True)
class OwnProcess:
    """Where it answers, and the environment in which the command line finds its keys."""

    pid: int
    base: str
    environment: Mapping[str, str]


@contextmanager
def served(**settings: str) -> Iterator[OwnProcess]:
    """Runs the service until the block ends. Raises `RuntimeError` with its log when it does not start."""
    with tempfile.TemporaryDirectory(prefix="checkin-own-") as folder:
        # PostgreSQL's user has to pass through when this is root
        Path(folder).chmod(0o711)
        environment = {name: value for name, value in os.environ.items() if name not in CONFIGURED}
        environment |= {"CHECKIN_DATA_DIR": f"{folder}/data", "CHECKIN_PORT": "0", **settings}
        log = Path(folder) / "service.log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "checkin_service", "serve"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        try:
            yield OwnProcess(process.pid, _address(process, log), environment)
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
            assert process.stdout is not None
            process.stdout.close()


def _address(process: subprocess.Popen[str], log: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        _, found, address = line.strip().partition("listens on ")
        if found:
            return address
    raise RuntimeError("the service did not start:\n" + log.read_text())
