"""Real stores for the whole run, and a database of its own for every test or, where that says, every module."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from checkin_service import app
from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres.migrate import migrate
from tests.embedded.temporary import temporary_stores
from tests.service.stage import Stage, running_service

TEMPLATE = "migrated"
SetClock = Callable[[datetime], Awaitable[None]]


@pytest.fixture(scope="session")
def stores() -> Iterator[EmbeddedStores]:
    with temporary_stores() as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def no_sweeps_in_between() -> Iterator[None]:
    """Services sweep once when they start; afterwards tests sweep when they mean to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "SWEEP_INTERVAL_S", 3600)
        yield


@pytest.fixture
async def database_url(stores: EmbeddedStores) -> str:
    """An empty database at this version's schema."""
    return await _new_database(stores)


@pytest.fixture
async def stage(database_url: str, stores: EmbeddedStores, tmp_path: Path) -> AsyncIterator[Stage]:
    """A running service whose engine gives fixed answers."""
    assert stores.redis_url is not None
    async with running_service(database_url, stores.redis_url, tmp_path) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stage(
    stores: EmbeddedStores, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    """One service for a whole module marked `asyncio(loop_scope="module")`: for many small tests with own ids."""
    assert stores.redis_url is not None
    url, data_dir = await _new_database(stores), tmp_path_factory.mktemp("shared")
    async with running_service(
        url, stores.redis_url, data_dir, CHECKIN_PERSON_REQUESTS_PER_MINUTE="1000000"
    ) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def shared_clock(shared_stage: Stage) -> AsyncIterator[SetClock]:
    """Sets the shared service's judging clock, which runs again after the test."""
    yield shared_stage.set_clock
    await shared_stage.set_clock(None)


async def _new_database(stores: EmbeddedStores) -> str:
    assert stores.database_url is not None
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(stores.database_url)
    try:
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", TEMPLATE):
            await _make_template(connection, stores.database_url)
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    finally:
        await connection.close()
    return database_named(stores.database_url, name)


def database_named(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def _make_template(connection: asyncpg.Connection, url: str) -> None:
    await connection.execute(f"CREATE DATABASE {TEMPLATE}")
    fresh = await asyncpg.connect(database_named(url, TEMPLATE))
    try:
        await migrate(fresh)
    finally:
        await fresh.close()
