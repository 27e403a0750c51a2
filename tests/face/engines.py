"""Engines for tests of the pool: quick, deterministic, and some of them hostile.

A worker builds one by its name, such as ``tests.face.engines:fixed``.
"""

import ctypes
import hashlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from face.analysis import Analysis, FaceBox
from face.comparison import DLIB_RESNET_MODEL
from face.image_errors import ImageUnreadable
from tests.qualities import GOOD

CRASH = b"crash"
HANG = b"hang"
MEMORY = b"memory"
FAULT = b"fault"
REFUSED = b"refused"
NO_FACE = b"no face"
SLOW = b"slow"
SELF = b"self"

_CORE_BYTES = resource.getrlimit(resource.RLIMIT_CORE)[0]


class FixedEngine:
    """Answers from the photograph's bytes: a person is everything before the first ``#``.

    The templates of one person are equal, those of two are far apart; the markers above are obeyed.
    """

    model_id = DLIB_RESNET_MODEL

    def analyse(self, photo: bytes) -> Analysis:
        person = photo.partition(b"#")[0]
        if person in _ORDERS:
            _ORDERS[person]()
        if person == NO_FACE:
            return Analysis(640, 480, 0, (), None, {})
        box = FaceBox(left=200, top=100, width=200, height=200)
        return Analysis(640, 480, 0, (box,), GOOD, {self.model_id: _vector(person)})


def _crash() -> None:
    ctypes.string_at(0)  # a worker may not signal, not even itself


def _hang() -> NoReturn:
    while True:
        pass


def _exhaust_memory() -> NoReturn:
    held = []
    while True:
        held.append(bytearray(16_000_000))


def _fail() -> NoReturn:
    raise ZeroDivisionError("a canary in the message")


def _refuse() -> NoReturn:
    raise ImageUnreadable("damaged", "Take it again.", received_bytes=7)


def _show_itself() -> NoReturn:
    raise ImageUnreadable("self", "The worker, as seen from inside.", **_worker_seen_from_inside())


def _worker_seen_from_inside() -> dict[str, int | str]:
    return {
        "pid": os.getpid(),
        "variables": " ".join(sorted(os.environ)),
        "core_bytes": _CORE_BYTES,
        "ignored": " ".join(
            s.name
            for s in signal.valid_signals()
            if signal.getsignal(s) is signal.SIG_IGN and isinstance(s, signal.Signals)
        ),
        "modules": " ".join(sys.modules),
    }


_ORDERS: dict[bytes, Callable[[], None]] = {
    CRASH: _crash,
    HANG: _hang,
    MEMORY: _exhaust_memory,
    FAULT: _fail,
    REFUSED: _refuse,
    SELF: _show_itself,
    SLOW: lambda: time.sleep(0.3),
}


def _vector(person: bytes) -> tuple[float, ...]:
    """128 numbers of length 1."""
    digest = hashlib.shake_256(person).digest(128)
    length = sum((byte - 127.5) ** 2 for byte in digest) ** 0.5
    return tuple((byte - 127.5) / length for byte in digest)


def fixed() -> FixedEngine:
    return FixedEngine()


def unbuildable() -> NoReturn:
    """A factory that fails as with damaged weights."""
    raise OSError("weights.dat was altered")


def buildable_once() -> FixedEngine:
    """A factory that works once in a folder (the worker's current one) and counts its calls there."""
    calls = Path("calls")
    count = len(calls.read_bytes()) if calls.exists() else 0
    calls.write_bytes(b"." * (count + 1))
    if count:
        raise OSError("weights.dat went away")
    return FixedEngine()


def never_ready() -> NoReturn:
    """A factory that hangs."""
    while True:
        time.sleep(1)


def talks_nonsense() -> "NonsenseEngine":
    return NonsenseEngine()


class NonsenseEngine(FixedEngine):
    """A worker taken over by a picture might send anything."""

    def analyse(self, photo: bytes) -> Analysis:
        return Analysis(640, 480, 0, (), None, {"model": ("no number",)})  # type: ignore[dict-item]
