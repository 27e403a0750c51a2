"""The same stores and databases as the service's tests, and how far the fault tests go."""

import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from checkin_service.adapters.embedded import EmbeddedStores
from tests.embedded.temporary import temporary_stores
from tests.faults import nemesis
from tests.faults.clients import Caller, calling
from tests.faults.engines import FIXED, REAL, REAL_IN_FULL, Engine
from tests.faults.nemesis import OwnStores
from tests.faults.processes import processes
from tests.faults.record import Record
from tests.service.conftest import database_url, databases, no_sweeps_in_between
from tests.service.databases import Databases
from tests.service.stage import Stage

__all__ = ["database_url", "databases", "no_sweeps_in_between"]


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether the promises' full counts are wanted: CHECKIN_FAULTS=full, minutes instead of seconds."""
    return os.environ.get("CHECKIN_FAULTS") == "full"


@pytest.fixture(scope="session")
def stores(full: bool) -> Iterator[EmbeddedStores]:
    """On a disk in the full form."""
    with temporary_stores(in_memory=not full) as running:
        yield running


def promise_of(file: Path) -> int | None:
    """The number that a test's file is named after."""
    named = re.match(r"test_promise_(\d+)_", file.name)
    return int(named[1]) if named else None


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Where a test says what it has seen of its promise."""
    promise = promise_of(request.path)
    assert promise is not None
    return Record(promise)


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest, full: bool) -> Engine:
    """What the services of a module's tests analyse photographs with."""
    return REAL if full and promise_of(request.path) in REAL_IN_FULL else FIXED


@pytest.fixture
async def stage(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, engine: Engine
) -> AsyncIterator[Stage]:
    """A running service with a database of its own."""
    async with engine.stage(database_url, stores.redis_url or "", tmp_path) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stage(
    stores: EmbeddedStores, databases: Databases, tmp_path_factory: pytest.TempPathFactory, engine: Engine
) -> AsyncIterator[Stage]:
    """One service for a whole module marked `asyncio(loop_scope="module")`."""
    url, data_dir = await databases.make(), tmp_path_factory.mktemp("shared")
    async with engine.stage(url, stores.redis_url or "", data_dir) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair_caller(
    shared_stage: Stage, stores: EmbeddedStores, tmp_path_factory: pytest.TempPathFactory, engine: Engine
) -> AsyncIterator[Caller]:
    """Calls two processes by turns that serve the module's database beside `shared_stage`."""
    data_dir, folder = shared_stage.settings.data_dir, tmp_path_factory.mktemp("pair")
    at = shared_stage.database_url, stores.redis_url or "", data_dir
    async with (
        processes(2, folder, *at, *engine.switches) as pair,
        calling([process.base for process in pair], data_dir, engine) as caller,
    ):
        yield caller


@pytest.fixture(scope="module")
def own_stores() -> Iterator[OwnStores]:
    """A PostgreSQL and a Valkey of the module's own, which it may kill, freeze and flush, and starts again."""
    with nemesis.own_stores() as stores:
        yield stores
