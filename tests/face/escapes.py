"""Engines that try to get out of their worker, for tests of its confinement.

The photograph is JSON, such as ``["read", "/etc/passwd"]``; the answer is an ``ImageUnreadable`` whose ``outcome`` says
what came of it: ``done``, or the name of the error.
"""

import errno
import json
import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from face import confinement
from face.analysis import Engine
from face.comparison import SFACE_MODEL
from face.engine import build_engine
from face.image_errors import ImageUnreadable


class EscapingEngine:
    model_id = SFACE_MODEL

    def __init__(self) -> None:
        opened = (_target(descriptor) for descriptor in Path("/proc/self/fd").iterdir())
        self._inherited = [target for target in opened if not target.startswith(("/dev/null", "/proc/"))]

    def analyse(self, photo: bytes) -> NoReturn:
        attempt, *given = json.loads(photo)
        if attempt == "inherited":
            raise ImageUnreadable("escape", "What was open.", outcome=" ".join(self._inherited))
        raise ImageUnreadable("escape", "What came of it.", outcome=_outcome(ATTEMPTS[attempt], *given))


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:  # the folder itself, while it was listed
        return "/proc/"


def _outcome(attempt: Callable[..., Any], *given: Any) -> str:
    try:
        attempt(*given)
    except OSError as refusal:
        return errno.errorcode[refusal.errno or 0]
    except ValueError as refusal:  # what `resource` makes of EPERM
        return str(refusal)
    return "done"


def _read(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.read(descriptor, 1)


def _write(path: str) -> None:
    os.write(os.open(path, os.O_WRONLY | os.O_CREAT), b"!")


def _connect(family: int, address: Any) -> None:
    with socket.socket(family) as outward:
        outward.connect(address)


def _fork() -> None:
    if not (child := os.fork()):
        os._exit(0)
    os.waitpid(child, 0)


def _execute(program: str) -> None:
    os.waitpid(os.posix_spawn(program, [program], {}), 0)


ATTEMPTS: dict[str, Callable[..., Any]] = {
    "read": _read,
    "list": os.listdir,
    "write": _write,
    "tcp": lambda *address: _connect(socket.AF_INET, address),
    "unix": lambda path: _connect(socket.AF_UNIX, path),
    "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
    "fork": _fork,
    "execute": _execute,
    "signal": lambda pid: os.kill(pid, 0),
    "limits": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
    "import": lambda name: __import__(name),
}


def confined() -> EscapingEngine:
    return EscapingEngine()


def unconfined() -> EscapingEngine:
    sys.modules["__main__"].confine = tuple  # type: ignore[attr-defined]
    return EscapingEngine()


def without_landlock() -> EscapingEngine:
    """As on a kernel that has none."""
    confinement._landlock = lambda readable: False
    return EscapingEngine()


def real_without_landlock(cache_dir: str) -> Engine:
    without_landlock()
    return build_engine(cache_dir)


def without_seccomp() -> EscapingEngine:
    """As on another machine than x86-64."""
    confinement._filter_calls = lambda allowed: False
    return EscapingEngine()
