"""Embedded stores for tests, in directories that go away."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from checkin_service.adapters.embedded import EmbeddedStores, embedded_stores

MEMORY, LEAST_MEMORY = Path("/dev/shm"), 4_000_000_000


@contextmanager
def temporary_data_dir(in_memory: bool = False) -> Iterator[Path]:
    """An empty directory that the servers can reach; root's `tmp_path` lies in one that is closed to them.

    `in_memory`: where there is room for it, so that a commit waits for no disk.
    """
    data_dir = Path(tempfile.mkdtemp(prefix="checkin-test-", dir=_memory() if in_memory else None))
    try:
        yield data_dir
    finally:
        shutil.rmtree(data_dir)


@contextmanager
def temporary_stores(
    postgres_settings: Mapping[str, str] | None = None, *, in_memory: bool = False
) -> Iterator[EmbeddedStores]:
    """A PostgreSQL and a Valkey of their own, empty; any number may run side by side.

    PostgreSQL ends at once: an orderly end writes out every test's database, to be thrown away.
    """
    with (
        temporary_data_dir(in_memory) as data_dir,
        embedded_stores(data_dir, postgres_settings=postgres_settings or {}) as stores,
    ):
        try:
            yield stores
        finally:
            postmaster = (data_dir / "postgres" / "postmaster.pid").read_text().split()[0]
            os.kill(int(postmaster), signal.SIGQUIT)


def _memory() -> Path | None:
    if not os.access(MEMORY, os.W_OK):
        return None
    really_free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return MEMORY if min(shutil.disk_usage(MEMORY).free, really_free) > LEAST_MEMORY else None
