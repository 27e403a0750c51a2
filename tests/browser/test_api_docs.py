"""The API's page under /docs/: every operation of the document."""

import pytest

from checkin_service.web.routes import ROUTES
from tests.browser.chromium import Browser
from tests.service.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="package")

NUMBER_OF_OPERATIONS = "document.querySelectorAll('.opblock').length"
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


async def test_it_comes_with_a_policy_and_from_here_alone(service: Stage) -> None:
    async with service.client.get("/docs/") as first:
        policy, text = first.headers["Content-Security-Policy"], await first.text()
    assert (first.status, "unsafe" in policy, "http" in text) == (200, False, False)
