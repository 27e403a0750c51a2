"""A person with a phone: the page in a real browser, against the service with its real face engine."""

import cv2
import numpy as np
import pytest

from checkin_service.web.admission import Admission, Urgency
from tests.browser.bad_network import bad_network
from tests.browser.chromium import Page
from tests.browser.conftest import Street, outcome, reasons, take_picture
from tests.service.stage import FAR, INSIDE

pytestmark = pytest.mark.asyncio(loop_scope="package")

SHOWN = "document.querySelector('#main').innerText"
CARD = "document.querySelector('.card')"
MAY_TAKE = "document.querySelector('#foot .first')?.getAttribute('aria-disabled') !== 'true'"
# the camera is open, and hints have begun
GUIDED = """import(document.baseURI + 'texts.js').then(({ TEXTS }) => {
  const hint = document.querySelector('.hint')?.textContent;
  return hint && hint !== TEXTS.opening_camera[document.documentElement.lang];
})"""
KEPT = """new Promise((resolve) => {
  const opening = indexedDB.open("checkin", 1);
  opening.onsuccess = () => {
    const asked = opening.result.transaction("outbox").objectStore("outbox").getAll();
    asked.onsuccess = () => { opening.result.close(); resolve(asked.result); };
  };
})"""


async def opened(page: Page, link: str, at: tuple[float, float] = INSIDE) -> None:
    await page.position(*at)
    await page.go(link)
    await page.until(CARD)


# --- The usual day ---


async def test_from_the_link_to_an_accepted_check_in_in_six_taps(street: Street) -> None:
    person = await street.person(consented=False)
    async with street.phone() as page:
        await page.position(*INSIDE)
        await page.go(person.link)
        await page.until("document.querySelectorAll('fieldset input').length === 3")
        assert await page.run("location.href") == f"{street.base}/app/"
        for scope in ("face", "face_transfer", "location"):
            await page.tap(f"#scope-{scope}")
        await page.tap("#foot .first")
        await page.until(CARD)
        await take_picture(page)
        assert await outcome(page) == "accepted"
        assert page.taps <= 6
    [attempt] = await person.attempts()
    assert attempt["outcome"] == "accepted"
    assert await person.state() == "accepted"


async def test_who_is_outside_is_told_how_far(street: Street) -> None:
    person = await street.person()
    async with street.phone() as page:
        await opened(page, person.link, FAR)
        await take_picture(page)
        assert (await outcome(page), await reasons(page)) == ("rejected", ["outside_geofence"])
        [attempt] = await person.attempts()
        metres = -(-attempt["distance_m"] // 10) * 10
        assert f"{metres:.0f}" in await page.run(SHOWN)
        await page.position(*INSIDE)
        await take_picture(page)
        assert await outcome(page) == "accepted"


async def test_a_receipt_is_read_again_and_others_can_check_it(street: Street) -> None:
    person = await street.person()
    async with street.phone() as page:
        await opened(page, person.link)
        await take_picture(page)
        await outcome(page)
    async with street.phone() as another:
        await another.go(person.link)
        await another.tap(".card .second")
        link = await another.until("document.querySelector('#code')?.value")
        await another.run("document.querySelector('.qr').scrollIntoView()")
        screen = cv2.imdecode(np.frombuffer(await another.seen_now(), np.uint8), cv2.IMREAD_GRAYSCALE)
        assert screen is not None
        assert cv2.QRCodeDetectorAruco().detectAndDecode(screen)[0] == link
    async with street.phone() as stranger:
        path = link.removeprefix(street.base)
        await stranger.go(path)
        await stranger.until("document.querySelector('p.good')")
        assert person.person_id in await stranger.run(SHOWN)
        head, claims, signature = path.split(".")
        altered = claims[:-8] + ("A" if claims[-8] != "A" else "B") + claims[-7:]
        await stranger.go("/livez")
        await stranger.go(f"{head}.{altered}.{signature}")
        await stranger.until("document.querySelector('p.bad')")


async def test_the_rehearsal_spends_nothing(street: Street) -> None:
    person = await street.person()
    async with street.phone() as page:
        await opened(page, person.link)
        await page.tap("#foot .second")
        await page.until("document.querySelectorAll('.checks .good').length === 6")
        await page.until("document.querySelector('.verdict').textContent")
        asked = [p["request"]["url"] for name, p in page.seen if name == "Network.requestWillBeSent"]
        assert {url.removeprefix(street.base) for url in asked if "/v1/" in url} == {"/v1/me"}
    assert await person.receipts() == []


# --- What phones refuse ---


async def test_without_a_camera_the_way_without_one_is_a_tap_away(street: Street) -> None:
    person = await street.person()
    async with street.phone(camera=False) as page:
        await opened(page, person.link)
        await page.tap("#foot .first")
        assert await page.until("document.querySelector('[role=alert]')?.textContent")
        await page.tap("#foot .way")
        await page.tap(".chip")
        await page.tap("#foot .first")
        await page.until("document.querySelector('#main code')")
    assert await person.state() == "in_review"


async def test_without_a_position_no_picture_is_taken(street: Street) -> None:
    person = await street.person()
    async with street.phone(position=False) as page:
        await opened(page, person.link)
        denied = await page.run("import(document.baseURI + 'texts.js').then((m) => m.TEXTS.position_denied)")
        await page.tap("#foot .first")
        await page.until(GUIDED)
        language = await page.run("document.documentElement.lang")
        await page.until(f"document.querySelector('.where').textContent === {denied[language]!r}")
        assert not await page.run(MAY_TAKE)
        assert await page.run("Boolean(document.querySelector('#foot .way'))")


async def test_a_rough_position_is_waited_for_and_costs_nothing(street: Street) -> None:
    person = await street.person()
    async with street.phone() as page:
        await page.position(*INSIDE, accuracy_m=2000)
        await page.go(person.link)
        await page.tap("#foot .first")
        await page.until(GUIDED)
        await page.until("document.querySelector('.where').textContent.includes('2000')")
        assert not await page.run(MAY_TAKE)
        await page.position(*INSIDE, accuracy_m=9)
        await page.until(MAY_TAKE)
    assert await person.receipts() == []


async def test_a_phones_wrong_clock_harms_nobody(street: Street) -> None:
    """Five hours and a time zone off: the countdown is the server's, and the check-in is accepted."""
    person = await street.person()
    async with street.phone() as page:
        shift = "const now = Date.now; Date.now = () => now() + 5 * 3600e3;"
        await page.send("Page.addScriptToEvaluateOnNewDocument", source=shift)
        await page.send("Emulation.setTimezoneOverride", timezoneId="America/New_York")
        await opened(page, person.link)
        closes_at = (await street.service.status(person.task_id))["closes_at"]
        left = f"Math.floor((Date.parse('{closes_at}') - (Date.now() - 5 * 3600e3)) / 3600e3)"
        hours = await page.run(left)
        await page.until(f"document.querySelector('.left').textContent.includes('{hours // 24}')")
        await page.until(f"document.querySelector('.left').textContent.includes('{hours % 24}')")
        await take_picture(page)
        assert await outcome(page) == "accepted"


# --- Bad networks ---


async def test_an_upload_cut_in_the_middle_goes_on_after_a_reload(street: Street) -> None:
    person = await street.person()
    async with bad_network(street.base) as network, street.browser.open_page(network.base) as page:
        await opened(page, person.link)
        network.breaks = True
        await take_picture(page)
        await page.until(
            "document.querySelector('#foot .first:not([hidden])') && document.querySelector('progress')"
        )
        [kept] = await page.run(KEPT)
        # a browser tries again by itself on every idle connection
        assert network.cuts >= 1
        assert await person.receipts() == []
        network.breaks = False
        await page.reload()
        assert await outcome(page) == "accepted"
        assert await page.run(KEPT) == []
    [receipt] = await person.receipts()
    assert receipt["idempotency_key"] == kept["key"]
    assert len(await person.attempts()) == 1


async def test_an_answer_that_was_lost_is_given_again(street: Street) -> None:
    """The service has judged, and the phone does not know."""
    person = await street.person()
    async with street.phone() as page:
        await opened(page, person.link)
        await page.hold("/v1/check-ins", "Response")
        await take_picture(page)
        await page.lose(await page.held())
        await page.until("document.querySelector('#foot .first:not([hidden])')")
        assert await person.state() == "accepted"
        await page.hold("")
        await page.reload()
        assert (await outcome(page), await reasons(page)) == ("accepted", [])
    assert len(await person.attempts()) == len(await person.receipts()) == 1


async def test_a_busy_service_is_asked_again_when_it_says(street: Street) -> None:
    person = await street.person()
    async with street.phone() as page:
        await opened(page, person.link)
        await page.hold("/v1/check-ins")
        await take_picture(page)
        await page.answer(await page.held(), 503, {"code": "unavailable"}, Retry_After="7")
        await page.until("/\\b[67]\\b/.test(document.querySelector('#main [role=status]').textContent)")
        await page.tap("#foot .first")
        await page.answer(await page.held(), 409, {"code": "idempotency_in_progress"}, Retry_After="1")
        await page.let(await page.held())
        assert await outcome(page) == "accepted"
    assert len(await person.attempts()) == 1


async def test_a_check_in_that_was_only_taken_is_asked_for_until_it_is_judged(street: Street) -> None:
    person = await street.person()
    async with street.phone() as page:
        await opened(page, person.link)
        await page.hold("/v1/check-ins*")
        await take_picture(page)
        taken = {
            "check_in_id": "x",
            "status_url": "/v1/check-ins/x",
            "received_at": "2026-11-20T09:12:03+08:00",
        }
        await page.answer(await page.held(), 202, taken, Retry_After="1")
        await page.answer(await page.held(), 200, {**taken, "outcome": "pending"}, Retry_After="1")
        await page.held()
        [kept] = await page.run(KEPT)
        assert (kept["bytes"], kept["status_url"]) == (None, "/v1/check-ins/x")
        await page.reload()
        judged = {**taken, "task_id": person.task_id, "outcome": "review", "reasons": [], "attempts_left": 9}
        await page.answer(await page.held(), 200, judged)
        assert await outcome(page) == "review"
        assert await page.run(KEPT) == []


async def test_airplane_mode_is_said_and_costs_nothing(street: Street) -> None:
    person = await street.person()
    async with street.phone() as page:
        await opened(page, person.link)
        await page.tap("#foot .first")
        await page.until(GUIDED)
        await page.network(offline=True)
        await page.tap("#foot .first")
        assert await page.until("document.querySelector('[role=alert]')?.textContent")
        assert not await page.run("Boolean(document.querySelector('video'))")
        await page.network(offline=False)
        await page.tap("#foot .first")
        await page.until(GUIDED)
        await page.tap("#foot .first")
        assert await outcome(page) == "accepted"


async def test_a_phone_that_keeps_nothing_still_sends_until_it_is_answered(street: Street) -> None:
    person = await street.person()
    async with bad_network(street.base) as network, street.browser.open_page(network.base) as page:
        broken = "IDBFactory.prototype.open = () => { throw new Error('private'); }"
        await page.send("Page.addScriptToEvaluateOnNewDocument", source=broken)
        await opened(page, person.link)
        network.breaks = True
        await take_picture(page)
        await page.until(
            "document.querySelector('#foot .first:not([hidden])') && document.querySelector('progress')"
        )
        network.breaks = False
        await page.tap("#foot .first")
        assert await outcome(page) == "accepted"
    assert len(await person.attempts()) == 1


async def test_what_can_never_be_accepted_is_let_go_and_taken_anew(street: Street) -> None:
    """Such as a check-in that came to no receipt before its challenge was over."""
    person = await street.person()
    async with street.phone() as page:
        await opened(page, person.link)
        await page.hold("/v1/check-ins")
        await take_picture(page)
        refused = {"code": "challenge_invalid", "title": "Title", "detail": "Detail"}
        await page.answer(await page.held(), 409, refused)
        await page.until("document.querySelector('[role=alert]')?.textContent === 'Detail'")
        assert await page.run(KEPT) == []
        await page.hold("")
        await take_picture(page)
        assert await outcome(page) == "accepted"


async def test_what_the_service_takes_first_and_judges_later_is_accepted(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = await street.person()
    monkeypatch.setattr(Admission, "admits", lambda _, urgency, *__: urgency is not Urgency.SUBMISSION)
    monkeypatch.setattr(Admission, "defers", lambda *_: True)
    async with street.phone() as page:
        await opened(page, person.link)
        await take_picture(page)
        assert await outcome(page) == "accepted"
        answers = [params["response"] for name, params in page.seen if name == "Network.responseReceived"]
        assert [a["status"] for a in answers if a["url"].endswith("/v1/check-ins")] == [202]
    assert len(await person.attempts()) == 1


async def test_a_new_link_goes_on_with_what_an_expired_one_began(street: Street) -> None:
    person, other = await street.person(), await street.person()
    async with street.phone() as page:
        await opened(page, person.link)
        await page.hold("/v1/check-ins")
        await take_picture(page)
        await page.answer(await page.held(), 401, {"code": "unauthenticated"})
        await page.until("!document.querySelector('#foot button')")
        assert await page.run("sessionStorage.getItem('checkin.token')") is None
        await page.hold("")
        # somebody else's token sends nothing of theirs
        await page.run(f"location.hash = {other.link.removeprefix('/app/')!r}")
        await page.until(CARD)
        assert await person.receipts() == await other.receipts() == []
        await page.run(f"location.hash = {person.link.removeprefix('/app/')!r}")
        assert await outcome(page) == "accepted"
    assert len(await person.attempts()) == 1


# --- Hands ---


async def test_a_double_tap_and_a_second_tab_check_in_once(street: Street) -> None:
    person = await street.person()
    async with street.phone() as page:
        await opened(page, person.link)
        await page.hold("/v1/check-ins")
        await page.tap("#foot .first")
        await page.until("document.querySelector('video')?.videoWidth > 0")
        await page.until(MAY_TAKE)
        await page.run(
            "document.querySelector('#foot .first').click(), document.querySelector('#foot .first').click()"
        )
        held = await page.held()
        second = await street.browser.another_tab(page)
        await second.go(person.link)
        await second.until("document.querySelector('progress')")
        await page.let(held)
        assert await outcome(page) == "accepted"
        await second.until(CARD)
        assert second.faults == []
        asked = [params["request"] for name, params in second.seen if name == "Network.requestWillBeSent"]
        assert [request["url"] for request in asked if request["method"] == "POST"] == []
    assert len(await person.attempts()) == len(await person.receipts()) == 1
    challenges = await street.service.sql("SELECT * FROM challenge WHERE person_id = $1", person.person_id)
    assert len(challenges) == 1


async def test_back_leaves_the_camera_and_ends_it(street: Street) -> None:
    person = await street.person()
    async with street.phone() as page:
        await opened(page, person.link)
        await page.tap("#foot .first")
        await page.until("document.querySelector('video')?.videoWidth > 0")
        await page.run("globalThis.filmed = document.querySelector('video').srcObject, null")
        await page.run("history.back()")
        await page.until(CARD)
        assert await page.run("filmed.getTracks().every((track) => track.readyState === 'ended')")
    assert await person.receipts() == []


async def test_turns_that_a_challenge_asks_for_are_filmed(street: Street) -> None:
    person = await street.person()
    async with street.phone() as page:
        await page.send(
            "Page.addScriptToEvaluateOnNewDocument",
            source="const later = setTimeout; setTimeout = (work, ms) => later(work, ms / 20);",
        )
        await opened(page, person.link)
        opening = await street.service.challenge(person.person_id, person.task_id)
        await page.hold("/v1/challenges")
        await take_picture(page)
        actions = ["turn_left", "turn_right", "turn_left"]
        asked = {"challenge_id": opening, "expires_at": "2030-01-01T00:00:00+08:00", "actions": actions}
        held = await page.held()
        await page.hold("/v1/check-ins")
        await page.answer(held, 201, asked)
        await page.held()
        form = "new Response(i.bytes, { headers: { 'Content-Type': i.type } }).formData()"
        names = await page.run(f"{KEPT}.then(([i]) => {form}).then((form) => [...form.keys()])")
        assert names.count("burst") == 1 + 2 * len(actions)
        assert {"selfie", "fixes", "captured_at", "device", "frame"} <= set(names)


async def test_consent_can_be_taken_back_and_what_is_stored_be_had(street: Street) -> None:
    person = await street.person()
    async with street.phone() as page:
        await opened(page, person.link)
        await page.tap("#head button:last-child")
        await page.tap("#main .second")
        await page.until("document.querySelector('#main [role=status]').textContent")
        await page.tap("#main div > .second")
        await page.tap("#main .grave")
        await page.until("document.querySelector('fieldset')")
    me = await street.service.person(person.person_id, "GET", "/v1/me")
    assert me.body["consent"]["given"] is False


async def test_large_text_and_language_are_kept(street: Street) -> None:
    person = await street.person()
    async with street.phone() as page:
        await opened(page, person.link)
        await page.tap("#head button")
        assert await page.run("document.querySelector('#head button').getAttribute('aria-pressed')") == "true"
        change = "Object.assign(document.querySelector('#head select'), { value: 'zh-HK' })"
        await page.run(f"{change}.dispatchEvent(new Event('change'))")
        await page.until("document.documentElement.lang === 'zh-HK'")
        await page.reload()
        await page.until(CARD)
        shown = "[document.documentElement.lang, document.documentElement.className]"
        assert await page.run(shown) == ["zh-HK", "large"]
        step = (
            await street.service.person(
                person.person_id, "GET", "/v1/me", headers={"Accept-Language": "zh-HK"}
            )
        ).body
        assert step["tasks"][0]["next_text"] in await page.run(SHOWN)
