"""The queue, what a review rests on, and decisions on doubtful check-ins."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres.database import open_database
from checkin_service.usecases.sweep import sweep
from tests.service.reviewing import (
    REVIEWER,
    SECOND,
    asked,
    decide,
    doubtful,
    queue,
    review,
    told,
)
from tests.service.situations import assert_conflict, ordered
from tests.service.stage import Json, Stage, running_service, until
from tests.service.window import CLOSES_AT, MICROSECOND, NOON, task_at_noon

LATER = NOON + timedelta(hours=1)


async def member(stage: Stage, task_id: str = "T1", index: int = 0) -> Json:
    found: Json = (await stage.status(task_id))["members"][index]
    return found


async def audited(stage: Stage, action: str) -> list[Any]:
    query = "SELECT iss, actor, task_id, details FROM audit WHERE action = $1 ORDER BY seq"
    return await stage.sql(query, action)


# --- The queue ---


async def test_the_queue_is_what_waits_for_a_decision_the_oldest_first(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2", "p-3")
    first = await doubtful(stage, "p-1", "T1")
    await stage.set_clock(LATER)
    second = await asked(stage, "p-2", "T1")
    await decide(stage, second)
    third = await doubtful(stage, "p-3", "T1")
    await decide(stage, third, "reject")
    waiting = await queue(stage)
    assert [(r["review_id"], r["kind"], r["state"], r["person_id"]) for r in waiting] == [
        (first, "check_in", "pending", "p-1"),
        (second, "manual", "pending_second", "p-2"),
    ]
    assert [reason["code"] for reason in waiting[0]["reasons"]] == ["presentation_attack"]
    assert (waiting[0]["received_at"], waiting[1]["reasons"]) == (NOON.isoformat(), [])
    assert waiting == await queue(stage, state="pending")
    for state, review_id in {"pending_second": second, "rejected": third}.items():
        assert [r["review_id"] for r in await queue(stage, state=state)] == [review_id]
    assert await queue(stage, state="accepted") == await queue(stage, state="moot") == []


async def test_the_queue_in_pages(stage: Stage) -> None:
    people = [f"p-{n}" for n in range(1, 6)]
    await task_at_noon(stage, "T1", *people)
    ids = {await asked(stage, person_id, "T1") for person_id in people}
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await review(stage, params={"limit": "2", "after": after})
        assert len(page.body["reviews"]) <= 2
        seen += [r["review_id"] for r in page.body["reviews"]]
        after = page.body["next"]
    assert (len(seen), set(seen)) == (5, ids)


@pytest.mark.parametrize(
    ("params", "fault"),
    [
        ({"state": "open"}, ("state", "not_allowed_value")),
        ({"after": "17"}, ("after", "bad_format")),
        ({"after": f"{'9' * 18}.{uuid4()}"}, ("after", "bad_format")),
        ({"limit": "0"}, ("limit", "out_of_range")),
    ],
)
async def test_queries_that_are_refused(stage: Stage, params: dict[str, str], fault: tuple[str, str]) -> None:
    reply = await review(stage, params=params)
    assert (reply.status, reply.code, reply.faults) == (422, "invalid", {fault})


async def test_nothing_waits_in_a_voided_task(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    await ordered(stage, "T1", "void")
    assert await queue(stage) == []
    assert_conflict(await decide(stage, review_id), "voided")
    assert_conflict(await decide(stage, review_id, "reject"), "voided")


async def test_overdue_after_five_working_days(stage: Stage) -> None:
    """The window ended on Thursday, 2026-04-02; Friday and Qingming's Monday: 3, 7, 8, 9 and 10 April are workdays."""
    await task_at_noon(stage, "T1")
    await doubtful(stage, "p-1", "T1")
    await stage.set_clock(CLOSES_AT + timedelta(days=8) - MICROSECOND)
    assert [r["overdue"] for r in await queue(stage)] == [False]
    await stage.set_clock(CLOSES_AT + timedelta(days=8))
    assert [r["overdue"] for r in await queue(stage)] == [True]


@pytest.mark.usefixtures("sweeping")
async def test_overdue_reviews_are_counted_and_warned_of(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path
) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2", "p-3")
    await doubtful(stage, "p-1", "T1")
    await asked(stage, "p-2", "T1")
    await decide(stage, await asked(stage, "p-3", "T1"), "reject")
    await stage.set_clock(CLOSES_AT + timedelta(days=8))
    with capture_logs() as logs:
        # which sweeps when it starts
        async with running_service(stage.database_url, stores.redis_url or "", tmp_path) as other:
            await until(lambda: any(entry["event"] == "review_overdue" for entry in logs))
            metrics = await (await other.client.get("/metrics")).text()
    assert [entry["reviews"] for entry in logs if entry["event"] == "review_overdue"] == [2]
    assert "\ncheckin_overdue_reviews 2.0\n" in metrics


async def test_the_end_is_told_anew_once_all_is_decided(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    reviews = [await doubtful(stage, "p-1", "T1"), await asked(stage, "p-2", "T1")]
    await stage.set_clock(CLOSES_AT)
    states = []
    async with open_database(stage.service_url, 2) as database:
        for review_id in [*reviews, None]:
            await sweep(database)
            states.append((await stage.status("T1"))["state"])
            if review_id:
                await decide(stage, review_id, "reject")
        await sweep(database)
    assert states == ["expired_pending_review", "expired_pending_review", "expired"]
    assert (await told(stage, "T1"))[2:] == [
        "task_expired_pending_review",
        "review_decided",
        "review_decided",
        "task_expired",
    ]


# --- Decisions on a doubtful check-in ---


async def test_an_accepted_review_is_an_acceptance_as_of_the_submission(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    review_id = await doubtful(stage, "p-1", "T1")
    before = await stage.status("T1")
    assert (before["members"][0]["state"], before["progress"]["in_review"]) == ("in_review", 1)
    await stage.set_clock(LATER)
    reply = await decide(stage, review_id)
    assert (reply.status, reply.body) == (
        200,
        {
            "review_id": review_id,
            "task_id": "T1",
            "person_id": "p-1",
            "state": "accepted",
            "decided_at": LATER.isoformat(),
        },
    )
    status = await stage.status("T1")
    assert status["members"][0] == {
        "person_id": "p-1",
        "state": "accepted",
        "accepted_at": NOON.isoformat(),
        "decided_at": LATER.isoformat(),
        "method": "face",
        "check_in_id": review_id,
        "reference": "ready",
    }
    assert status["rev"] == before["rev"] + 2
    assert await told(stage, "T1") == ["member_in_review", "review_decided", "member_accepted"]
    [row] = await audited(stage, "decide_review")
    assert (row["actor"], row["task_id"]) == (REVIEWER, "T1")
    details = {
        "review_id": review_id,
        "person_id": "p-1",
        "received_at": "2026-03-20T04:00:00+00:00",
        "decision": "accept",
        "state": "accepted",
    }
    assert json.loads(row["details"]) == details


async def test_the_last_acceptance_completes_the_task_also_after_its_end(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    await stage.set_clock(CLOSES_AT + timedelta(days=30))
    assert (await stage.status("T1"))["state"] == "expired_pending_review"
    assert (await decide(stage, review_id)).body["state"] == "accepted"
    assert (await stage.status("T1"))["state"] == "completed"
    assert (await told(stage, "T1"))[1:] == ["review_decided", "member_accepted", "task_completed"]


async def test_completion_while_suspended_is_told_by_the_resumption(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    await ordered(stage, "T1", "suspend")
    assert (await decide(stage, review_id)).body["state"] == "accepted"
    assert (await stage.status("T1"))["state"] == "suspended"
    assert (await told(stage, "T1"))[-1] == "member_accepted"
    await ordered(stage, "T1", "resume")
    assert (await told(stage, "T1"))[-2:] == ["task_resumed", "task_completed"]


async def test_a_rejected_review_leaves_the_member_where_they_were(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    assert (await decide(stage, review_id, "reject")).body["state"] == "rejected"
    assert (await member(stage))["state"] == "not_started"
    assert await told(stage, "T1") == ["member_in_review", "review_decided"]
    assert (await stage.check_in("p-1", "T1")).body["outcome"] == "accepted"


async def test_an_acceptance_moots_the_members_other_reviews(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    doubt, request = await doubtful(stage, "p-1", "T1"), await asked(stage, "p-1", "T1")
    others = await asked(stage, "p-2", "T1")
    await decide(stage, doubt)
    assert [(r["review_id"], r["state"]) for r in await queue(stage, state="moot")] == [(request, "moot")]
    assert [r["review_id"] for r in await queue(stage)] == [others]
    for decision in ("accept", "reject"):
        assert_conflict(await decide(stage, request, decision, SECOND), "moot")


async def test_who_checks_in_meanwhile_makes_the_review_moot(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    accepted = (await stage.check_in("p-1", "T1")).body["check_in_id"]
    assert_conflict(await decide(stage, review_id), "moot")
    assert (await member(stage))["check_in_id"] == accepted


async def test_the_same_decision_again_changes_nothing(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    accepted, rejected = await doubtful(stage, "p-1", "T1"), await doubtful(stage, "p-2", "T1")
    first = [await decide(stage, accepted), await decide(stage, rejected, "reject")]
    before = await stage.status("T1")
    await stage.set_clock(LATER)
    again = [await decide(stage, accepted), await decide(stage, rejected, "reject")]
    assert [r.status for r in first + again] == [200] * 4
    assert [r.body for r in again] == [r.body for r in first]
    assert await stage.status("T1") == before
    assert len(await audited(stage, "decide_review")) == 2


async def test_another_decision_or_another_reviewer_comes_too_late(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    await decide(stage, review_id)
    before = await stage.status("T1")
    assert_conflict(await decide(stage, review_id, "reject"), "accepted")
    assert_conflict(await decide(stage, review_id, "accept", SECOND), "accepted")
    assert await stage.status("T1") == before


async def test_nobody_of_the_roster_decides(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    review_id = await doubtful(stage, "p-1", "T1")
    for person_id in ("p-1", "p-2"):
        reply = await decide(stage, review_id, reviewer=person_id)
        assert (reply.status, reply.code) == (403, "scope_missing")
    assert (await member(stage))["state"] == "in_review"


async def test_decidable_until_the_task_is_closed(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    await decide(stage, review_id, "reject")
    await stage.set_clock(CLOSES_AT)
    await ordered(stage, "T1", "close")
    # what is decided already stays as it is
    assert (await decide(stage, review_id, "reject")).status == 200
    assert_conflict(await decide(stage, review_id, "accept", SECOND), "rejected")


async def test_a_key_makes_a_decision_repeatable_and_is_required(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    first, again = [await decide(stage, review_id, key="k") for _ in range(2)]
    other = await decide(stage, review_id, "reject", key="k")
    assert (first.status, again.body) == (200, first.body)
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    body = {"decision": "accept", "note": "x"}
    bare = await stage.call("POST", f"/v1/reviews/{review_id}/decision", REVIEWER, "review", json=body)
    assert (bare.status, bare.code) == (400, "idempotency_key_required")


@pytest.mark.parametrize("review_id", ["0190a9e8-5f3c-7c55-9d3e-2f8f6c1f6a11", "x", "T1"])
async def test_what_is_no_review(stage: Stage, review_id: str) -> None:
    for reply in (
        await decide(stage, review_id),
        await review(stage, f"/{review_id}"),
        await review(stage, f"/{review_id}/selfie"),
    ):
        assert (reply.status, reply.code) == (404, "not_found")


async def test_a_judged_check_in_that_is_not_doubtful_is_no_review(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    check_in_id = (await stage.check_in("p-1", "T1")).body["check_in_id"]
    assert (await review(stage, f"/{check_in_id}")).status == 404
    assert (await decide(stage, check_in_id)).status == 404
