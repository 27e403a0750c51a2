"""A check-in through its stages: their order, the answer, what is stored, once only, a provisional end."""

import hashlib
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from checkin_service.adapters.receipt_keys import receipt_key_id
from face import compare, operating_points
from tests.service.fixed_engine import MODEL, vectors_of
from tests.service.stage import FAR, INSIDE, Json, Reply, Stage, photo_of
from tests.service.window import (
    CLOSES_AT,
    MICROSECOND,
    NOON,
    OPENS_AT,
    PROVISIONAL_CLOSES_AT,
    PROVISIONAL_OPENS_AT,
    task_at_noon,
)


async def attempts(stage: Stage) -> list[Any]:
    return await stage.sql("SELECT * FROM attempt ORDER BY judged_at")


async def judged(stage: Stage, **submission: Any) -> Reply:
    """A check-in of p-1 on T1 that is judged; only its own analysis remains in `engine.analysed`."""
    stage.engine.analysed.clear()
    reply = await stage.check_in("p-1", "T1", **submission)
    assert reply.status == 201, reply.body
    return reply


# --- Reference ---


async def test_a_member_without_reference_is_told_so_without_a_look_at_the_face(stage: Stage) -> None:
    await stage.set_clock(NOON)
    registered = await stage.register("T1", approved_at=OPENS_AT.isoformat())
    assert registered.body["state"] == "pending_material"
    await stage.consent("p-1")
    refused = await judged(stage)
    assert (refused.body["outcome"], refused.reasons) == ("rejected", ["not_enrolled"])
    assert refused.body["location"] == {"zone": "inside", "distance_m": 0}
    assert stage.engine.analysed == []


async def test_in_pending_material_those_with_a_reference_check_in(stage: Stage) -> None:
    await stage.register("T1", "p-1", "p-2")
    await stage.enrol("p-1")
    await stage.consent("p-1")
    accepted = await judged(stage)
    assert accepted.body["outcome"] == "accepted"
    assert accepted.body["task"] == {"state": "pending_material", "accepted": 1, "total": 2}


# --- Stages ---


async def void(stage: Stage, task_id: str = "T1") -> None:
    reply = await stage.platform("POST", f"/v1/tasks/{task_id}/void", {"reason": "registered by mistake"})
    assert reply.status == 200


async def use_up(stage: Stage) -> None:
    for _ in range(10):
        assert (await stage.check_in("p-1", "T1", at=FAR)).reasons == ["outside_geofence"]


async def test_before_the_opening(stage: Stage) -> None:
    await stage.set_clock(OPENS_AT - MICROSECOND)
    await stage.ready_task("T1", approved_at=OPENS_AT.isoformat())
    early = await judged(stage)
    assert (early.body["outcome"], early.reasons) == ("rejected", ["window_not_open"])
    assert early.body["location"] is None
    await stage.set_clock(OPENS_AT)
    assert (await judged(stage)).body["outcome"] == "accepted"


async def test_after_the_end(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.set_clock(CLOSES_AT)
    late = await judged(stage)
    assert (late.body["outcome"], late.reasons) == ("rejected", ["window_closed"])
    assert late.body["task"]["state"] == "expired"
    assert stage.engine.analysed == []


async def test_a_voided_task(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await void(stage)
    refused = await judged(stage)
    assert (refused.body["outcome"], refused.reasons) == ("rejected", ["task_not_open"])
    assert refused.body["task"]["state"] == "voided"
    assert stage.engine.analysed == []


async def test_a_voided_task_outside_its_window_has_both_reasons_in_order(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await void(stage)
    await stage.set_clock(OPENS_AT - MICROSECOND)
    assert (await judged(stage)).reasons == ["task_not_open", "window_not_open"]
    await stage.set_clock(CLOSES_AT)
    assert (await judged(stage)).reasons == ["task_not_open", "window_closed"]


async def test_each_stage_stops_the_later_ones(stage: Stage) -> None:
    """One submission that everything is wrong with, mended from the cheapest stage on."""
    await stage.set_clock(NOON)
    await stage.register("T1", "p-1", "p-2", approved_at=OPENS_AT.isoformat())
    await stage.consent("p-1")
    await use_up(stage)
    everything: Json = {"at": FAR, "selfie": photo_of("dark")}
    await stage.set_clock(CLOSES_AT)
    assert (await judged(stage, **everything)).reasons == ["window_closed"]
    await stage.set_clock(NOON)
    assert (await judged(stage, **everything)).reasons == ["too_many_attempts"]
    await stage.set_clock(NOON + timedelta(days=1))
    assert (await judged(stage, **everything)).reasons == ["outside_geofence"]
    inside = everything | {"at": INSIDE}
    assert (await judged(stage, **inside)).reasons == ["not_enrolled"]
    await stage.enrol("p-1")
    assert (await judged(stage, **inside)).reasons == ["poor_quality"]
    assert (await judged(stage, **inside | {"selfie": photo_of("p-2")})).reasons == ["non_match"]
    assert (await judged(stage, **inside | {"selfie": photo_of("p-1", 5)})).body["outcome"] == "accepted"


async def test_every_reason_comes_with_message_and_advice(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    refused = await judged(stage, at=FAR)
    for reason in refused.body["reasons"]:
        assert reason.keys() == {"code", "message", "advice"}
        assert reason["message"]
        assert reason["advice"]


# --- The answer, and what is stored ---


async def test_the_answer_to_an_accepted_check_in(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    accepted = await judged(stage)
    answer = dict(accepted.body)
    assert answer.pop("check_in_id")
    assert receipt_key_id(answer.pop("receipt"))
    assert answer == {
        "task_id": "T1",
        "outcome": "accepted",
        "reasons": [],
        "received_at": NOON.isoformat(),
        "location": {"zone": "inside", "distance_m": 0},
        "task": {"state": "open", "accepted": 1, "total": 2},
        "attempts_left": 10,
    }
    member = (await stage.status("T1"))["members"][0]
    assert member["check_in_id"] == accepted.body["check_in_id"]
    assert (member["state"], member["method"], member["accepted_at"]) == (
        "accepted",
        "face",
        NOON.isoformat(),
    )


async def test_an_accepted_attempt_is_stored_with_its_figures(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    selfie, device = photo_of("p-1", shot=7), {"platform": "android", "model": "M", "device_id": "D"}
    accepted = await judged(stage, selfie=selfie, device=device)
    [attempt] = await attempts(stage)
    assert str(attempt["check_in_id"]) == accepted.body["check_in_id"]
    assert (attempt["outcome"], attempt["reasons"], attempt["counted"]) == ("accepted", [], False)
    assert (attempt["received_at"], attempt["shanghai_day"]) == (NOON, NOON.date())
    assert (attempt["zone"], attempt["fence_version"]) == ("inside", 1)
    # the middle of a fence of 206 m by 222 m lies 103 m within its edge, and the buffer reaches 100 m beyond
    assert attempt["distance_m"] == pytest.approx(-203, abs=1)
    assert attempt["r95_m"] == pytest.approx(1.62 * 15)
    point = operating_points(MODEL)["lfw_ea_1e3"]
    assert (attempt["model_id"], attempt["threshold"]) == (MODEL, point.threshold)
    assert attempt["score"] == pytest.approx(compare(vectors_of("p-1"), vectors_of("p-1", 7), MODEL).value)
    assert attempt["operating_point"] == point.name
    assert attempt["photo_sha256"] == hashlib.sha256(selfie).digest()


async def test_a_refused_comparison_is_stored_with_its_score(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await judged(stage, selfie=photo_of("p-2"))
    [attempt] = await attempts(stage)
    assert attempt["score"] < attempt["threshold"]
    assert (attempt["reasons"], attempt["zone"]) == (["non_match"], "inside")


async def test_a_refused_attempt_changes_neither_revision_nor_feed(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    before, changes = await stage.status("T1"), await stage.changes()
    await judged(stage, at=FAR)
    await judged(stage, selfie=photo_of("p-2"))
    assert await stage.status("T1") == before
    assert await stage.changes() == changes


async def test_no_figure_of_evidence_is_in_a_status(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await judged(stage)
    [member] = (await stage.status("T1"))["members"]
    assert member.keys() == {"person_id", "state", "accepted_at", "method", "check_in_id", "reference"}


# --- Once only ---


async def test_a_second_check_in_gets_the_first_ones_id_and_time_and_processes_nothing(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    first = await judged(stage)
    revision = (await stage.status("T1"))["rev"]
    await stage.set_clock(NOON + timedelta(hours=3))
    second = await judged(stage, at=FAR, selfie=photo_of("p-2"))
    assert (second.body["outcome"], second.reasons) == ("accepted", ["already_checked_in"])
    for same in ("check_in_id", "received_at", "task", "attempts_left"):
        assert second.body[same] == first.body[same]
    assert stage.engine.analysed == []
    assert len(await attempts(stage)) == 1
    assert (await stage.status("T1"))["rev"] == revision


async def test_a_repeat_moves_a_counter(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    for _ in range(3):
        await judged(stage)
    async with stage.client.get("/metrics") as metrics:
        lines = (await metrics.text()).splitlines()
    assert "checkin_repeats_total 2.0" in lines
    assert 'checkin_check_ins_total{outcome="accepted"} 1.0' in lines


async def test_a_repeat_after_the_end_still_gets_the_first_ones_answer(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    first = await judged(stage)
    await stage.set_clock(CLOSES_AT + timedelta(days=30))
    again = await judged(stage)
    assert (again.body["check_in_id"], again.reasons) == (first.body["check_in_id"], ["already_checked_in"])
    assert again.body["task"]["state"] == "expired"


async def test_a_repeat_on_a_voided_task_is_refused(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await judged(stage)
    await void(stage)
    assert (await judged(stage)).reasons == ["task_not_open"]


async def test_a_person_on_two_tasks_checks_in_to_each(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.register("T2", approved_at=OPENS_AT.isoformat())
    first = await judged(stage)
    assert (await stage.status("T2"))["members"][0]["state"] == "not_started"
    second = await stage.check_in("p-1", "T2")
    assert (second.body["outcome"], second.reasons) == ("accepted", [])
    assert second.body["check_in_id"] != first.body["check_in_id"]
    assert (await stage.status("T2"))["state"] == "completed"


# --- A provisional end ---


async def held_task(stage: Stage) -> None:
    await stage.set_clock(PROVISIONAL_OPENS_AT)
    await stage.ready_task("T1", "p-1", "p-2", approved_at=PROVISIONAL_OPENS_AT.isoformat())
    status = await stage.status("T1")
    assert (status["window"]["provisional"], status["closes_at"]) == (True, PROVISIONAL_CLOSES_AT.isoformat())
    await stage.set_clock(PROVISIONAL_CLOSES_AT)


async def test_before_a_provisional_end_a_check_in_is_accepted(stage: Stage) -> None:
    await held_task(stage)
    await stage.set_clock(PROVISIONAL_CLOSES_AT - MICROSECOND)
    assert (await judged(stage)).body["outcome"] == "accepted"


async def test_from_a_provisional_end_on_what_would_be_accepted_is_held(stage: Stage) -> None:
    await held_task(stage)
    held = await judged(stage)
    assert (held.body["outcome"], held.reasons) == ("review", [])
    assert held.body["task"] == {"state": "expired_pending_review", "accepted": 0, "total": 2}
    status = await stage.status("T1")
    assert (status["state"], status["progress"]["in_review"]) == ("expired_pending_review", 1)
    assert [member["state"] for member in status["members"]] == ["in_review", "not_started"]
    assert (await stage.changes())[-1]["type"] == "member_in_review"
    assert await stage.sql("SELECT * FROM acceptance") == []


async def test_from_a_provisional_end_on_submissions_are_judged_in_full(stage: Stage) -> None:
    await held_task(stage)
    assert (await judged(stage, at=FAR)).reasons == ["outside_geofence"]
    assert (await judged(stage, selfie=photo_of("p-2"))).reasons == ["non_match"]


async def test_a_second_held_submission_shows_nothing_new(stage: Stage) -> None:
    await held_task(stage)
    await judged(stage)
    before, changes = await stage.status("T1"), await stage.changes()
    assert (await judged(stage)).body["outcome"] == "review"
    assert await stage.status("T1") == before
    assert await stage.changes() == changes


# --- Reading it again ---


async def test_a_person_reads_their_own_check_in_as_it_was_answered(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    refused = await judged(stage, at=FAR)
    read = await stage.person("p-1", "GET", f"/v1/check-ins/{refused.body['check_in_id']}")
    assert (read.status, read.body) == (200, refused.body)


async def test_anothers_check_in_and_an_absent_one_give_the_same_answer(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    mine = (await judged(stage)).body["check_in_id"]
    replies = [
        await stage.person("p-2", "GET", f"/v1/check-ins/{name}") for name in (mine, uuid4(), "no-uuid")
    ]
    assert {(reply.status, reply.code) for reply in replies} == {(404, "not_found")}
    told = [{name: v for name, v in reply.body.items() if name != "request_id"} for reply in replies]
    assert told[0] == told[1] == told[2]


async def test_a_check_in_that_is_not_judged_yet_is_pending(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    async with stage.while_analysing(stage.check_in("p-1", "T1")) as submitted:
        [receipt] = await stage.sql("SELECT check_in_id FROM receipt")
        pending = await stage.person("p-1", "GET", f"/v1/check-ins/{receipt['check_in_id']}")
    answered = await submitted
    assert pending.body == {
        "check_in_id": str(receipt["check_in_id"]),
        "task_id": "T1",
        "outcome": "pending",
        "received_at": NOON.isoformat(),
    }
    assert answered.body["check_in_id"] == str(receipt["check_in_id"])
    read = await stage.person("p-1", "GET", f"/v1/check-ins/{receipt['check_in_id']}")
    assert read.body == answered.body


# --- Who may ---


async def test_who_is_not_on_the_roster_gets_no_challenge(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.consent("p-9")
    for task_id in ("T1", "absent"):
        refused = await stage.person("p-9", "POST", "/v1/challenges", {"task_id": task_id})
        assert (refused.status, refused.code) == (404, "not_found")


async def test_a_challenge_is_given_whatever_the_tasks_state(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await void(stage)
    await stage.set_clock(CLOSES_AT)
    challenge = await stage.person("p-1", "POST", "/v1/challenges", {"task_id": "T1"})
    assert challenge.status == 201
    assert challenge.body.keys() == {"challenge_id", "expires_at", "actions"}
    assert challenge.body["expires_at"] == (CLOSES_AT + timedelta(seconds=180)).isoformat()
    assert challenge.body["actions"] == []
