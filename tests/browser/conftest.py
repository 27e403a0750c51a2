"""A service on real stores and the real face engine, and a Chromium beside it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from checkin_service.adapters.embedded import EmbeddedStores
from tests import portraits
from tests.browser.chromium import PROGRAM, Browser, chromium
from tests.browser.filmed import film
from tests.service.conftest import UNLIMITED, databases, no_sweeps_in_between, stores
from tests.service.databases import Databases
from tests.service.stage import Stage, running_service

__all__ = ["databases", "no_sweeps_in_between", "stores"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(
    stores: EmbeddedStores, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    assert stores.redis_url is not None
    url, data_dir = await databases.make(), tmp_path_factory.mktemp("service")
    async with running_service(url, stores.redis_url, data_dir, "real", **UNLIMITED) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    if PROGRAM is None:
        pytest.skip("no chromium is installed; Debian's package is called chromium")
    camera = film(portraits.hopper_altered(), tmp_path_factory.mktemp("camera") / "hopper.mjpeg")
    async with chromium(camera) as running:
        yield running
