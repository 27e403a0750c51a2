"""Embedded stores for tests, in directories that go away."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from checkin_service.adapters.embedded import EmbeddedStores, embedded_stores


@contextmanager
def temporary_data_dir() -> Iterator[Path]:
    """An empty directory that the servers can reach; root's `tmp_path` lies in one that is closed to them."""
    data_dir = Path(tempfile.mkdtemp(prefix="checkin-test-"))
    try:
        yield data_dir
    finally:
        shutil.rmtree(data_dir)


@contextmanager
def temporary_stores(postgres_settings: Mapping[str, str] | None = None) -> Iterator[EmbeddedStores]:
    """A PostgreSQL and a Valkey of their own, empty; any number may run side by side.

    PostgreSQL ends at once: an orderly end writes out every test's database, to be thrown away.
    """
    with (
        temporary_data_dir() as data_dir,
        embedded_stores(data_dir, postgres_settings=postgres_settings or {}) as stores,
    ):
        try:
            yield stores
        finally:
            postmaster = (data_dir / "postgres" / "postmaster.pid").read_text().split()[0]
            os.kill(int(postmaster), signal.SIGQUIT)
