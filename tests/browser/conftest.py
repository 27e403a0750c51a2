"""A service on real stores with the real face engine, a Chromium beside it, and persons who are asked to check in."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
import pytest_asyncio

from checkin_service.adapters.embedded import EmbeddedStores
from tests import portraits
from tests.browser.chromium import PROGRAM, Browser, Page, chromium
from tests.browser.filmed import film
from tests.service.conftest import databases, no_sweeps_in_between, service_for_many, stores
from tests.service.databases import Databases
from tests.service.stage import Stage

__all__ = ["databases", "no_sweeps_in_between", "stores"]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a token, and the one task that waits for them."""

    service: Stage
    person_id: str
    task_id: str

    @property
    def link(self) -> str:
        return f"/app/#token={self.service.token(self.person_id, 'checkin')}"

    async def attempts(self) -> list[Any]:
        return await self.service.sql("SELECT * FROM attempt WHERE person_id = $1", self.person_id)

    async def receipts(self) -> list[Any]:
        return await self.service.sql("SELECT * FROM receipt WHERE person_id = $1", self.person_id)

    async def state(self) -> str:
        status = await self.service.status(self.task_id)
        return str(status["members"][0]["state"])


@dataclass(frozen=True, slots=True)
class Street:
    """Where persons with phones come from."""

    service: Stage
    browser: Browser
    numbers: "count[int]"

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.service.client.port}"

    async def person(self, *, consented: bool = True, enrolled: bool = True) -> Person:
        number = next(self.numbers)
        person = Person(self.service, f"p-{number}", f"T{number}")
        assert (await self.service.register(person.task_id, person.person_id)).status == 201
        if enrolled:
            assert (await self.service.enrol(person.person_id, portraits.hopper())).status == 201
        if consented:
            assert (await self.service.consent(person.person_id)).status == 200
        return person

    def phone(self, **allowed: bool) -> Any:
        return self.browser.open_page(self.base, **allowed)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def service(
    stores: EmbeddedStores, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    async with service_for_many(stores, databases, tmp_path_factory.mktemp("service"), "real") as running:
        yield running


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    if PROGRAM is None:
        pytest.skip("no chromium is installed; Debian's package is called chromium")
    camera = film(portraits.hopper_altered(), tmp_path_factory.mktemp("camera") / "hopper.y4m")
    async with chromium(camera) as running:
        yield running


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def street(browser: Browser, service: Stage) -> Street:
    return Street(service, browser, count(1))


async def take_picture(page: Page) -> None:
    """From the tasks to a check-in that is sent."""
    await page.tap("#foot .first")
    await page.until("document.querySelector('video')?.videoWidth > 0")
    await page.tap("#foot .first")


async def outcome(page: Page) -> str:
    return str(await page.until("document.querySelector('[data-outcome]')?.dataset.outcome"))


async def reasons(page: Page) -> list[str]:
    found: list[str] = await page.run(
        "[...document.querySelectorAll('[data-reason]')].map((r) => r.dataset.reason)"
    )
    return found
