"""One worker process: ``python -m face.worker FD FACTORY OPTIONS HEADROOM_BYTES``.

It builds the engine that ``FACTORY`` ("module:function") makes of ``OPTIONS`` (JSON), says that it is ready,
and answers one photograph after another on the socket ``FD`` until that closes. A refused picture is an
answer; any other fault ends the process, because what it left behind is unknown. Nothing is printed: a stack
trace may hold parts of a picture. Once the engine is built, the process is confined: before the first photograph.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import sys
import time
from contextlib import suppress
from importlib import import_module
from typing import Any, BinaryIO

from face.analysis import Engine, analysis_to_json
from face.confinement import close_inherited, confine
from face.frames import MOST_PHOTO_BYTES, PREFIX, body_length, frame
from face.image_errors import ImageError, error_to_json
from face.memory import address_space_bytes, resident_bytes, return_memory

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
# A large photograph takes 50 MB of heap, which would be kept for good.
_KEPT_BYTES = 32 * 1024 * 1024
_NICENESS = 10
_TRIES = 10


def main(channel: socket.socket, factory: str, options: dict[str, Any], headroom_bytes: int) -> None:
    close_inherited(channel.fileno())
    session = _session()
    _depend_on_parent()
    try:
        engine = _built(factory, options)
    except Exception as fault:  # noqa: BLE001 - whatever stops the engine is what the parent has to hear
        _reply(channel, {"fault": f"{type(fault).__name__}: {fault}"})
        return
    _limit_memory(headroom_bytes)
    _yield_to_others(session)
    _reply(channel, {"ready": engine.model_id, "confined_by": confine()})
    with channel.makefile("rb") as photos:
        _serve(channel, photos, engine)


def _depend_on_parent() -> None:
    """End with the parent, leave its Ctrl-C and SIGTERM to it (it drains), and write no core file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # A core pattern that pipes to a program ignores the limit, but not this.
        _LIBC.prctl(_PR_SET_DUMPABLE, 0)


def _limit_memory(headroom_bytes: int) -> None:
    """Let the warm process grow by so much address space and no more.

    The kernel refuses the allocation itself, at once and in whatever library it happens; watching the resident
    size from outside would come too late for one large allocation.
    """
    if sys.platform != "linux":
        return
    most = address_space_bytes() + headroom_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _session() -> int | None:
    """Where the niceness of the process' session is set; None where sessions are not scheduled as groups. Opened while
    it may be: what nobody may look into has its files in ``/proc`` owned by root."""
    try:
        return os.open("/proc/self/autogroup", os.O_WRONLY)
    except OSError:
        return None


def _yield_to_others(session: int | None) -> None:
    """Under load whoever takes, refuses or reports goes before whoever computes: what comes in has a deadline."""
    os.nice(_NICENESS)
    if session is not None:
        with suppress(OSError):
            _set_niceness(session)
        os.close(session)


def _set_niceness(session: int) -> None:
    """A process' own counts within its session alone."""
    for _ in range(_TRIES):
        try:
            os.write(session, str(_NICENESS).encode())
        except BlockingIOError:  # only one process a tenth of a second, whose user is not root
            time.sleep(0.1)
        else:
            return


def _built(factory: str, options: dict[str, Any]) -> Engine:
    module, _, function = factory.partition(":")
    engine: Engine = getattr(import_module(module), function)(**options)
    return engine


def _serve(channel: socket.socket, photos: BinaryIO, engine: Engine) -> None:
    warm_bytes = resident_bytes()
    while prefix := photos.read(PREFIX.size):
        photo = photos.read(body_length(prefix, MOST_PHOTO_BYTES))
        since = time.process_time()
        try:
            answer = _answer(engine, photo)
        except Exception as fault:  # noqa: BLE001 - the kind only: the message may quote the picture
            _reply(channel, {"fault": type(fault).__name__})
            return
        _reply(channel, answer | {"cpu_s": time.process_time() - since})
        return_memory(warm_bytes + _KEPT_BYTES)


def _answer(engine: Engine, photo: bytes) -> dict[str, Any]:
    try:
        return {"analysis": analysis_to_json(engine.analyse(photo))}
    except ImageError as error:
        return {"refused": error_to_json(error)}


def _reply(channel: socket.socket, reply: dict[str, Any]) -> None:
    channel.sendall(frame(json.dumps(reply).encode()))


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        main(parent, sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4]))
