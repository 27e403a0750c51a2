"""The reviewing officer's console in a real browser, against the service with an engine of fixed answers."""

import json
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio
from shapely.geometry import Point, Polygon

from checkin_service.adapters.embedded import EmbeddedStores
from geofence import Frame, from_wgs84
from tests.browser.chromium import Browser, Page
from tests.service.conftest import UNLIMITED
from tests.service.databases import Databases
from tests.service.reviewing import REVIEWER, SECOND, asked, doubtful
from tests.service.stage import FAR, FENCE, INSIDE, Json, Stage, photo_of, place, running_service

pytestmark = pytest.mark.asyncio(loop_scope="package")

# A little to the north of the fence: held for people as a copy, with a position worth drawing.
BESIDE = (114.0606, 22.5451)
TILES = {"CHECKIN_BASE_MAP": "https://tiles.invalid/{z}/{x}/{y}.png"}


@dataclass
class Ahead:
    """A clock for tokens that can be put forward."""

    seconds: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.seconds


@pytest.fixture
def clock() -> Ahead:
    return Ahead()


@pytest_asyncio.fixture(loop_scope="package")
async def office(
    stores: EmbeddedStores, databases: Databases, tmp_path_factory: pytest.TempPathFactory, clock: Ahead
) -> AsyncIterator[Stage]:
    assert stores.redis_url is not None
    url, data_dir = await databases.take(), tmp_path_factory.mktemp("office")
    async with running_service(url, stores.redis_url, data_dir, None, clock, **UNLIMITED, **TILES) as running:
        yield running
    await databases.give_back(url)


@asynccontextmanager
async def console(
    browser: Browser, office: Stage, reviewer: str = REVIEWER, *, held_ms: int = 800
) -> AsyncIterator[Page]:
    """The console on a desk's screen, signed in by a link. A decision is held for less long than the 5 s of people."""
    async with browser.open_page(f"http://127.0.0.1:{office.client.port}") as page:
        await page.use_screen(1280, 900)
        hurry = (
            f"const wait = setTimeout; setTimeout = (work, ms) => wait(work, ms === 5000 ? {held_ms} : ms);"
        )
        await page.send("Page.addScriptToEvaluateOnNewDocument", source=hurry)
        await page.go(f"/console/#token={office.token(reviewer, 'review')}")
        await page.until("document.querySelector('#tasks')")
        yield page


async def press(page: Page, key: str) -> None:
    """A key of a keyboard, with the text that it gives."""
    text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
    code = {"Enter": 13, "Escape": 27}.get(key, ord(key.upper()) if len(key) == 1 else 0)
    of_key: Json = {"key": key, "windowsVirtualKeyCode": code}
    await page.send("Input.dispatchKeyEvent", type="keyDown", text=text, **of_key)
    await page.send("Input.dispatchKeyEvent", type="keyUp", **of_key)


async def click(page: Page, selector: str) -> None:
    await page.until(f"document.querySelector({json.dumps(selector)})")
    await page.run(f"document.querySelector({json.dumps(selector)}).click()")


async def texts(page: Page, selector: str) -> list[str]:
    found: list[str] = await page.run(
        f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.textContent)"
    )
    return found


async def attributes(page: Page, selector: str, *names: str) -> list[list[str]]:
    """Of each element, these of its attributes."""
    each = f"{json.dumps(names)}.map((name) => one.getAttribute(name))"
    found: list[list[str]] = await page.run(
        f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => {each})"
    )
    return found


async def audited(office: Stage, action: str) -> list[Json]:
    rows = await office.sql(
        "SELECT actor, task_id, details FROM audit WHERE action = $1 ORDER BY seq", action
    )
    return [{"actor": row["actor"], "task_id": row["task_id"], **json.loads(row["details"])} for row in rows]


async def test_tasks_come_in_order_and_lead_to_one_of_them(office: Stage, browser: Browser) -> None:
    await office.ready_task("T-later", "p-1", "p-2")
    await office.ready_task("T-soon", "p-3")
    deadline = {"reason": "x", "deadline_at": "2099-01-01T00:00:00+08:00", "document_no": "1"}
    assert (await office.platform("POST", "/v1/tasks/T-later/extend", deadline)).status == 200
    async with console(browser, office) as page:
        assert await page.run("location.href") == f"{page.base}/console/"
        rows = "[...document.querySelectorAll('[data-task-row]')].map((row) => row.dataset.taskRow)"
        await page.until(f"{rows}.length === 2")
        assert await page.run(rows) == ["T-soon", "T-later"]
        await press(page, "j")
        await press(page, "Enter")
        await page.until("document.querySelector('#attempts')")
        assert await page.until("document.querySelector('[data-state]')?.dataset.state") == "open"
        await page.screenshot("console-task")
    assert [view["task_id"] for view in await audited(office, "view_registration")] == ["T-soon"]
    assert [view["actor"] for view in await audited(office, "view_attempts")] == [REVIEWER]


async def test_a_review_is_looked_at_and_decided_by_keyboard(office: Stage, browser: Browser) -> None:
    await office.ready_task("T1", "p-1", "p-2")
    first, second = await doubtful(office, "p-1", "T1"), await doubtful(office, "p-2", "T1")
    async with console(browser, office) as page:
        await press(page, "2")
        await page.until(f"document.querySelector('#evidence').dataset.review === '{first}'")
        await page.until("document.querySelector('.selfie img')?.naturalWidth > 0")
        codes = "[...document.querySelectorAll('#evidence [data-code]')].map((one) => one.dataset.code)"
        assert await page.run(codes) == ["presentation_attack"]
        await page.screenshot("console-review")
        await press(page, "a")
        await page.until("document.activeElement?.name === 'note'")
        await page.send("Input.insertText", text="与证件照片相符")
        await press(page, "Enter")
        # on its way, and the next one is shown already
        await page.until(f"document.querySelector('[data-undo=\"{first}\"]')")
        await page.until(f"document.querySelector('#evidence').dataset.review === '{second}'")
        assert await states(office) == {first: "pending", second: "pending"}
        await page.until("!document.querySelector('#held p')")
    assert await states(office) == {first: "accepted", second: "pending"}
    decided = await audited(office, "decide_review")
    assert [(one["actor"], one["review_id"], one["decision"]) for one in decided] == [
        (REVIEWER, first, "accept")
    ]
    viewed = [one["review_id"] for one in await audited(office, "view_review")]
    assert viewed == [first, second]
    assert [one["review_id"] for one in await audited(office, "view_selfie")] == [first, second]


async def states(office: Stage) -> dict[str, str]:
    rows = await office.sql("SELECT review_id::text, state FROM review")
    return {row["review_id"]: row["state"] for row in rows}


async def test_a_decision_is_undone_while_it_is_held(office: Stage, browser: Browser) -> None:
    await office.ready_task("T1", "p-1")
    only = await doubtful(office, "p-1", "T1")
    async with console(browser, office, held_ms=5000) as page:
        await press(page, "2")
        await page.until(f"document.querySelector('#evidence').dataset.review === '{only}'")
        await press(page, "r")
        await page.until("document.activeElement?.name === 'note'")
        await press(page, "Enter")
        assert await page.run("document.querySelector('dialog').open")  # not without a note
        await page.send("Input.insertText", text="x")
        await press(page, "Enter")
        await page.until(f"document.querySelector('[data-undo=\"{only}\"]')")
        await press(page, "z")
        await page.until(
            "document.querySelector('[data-decide=accept]') && !document.querySelector('#held p')"
        )
    assert await states(office) == {only: "pending"}
    assert await audited(office, "decide_review") == []


async def decide(page: Page, review_id: str, key: str, note: str) -> None:
    """From a review that is looked at to a decision that is held."""
    await page.until(f"document.querySelector('#evidence').dataset.review === '{review_id}'")
    await press(page, key)
    await page.until("document.activeElement?.name === 'note'")
    await page.run("document.activeElement.select()")
    await page.send("Input.insertText", text=note)
    await press(page, "Enter")
    await page.until(f"document.querySelector('[data-undo=\"{review_id}\"]')")


async def test_a_decision_outlives_the_network_and_the_token(
    office: Stage, browser: Browser, clock: Ahead
) -> None:
    await office.ready_task("T1", "p-1", "p-2")
    first, second = await doubtful(office, "p-1", "T1"), await doubtful(office, "p-2", "T1")
    async with console(browser, office) as page:
        await press(page, "2")
        await decide(page, first, "a", "x")
        await page.network(offline=True)
        await page.until("document.querySelector('#held .retrying')")
        await click(page, f"[data-review='{second}'].entry")
        await page.until("document.querySelector('#main [role=alert] button')")
        await page.network(offline=False)
        await click(page, "#main [role=alert] button")
        await page.until("!document.querySelector('#held p')")
        assert (await states(office))[first] == "accepted"
        await decide(page, second, "r", "y")
        clock.seconds = 20 * 60
        await page.until("document.querySelector('#held .retrying')")
        assert (await states(office))[second] == "pending"
        await press(page, "1")
        await page.until("document.querySelectorAll('#main [role=alert]').length === 1")
        assert await page.run("document.querySelector('#tasks')") is None
        clock.seconds = 0
        # another officer's token sends nothing of theirs
        await page.run(f"location.hash = '#token={office.token('r-2', 'review')}'")
        await page.until(
            "document.querySelector('.who')?.textContent.startsWith('r-2') && document.querySelector('#tasks')"
        )
        await page.run(f"location.hash = '#token={office.token(REVIEWER, 'review')}'")
        await page.until("!document.querySelector('#held p')")
    assert (await states(office))[second] == "rejected"
    decided = await audited(office, "decide_review")
    assert [(one["review_id"], one["actor"]) for one in decided] == [(first, REVIEWER), (second, REVIEWER)]


async def test_a_manual_request_takes_two_who_agree(office: Stage, browser: Browser) -> None:
    await office.ready_task("T1", "p-1")
    only = await asked(office, "p-1", "T1")
    for reviewer, after in ((REVIEWER, "pending_second"), (SECOND, "accepted")):
        async with console(browser, office, reviewer) as page:
            await press(page, "2")
            await decide(page, only, "a", "x")
            await page.until("!document.querySelector('#held p')")
            left = f"document.querySelectorAll('[data-review=\"{only}\"].entry').length"
            await page.until(f"{left} === {int(after == 'pending_second')}")
        assert await states(office) == {only: after}


async def test_a_refused_decision_is_said(office: Stage, browser: Browser) -> None:
    await office.ready_task("T1", "p-1")
    only = await doubtful(office, "p-1", "T1")
    async with console(browser, office) as page:
        await press(page, "2")
        await decide(page, only, "a", "x")
        assert (await office.platform("POST", "/v1/tasks/T1/void", {"reason": "x"})).status == 200
        await page.until("document.querySelector('#held .failed[role=alert]')")
    assert await states(office) == {only: "pending"}


async def test_a_new_check_in_shows_without_a_reload(office: Stage, browser: Browser) -> None:
    await office.ready_task("T1", "p-1", "p-2")
    async with console(browser, office) as page:
        await click(page, "[data-task=T1]")
        await page.until("document.querySelector('#attempts')")
        await page.until("document.querySelector('#heard.live')")
        refused = (await office.check_in("p-1", "T1", at=FAR)).body["check_in_id"]
        await page.until(f"document.querySelector('[data-attempt-row=\"{refused}\"]')")
        assert "T1" in await page.run("document.querySelector('#live').textContent")
        for person_id in ("p-1", "p-2"):
            await office.check_in(person_id, "T1")
        await page.until("document.querySelector('[data-state]').dataset.state === 'completed'")
        assert len(await texts(page, "[data-attempt-row]")) == 3


@pytest.mark.parametrize("frame", [Frame.WGS84, Frame.GCJ02])
async def test_the_map_is_drawn_in_true_metres(office: Stage, browser: Browser, frame: Frame) -> None:
    ring = [list(from_wgs84(lon, lat, frame)) for lon, lat in FENCE["coordinates"][0]]
    fence = place(frame=frame, fence={"type": "Polygon", "coordinates": [ring]}, buffer_m=30)
    await office.ready_task("T1", "p-1", place=fence)
    await held_beside(office)
    reply = await office.call("GET", "/v1/tasks/T1/attempts", REVIEWER, "review")
    (attempt,) = reply.body["attempts"]
    async with console(browser, office) as page:
        await click(page, "[data-task=T1]")
        await page.until("document.querySelector('.map .fix')")
        await click(page, f"[data-attempt='{attempt['check_in_id']}']")
        await page.until("document.querySelector('.map .around')")
        [[outline]] = await attributes(page, ".map .fence", "d")
        [[dot]] = await attributes(page, ".map .fix", "d")
        [[view]] = await attributes(page, ".map", "viewBox")
        [[around]] = await attributes(page, ".map .around", "r")
        [[buffer]] = await attributes(page, ".map .buffer", "stroke-width")
        captions = await texts(page, ".mapped figcaption")
        await page.screenshot(f"console-map-{frame}")
    drawn = Polygon([tuple(map(float, pair.split())) for pair in outline.strip("MZ").split("L")])
    x, y = map(float, dot[1:].removesuffix("h0").split())
    assert drawn.exterior.distance(Point(x, y)) * (
        -1 if drawn.contains(Point(x, y)) else 1
    ) - 30 == pytest.approx(attempt["location"]["distance_m"], abs=0.1)
    assert float(around) == attempt["location"]["r95_m"]
    assert buffer == "60"
    left, top, width, height = map(float, view.split())
    west, south, east, north = drawn.buffer(30).bounds
    assert left < west < east < left + width
    assert top < south < north < top + height
    assert {Frame.WGS84: "WGS-84", Frame.GCJ02: "GCJ-02"}[frame] in captions[0]


async def held_beside(office: Stage) -> str:
    """A check-in held for people at a place a little outside the fence, within the buffer."""
    reply = await office.check_in("p-1", "T1", at=BESIDE, selfie=photo_of("p-1", 90, live=0.1))
    assert reply.body["outcome"] == "review", reply.body
    return str(reply.body["check_in_id"])


async def test_tiles_lie_where_they_belong(office: Stage, browser: Browser) -> None:
    """Drawn in GCJ-02 by default; the fence is in WGS-84."""
    await office.ready_task("T1", "p-1")
    async with console(browser, office) as page:
        await click(page, "[data-task=T1]")
        await page.until("document.querySelector('.map image')")
        tiles = await attributes(page, ".map image", "href", "x", "y", "width", "height")
    found = {href: tuple(map(float, box)) for href, *box in tiles}
    zoom = int(next(iter(found)).split("/")[3])
    lon, lat = from_wgs84(*INSIDE, Frame.GCJ02)
    column = (lon + 180) / 360 * 2**zoom
    row = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * 2**zoom
    x, y, width, height = found[f"https://tiles.invalid/{zoom}/{int(column)}/{int(row)}.png"]
    # the fence's middle, which is the plane's, lies in the tile as far to the right and down as in the grid
    assert -x / width == pytest.approx(column % 1, abs=0.01)
    assert -y / height == pytest.approx(row % 1, abs=0.01)


async def test_a_large_case_comes_in_pages(office: Stage, browser: Browser) -> None:
    assert (await office.register("T1", *(f"p-{number}" for number in range(1000)))).status == 201
    await many_attempts(office)
    async with console(browser, office) as page:
        await click(page, "[data-task=T1]")
        await page.until("document.querySelectorAll('[data-attempt-row]').length === 100")
        await click(page, "#part .more")
        await page.until("document.querySelectorAll('[data-attempt-row]').length === 200")
        await click(page, "[data-part=members]")
        await page.until("document.querySelectorAll('#members tbody tr').length === 50")
        await click(page, ".paging button:last-child")
        first = "document.querySelector('#members tbody td').textContent"
        await page.until(f"{first} === 'p-50'")
        await click(page, "[data-part=numbers]")
        await page.until("document.querySelectorAll('#phones tbody tr').length === 4")
        rates = await texts(page, "#phones tbody td:nth-child(5)")
        assert sorted(rate.strip() for rate in rates) == ["0 %", "100 %", "100 %", "100 %"]


async def many_attempts(office: Stage) -> None:
    """Ten thousand refused check-ins of four models; by one of them people are to decide instead."""
    await office.sql(
        """
        INSERT INTO receipt (check_in_id, iss, person_id, idempotency_key, body_digest, challenge_id, task_id,
                             received_at, answer)
        SELECT gen_random_uuid(), 'i', 'p-' || g % 1000, g::text, '', gen_random_uuid(), 'T1',
               now() - g * interval '1 second', '{}'
        FROM generate_series(1, 10000) g
        """
    )
    await office.sql(
        """
        INSERT INTO attempt (check_in_id, task_id, person_id, received_at, shanghai_day, outcome, reasons, counted,
                             fence_version, zone, distance_m, r95_m, score, threshold, device)
        SELECT check_in_id, task_id, person_id, received_at, (received_at AT TIME ZONE 'Asia/Shanghai')::date,
               CASE n % 4 WHEN 0 THEN 'review' ELSE 'rejected' END, '{outside_geofence}', true, 1, 'outside', 300, 25,
               1, 0.4, json_build_object('platform', 'android', 'model', 'phone ' || n % 4)
        FROM (SELECT *, idempotency_key::integer AS n FROM receipt WHERE task_id = 'T1') r
        """
    )


async def test_a_circle_and_a_distance_without_a_place_are_drawn(office: Stage, browser: Browser) -> None:
    circle = {"type": "Circle", "coordinates": list(INSIDE), "radius_m": 150}
    await office.ready_task("T1", "p-1", place=place(fence=circle, buffer_m=20))
    far = (await office.check_in("p-1", "T1", at=FAR)).body["check_in_id"]
    reply = await office.call("GET", "/v1/tasks/T1/attempts", REVIEWER, "review")
    distance_m = reply.body["attempts"][0]["location"]["distance_m"]
    async with console(browser, office) as page:
        await click(page, "[data-task=T1]")
        await click(page, f"[data-attempt='{far}']")
        await page.until("document.querySelector('.map .ring')")
        (drawn,) = await attributes(page, ".map .fence", "cx", "cy", "r")
        assert list(map(float, drawn)) == [0, 0, 150]
        outer, inner = (
            float(width) for (width,) in await attributes(page, ".map mask circle", "stroke-width")
        )
        assert await page.run("document.querySelectorAll('.map .fix').length") == 0
    # a stroke lies on both sides of the fence's edge
    assert (outer + inner) / 4 == pytest.approx(20 + distance_m, abs=0.01)
    assert 0 < outer - inner < outer / 20
