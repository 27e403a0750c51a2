"""The page's own reckoning: clock, countdown, distance, when to try again. Run where it runs, in the browser."""

import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import cv2
import numpy as np
import pytest
import pytest_asyncio

from checkin_service.domain.reasons import NextStep
from checkin_service.web.messages import Language, negotiate, next_text
from geofence import Frame, from_wgs84
from tests.browser.chromium import Page, ScriptError
from tests.browser.conftest import Street

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def page(street: Street) -> AsyncIterator[Page]:
    async with street.phone() as opened:
        await opened.go("/app/")
        yield opened


async def called(page: Page, module: str, function: str, *arguments: Any) -> Any:
    given = ", ".join(map(json.dumps, arguments))
    return await page.run(f"import(document.baseURI + '{module}.js').then((m) => m.{function}({given}))")


# --- Clock ---


@pytest.mark.parametrize(
    ("left_s", "shown"),
    [
        (-0.001, {"key": "left_none"}),
        (0, {"key": "left_minutes", "minutes": 0, "seconds": 0}),
        (61.9, {"key": "left_minutes", "minutes": 1, "seconds": 1}),
        (3599.9, {"key": "left_minutes", "minutes": 59, "seconds": 59}),
        (3600, {"key": "left_hours", "hours": 1, "minutes": 0}),
        (86399, {"key": "left_hours", "hours": 23, "minutes": 59}),
        (86400, {"key": "left_days", "days": 1, "hours": 0}),
        (30 * 86400 - 1, {"key": "left_days", "days": 29, "hours": 23}),
    ],
)
async def test_what_is_left(page: Page, left_s: float, shown: dict[str, Any]) -> None:
    assert await called(page, "clock", "countdown", left_s * 1000) == shown


async def test_the_servers_clock_is_kept_by_a_counter_that_nobody_sets(page: Page) -> None:
    """To within the second that `Date` is cut to; a slow answer does not spoil what a quick one told."""
    said = await page.run("""import(document.baseURI + 'clock.js').then(({ ServerClock }) => {
      let ticks = 0;
      const clock = new ServerClock(() => ticks);
      const known = clock.isKnown;
      clock.observe("Mon, 23 Nov 2026 04:00:00 GMT", 1000, 1100);
      clock.observe("Mon, 23 Nov 2026 04:00:09 GMT", 1200, 9000);
      clock.observe("nonsense", 1200, 1201);
      ticks = 61_050;
      return [known, clock.isKnown, clock.now()];
    })""")
    expected = datetime(2026, 11, 23, 4, 1, 0, 500_000, UTC).timestamp() * 1000
    assert said == [False, True, expected]


async def test_instants_are_told_as_the_service_tells_them(page: Page) -> None:
    instants = [
        datetime.fromisoformat(text)
        for text in (
            "2026-12-04T00:00:00+08:00",
            "2027-01-01T00:00:00+08:00",
            "2026-11-03T02:05:59.900+00:00",
        )
    ]
    for instant in instants:
        for language in Language:
            told = await called(page, "language", "sayInstant", language, instant.timestamp() * 1000)
            assert told in next_text(NextStep.CHECK_IN, language, closes_at=instant)


@pytest.mark.parametrize(
    "wanted", [["en-GB"], ["fr", "zh-TW"], ["zh-Hans-HK"], ["yue"], ["zh"], ["fr"], ["de", "en"], []]
)
async def test_the_language_is_chosen_as_the_service_does(page: Page, wanted: list[str]) -> None:
    assert await called(page, "language", "chooseLanguage", wanted) == negotiate(", ".join(wanted) or None)


# --- Distance ---


@pytest.mark.parametrize("frame", Frame)
async def test_frames_come_back_to_the_same_point(page: Page, frame: Frame) -> None:
    chance = random.Random(6)
    points = [(chance.uniform(113.7, 114.7), chance.uniform(22.4, 22.9)) for _ in range(50)]
    shown = [from_wgs84(lon, lat, frame) for lon, lat in points]
    back = await page.run(
        f"import(document.baseURI + 'frames.js').then((m) => {json.dumps(shown)}.map((p) => m.toWgs84(p, '{frame}')))"
    )
    for point, found in zip(points, back, strict=True):
        assert found == pytest.approx(point, abs=1e-7)


async def test_metres_are_those_of_the_ground(page: Page) -> None:
    """By pyproj's geodesic on the same ellipsoid, to a thousandth within 5 km."""
    from pyproj import Geod

    geod, chance = Geod(ellps="WGS84"), random.Random(7)
    for _ in range(20):
        lon, lat = chance.uniform(113.7, 114.7), chance.uniform(22.4, 22.9)
        away = chance.uniform(10, 5000)
        there_lon, there_lat, _ = geod.fwd(lon, lat, chance.uniform(0, 360), away)
        assert await called(
            page, "frames", "metresBetween", [lon, lat], [there_lon, there_lat]
        ) == pytest.approx(away, rel=1e-3)


@pytest.mark.parametrize(
    ("metres", "accuracy", "shown"),
    [
        (3, 5, {"key": "distance_here", "metres": 20}),
        (45, 52, {"key": "distance_here", "metres": 60}),
        (312, 12, {"key": "distance_m", "metres": 310}),
        (994, 12, {"key": "distance_m", "metres": 990}),
        (995, 12, {"key": "distance_km", "kilometres": "1.0"}),
        (12_345, 12, {"key": "distance_km", "kilometres": "12"}),
    ],
)
async def test_distances_are_told_no_more_exactly_than_known(
    page: Page, metres: float, accuracy: float, shown: dict[str, Any]
) -> None:
    assert await called(page, "frames", "roundedDistance", metres, accuracy) == shown


# --- Sending again ---


@pytest.mark.parametrize(
    ("answer", "tries", "step"),
    [
        ({"status": 201}, 1, {"step": "done"}),
        ({"status": 202}, 1, {"step": "ask", "wait": 2}),
        ({"status": 202, "wait": 5}, 1, {"step": "ask", "wait": 5}),
        ({"status": 0}, 1, {"step": "again", "wait": 2}),
        ({"status": 0}, 3, {"step": "again", "wait": 8}),
        ({"status": 0}, 50, {"step": "again", "wait": 30}),
        ({"status": 408, "code": "too_slow"}, 1, {"step": "again", "wait": 2}),
        ({"status": 409, "code": "idempotency_in_progress", "wait": 3}, 1, {"step": "again", "wait": 3}),
        ({"status": 429, "code": "rate_limited", "wait": 60}, 1, {"step": "again", "wait": 60}),
        ({"status": 500, "code": "unavailable", "wait": 1}, 1, {"step": "again", "wait": 1}),
        ({"status": 502}, 2, {"step": "again", "wait": 4}),
        ({"status": 401, "code": "unauthenticated"}, 1, {"step": "sign_in"}),
        ({"status": 403, "code": "consent_required"}, 1, {"step": "consent"}),
        ({"status": 409, "code": "challenge_invalid"}, 1, {"step": "over"}),
        ({"status": 422, "code": "image_unreadable"}, 1, {"step": "over"}),
        ({"status": 404, "code": "not_found"}, 1, {"step": "over"}),
    ],
)
async def test_what_follows_an_answer(
    page: Page, answer: dict[str, Any], tries: int, step: dict[str, Any]
) -> None:
    assert await called(page, "retry", "afterSending", answer, tries) == step


@pytest.mark.parametrize(
    ("answer", "outcome", "step"),
    [
        ({"status": 200}, "pending", {"step": "ask", "wait": 2}),
        ({"status": 200, "wait": 4}, "pending", {"step": "ask", "wait": 4}),
        ({"status": 200}, "accepted", {"step": "done"}),
        ({"status": 200}, "rejected", {"step": "done"}),
        ({"status": 0}, None, {"step": "ask", "wait": 4}),
        ({"status": 503, "wait": 1}, None, {"step": "ask", "wait": 1}),
        ({"status": 404}, None, {"step": "over"}),
    ],
)
async def test_what_follows_an_answer_about_a_verdict(
    page: Page, answer: dict[str, Any], outcome: str | None, step: dict[str, Any]
) -> None:
    assert await called(page, "retry", "afterAsking", answer, outcome, 2) == step


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("3", 3), ("0", 1), ("Mon, 23 Nov 2026 04:00:10 GMT", 10), ("soon", None), ("-4", None)],
)
async def test_retry_after(page: Page, header: str | None, seconds: int | None) -> None:
    now = datetime(2026, 11, 23, 4, 0, 0, tzinfo=UTC).timestamp() * 1000
    assert await called(page, "retry", "retryAfter", header, now) == seconds


# --- Position, light, framing ---


async def test_fixes_dated_by_the_satellites_are_put_on_the_phones_clock(page: Page) -> None:
    at = 1_800_000_000_000

    def fixes(*dated: tuple[float, float]) -> list[dict[str, float]]:
        return [{"at": at + date * 1000, "taken_at": at + taken * 1000} for date, taken in dated]

    agreeing = fixes((0, 0.2), (1, 1.1))
    assert await called(page, "position", "onPhonesClock", agreeing) == agreeing
    behind = await called(page, "position", "onPhonesClock", fixes((-300, 0), (-299, 1)))
    assert [fix["at"] - at for fix in behind] == [0, 1000]
    cached = fixes((-300, 0), (-300, 4))
    assert await called(page, "position", "onPhonesClock", cached) == cached
    lonely = fixes((-300, 0))
    assert await called(page, "position", "onPhonesClock", lonely) == lonely


@pytest.mark.parametrize(
    ("boxes", "word"),
    [
        ([], "no_face"),
        ([(300, 300, 120, 360)] * 2, "many_faces"),
        ([(290, 400, 140, 160)], "too_far"),
        ([(60, 60, 600, 840)], "too_near"),
        ([(0, 0, 300, 400)], "off_centre"),
        ([(210, 280, 300, 400)], "fine"),
    ],
)
async def test_what_is_said_of_a_face_in_the_oval(page: Page, boxes: list[Any], word: str) -> None:
    found = [dict(zip(("x", "y", "width", "height"), box, strict=True)) for box in boxes]
    assert await called(page, "framing", "framing", found, 720, 960) == word


@pytest.mark.parametrize(("grey", "word"), [(20, "too_dark"), (128, "fine"), (240, "too_bright")])
async def test_what_is_said_of_the_light(page: Page, grey: int, word: str) -> None:
    assert await called(page, "camera", "lightOf", [grey, grey, grey, 255] * 4) == word


# --- Receipts as pictures ---


@pytest.mark.parametrize("length", [1, 17, 18, 78, 154, 271, 490, 523, 1000, 1732, 2953])
async def test_a_qr_code_is_read_as_it_was_written(page: Page, length: int) -> None:
    """By OpenCV's second reader, for its first misses some that it has written itself. One length per kind of version:
    without marks, with them, with its number, with many blocks."""
    chance = random.Random(length)
    text = "".join(
        chance.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:/#", k=length)
    )
    rows = np.array(await called(page, "qr", "qrCode", list(text.encode())))
    picture = np.pad(np.where(rows, 0, 255).astype(np.uint8), 4, constant_values=255)
    read, *_ = cv2.QRCodeDetectorAruco().detectAndDecode(picture.repeat(6, 0).repeat(6, 1))
    assert read == text


async def test_what_no_qr_code_holds_is_refused(page: Page) -> None:
    with pytest.raises(ScriptError, match="RangeError"):
        await called(page, "qr", "qrCode", [0] * 2954)
