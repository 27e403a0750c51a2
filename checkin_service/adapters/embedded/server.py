"""One server process: tied to this one, watched until it answers, stopped in order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from checkin_service.adapters.embedded.account import EmbeddedError
from checkin_service.adapters.embedded.place import Place

LAUNCHER = Path(__file__).with_name("launch.py")
READY_WAIT_S = 60.0  # a start after a crash replays the log first
STOP_WAIT_S = 20.0
LAST_LINES = 8


@dataclass(frozen=True, slots=True)
class Server:
    """A started server. `complaint` tries one connection and says what went wrong, None when it succeeded."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    log: Path
    stop_signal: signal.Signals
    complaint: Callable[[], str | None]


def launch(
    program: Path,
    arguments: Sequence[str],
    place: Place,
    log: Path,
    death_signal: signal.Signals,
    given: bytes = b"",
) -> subprocess.Popen[bytes]:
    """Start `program` as the servers' user, in a session of its own: a terminal's Ctrl-C is for the service.

    It gets `given` on standard input and `death_signal` when this thread ends; its output goes to `log`.
    """
    account = place.account
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER)]
    rights = [str(os.getpid()), str(int(death_signal)), str(account.uid), str(account.gid)]
    log.touch(mode=0o600)
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  our own program, found in an installed wheel
            [*launcher, *rights, str(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[place.servers_lock],
        )
    assert process.stdin is not None
    # One that ended at once is noticed by whoever waits for it.
    with suppress(BrokenPipeError), process.stdin:
        process.stdin.write(given)
    return process


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Stops the server at the end: asked first, killed when it does not obey."""
    try:
        yield server
    finally:
        server.process.send_signal(server.stop_signal)
        try:
            server.process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()


def wait_until_ready(server: Server) -> None:
    """Returns once a connection succeeded. Raises `EmbeddedError` with the end of the server's log."""
    give_up_at = time.monotonic() + READY_WAIT_S
    while complaint := server.complaint():
        if (code := server.process.poll()) is not None:
            ended = f"{server.name} stopped while starting (exit code {code})"
            raise EmbeddedError(failure(ended, server.log))
        if time.monotonic() >= give_up_at:
            slow = f"{server.name} did not answer within {READY_WAIT_S:.0f} s ({complaint})"
            raise EmbeddedError(failure(slow, server.log))
        time.sleep(0.02)


def wait_until_done(name: str, process: subprocess.Popen[bytes], log: Path, wait_s: float) -> None:
    """Returns when a program that ends by itself succeeded. Raises `EmbeddedError` with its last lines."""
    try:
        code = process.wait(wait_s)
    except subprocess.TimeoutExpired:
        raise EmbeddedError(failure(f"{name} did not finish within {wait_s:.0f} s", log)) from None
    finally:
        process.kill()
        process.wait()
    if code != 0:
        raise EmbeddedError(failure(f"{name} failed (exit code {code})", log))


def failure(what: str, log: Path) -> str:
    """A message for `EmbeddedError`: what happened, what to do, the end of the log."""
    lines = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
    full = any("No space left on device" in line for line in lines)
    remedy = (
        "free some space on its disk, or set CHECKIN_DATA_DIR to a directory on another"
        if full
        else "mend what its log names, or set DATABASE_URL and REDIS_URL to servers of your own"
    )
    return "\n".join([f"{what}: {remedy}. The end of {log}:", *(f"  {line}" for line in lines)])
