"""The folder that a list's photographs lie in. No name leads out of it."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from checkin_service.domain.reasons import NotEnrolled
from checkin_service.usecases.refusals import Refusal
from checkin_service.web.form import FILE_LIMIT, MEGABYTE

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# a pipe that nobody writes to would be waited for
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


class PhotoFolder:
    """Opened once: what is put in the place of a folder or file afterwards leads nowhere else either. Links are not
    followed, whatever they point to, below the folder itself."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError`."""
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        os.close(self._descriptor)

    def check(self, name: str) -> None:
        """Raises `Refusal` file_missing or file_unusable, without reading."""
        with self._opened(name):
            pass

    def read(self, name: str) -> bytes:
        """The file's bytes. Raises `Refusal` as `check`, and payload_too_large as the call for one person does."""
        with self._opened(name) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
            try:
                content = file.read(FILE_LIMIT + 1)
            except OSError:  # a network share's, for one
                raise Refusal(NotEnrolled.FILE_UNUSABLE) from None
        if len(content) > FILE_LIMIT:
            raise Refusal("payload_too_large", limit_mb=FILE_LIMIT // MEGABYTE)
        return content

    @contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        try:
            descriptor = self._open(name)
        except FileNotFoundError:
            raise Refusal(NotEnrolled.FILE_MISSING) from None
        except (OSError, ValueError):  # ValueError: a NUL
            raise Refusal(NotEnrolled.FILE_UNUSABLE) from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Refusal(NotEnrolled.FILE_UNUSABLE)
            yield descriptor
        finally:
            os.close(descriptor)

    def _open(self, name: str) -> int:
        *folders, file = name.split("/")
        if not {"", ".", ".."}.isdisjoint([*folders, file]):
            raise ValueError("no name below the folder")
        at = os.dup(self._descriptor)
        try:
            for folder in folders:
                below = os.open(folder, _FOLDER, dir_fd=at)
                os.close(at)
                at = below
            return os.open(file, _FILE, dir_fd=at)
        finally:
            os.close(at)
