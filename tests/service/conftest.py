"""Real stores for the whole run, and an empty database for every test or, where that says, every module."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
import pytest_asyncio

from checkin_service import app
from checkin_service.adapters.embedded import EmbeddedStores
from tests.embedded.temporary import temporary_stores
from tests.service.databases import Databases
from tests.service.stage import Stage, running_service

# All tests share one Valkey, and many of them one person.
UNLIMITED = {"CHECKIN_PERSON_CHALLENGES_PER_MINUTE": "1000000"}
SetClock = Callable[[datetime], Awaitable[None]]


@pytest.fixture(scope="session")
def stores() -> Iterator[EmbeddedStores]:
    with temporary_stores(in_memory=True) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def no_sweeps_in_between() -> Iterator[None]:
    """Services sweep once when they start; afterwards tests sweep when they mean to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "SWEEP_INTERVAL_S", 3600)
        yield


@pytest.fixture(scope="session")
def databases(stores: EmbeddedStores) -> Databases:
    assert stores.database_url is not None
    return Databases(stores.database_url)


@pytest.fixture
async def database_url(databases: Databases) -> AsyncIterator[str]:
    """An empty database at this version's schema."""
    url = await databases.take()
    yield url
    await databases.give_back(url)


@pytest.fixture
async def stage(database_url: str, stores: EmbeddedStores, tmp_path: Path) -> AsyncIterator[Stage]:
    """A running service whose engine gives fixed answers."""
    assert stores.redis_url is not None
    async with running_service(database_url, stores.redis_url, tmp_path, None, **UNLIMITED) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stage(
    stores: EmbeddedStores, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    """One service for a whole module marked `asyncio(loop_scope="module")`: for many small tests with own ids."""
    assert stores.redis_url is not None
    url, data_dir = await databases.make(), tmp_path_factory.mktemp("shared")
    async with running_service(url, stores.redis_url, data_dir, None, **UNLIMITED) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def shared_clock(shared_stage: Stage) -> AsyncIterator[SetClock]:
    """Sets the shared service's judging clock, which runs again after the test."""
    yield shared_stage.set_clock
    await shared_stage.set_clock(None)
