"""Encrypted evidence outside the database: files of a directory, or objects of a bucket that speaks S3.

Whoever operates the store sees ciphertext, its size and its time. What it still holds after a deletion, in versions or
backups, stays unreadable: its key lies in the database, wrapped by its person's, and one of the two is deleted.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, S3Store

from checkin_service.ports import ObjectMissing, StoreUnavailable

DEADLINE_S = 5.0
"""With both waits for a face worker this stays below the lease of a receipt, see adapters/postgres/check_ins.py."""

_RETRIES = 2

# Whoever asks whether the store is there, and however often: it is tried no more often and no longer than this.
TRIAL_INTERVAL_S = 3.0
_TRIAL_S = 1.0
# More than a full disk has left, as a name alone would not be.
_TRIAL_BYTES = b"trial" * 1000


class EvidenceStore:
    """The `ObjectStore` of one directory or bucket; each call is bounded in time."""

    def __init__(self, store: LocalStore | MemoryStore | S3Store, directory: Path | None = None) -> None:
        """`directory`: where a `LocalStore` keeps its files."""
        self._store = store
        self._directory = directory
        self._trying = asyncio.Lock()
        self._tried_at = -TRIAL_INTERVAL_S
        self._fault: str | None = None

    async def put(self, address: str, content: bytes) -> None:
        async with _in_time():
            # in one piece: a multipart upload that ends early stays in the bucket, where nobody sees it
            await obstore.put_async(self._store, address, content, use_multipart=False)
            if self._directory:
                await asyncio.to_thread(_make_durable, self._directory, address)

    async def get(self, address: str) -> bytes:
        async with _in_time():
            try:
                found = await obstore.get_async(self._store, address)
            except FileNotFoundError as error:
                raise ObjectMissing from error
            return bytes(await found.bytes_async())

    async def delete(self, address: str) -> None:
        async with _in_time():
            with suppress(FileNotFoundError):
                await obstore.delete_async(self._store, address)

    async def fault(self) -> str | None:
        async with self._trying:
            if time.monotonic() - self._tried_at >= TRIAL_INTERVAL_S:
                self._fault = await self._try()
                self._tried_at = time.monotonic()
            return self._fault

    async def _try(self) -> str | None:
        address = f"trial-{uuid4().hex}"
        try:
            async with asyncio.timeout(_TRIAL_S):
                await self.put(address, _TRIAL_BYTES)
                await self.delete(address)
        except (StoreUnavailable, TimeoutError) as error:
            return str(error) or "TimeoutError"
        return None

    async def list_older_than(self, instant: datetime) -> AsyncIterator[str]:
        """Also removes what writers who were killed left half written in a directory before this instant."""
        if self._directory:
            await asyncio.to_thread(_remove_drafts, self._directory, instant)
        pages = obstore.list(self._store)
        while True:
            async with _in_time():
                page = await anext(pages, None)
            if page is None:
                return
            for found in page:
                if found["last_modified"] < instant:
                    yield found["path"]


def directory_store(directory: Path) -> EvidenceStore:
    """A store in this directory, which is made, for its owner only, when absent. Raises `OSError`."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return EvidenceStore(LocalStore(directory), directory)


def bucket_store(url: str) -> EvidenceStore:
    """A store in the bucket of `s3://bucket/prefix`; `AWS_*` variables say where it is and who asks.

    Raises `ValueError` for what can't be an address or those variables can't mean. Nothing is asked of it yet.
    """
    try:
        # options of the client, given here, would put out those that the variables set
        store = S3Store.from_url(
            url,
            # not every provider has the call that deletes several; Alibaba Cloud has not
            config={"disable_bulk_delete": True},
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=DEADLINE_S)},
        )
    except BaseError as error:
        raise ValueError(
            f"the object store {url} can't be used: {str(error).partition(chr(10))[0]}"
        ) from error
    return EvidenceStore(store)


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(DEADLINE_S):
            yield
    except (BaseError, OSError) as error:
        raise StoreUnavailable(type(error).__name__) from error


def _make_durable(directory: Path, address: str) -> None:
    """On disk before anything rests on it: a `LocalStore` leaves that to the system."""
    for path in (directory / address, directory):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_drafts(directory: Path, instant: datetime) -> None:
    """A `LocalStore` writes to `<address>#<n>` and renames; its listing leaves these out."""
    for draft in directory.glob("*#*"):
        with suppress(FileNotFoundError):  # its writer was there first
            if draft.stat().st_mtime < instant.timestamp():
                draft.unlink()
