"""How soon the pages can be used: `python -m tests.browser.speed`. Prints milliseconds; ends with 1 beyond a target.

No test asserts these: a busy machine would fail them. In Chromium, with nothing stored, against embedded stores; the
phone also on a network and a processor as slow as an old phone's.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

import structlog

from tests import portraits
from tests.browser.chromium import Browser, Page, chromium
from tests.browser.filmed import film
from tests.browser.test_console import console, many_attempts
from tests.embedded.temporary import temporary_data_dir, temporary_stores
from tests.service.databases import Databases
from tests.service.stage import INSIDE, Stage, running_service

TARGET_MS, TARGET_BYTES, ROUNDS = 1000, 150_000, 7
ATTEMPTS_SHOWN = "document.querySelectorAll('[data-attempt-row]').length === {}"
# milliseconds since the navigation, or since the mark, at which something is first there
WATCH = """(() => {{
  const look = () => {{
    if (globalThis.seenAt === undefined && ({what})) globalThis.seenAt = performance.now() - (globalThis.markedAt ?? 0);
  }};
  globalThis.watching?.disconnect();
  globalThis.watching = new MutationObserver(look);
  globalThis.watching.observe(document, {{ subtree: true, childList: true, attributes: true }});
  look();
}})()"""
LOADED = """performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation'))
  .filter((one) => !one.name.includes('/v1/')).reduce((sum, one) => sum + one.transferSize, 0)"""
OLD_PHONE = {"latency": 150, "downloadThroughput": 200_000, "uploadThroughput": 94_000, "offline": False}
OLD_PHONES_CPU = 4


@dataclass(frozen=True, slots=True)
class Measured:
    """Of several rounds; `target` None is for comparison alone."""

    what: str
    figures: list[float]
    target: float | None = TARGET_MS

    @property
    def holds(self) -> bool:
        return self.target is None or max(self.figures) < self.target

    def __str__(self) -> str:
        verdict = "ok" if self.holds else "MISSED"
        against = "" if self.target is None else f", target {self.target:.0f}: {verdict}"
        return f"{self.what}: median {median(self.figures):.0f}, worst {max(self.figures):.0f}{against}"


async def phone_opens(street: Stage, browser: Browser, *, is_old: bool) -> tuple[float, float]:
    """Milliseconds from opening the link until the check-in can be tapped, and the bytes that came for it."""
    async with browser.open_page(base_of(street)) as page:
        await page.position(*INSIDE)
        if is_old:
            await page.send("Network.emulateNetworkConditions", **OLD_PHONE)
            await page.send("Emulation.setCPUThrottlingRate", rate=OLD_PHONES_CPU)
        watch = WATCH.format(what="document.querySelector('.card') && document.querySelector('#foot .first')")
        await page.send("Page.addScriptToEvaluateOnNewDocument", source=watch)
        await page.go(f"/app/#token={street.token('p-1', 'checkin')}")
        return await page.until("globalThis.seenAt"), await page.run(LOADED)


async def console_opens(office: Stage, browser: Browser) -> list[float]:
    """Milliseconds from a tap to each view of a large case: the first one, further attempts, members, numbers."""
    rows = "document.querySelector('{} tbody tr')"
    first = f"document.querySelector('.map .fence') && {ATTEMPTS_SHOWN.format(100)}"
    taps = [
        ("[data-task=T1]", first),
        ("#part .more", ATTEMPTS_SHOWN.format(200)),
        ("[data-part=members]", rows.format("#members")),
        ("[data-part=numbers]", rows.format("#phones")),
    ]
    async with console(browser, office) as page:
        await page.until("document.querySelector('[data-task=T1]')")
        return [await _after(page, selector, shown) for selector, shown in taps]


async def _after(page: Page, selector: str, shown: str) -> float:
    await page.until(f"document.querySelector({selector!r})")
    await page.run(
        f"globalThis.seenAt = undefined, globalThis.markedAt = performance.now(), {WATCH.format(what=shown)}, "
        f"document.querySelector({selector!r}).click()"
    )
    milliseconds: float = await page.until("globalThis.seenAt")
    return milliseconds


@asynccontextmanager
async def service() -> AsyncIterator[Stage]:
    """With a person who is asked to check in, and an engine of fixed answers: no picture is looked at here."""
    with temporary_stores() as stores, temporary_data_dir() as data_dir:
        databases = Databases(stores.database_url or "")
        async with running_service(await databases.take(), stores.redis_url or "", data_dir) as running:
            yield running


def base_of(stage: Stage) -> str:
    return f"http://127.0.0.1:{stage.client.port}"


async def measure_phone(browser: Browser) -> list[Measured]:
    async with service() as street:
        await street.ready_task("T1", "p-1")
        quick = [await phone_opens(street, browser, is_old=False) for _ in range(ROUNDS)]
        slow = [await phone_opens(street, browser, is_old=True) for _ in range(ROUNDS)]
    return [
        Measured("phone page, link to check-in button, ms", [ms for ms, _ in quick]),
        Measured("the same at 1.6 Mbit/s, 150 ms, a quarter of the CPU, ms", [ms for ms, _ in slow], None),
        Measured("phone page, bytes on the wire", [sent for _, sent in quick], TARGET_BYTES),
    ]


async def measure_console(browser: Browser) -> list[Measured]:
    async with service() as office:
        await office.register("T1", *(f"p-{number}" for number in range(1000)))
        await many_attempts(office)
        rounds = [await console_opens(office, browser) for _ in range(ROUNDS)]
    views = ("first view", "a hundred attempts more", "members", "numbers")
    return [
        Measured(f"console, 1,000 members and 10,000 attempts, {view}, ms", list(figures))
        for view, figures in zip(views, zip(*rounds, strict=True), strict=True)
    ]


async def main() -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with temporary_data_dir() as folder:
        async with chromium(film(portraits.hopper_altered(), folder / "hopper.y4m")) as browser:
            found = [*await measure_phone(browser), *await measure_console(browser)]
    print(*found, sep="\n")
    return 0 if all(measured.holds for measured in found) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
