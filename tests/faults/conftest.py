"""The same stores and databases as the service's tests, and how far the fault tests go."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from checkin_service.adapters.embedded import EmbeddedStores
from tests.faults import nemesis
from tests.faults.clients import Caller, calling
from tests.faults.nemesis import OwnStores
from tests.faults.processes import processes
from tests.faults.record import Record
from tests.service.conftest import (
    database_url,
    databases,
    no_sweeps_in_between,
    shared_stage,
    stage,
    stores,
)
from tests.service.stage import Stage

__all__ = ["database_url", "databases", "no_sweeps_in_between", "shared_stage", "stage", "stores"]


@pytest.fixture(scope="session")
def full() -> bool:
    """Whether the promises' full counts are wanted: CHECKIN_FAULTS=full, minutes instead of seconds."""
    return os.environ.get("CHECKIN_FAULTS") == "full"


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Record:
    """Where a test says what it has seen of its promise, whose number its file is named after."""
    return Record(int(request.path.stem.split("_")[2]))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair_caller(
    shared_stage: Stage, stores: EmbeddedStores, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Caller]:
    """Calls two processes by turns that serve the module's database beside `shared_stage`."""
    data_dir, folder = shared_stage.settings.data_dir, tmp_path_factory.mktemp("pair")
    at = shared_stage.database_url, stores.redis_url or "", data_dir
    async with processes(2, folder, *at) as pair, calling([p.base for p in pair], data_dir) as caller:
        yield caller


@pytest.fixture(scope="module")
def own_stores() -> Iterator[OwnStores]:
    """A PostgreSQL and a Valkey of the module's own, which it may kill, freeze and flush, and starts again."""
    with nemesis.own_stores() as stores:
        yield stores
