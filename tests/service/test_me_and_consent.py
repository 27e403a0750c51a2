"""What a person is shown of their tasks and told to do next, and their consent: given, narrowed, withdrawn."""

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from shapely.geometry import Point, Polygon

from checkin_service.adapters.embedded import EmbeddedStores
from tests.service.conftest import UNLIMITED
from tests.service.fixed_engine import MODELS
from tests.service.stage import ALL_SCOPES, FAR, FENCE, Json, Reply, Stage, photo_of, place, running_service
from tests.service.window import (
    CLOSES_AT,
    MICROSECOND,
    NOON,
    OPENS_AT,
    PROVISIONAL_CLOSES_AT,
    PROVISIONAL_OPENS_AT,
    task_at_noon,
)

LANGUAGES = ("zh-CN", "zh-HK", "en")
DAYS_90 = timedelta(days=90)


async def me(stage: Stage, person_id: str = "p-1", language: str = "zh-CN") -> Json:
    reply = await stage.person(person_id, "GET", "/v1/me", headers={"Accept-Language": language})
    assert reply.status == 200, reply.body
    body: Json = reply.body
    return body


async def my_task(stage: Stage, person_id: str = "p-1") -> Json:
    [task] = (await me(stage, person_id))["tasks"]
    shown: Json = task
    return shown


async def give(stage: Stage, **changes: Any) -> Reply:
    notice = await stage.person("p-1", "GET", "/v1/consent-notice")
    body = {"notice_version": notice.body["notice_version"], "scopes": ALL_SCOPES, **changes}
    return await stage.person("p-1", "PUT", "/v1/me/consent", body)


async def withdraw(stage: Stage) -> None:
    assert (await stage.person("p-1", "DELETE", "/v1/me/consent")).status == 204


async def challenge(stage: Stage) -> Reply:
    return await stage.person("p-1", "POST", "/v1/challenges", {"task_id": "T1"})


async def kinds(stage: Stage) -> list[str]:
    """The processing record, oldest first."""
    return [row["kind"] for row in await stage.sql("SELECT kind FROM processing_record ORDER BY record_id")]


# --- What to do next ---


async def test_a_member_is_led_from_consent_to_the_check_in(stage: Stage) -> None:
    await stage.set_clock(OPENS_AT - MICROSECOND)
    await stage.register("T1", approved_at=OPENS_AT.isoformat())
    assert (await my_task(stage))["next"] == "give_consent"
    await stage.consent("p-1")
    assert (await my_task(stage))["next"] == "wait_for_reference"
    await stage.enrol("p-1")
    assert (await my_task(stage))["next"] == "wait_for_opening"
    await stage.set_clock(OPENS_AT)
    assert (await my_task(stage))["next"] == "check_in"
    await stage.check_in("p-1", "T1")
    accepted = await my_task(stage)
    assert (accepted["next"], accepted["own_state"], accepted["state"]) == (
        "nothing",
        "accepted",
        "completed",
    )


async def test_an_acceptance_is_named_so_that_its_receipt_is_read_again(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    assert not {"check_in_id", "method", "accepted_at"} & (await my_task(stage)).keys()
    answer = (await stage.check_in("p-1", "T1")).body
    task = await my_task(stage)
    assert (task["check_in_id"], task["method"]) == (answer["check_in_id"], "face")
    assert task["accepted_at"] == answer["received_at"]
    again = await stage.person("p-1", "GET", f"/v1/check-ins/{task['check_in_id']}")
    assert again.body["receipt"] == answer["receipt"]


async def test_consent_to_less_than_everything_is_not_enough(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.consent("p-1", ["face", "face_transfer"])
    assert (await my_task(stage))["next"] == "give_consent"


async def test_without_attempts_left_the_manual_way_is_named_until_midnight(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    for left in range(9, -1, -1):
        await stage.check_in("p-1", "T1", at=FAR)
        assert (await my_task(stage))["attempts_left"] == left
    assert (await my_task(stage))["next"] == "ask_manually"
    await stage.set_clock(NOON + timedelta(hours=12))
    tomorrow = await my_task(stage)
    assert (tomorrow["next"], tomorrow["attempts_left"]) == ("check_in", 10)


async def test_after_the_end_there_is_nothing_to_do(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.set_clock(CLOSES_AT)
    expired = await my_task(stage)
    assert (expired["next"], expired["state"], expired["own_state"]) == ("nothing", "expired", "not_started")


async def test_after_a_provisional_end_there_is_still_a_check_in_to_do_and_once_held_nothing(
    stage: Stage,
) -> None:
    await stage.set_clock(PROVISIONAL_OPENS_AT)
    await stage.ready_task("T1", approved_at=PROVISIONAL_OPENS_AT.isoformat())
    await stage.set_clock(PROVISIONAL_CLOSES_AT)
    assert (await my_task(stage))["next"] == "check_in"
    await stage.check_in("p-1", "T1")
    held = await my_task(stage)
    assert (held["next"], held["own_state"], held["state"]) == (
        "nothing",
        "in_review",
        "expired_pending_review",
    )


# --- The overview ---


async def test_the_overview_of_a_task(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    shown = await my_task(stage, "p-2")
    assert shown.pop("next_text")
    assert shown.pop("place")
    assert shown == {
        "task_id": "T1",
        "enterprise": {"name": "深圳某建筑工程有限公司"},
        "opens_at": OPENS_AT.isoformat(),
        "closes_at": CLOSES_AT.isoformat(),
        "state": "open",
        "own_state": "not_started",
        "reference": "ready",
        "attempts_left": 10,
        "next": "check_in",
    }


async def test_who_is_on_no_roster_has_no_tasks(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    overview = await me(stage, "p-9")
    assert (overview["person_id"], overview["tasks"]) == ("p-9", [])
    assert overview["consent"] == {"given": False, "notice_version": None, "scopes": []}


async def test_the_most_urgent_task_comes_first(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    later = (OPENS_AT + timedelta(days=10)).isoformat()
    await stage.register("T0", approved_at=later)
    assert [task["task_id"] for task in (await me(stage))["tasks"]] == ["T1", "T0"]


async def test_a_voided_task_is_not_shown(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.platform("POST", "/v1/tasks/T1/void", {"reason": "registered by mistake"})
    assert (await me(stage))["tasks"] == []


async def test_a_task_is_shown_until_ninety_days_after_its_end(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.set_clock(CLOSES_AT + DAYS_90 - MICROSECOND)
    assert (await my_task(stage))["task_id"] == "T1"
    await stage.set_clock(CLOSES_AT + DAYS_90)
    assert (await me(stage))["tasks"] == []


async def test_the_next_step_is_told_in_the_callers_language(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    shown = [(await me(stage, language=language))["tasks"][0] for language in LANGUAGES]
    assert [task["next"] for task in shown] == ["check_in"] * 3
    assert len({task["next_text"] for task in shown}) == 3
    assert shown[2]["next_text"].isascii()


SQUARE = FENCE["coordinates"][0]
# a ring whose middle is a hole, and a U whose middle is open
RING = [
    [114.0597, 22.5437],
    [114.0603, 22.5437],
    [114.0603, 22.5443],
    [114.0597, 22.5443],
    [114.0597, 22.5437],
]
LETTER_U = [
    [114.0590, 22.5430],
    [114.0610, 22.5430],
    [114.0610, 22.5450],
    [114.0609, 22.5450],
    [114.0609, 22.5431],
    [114.0591, 22.5431],
    [114.0591, 22.5450],
    [114.0590, 22.5450],
    [114.0590, 22.5430],
]
FENCES: dict[str, list[list[list[float]]]] = {
    "square": [SQUARE],
    "ring": [SQUARE, RING],
    "u": [LETTER_U],
}


@pytest.mark.parametrize("frame", ["wgs84", "gcj02", "bd09", "cgcs2000"])
@pytest.mark.parametrize("shape", FENCES)
async def test_the_place_is_a_point_inside_the_fence_in_the_fences_own_frame(
    stage: Stage, shape: str, frame: str
) -> None:
    fence = {"type": "Polygon", "coordinates": FENCES[shape]}
    await task_at_noon(stage, "T1", place=place(fence=fence, frame=frame))
    shown = (await my_task(stage))["place"]
    assert (shown["registered_address"], shown["frame"]) == (place()["registered_address"], frame)
    assert Polygon(FENCES[shape][0], FENCES[shape][1:]).contains(Point(shown["lon"], shown["lat"]))


async def test_the_place_of_a_circle_is_within_it_in_its_own_frame(stage: Stage) -> None:
    circle = {"type": "Circle", "coordinates": [114.06, 22.544], "radius_m": 50}
    await task_at_noon(stage, "T1", place=place(fence=circle, frame="gcj02"))
    shown = (await my_task(stage))["place"]
    assert (shown["lon"], shown["lat"]) == pytest.approx((114.06, 22.544), abs=4e-4)


async def test_the_place_follows_the_fence_that_is_in_force(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    moved = place(
        registered_address="深圳市南山区另一路2号",
        fence={"type": "Circle", "coordinates": list(FAR), "radius_m": 50},
    )
    body = {"reason": "moved", "place": moved, "effective_at": (NOON + timedelta(days=1)).isoformat()}
    assert (await stage.platform("POST", "/v1/tasks/T1/fence", body)).status == 200
    assert (await my_task(stage))["place"]["registered_address"] == place()["registered_address"]
    await stage.set_clock(NOON + timedelta(days=1))
    shown = (await my_task(stage))["place"]
    assert shown["registered_address"] == moved["registered_address"]
    assert (shown["lon"], shown["lat"]) == pytest.approx(FAR, abs=1e-6)


# --- The notice ---


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_notice_in_every_language(stage: Stage, language: str) -> None:
    reply = await stage.person(
        "p-1", "GET", "/v1/consent-notice", headers={"Accept-Language": f"{language}, *;q=0.1"}
    )
    notice = reply.body
    assert (reply.status, notice["language"], reply.headers["Content-Language"]) == (200, language, language)
    assert notice["scopes"] == ALL_SCOPES
    assert notice["text_sha256"] == hashlib.sha256(notice["text"].encode()).hexdigest()
    assert notice["notice_version"] in notice["text"]


async def test_the_notices_version_does_not_change_with_language_and_its_text_does(stage: Stage) -> None:
    notices = [
        (await stage.person("p-1", "GET", "/v1/consent-notice", headers={"Accept-Language": language})).body
        for language in LANGUAGES
    ]
    assert len({notice["notice_version"] for notice in notices}) == 1
    assert len({notice["text_sha256"] for notice in notices}) == 3


# --- Giving ---


async def test_giving_consent(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await withdraw(stage)
    given = await give(stage)
    assert given.status == 200
    assert set(given.body["scopes"]) == set(ALL_SCOPES)
    assert given.body["given_at"] == NOON.isoformat()
    shown = (await me(stage))["consent"]
    assert (shown["given"], set(shown["scopes"])) == (True, set(ALL_SCOPES))
    assert shown["notice_version"] == given.body["notice_version"]
    assert (await challenge(stage)).status == 201


async def test_the_same_consent_again_keeps_its_first_instant(stage: Stage) -> None:
    await stage.set_clock(NOON)
    first = await give(stage)
    await stage.set_clock(NOON + timedelta(days=1))
    again = await give(stage, scopes=ALL_SCOPES[::-1])
    assert (again.status, again.body) == (200, first.body)
    assert await kinds(stage) == ["consent_given"]


async def test_an_outdated_notice_cant_be_agreed_to(stage: Stage) -> None:
    refused = await give(stage, notice_version="2020-01")
    assert (refused.status, refused.code) == (409, "notice_outdated")
    assert (await me(stage))["consent"]["given"] is False


@pytest.mark.parametrize("scopes", [[], ["face", "face"], ["face", "fingerprint"], "face", None])
async def test_scopes_that_are_none_are_refused(stage: Stage, scopes: Any) -> None:
    refused = await give(stage, scopes=scopes)
    assert (refused.status, refused.code) == (422, "invalid")
    assert (await me(stage))["consent"]["given"] is False


@pytest.mark.parametrize("missing", ALL_SCOPES)
async def test_a_challenge_needs_consent_to_all_three_scopes(stage: Stage, missing: str) -> None:
    await task_at_noon(stage, "T1")
    await stage.consent("p-1", [scope for scope in ALL_SCOPES if scope != missing])
    refused = await challenge(stage)
    assert (refused.status, refused.code) == (403, "consent_required")


async def test_without_consent_no_challenge_and_off_the_roster_no_word_of_consent(stage: Stage) -> None:
    await stage.register("T1", "p-2")
    assert (await challenge(stage)).code == "not_found"
    await stage.register("T2", "p-1")
    refused = await stage.person("p-1", "POST", "/v1/challenges", {"task_id": "T2"})
    assert (refused.status, refused.code) == (403, "consent_required")


# --- Narrowing and withdrawing ---


# A reference, its photograph's vectors, and the key that opens them.
ENROLLED = 1 + len(MODELS) + 1


async def biometrics(stage: Stage) -> int:
    """Rows that hold or open something biometric of p-1."""
    [row] = await stage.sql(
        """
        SELECT (SELECT count(*) FROM reference WHERE person_id = 'p-1')
             + (SELECT count(*) FROM template JOIN reference USING (reference_id) WHERE person_id = 'p-1')
             + (SELECT count(*) FROM person JOIN key_store.data_key USING (key_id)
                WHERE person_id = 'p-1' AND wrapped_key IS NOT NULL) AS rows
        """
    )
    return int(row["rows"])


async def test_scopes_without_face_delete_biometrics(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    assert await biometrics(stage) == ENROLLED
    await stage.consent("p-1", ["location"])
    assert await biometrics(stage) == 0
    assert (await stage.status("T1"))["members"][0]["reference"] == "missing"
    assert (await stage.changes())[-1]["type"] == "material_missing"


async def test_scopes_with_face_keep_biometrics(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    changes = await stage.changes()
    await stage.consent("p-1", ["face"])
    assert await biometrics(stage) == ENROLLED
    assert await stage.changes() == changes


async def test_withdrawal_stops_processing_and_deletes_biometrics(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.register("T2", "p-2", "p-1", approved_at=OPENS_AT.isoformat())
    before = {task_id: (await stage.status(task_id))["rev"] for task_id in ("T1", "T2")}
    await withdraw(stage)
    assert await biometrics(stage) == 0
    assert (await me(stage))["consent"] == {"given": False, "notice_version": None, "scopes": []}
    assert (await challenge(stage)).code == "consent_required"
    for task_id in ("T1", "T2"):
        status = await stage.status(task_id)
        assert (status["state"], status["rev"]) == ("pending_material", before[task_id] + 1)
    told = [(change["task_id"], change["type"]) for change in (await stage.changes())[-2:]]
    assert sorted(told) == [("T1", "material_missing"), ("T2", "material_missing")]


async def test_withdrawal_keeps_completed_check_ins(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    accepted = await stage.check_in("p-1", "T1")
    await withdraw(stage)
    status = await stage.status("T1")
    [member] = status["members"]
    assert (status["state"], member["state"], member["reference"]) == ("completed", "accepted", "missing")
    assert member["check_in_id"] == accepted.body["check_in_id"]


async def test_withdrawal_is_safe_to_repeat_and_told_once(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await withdraw(stage)
    changes, records = await stage.changes(), await kinds(stage)
    await withdraw(stage)
    assert (await stage.changes(), await kinds(stage)) == (changes, records)
    assert records == ["enrolled", "consent_given", "consent_withdrawn"]


async def test_withdrawal_without_consent_deletes_what_the_platform_enrolled(stage: Stage) -> None:
    await stage.enrol("p-1")
    await withdraw(stage)
    assert await biometrics(stage) == 0
    assert await kinds(stage) == ["enrolled"]


async def test_consent_given_again_needs_a_reference_again(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await withdraw(stage)
    await stage.set_clock(NOON + timedelta(hours=1))
    given = await give(stage)
    assert given.body["given_at"] == (NOON + timedelta(hours=1)).isoformat()
    assert (await my_task(stage))["next"] == "wait_for_reference"
    assert (await stage.check_in("p-1", "T1")).reasons == ["not_enrolled"]
    await stage.enrol("p-1", photo_of("p-1", shot=5))
    assert (await stage.changes())[-1]["type"] == "material_ready"
    assert (await stage.check_in("p-1", "T1")).body["outcome"] == "accepted"
    assert await kinds(stage) == [
        "enrolled",
        "consent_given",
        "consent_withdrawn",
        "consent_given",
        "enrolled",
    ]


async def test_the_processing_record_names_nobody(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await withdraw(stage)
    rows = await stage.sql("SELECT pseudonym, details::text FROM processing_record")
    assert len({bytes(row["pseudonym"]) for row in rows}) == 1
    assert not any(b"p-1" in bytes(row["pseudonym"]) or "p-1" in row["details"] for row in rows)


async def test_one_persons_consent_is_nobody_elses(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await withdraw(stage)
    assert (await me(stage, "p-2"))["consent"]["given"] is True
    assert (await stage.check_in("p-2", "T1")).body["outcome"] == "accepted"


async def test_a_fence_stands_also_where_the_service_works_no_longer(
    database_url: str, stores: EmbeddedStores, tmp_path: Path
) -> None:
    """Where that is was asked when the fence was registered."""
    at = database_url, stores.redis_url or "", tmp_path
    async with running_service(*at, None, **UNLIMITED) as stage:
        await task_at_noon(stage, "T1", "p-1")
    async with running_service(*at, None, CHECKIN_SERVICE_BOX="22.3,22.4,113.6,113.7", **UNLIMITED) as stage:
        assert (await stage.person("p-1", "GET", "/v1/me")).body["tasks"][0]["task_id"] == "T1"
        assert (await stage.check_in("p-1", "T1")).status in {201, 422}
