"""A running service whose engine looks at pictures, and simulations against it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.simulator import Options, Report, simulate
from tests.service.conftest import UNLIMITED, database_url, databases, no_sweeps_in_between, stores
from tests.service.stage import Stage, running_service
from tests.simulator.photographed import SeeingEngine, write_faces

__all__ = ["database_url", "databases", "no_sweeps_in_between", "stores"]

FACES = 6
Play = Callable[..., Awaitable[Report]]


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("photos"), FACES)


@pytest.fixture
async def stage(database_url: str, stores: EmbeddedStores, tmp_path: Path) -> AsyncIterator[Stage]:
    engine = SeeingEngine()
    async with running_service(
        database_url, stores.redis_url or "", tmp_path, engine, **UNLIMITED
    ) as running:
        yield running


@pytest.fixture
def play(stage: Stage, photos: Path) -> Play:
    """Simulates with these options."""

    async def against(**options: Any) -> Report:
        url = str(stage.client.make_url("/"))
        return await simulate(Options(url, stage.settings.data_dir, photos, **options))

    return against
