"""What a person meets in the mini-program, from the tasks to the receipt, against a running service."""

import json
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.miniprogram.conftest import (
    Owner,
    aim,
    go_to_camera,
    on_the_map,
    outcome,
    owner_at,
    take_picture,
)
from tests.service.stage import FAR, INSIDE, Stage

pytestmark = pytest.mark.asyncio(loop_scope="package")


def read_code(canvas: dict[str, Any]) -> str:
    """What a QR code says, by OpenCV, of the rectangles that were drawn."""
    picture = np.full((canvas["height"], canvas["width"]), 128, np.uint8)
    for colour, x, y, width, height in canvas["drawn"]:
        picture[y : y + height, x : x + width] = int(colour[1:3], 16)
    return cv2.QRCodeDetectorAruco().detectAndDecode(picture)[0]


SHENZHEN = timezone(timedelta(hours=8))
SENT = "wx.counts.sent.filter((each) => each === 'POST /v1/check-ins').length"


async def test_from_the_notice_to_the_receipt_in_six_taps(service: Stage, tmp_path: Path) -> None:
    owner = await owner_at(service, tmp_path, consented=False)
    async with owner.with_phone() as phone:
        await phone.open()
        await phone.reaches("consent")
        assert not await phone.run("page.data.mayAgree")
        scopes = await phone.run("page.data.scopes.map(({ scope }) => scope)")
        await phone.run(f"page.ticked({{ detail: {{ value: {scopes[:2]} }} }})")
        assert not await phone.run("page.data.mayAgree")
        await phone.run(f"page.ticked({{ detail: {{ value: {scopes} }} }})")
        await phone.tap("agree")
        await take_picture(phone)
        assert await outcome(phone) == "accepted"
        assert await owner.state() == "accepted"
        await phone.tap("receipt")
        await phone.reaches("receipt")
        await phone.tap("copy")
        link = await phone.run("wx.clipboard")
        assert link.startswith(f"{owner.base}/app/#receipt=ey")
        assert read_code(await phone.until("wx.canvas")) == link
        await phone.tap("toTasks")
        await phone.until("page.data.cards?.[0]?.isDone")


@pytest.mark.parametrize(
    ("wechats", "language", "far"),
    [("zh_TW", "zh-HK", "距離"), ("en", "en", "About"), ("fr", "zh-CN", "距离")],
)
async def test_tasks_tell_place_time_and_distance_in_the_persons_language(
    owner: Owner, wechats: str, language: str, far: str
) -> None:
    async with owner.with_phone(language=wechats, at=on_the_map(FAR)) as phone:
        await phone.open()
        await phone.reaches("tasks")
        [card] = await phone.run("page.data.cards")
        assert "福田" in card["address"]
        assert card["left"]
        await phone.tap("howFar", task=owner.task_id)
        assert far in await phone.until(
            f"/[1-9]/.test(page.data.distances.{owner.task_id}) && page.data.distances.{owner.task_id}"
        )
        await phone.run("page.setLanguage({ detail: { value: '2' } })")
        await phone.reaches("tasks")
        assert (await phone.run("page.data.cards[0].step")) == "Check in"
        assert await phone.run("wx.getStorageSync('checkin.language')") == "en"
    assert await owner.attempts() == []


async def test_the_countdown_goes_by_the_servers_clock(owner: Owner) -> None:
    async with owner.with_phone() as phone:
        await phone.open()
        await phone.reaches("tasks")
        shown = await phone.run("page.data.cards[0].left")
        await phone.run("void (time.skew += 7 * 24 * 3600_000)")
        await phone.run("page.onShow()")
        assert await phone.until("page.data.state === 'shown' && page.data.cards[0].left") == shown


async def test_a_rehearsal_tells_what_is_not_ready_and_spends_no_attempt(owner: Owner) -> None:
    async with owner.with_phone(at=on_the_map(FAR, accuracy_m=800), grey=20) as phone:
        await phone.open()
        await phone.reaches("tasks")
        await phone.tap("rehearse")
        await phone.until("page.data.isCameraOn")
        await phone.run("page.cameraOpened()")
        await phone.until("page.data.verdict")
        states = "Object.fromEntries(page.data.rows.map(({ name, state }) => [name, state]))"
        assert await phone.run(states) == {
            "network": "good",
            "clock": "good",
            "storage": "good",
            "camera": "good",
            "light": "bad",
            "position": "bad",
        }
        await phone.told(at=on_the_map(FAR), grey=128)
        await phone.tap("again")
        await phone.until("page.data.isCameraOn")
        await phone.run("page.cameraOpened()")
        await phone.until("page.data.verdict && page.data.rows.every(({ state }) => state === 'good')")
        assert set(await phone.run("wx.counts.sent")) == {"GET /v1/me"}
    assert await owner.attempts() == []


async def test_who_is_too_far_away_is_told_so_and_may_try_again(owner: Owner) -> None:
    async with owner.with_phone(at=on_the_map(FAR)) as phone:
        await phone.open()
        await take_picture(phone)
        assert await outcome(phone) == "rejected"
        result = await phone.run("page.data.result")
        assert [reason["code"] for reason in result["reasons"]] == ["outside_geofence"]
        assert result["reasons"][0]["advice"]
        assert result["mayTryAgain"]
        await phone.told(at=on_the_map((114.06, 22.544)))
        await phone.tap("checkInAgain")
        await aim(phone)
        await phone.run("void page.take()")
        assert await outcome(phone) == "accepted"


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ({"denies": ["scope.camera"]}, "camera_not_allowed"),
        ({"denies": ["scope.userLocation"]}, "position_not_allowed"),
        ({"refusesPrivacy": True}, "privacy_refused"),
    ],
)
async def test_what_is_not_allowed_is_said_and_the_manual_way_is_a_tap_away(
    owner: Owner, told: dict[str, Any], fault: str
) -> None:
    async with owner.with_phone(**told) as phone:
        await phone.open()
        await phone.reaches("tasks")
        await phone.tap("step", task=owner.task_id, screen="capture")
        await phone.reaches("capture", "trouble")
        assert await phone.run(f"page.data.trouble.text === page.data.t.{fault}")
        assert await phone.run("page.data.trouble.needsSettings") == fault.endswith("not_allowed")
        await phone.tap("toManual")
        await phone.reaches("manual")
        await phone.run("page.fill({ currentTarget: { dataset: { why: page.data.why[1] } } })")
        await phone.tap("send")
        await phone.reaches("manual", "done")
    assert await owner.state() == "in_review"


@pytest.mark.parametrize("told", [{}, {"isReduced": True}], ids=["weak", "approximate"])
async def test_a_rough_position_is_waited_for_and_costs_nothing(owner: Owner, told: dict[str, Any]) -> None:
    async with owner.with_phone(at=on_the_map(INSIDE, accuracy_m=2000), **told) as phone:
        await phone.open()
        await phone.reaches("tasks")
        await phone.tap("step", task=owner.task_id, screen="capture")
        await phone.reaches("capture")
        await phone.run("page.cameraOpened()")
        await phone.until("page.data.where.includes('2000')")
        await phone.time_passes(10)
        await phone.run("page.take()")
        assert not await phone.run("page.data.mayTake")
        assert set(await phone.run("wx.counts.sent")) == {"GET /v1/me"}
        await phone.told(at=on_the_map(INSIDE))
        await phone.until("page.data.mayTake")
    assert await owner.attempts() == []


async def test_airplane_mode_before_the_picture_is_said_and_costs_nothing(owner: Owner) -> None:
    async with owner.with_phone() as phone:
        await phone.open()
        await go_to_camera(phone)
        await phone.told(isOffline=True)
        await phone.run("void page.take()")
        await phone.reaches("capture", "trouble")
        assert await phone.run("page.data.trouble.title === page.data.t.offline_title")
        await phone.told(isOffline=False)
        await phone.tap("again")
        await aim(phone)
        await phone.run("void page.take()")
        assert await outcome(phone) == "accepted"
    assert len(await owner.attempts()) == 1


async def test_airplane_mode_while_it_sends_is_waited_out(owner: Owner) -> None:
    async with owner.with_phone() as phone:
        await phone.open()
        await go_to_camera(phone)
        await phone.run(
            "void (wx.on('changed', () => stack.at(-1).data.state === 'sending' && (told.isOffline ??= true)),"
            " page.take())"
        )
        await phone.until("page.data.mayHurry")
        assert await phone.run(SENT) == 0
        await phone.run("wx.networkChanges(true)")
        assert await outcome(phone) == "accepted"
    assert len(await owner.attempts()) == 1


async def test_a_phones_wrong_clock_and_time_zone_harm_nobody(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    async with owner.with_phone() as phone:
        await phone.run("void (time.skew += 5 * 3600_000)")
        await phone.open()
        await take_picture(phone)
        assert await outcome(phone) == "accepted"
        [line] = await phone.run("page.data.result.lines")
    [attempt] = await owner.attempts()
    assert f"{attempt['received_at'].astimezone(SHENZHEN):%H:%M}" in line


async def test_back_leaves_the_camera_and_ends_it(owner: Owner) -> None:
    async with owner.with_phone(faces=[]) as phone:
        await phone.open()
        await go_to_camera(phone)
        await phone.run("wx.navigateBack({})")
        await phone.reaches("tasks")
        assert await phone.run("wx.following") == 0
        assert await phone.run("wx.counts.sessions") == 0
        assert set(await phone.run("wx.counts.sent")) == {"GET /v1/me"}
    assert await owner.attempts() == []


async def test_back_in_the_middle_of_the_picture_loses_nothing(owner: Owner) -> None:
    async with owner.with_phone() as phone:
        await phone.open()
        await go_to_camera(phone)
        await phone.run("void (page.take(), wx.navigateBack({}))")
        # the tasks find it by themselves if it was stored before they had been read, and else when they are seen again
        sending = "page.route.endsWith('sending/index')"
        await phone.until(f"{sending} || Object.keys(wx.getStorageSync('checkin.outbox')).length")
        await phone.until(f"{sending} || page.data.state === 'shown'")
        await phone.run(f"{sending} || page.onShow()")
        assert await outcome(phone) == "accepted"
    assert len(await owner.attempts()) == 1


async def test_a_manual_request_may_say_where_one_is_and_is_made_once(owner: Owner) -> None:
    async with owner.with_phone(losesAnswers=1) as phone:
        await phone.open()
        await phone.reaches("tasks")
        await phone.tap("toManual")
        await phone.reaches("manual")
        await phone.run("page.write({ detail: { value: ' no camera ' } })")
        await phone.run("page.addPosition({ detail: { value: ['position'] } })")
        await phone.tap("send")
        await phone.reaches("manual", "trouble")
        await phone.tap("again")
        await phone.tap("send")
        await phone.reaches("manual", "done")
    rows = await owner.service.sql(
        "SELECT * FROM review WHERE person_id = $1 AND kind = 'manual'", owner.person_id
    )
    assert len(rows) == 1


async def test_an_answer_that_is_lost_is_asked_for_again_with_the_same_key(owner: Owner) -> None:
    async with owner.with_phone() as phone:
        await phone.open()
        await go_to_camera(phone)
        # the challenge's answer comes, those of the check-in do not, twice
        await phone.run(
            "void (wx.on('changed', () => stack.at(-1).data.state === 'sending' && (told.losesAnswers ??= 2)),"
            " page.take())"
        )
        assert await outcome(phone) == "accepted"
        assert await phone.run(SENT) == 3
    assert len(await owner.attempts()) == 1


async def test_a_second_tap_takes_no_second_picture(owner: Owner) -> None:
    async with owner.with_phone() as phone:
        await phone.open()
        await go_to_camera(phone)
        await phone.run("void (page.take(), page.take())")
        assert await outcome(phone) == "accepted"
        assert await phone.run("wx.counts.sent.filter((each) => each === 'POST /v1/challenges').length") == 1
        assert await phone.run(SENT) == 1


async def test_the_networks_return_ends_the_pause(owner: Owner) -> None:
    async with owner.with_phone(bytesPerSecond=1) as phone:
        await phone.open()
        await take_picture(phone)
        await phone.until("page.data.state === 'sending' && wx.inFlight")
        await phone.time_passes(61)
        await phone.until("page.data.mayHurry")
        before = await phone.run("time.now()")
        await phone.told(bytesPerSecond=0)
        await phone.run("wx.networkChanges(true)")
        assert await outcome(phone) == "accepted"
        assert await phone.run("time.now()") - before < 10_000


async def test_a_token_that_became_too_old_is_replaced_while_it_sends(owner: Owner) -> None:
    token = owner.service.token(owner.person_id, "checkin")
    stale = ".".join([*token.split(".")[:2], "AAAA"])
    async with owner.with_phone(host={"token": stale, "freshToken": token}) as phone:
        await phone.open()
        await take_picture(phone)
        assert await outcome(phone) == "accepted"


async def test_whoever_cannot_sign_in_is_told_so_and_what_waits_is_sent_later(owner: Owner) -> None:
    async with owner.with_phone(bytesPerSecond=1) as phone:
        await phone.open()
        await take_picture(phone)
        await phone.until("page.data.state === 'sending' && wx.inFlight")
        token = await phone.run("host.token(false)")
    stale = ".".join([*token.split(".")[:2], "AAAA"])
    async with owner.with_phone(host={"token": stale}) as phone:
        await phone.open()
        await phone.reaches("tasks", "trouble")
        assert await phone.run("page.data.trouble.title === page.data.t.sign_in_title")
    async with owner.with_phone() as phone:
        await phone.open()
        assert await outcome(phone) == "accepted"
    assert len(await owner.attempts()) == 1


async def test_another_person_on_the_same_phone_sends_nothing_of_it(
    owner: Owner, service: Stage, tmp_path: Path
) -> None:
    async with owner.with_phone(bytesPerSecond=1) as phone:
        await phone.open()
        await take_picture(phone)
        await phone.until("page.data.state === 'sending' && wx.inFlight")
    async with owner.with_phone(host={"token": service.token("somebody-else", "checkin")}) as phone:
        await phone.open()
        await phone.reaches("tasks")
        assert await phone.run("page.data.cards") == []
        assert await phone.run(SENT) == 0


async def test_what_was_not_sent_is_forgotten_after_a_day(owner: Owner) -> None:
    async with owner.with_phone(bytesPerSecond=1) as phone:
        await phone.open()
        await take_picture(phone)
        await phone.until("page.data.state === 'sending' && wx.inFlight")
        await phone.run(
            "wx.setStorageSync('checkin.outbox', Object.fromEntries(Object.entries(wx.getStorageSync('checkin.outbox'))"
            ".map(([owner, item]) => [owner, { ...item, saved_at: item.saved_at - 25 * 3600_000 }])))"
        )
    async with owner.with_phone() as phone:
        await phone.open()
        await phone.reaches("tasks")
        assert await phone.run("wx.getStorageSync('checkin.outbox')") == {}
    assert list((owner.disk / "user").iterdir()) == []


async def test_a_full_phone_still_sends(owner: Owner) -> None:
    async with owner.with_phone(isFull=True) as phone:
        await phone.open()
        await take_picture(phone)
        assert await outcome(phone) == "accepted"
        assert await phone.run("page.data.kept === page.data.t.storage_full")


async def test_nothing_is_left_on_the_phone_once_there_is_a_result(owner: Owner) -> None:
    async with owner.with_phone() as phone:
        await phone.open()
        await take_picture(phone)
        assert await outcome(phone) == "accepted"
        assert await phone.run("wx.getStorageSync('checkin.outbox')") == {}
    assert list((owner.disk / "user").iterdir()) == []


async def test_consent_can_be_withdrawn(owner: Owner) -> None:
    async with owner.with_phone() as phone:
        await phone.open()
        await phone.reaches("tasks")
        await phone.tap("mine")
        await phone.reaches("mine")
        await phone.tap("ask")
        await phone.tap("withdraw")
        await phone.reaches("consent")
    me = await owner.service.person(owner.person_id, "GET", "/v1/me")
    assert not me.body["consent"]["given"]


async def test_what_is_stored_can_be_passed_on_and_is_left_nowhere(owner: Owner) -> None:
    async with owner.with_phone(keepsToItself=True) as phone:
        await phone.open()
        await phone.reaches("tasks")
        await phone.tap("mine")
        await phone.reaches("mine")
        await phone.tap("fetch")
        await phone.until("page.data.isFetched")
        await phone.run("page.passOn()")
        assert await phone.run("page.data.said === page.data.t.export_kept")
        await phone.told(keepsToItself=False)
        await phone.run("page.passOn()")
        assert await phone.run("page.data.said === page.data.t.export_passed_on")
        exported = json.loads(await phone.run("wx.chat"))
        assert exported["person_id"] == owner.person_id
        assert len(list((owner.disk / "user").iterdir())) == 1
    async with owner.with_phone() as phone:
        await phone.open()
        await phone.reaches("tasks")
        assert list((owner.disk / "user").iterdir()) == []
        await phone.tap("mine")
        await phone.reaches("mine")
        await phone.tap("fetch")
        await phone.until("page.data.isFetched")
        await phone.tap("toTasks")
        await phone.reaches("tasks")
    assert list((owner.disk / "user").iterdir()) == []


@pytest.mark.parametrize(
    ("faces", "hint"),
    [
        ([[0.3, 0.3, 0.3, 0.4]], "hold_still"),
        ([], "no_face"),
        ([[0.1, 0.3, 0.3, 0.4], [0.5, 0.3, 0.3, 0.4]], "many_faces"),
        ([[0.45, 0.45, 0.1, 0.1]], "too_far"),
        ([[0.05, 0.05, 0.8, 0.9]], "too_near"),
        ([[0.0, 0.0, 0.3, 0.4]], "off_centre"),
    ],
)
async def test_a_face_is_looked_for_before_the_picture(owner: Owner, faces: list[Any], hint: str) -> None:
    async with owner.with_phone(faces=faces) as phone:
        await phone.open()
        await go_to_camera(phone)
        await phone.until(f"page.data.hint === page.data.t.{hint}")
        await phone.told(grey=10)
        await phone.until("page.data.hint === page.data.t.too_dark")
        assert await phone.run("page.data.mayTake")
        await phone.tap("toTasks")
        await phone.reaches("tasks")
        assert await phone.run("wx.counts.sessions") == 0


@pytest.mark.parametrize("told", [{}, {"faces": [], "refusesVision": True}], ids=["old", "refused"])
async def test_where_no_faces_are_found_nothing_is_said_of_them(owner: Owner, told: dict[str, Any]) -> None:
    async with owner.with_phone(**told) as phone:
        await phone.open()
        await go_to_camera(phone)
        await phone.time_passes(3)
        assert await phone.run("page.data.hint === page.data.t.hold_still")
        await phone.run("void page.take()")
        assert await outcome(phone) == "accepted"


async def test_large_text_is_kept(owner: Owner) -> None:
    async with owner.with_phone() as phone:
        await phone.open()
        await phone.reaches("tasks")
        assert await phone.run("page.data.size") == "system"
        await phone.tap("setLarge")
        large = await phone.run("page.data.size")
        assert large.endswith("px")
    async with owner.with_phone() as phone:
        await phone.open()
        await phone.reaches("tasks")
        assert await phone.run("page.data.isLarge")
        await phone.tap("mine")
        await phone.reaches("mine")
        assert await phone.run("page.data.size") == large


async def test_turns_are_shown_by_pictures_that_are_all_mirrored(watchful: Stage, tmp_path: Path) -> None:
    owner = await owner_at(watchful, tmp_path)
    async with owner.with_phone(alwaysMirrors=True) as phone:
        await phone.open()
        await take_picture(phone)
        assert await outcome(phone) == "accepted"
    [attempt] = await owner.attempts()
    assert attempt["liveness"] == "passed"
