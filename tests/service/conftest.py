"""Real stores for the whole run, and an empty database for every test or, where that says, every module."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
import pytest_asyncio

from checkin_service import app
from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.usecases import sweep
from tests.embedded.temporary import temporary_stores
from tests.service.databases import Databases
from tests.service.stage import Stage, running_service

sweep_for_ever = app._sweep_for_ever

# All tests share one Valkey, and many of them one person.
UNLIMITED = {"CHECKIN_PERSON_CHALLENGES_PER_MINUTE": "1000000"}
SetClock = Callable[[datetime], Awaitable[None]]


@pytest.fixture(scope="session")
def stores() -> Iterator[EmbeddedStores]:
    with temporary_stores(in_memory=True) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def no_sweeps_in_between() -> Iterator[None]:
    """Nothing sweeps but a test that means to; a sweep tells of a window at its very end, for nothing is on its way."""

    async def never(_: object) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "_sweep_for_ever", never)
        patch.setattr(sweep, "ANNOUNCED_IN", timedelta())
        yield


@pytest.fixture
def sweeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services that start from here on sweep, as they do outside of tests."""
    monkeypatch.setattr(app, "_sweep_for_ever", sweep_for_ever)


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


@asynccontextmanager
async def service_for_many(
    stores: EmbeddedStores,
    databases: Databases,
    data_dir: Path,
    engine: Literal["real"] | None = None,
    **environment: str,
) -> AsyncIterator[Stage]:
    """A service with a database of its own, for many tests with own ids."""
    assert stores.redis_url is not None
    at = await databases.make(), stores.redis_url, data_dir
    async with running_service(*at, engine, **UNLIMITED, **environment) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stage(
    stores: EmbeddedStores, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    """One service for a whole module marked `asyncio(loop_scope="module")`."""
    async with service_for_many(stores, databases, tmp_path_factory.mktemp("shared")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def shared_clock(shared_stage: Stage) -> AsyncIterator[SetClock]:
    """Sets the shared service's judging clock, which runs again after the test."""
    yield shared_stage.set_clock
    await shared_stage.set_clock(None)
