"""The API's page under /docs/: every operation of the document, and calls made from it."""

import pytest

from checkin_service.web.routes import ROUTES
from tests.browser.chromium import Browser, Page
from tests.service.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="package")

NUMBER_OF_OPERATIONS = "document.querySelectorAll('.opblock').length"
NOTICE = "#operations-check-in-getConsentNotice"
NUMBER_OF_ANSWERS = f"document.querySelectorAll('{NOTICE} .responses-inner .response').length"
STATUS = f"document.querySelector('{NOTICE} .live-responses-table .response .response-col_status')"
# What the policy stops is told to whoever listens in the page.
LISTEN = """
    window.stopped = [];
    document.addEventListener('securitypolicyviolation',
                              (e) => window.stopped.push(e.violatedDirective + e.blockedURI));
"""


async def test_every_operation_is_shown(service: Stage, browser: Browser) -> None:
    async with browser.open_page(f"http://127.0.0.1:{service.client.port}") as page:
        await page.use_screen(1280, 900)
        await page.go("/docs/")
        await page.run(LISTEN)
        assert await page.until(NUMBER_OF_OPERATIONS) == len(ROUTES)
        await page.screenshot("docs")
        assert await page.run("stopped") == []


async def test_a_call_is_made_with_a_token_and_refused_without(service: Stage, browser: Browser) -> None:
    async with browser.open_page(f"http://127.0.0.1:{service.client.port}") as page:
        await page.use_screen(1280, 900)
        await page.go("/docs/")
        await page.run(LISTEN)
        await page.tap(f"{NOTICE} .opblock-summary-control")
        assert await executed(page) == "401"
        await page.tap(f"{NOTICE} .btn-clear")
        await authorize(page, service.token("p-1", "checkin"))
        assert await executed(page) == "200"
        assert await page.run("stopped") == []


async def authorize(page: Page, token: str) -> None:
    await page.tap(".btn.authorize")
    await page.tap(".auth-container input")
    await page.send("Input.insertText", text=token)
    await page.tap(".auth-btn-wrapper .authorize")
    await page.tap(".auth-btn-wrapper .btn-done")


async def executed(page: Page) -> str:
    """The status that is shown."""
    # the operation comes bit by bit, and moves its button
    await page.until(f"{NUMBER_OF_ANSWERS} > 1")
    await page.tap(f"{NOTICE} .execute")
    return str(await page.until(f"{STATUS}?.firstChild.textContent"))


async def test_it_comes_with_a_policy_and_from_here_alone(service: Stage) -> None:
    async with service.client.get("/docs/") as first:
        policy, text = first.headers["Content-Security-Policy"], await first.text()
    assert (first.status, "unsafe" in policy, "http" in text) == (200, False, False)
