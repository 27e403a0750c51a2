"""The way without a face: who may ask, when, and what two reviewers make of it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.service.reviewing import REVIEWER, SECOND, ask, asked, decide, doubtful, queue, told
from tests.service.situations import assert_conflict, ordered
from tests.service.stage import FAR, INSIDE, NEAR, Json, Stage
from tests.service.window import (
    CLOSES_AT,
    MICROSECOND,
    NOON,
    OPENS_AT,
    PROVISIONAL_CLOSES_AT,
    PROVISIONAL_OPENS_AT,
    task_at_noon,
)

LATER = NOON + timedelta(hours=1)


def fixes_at(place: tuple[float, float], **changes: Any) -> list[Json]:
    fix = {"lon": place[0], "lat": place[1], "accuracy_m": 15, "at": datetime.now(UTC).isoformat()}
    return [fix | changes]


async def bare_task(stage: Stage, task_id: str, *person_ids: str, **changes: Any) -> None:
    """A task whose members have neither consented nor a reference."""
    await stage.set_clock(NOON)
    registered = await stage.register(task_id, *person_ids, approved_at=OPENS_AT.isoformat(), **changes)
    assert registered.status == 201


async def position_of(stage: Stage, request_id: str) -> Any:
    query = "SELECT position FROM manual_request WHERE manual_request_id = $1"
    [row] = await stage.sql(query, request_id)
    return row["position"] and json.loads(row["position"])


async def own(stage: Stage, request_id: str, person_id: str = "p-1") -> Json:
    reply = await stage.person(person_id, "GET", f"/v1/manual-requests/{request_id}")
    assert reply.status == 200
    body: Json = reply.body
    return body


# --- Asking ---


async def test_neither_consent_nor_a_reference_is_needed(stage: Stage) -> None:
    await bare_task(stage, "T1")
    reply = await ask(stage, "p-1", "T1")
    request_id = reply.body["manual_request_id"]
    assert (reply.status, reply.body) == (
        201,
        {"manual_request_id": request_id, "state": "pending", "received_at": NOON.isoformat()},
    )
    assert reply.headers["Location"] == f"/v1/manual-requests/{request_id}"
    status = await stage.status("T1")
    assert (status["members"][0]["state"], status["progress"]["in_review"]) == ("in_review", 1)
    assert await told(stage, "T1") == ["member_in_review"]


async def test_a_second_request_is_the_first(stage: Stage) -> None:
    await bare_task(stage, "T1")
    first = await ask(stage, "p-1", "T1")
    before = await stage.status("T1")
    await stage.set_clock(LATER)
    second = await ask(stage, "p-1", "T1", reason="another one")
    assert (second.status, second.body) == (201, first.body)
    assert await stage.status("T1") == before
    await decide(stage, first.body["manual_request_id"])
    assert (await ask(stage, "p-1", "T1")).body == first.body | {"state": "pending_second"}


async def test_after_a_rejection_one_may_ask_again(stage: Stage) -> None:
    await bare_task(stage, "T1")
    first = await asked(stage, "p-1", "T1")
    await decide(stage, first, "reject")
    assert await asked(stage, "p-1", "T1") != first


async def test_one_request_a_task(stage: Stage) -> None:
    await bare_task(stage, "T1")
    await bare_task(stage, "T2")
    assert await asked(stage, "p-1", "T1") != await asked(stage, "p-1", "T2")


async def test_the_feed_is_told_once_that_a_member_is_in_review(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await doubtful(stage, "p-1", "T1")
    await asked(stage, "p-1", "T1")
    assert await told(stage, "T1") == ["member_in_review"]


@pytest.mark.parametrize(("person_id", "task_id"), [("p-2", "T1"), ("p-1", "T2")])
async def test_only_for_the_roster(stage: Stage, person_id: str, task_id: str) -> None:
    await bare_task(stage, "T1", "p-1")
    reply = await ask(stage, person_id, task_id)
    assert (reply.status, reply.code) == (404, "not_found")


async def test_a_key_is_required_and_makes_it_repeatable(stage: Stage) -> None:
    await bare_task(stage, "T1")
    bare = await stage.person("p-1", "POST", "/v1/manual-requests", {"task_id": "T1", "reason": "x"})
    assert (bare.status, bare.code) == (400, "idempotency_key_required")
    await stage.set_clock(CLOSES_AT - MICROSECOND)
    first = await ask(stage, "p-1", "T1", key="k")
    await stage.set_clock(CLOSES_AT)
    assert (await ask(stage, "p-1", "T1", key="k")).body == first.body
    other = await ask(stage, "p-1", "T1", key="k", reason="x")
    assert (other.status, other.code) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"reason": ""}, ("/reason", "too_short")),
        ({"reason": "x" * 501}, ("/reason", "too_long")),
        ({"fixes": fixes_at(INSIDE)}, ("/frame", "missing")),
        ({"frame": "utm"}, ("/frame", "not_allowed_value")),
        ({"fixes": fixes_at(INSIDE) * 11, "frame": "wgs84"}, ("/fixes", "too_long")),
        ({"fixes": [{}], "frame": "wgs84"}, ("/fixes/0/lon", "missing")),
        ({"selfie": "x"}, ("/selfie", "unknown_field")),
    ],
)
async def test_bodies_that_are_refused(stage: Stage, changes: Json, fault: tuple[str, str]) -> None:
    reply = await ask(stage, "p-1", "T1", **changes)
    assert (reply.status, reply.code) == (422, "invalid")
    assert fault in reply.faults


# --- When ---


async def test_the_end_is_exact(stage: Stage) -> None:
    await bare_task(stage, "T1", "p-1", "p-2")
    await stage.set_clock(CLOSES_AT - MICROSECOND)
    in_time = await asked(stage, "p-1", "T1")
    await stage.set_clock(CLOSES_AT)
    assert_conflict(await ask(stage, "p-2", "T1"), "window_closed")
    # whoever asked in time need not ask again, and can't
    assert_conflict(await ask(stage, "p-1", "T1"), "window_closed")
    for reviewer in (REVIEWER, SECOND):
        assert (await decide(stage, in_time, reviewer=reviewer)).status == 200
    [accepted, _] = (await stage.status("T1"))["members"]
    assert accepted["accepted_at"] == (CLOSES_AT - MICROSECOND).isoformat()


async def test_not_before_the_window(stage: Stage) -> None:
    await bare_task(stage, "T1")
    await stage.set_clock(OPENS_AT - MICROSECOND)
    assert_conflict(await ask(stage, "p-1", "T1"), "window_not_open")
    await stage.set_clock(OPENS_AT)
    assert (await ask(stage, "p-1", "T1")).status == 201


@pytest.mark.parametrize(("command", "state"), [("void", "voided"), ("suspend", "suspended")])
async def test_not_on_a_task_that_is_not_open(stage: Stage, command: str, state: str) -> None:
    await bare_task(stage, "T1")
    await ordered(stage, "T1", command)
    assert_conflict(await ask(stage, "p-1", "T1"), state)
    assert await stage.sql("SELECT FROM review") == []


async def test_not_when_accepted_but_again_when_revoked(stage: Stage) -> None:
    await task_at_noon(stage, "T1", flow="routine")
    await stage.check_in("p-1", "T1")
    assert_conflict(await ask(stage, "p-1", "T1"), "accepted")
    await ordered(stage, "T1", "members/p-1/revoke")
    request_id = await asked(stage, "p-1", "T1")
    for reviewer in (REVIEWER, SECOND):
        await decide(stage, request_id, reviewer=reviewer)
    assert (await stage.status("T1"))["members"][0]["method"] == "manual"


async def test_a_provisional_window_holds_what_comes_after_its_end(stage: Stage) -> None:
    await stage.set_clock(PROVISIONAL_OPENS_AT)
    await stage.register("T1", approved_at=PROVISIONAL_OPENS_AT.isoformat())
    await stage.set_clock(PROVISIONAL_CLOSES_AT)
    request_id = await asked(stage, "p-1", "T1")
    assert_conflict(await decide(stage, request_id), "provisional")
    assert (await decide(stage, request_id, "reject")).body["state"] == "rejected"


# --- Two reviewers ---


async def test_two_accepts_by_two_persons(stage: Stage) -> None:
    await bare_task(stage, "T1")
    request_id = await asked(stage, "p-1", "T1")
    before = await stage.status("T1")
    await stage.set_clock(LATER)
    first = await decide(stage, request_id)
    assert (first.body["state"], first.body["decided_at"]) == ("pending_second", None)
    assert await stage.status("T1") == before
    again = await decide(stage, request_id)
    assert (again.status, again.body) == (200, first.body)
    assert_conflict(await decide(stage, request_id, "reject"), "pending_second")
    await stage.set_clock(LATER + timedelta(hours=1))
    # the same subject is the same officer, whichever issuer named them
    await stage.sql("UPDATE review_decision SET iss = 'another'")
    assert (await decide(stage, request_id)).body == first.body
    second = await decide(stage, request_id, reviewer=SECOND)
    assert second.body["state"] == "accepted"
    status = await stage.status("T1")
    assert status["members"][0] == {
        "person_id": "p-1",
        "state": "accepted",
        "accepted_at": NOON.isoformat(),
        "decided_at": (LATER + timedelta(hours=1)).isoformat(),
        "method": "manual",
        "check_in_id": request_id,
        "reference": "missing",
    }
    assert status["state"] == "completed"
    assert await told(stage, "T1") == [
        "member_in_review",
        "review_decided",
        "member_accepted",
        "task_completed",
    ]
    # whose accept was one of the two has no other say afterwards
    assert (await decide(stage, request_id)).body["state"] == "accepted"


@pytest.mark.parametrize("accepts", [0, 1])
async def test_one_reject_ends_it(stage: Stage, accepts: int) -> None:
    await bare_task(stage, "T1")
    request_id = await asked(stage, "p-1", "T1")
    for _ in range(accepts):
        await decide(stage, request_id)
    assert (await decide(stage, request_id, "reject", SECOND)).body["state"] == "rejected"
    assert_conflict(await decide(stage, request_id, "accept", "r-3"), "rejected")
    assert (await stage.status("T1"))["members"][0]["state"] == "not_started"
    assert await told(stage, "T1") == ["member_in_review", "review_decided"]


async def test_a_manual_acceptance_moots_a_doubtful_check_in(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id, request_id = await doubtful(stage, "p-1", "T1"), await asked(stage, "p-1", "T1")
    for reviewer in (REVIEWER, SECOND):
        await decide(stage, request_id, reviewer=reviewer)
    assert [r["review_id"] for r in await queue(stage, state="moot")] == [review_id]
    repeat = await stage.check_in("p-1", "T1")
    assert (repeat.body["check_in_id"], repeat.reasons) == (request_id, ["already_checked_in"])


async def test_consent_withdrawn_meanwhile_is_nothing_to_a_manual_request(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    request_id = await asked(stage, "p-1", "T1")
    await stage.person("p-1", "DELETE", "/v1/me/consent")
    states = [(await decide(stage, request_id, reviewer=r)).body["state"] for r in (REVIEWER, SECOND)]
    assert states == ["pending_second", "accepted"]


# --- The position ---


@pytest.mark.parametrize(
    ("place", "zone"), [(INSIDE, "inside"), (NEAR, "possible"), (FAR, "outside"), ((0.0, 0.0), "unusable")]
)
async def test_a_position_is_judged_for_the_reviewer_and_decides_nothing(
    stage: Stage, place: tuple[float, float], zone: str
) -> None:
    await task_at_noon(stage, "T1", "p-1")
    fixes = fixes_at(place, accuracy_m=40)
    request_id = await asked(stage, "p-1", "T1", fixes=fixes, frame="wgs84")
    found = await position_of(stage, request_id)
    assert found["zone"] == zone
    assert set(found) == {"zone", "distance_m", "r95_m", "lon", "lat"}
    assert (found["lon"] is None) == (zone == "unusable")


async def test_without_consent_to_location_it_is_dropped_and_the_request_taken(stage: Stage) -> None:
    await bare_task(stage, "T1", "p-1", "p-2", "p-3")
    await stage.consent("p-1", ["face", "face_transfer"])
    await stage.consent("p-2")
    await stage.person("p-2", "DELETE", "/v1/me/consent")
    await stage.consent("p-3", ["location"])
    position = {"fixes": fixes_at(INSIDE), "frame": "wgs84"}
    kept = [
        await position_of(stage, await asked(stage, person_id, "T1", **position))
        for person_id in ("p-1", "p-2", "p-3")
    ]
    assert [found and found["zone"] for found in kept] == [None, None, "inside"]


# --- One's own ---


async def test_the_person_sees_what_came_of_it_and_the_receipt(stage: Stage) -> None:
    await bare_task(stage, "T1", "p-1", "p-2")
    request_id = await asked(stage, "p-1", "T1")
    pending = {
        "manual_request_id": request_id,
        "task_id": "T1",
        "state": "pending",
        "received_at": NOON.isoformat(),
        "decided_at": None,
    }
    assert await own(stage, request_id) == pending
    for reviewer in (REVIEWER, SECOND):
        await decide(stage, request_id, reviewer=reviewer)
    seen = await own(stage, request_id)
    receipt = seen.pop("receipt")
    assert seen == pending | {"state": "accepted", "decided_at": NOON.isoformat()}
    assert receipt == (await own(stage, request_id))["receipt"]


async def test_nobody_elses(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    request_id, check_in_id = await asked(stage, "p-1", "T1"), await doubtful(stage, "p-1", "T1")
    for person_id, asked_for in [
        ("p-2", request_id),
        ("p-1", str(uuid4())),
        ("p-1", "x"),
        ("p-1", check_in_id),
    ]:
        reply = await stage.person(person_id, "GET", f"/v1/manual-requests/{asked_for}")
        assert (reply.status, reply.code) == (404, "not_found")
    assert (await stage.person("p-1", "GET", f"/v1/check-ins/{request_id}")).status == 404
