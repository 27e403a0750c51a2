"""The user that the servers run as, and where that user may go."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path


class EmbeddedError(RuntimeError):
    """The embedded stores cannot run; the message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the operating system."""

    name: str
    uid: int
    gid: int


def server_account() -> Account:
    """The user that the servers run as: `nobody` for root, whom PostgreSQL refuses, else the caller.

    Raises `EmbeddedError` where that user has no entry in the user database, which PostgreSQL needs.
    """
    uid = os.geteuid()
    try:
        entry = pwd.getpwnam("nobody") if uid == 0 else pwd.getpwuid(uid)
    except KeyError as error:
        raise EmbeddedError(
            f"{error.args[0]}, and PostgreSQL needs /etc/passwd to name the user it runs as: add an entry, "
            "or set DATABASE_URL and REDIS_URL to servers of your own"
        ) from error
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid if uid == 0 else os.getegid())


def closed_directory(path: Path, account: Account) -> Path | None:
    """The outermost directory on the way to `path` that the account may not enter, None when the way is free.

    The caller's own rights are the kernel's business; this looks ahead for another account by mode bits.
    """
    if account.uid == os.geteuid():
        return None
    way = [directory for directory in reversed(path.resolve().parents) if directory.exists()]
    return next((directory for directory in way if not _may_enter(account, directory)), None)


def _may_enter(account: Account, directory: Path) -> bool:
    status = directory.stat()
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)
