"""A person with a phone: the page in a real browser, against the service with its real face engine."""

import json
from itertools import count
from typing import Any

import pytest

from tests import portraits
from tests.browser.chromium import Browser, Page
from tests.service.stage import FAR, INSIDE, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
numbers = count(1)


async def person_with_task(service: Stage, *, consented: bool = False) -> tuple[str, str]:
    """A person enrolled by a photograph, and the task that waits for them."""
    number = next(numbers)
    person_id, task_id = f"p-{number}", f"T{number}"
    assert (await service.register(task_id, person_id)).status == 201
    assert (await service.enrol(person_id, portraits.hopper())).status == 201
    if consented:
        assert (await service.consent(person_id)).status == 200
    return person_id, task_id


def link(service: Stage, person_id: str) -> str:
    return f"/app/#token={service.token(person_id, 'checkin')}"


def base(service: Stage) -> str:
    return f"http://127.0.0.1:{service.client.port}"


async def attempts(service: Stage, person_id: str) -> list[Any]:
    return await service.sql("SELECT * FROM attempt WHERE person_id = $1", person_id)


async def check_in(page: Page) -> None:
    await page.tap("#foot .first")
    await page.until("document.querySelector('video')?.videoWidth > 0")
    await page.tap("#foot .first")


async def test_from_the_link_to_an_accepted_check_in(service: Stage, browser: Browser) -> None:
    person_id, task_id = await person_with_task(service)
    async with browser.open_page(base(service)) as page:
        await page.position(*INSIDE)
        await page.go(link(service, person_id))
        await page.until("document.querySelectorAll('fieldset input').length === 3")
        assert await page.run("location.href") == f"{base(service)}/app/"
        for scope in ("face", "face_transfer", "location"):
            await page.tap(f"#scope-{scope}")
        await page.tap("#foot .first")
        await page.until("document.querySelector('.card')")
        await check_in(page)
        outcome = await page.until("document.querySelector('[data-outcome]')?.dataset.outcome")
        assert outcome == "accepted"
    [attempt] = await attempts(service, person_id)
    assert attempt["outcome"] == "accepted"
