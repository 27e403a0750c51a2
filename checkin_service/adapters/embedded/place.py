"""Where one run of the embedded stores keeps its things, and the proof that no other run is there."""

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from checkin_service.adapters.embedded.account import (
    Account,
    EmbeddedError,
    closed_directory,
    server_account,
)

FALLBACK = Path("/var/lib/checkin-development")
MARKER = "CHECKIN"
MARKER_TEXT = (
    "Data of the check-in service. Delete this whole directory, while no service runs, to begin anew.\n"
)
SOCKET_PATH_BYTES = 107  # sun_path holds 108 with its terminator
LEFTOVER_WAIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Place:
    """What one run holds. Every server inherits `servers_lock`: it is free only when the last has ended."""

    data_dir: Path
    run_dir: Path
    account: Account
    servers_lock: int


def reachable_data_dir(wished: Path, fallback: Path = FALLBACK) -> Path:
    """`wished`, or a directory in `fallback` when the servers' user cannot get there (a clone in /root).

    The same `wished` always gives the same answer, named after its parent, while nobody changes modes.
    Nothing is created. Tell the user when it differs.
    """
    wished = wished.resolve()
    if closed_directory(wished, server_account()) is None:
        return wished
    digest = hashlib.sha256(os.fsencode(wished)).hexdigest()
    return fallback / f"{wished.parent.name}-{digest[:8]}"


def claim_data_dir(data_dir: Path) -> None:
    """Make `data_dir` ours: created when absent, taken when empty, refused when it holds something else.

    Directories made here, and an empty one taken over, are entered by their owner only; run by root, also
    passed through by others, because the servers' user must. Other directories keep their modes. Raises
    `EmbeddedError` or `OSError`.
    """
    account = server_account()
    _refuse_closed(data_dir, account)
    mode = 0o700 if account.uid == os.geteuid() else 0o711
    _make_directories(data_dir, mode)
    ours = _is_ours(data_dir)
    if (
        not ours and data_dir.stat().st_uid == os.geteuid()
    ):  # a mounted volume may be another's, lent by group
        data_dir.chmod(mode)
    _refuse_closed(data_dir / MARKER, account)
    if not ours:
        (data_dir / MARKER).write_text(MARKER_TEXT)


@contextmanager
def taken(data_dir: Path) -> Iterator[Place]:
    """Hold `data_dir` for this run alone, with a private directory for sockets.

    Raises `EmbeddedError` or `OSError`.
    """
    data_dir = data_dir.resolve()
    claim_data_dir(data_dir)
    account = server_account()
    run_lock, servers_lock = data_dir / "run.lock", data_dir / "servers.lock"
    with (
        _held(run_lock, 0.0, _in_use(run_lock)) as note,
        _held(servers_lock, LEFTOVER_WAIT_S, _still_stopping(data_dir)) as servers,
        _run_dir(note, account) as run_dir,
    ):
        yield Place(data_dir, run_dir, account, servers)


def _refuse_closed(path: Path, account: Account) -> None:
    if closed := closed_directory(path, account):
        raise EmbeddedError(
            f"PostgreSQL runs as {account.name} when the service runs as root, and {account.name} cannot "
            f"enter {closed}: set CHECKIN_DATA_DIR=/var/lib/checkin, or run the service as an ordinary user"
        )


def _is_ours(data_dir: Path) -> bool:
    names = {entry.name for entry in data_dir.iterdir()}
    foreign = sorted(names - {"lost+found"})  # the root of a file system of its own
    if foreign and MARKER not in names:
        raise EmbeddedError(
            f"{data_dir} is not empty and was not made by this service (it holds {', '.join(foreign[:3])}): "
            "set CHECKIN_DATA_DIR to a new or an empty directory"
        )
    return MARKER in names


def _make_directories(data_dir: Path, mode: int) -> None:
    for directory in reversed([data_dir, *data_dir.parents]):
        if not directory.exists():
            directory.mkdir(exist_ok=True)
            directory.chmod(mode)


@contextmanager
def _held(path: Path, wait_s: float, refusal: str) -> Iterator[int]:
    """The file locked; yields its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _locked(descriptor, wait_s):
            raise EmbeddedError(refusal)
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(descriptor: int, wait_s: float) -> bool:
    give_up_at = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                return False
            time.sleep(0.02)
        else:
            return True


def _in_use(run_lock: Path) -> str:
    holder = run_lock.read_text().partition("\n")[0] if run_lock.exists() else ""
    return (
        f"{run_lock.parent} is in use by another run of the service (process {holder or 'unknown'}): "
        "stop that one, or give this one a directory of its own with CHECKIN_DATA_DIR"
    )


def _still_stopping(data_dir: Path) -> str:
    return (
        f"a PostgreSQL or Valkey of an earlier run in {data_dir} has not stopped within "
        f"{LEFTOVER_WAIT_S:.0f} s: wait for it, or end it with kill -9"
    )


@contextmanager
def _run_dir(note: int, account: Account) -> Iterator[Path]:
    """A private directory for the sockets. The lock file names it: after a kill the next run removes it."""
    _remove_leftover(note)
    run_dir = Path(tempfile.mkdtemp(prefix="checkin-", dir=_socket_parent(account)))
    try:
        os.chown(run_dir, account.uid, account.gid)
        os.ftruncate(note, 0)
        os.pwrite(note, os.fsencode(f"{os.getpid()}\n{os.fstat(note).st_ino}\n{run_dir}"), 0)
        yield run_dir
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


def _remove_leftover(note: int) -> None:
    _, _, rest = os.fsdecode(os.pread(note, 4096, 0)).partition("\n")
    inode, _, leftover = rest.partition("\n")
    if inode == str(os.fstat(note).st_ino):  # else this is a copy, and its original may be running
        shutil.rmtree(leftover, ignore_errors=True)


def _socket_parent(account: Account) -> Path:
    longest = len("/checkin-12345678/.s.PGSQL.5432")
    for parent in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108  mkdtemp makes a private one in it
        short = len(os.fsencode(parent)) + longest <= SOCKET_PATH_BYTES
        if short and parent.is_dir() and closed_directory(parent / "checkin-", account) is None:
            return parent
    raise EmbeddedError(
        f"no short directory for sockets that {account.name} can enter: set TMPDIR to one of at most "
        f"{SOCKET_PATH_BYTES - longest} bytes"
    )
