"""PostgreSQL refuses wrong rows by itself: no bug in Python can store what the rules forbid."""

from datetime import datetime, timedelta
from math import nan
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.service.rows import Row, Rows, accepted_rows, changed, store
from tests.service.stage import Stage
from tests.service.window import CLOSES_AT, MICROSECOND, NOON, OPENS_AT

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def registered_task(stage: Stage) -> str:
    task_id = f"T-{uuid4().hex}"
    await stage.set_clock(NOON)
    assert (await stage.register(task_id, "p-1", "p-2", approved_at=OPENS_AT.isoformat())).status == 201
    return task_id


async def refused_by(stage: Stage, rows: Rows) -> str:
    """The constraint that the rows break."""
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
        await store(stage, rows)
    return str(refused.value.constraint_name)


@pytest.mark.parametrize("received_at", [OPENS_AT, NOON, CLOSES_AT - MICROSECOND])
async def test_the_right_rows_are_taken(shared_stage: Stage, received_at: datetime) -> None:
    task_id = await registered_task(shared_stage)
    await store(shared_stage, accepted_rows(task_id, received_at))
    assert (await shared_stage.status(task_id))["progress"]["accepted"] == 1


UNPROVEN: dict[str, Row] = {
    "below the threshold": {"score": 0.5499999},
    "of no score": {"score": None},
    "of no threshold": {"threshold": None},
    "of a score that is no number": {"score": nan},
    "of a threshold that is no number": {"threshold": nan},
    "outside the fence": {"distance_m": 0.0001},
    "of no distance": {"distance_m": None},
    "of a distance that is no number": {"distance_m": nan},
    "with a refusing reason": {"reasons": ["non_match"]},
    "with a doubtful reason": {"reasons": ["look_alike"]},
}


@pytest.mark.parametrize("unproven", UNPROVEN)
async def test_no_acceptance_without_proof(shared_stage: Stage, unproven: str) -> None:
    rows = accepted_rows(await registered_task(shared_stage), **UNPROVEN[unproven])
    assert await refused_by(shared_stage, rows) == "accepted_is_proven"


@pytest.mark.parametrize("received_at", [OPENS_AT - MICROSECOND, CLOSES_AT, CLOSES_AT + timedelta(days=1)])
async def test_no_acceptance_outside_the_window(shared_stage: Stage, received_at: datetime) -> None:
    rows = accepted_rows(await registered_task(shared_stage), received_at)
    assert await refused_by(shared_stage, rows) == "accepted_in_window"


async def test_no_acceptance_in_a_window_that_is_not_the_tasks(shared_stage: Stage) -> None:
    rows = accepted_rows(await registered_task(shared_stage), CLOSES_AT)
    stretched = changed(rows, acceptance={"closes_at": CLOSES_AT + timedelta(days=1)})
    assert await refused_by(shared_stage, stretched) == "acceptance_window"


async def test_no_acceptance_at_another_time_than_its_receipts(shared_stage: Stage) -> None:
    rows = accepted_rows(await registered_task(shared_stage), CLOSES_AT)
    backdated = changed(rows, acceptance={"accepted_at": CLOSES_AT - MICROSECOND})
    assert await refused_by(shared_stage, backdated) == "accepted_attempt"


async def test_no_attempt_at_another_time_than_its_receipts(shared_stage: Stage) -> None:
    rows = accepted_rows(await registered_task(shared_stage), CLOSES_AT)
    backdated = changed(rows, attempt={"received_at": NOON}, acceptance={"accepted_at": NOON})
    assert (await refused_by(shared_stage, backdated)).startswith("attempt_check_in_id")


@pytest.mark.parametrize("outcome", ["rejected", "review"])
async def test_no_acceptance_of_an_attempt_that_was_not_accepted(shared_stage: Stage, outcome: str) -> None:
    rows = accepted_rows(await registered_task(shared_stage), outcome=outcome)
    assert await refused_by(shared_stage, rows) == "accepted_attempt"


async def test_no_acceptance_for_another_member_than_the_attempts(shared_stage: Stage) -> None:
    rows = accepted_rows(await registered_task(shared_stage))
    assert (
        await refused_by(shared_stage, changed(rows, acceptance={"person_id": "p-2"})) == "accepted_attempt"
    )


async def test_no_acceptance_without_an_attempt(shared_stage: Stage) -> None:
    rows = accepted_rows(await registered_task(shared_stage))
    del rows["attempt"]
    assert await refused_by(shared_stage, rows) == "accepted_attempt"


async def test_no_receipt_of_somebody_who_is_not_on_the_roster(shared_stage: Stage) -> None:
    rows = accepted_rows(await registered_task(shared_stage))
    stranger = changed(rows, receipt={"person_id": "p-9"})
    assert await refused_by(shared_stage, stranger) == "receipt_task_id_person_id_fkey"


async def test_no_second_acceptance_of_a_member(shared_stage: Stage) -> None:
    task_id = await registered_task(shared_stage)
    await store(shared_stage, accepted_rows(task_id))
    assert await refused_by(shared_stage, accepted_rows(task_id)) == "accepted_once"


async def test_another_acceptance_after_the_first_is_revoked(shared_stage: Stage) -> None:
    task_id = await registered_task(shared_stage)
    await store(shared_stage, changed(accepted_rows(task_id), acceptance={"revoked_at": NOON}))
    await store(shared_stage, accepted_rows(task_id))
    assert await refused_by(shared_stage, accepted_rows(task_id)) == "accepted_once"


@pytest.mark.parametrize(
    ("once", "constraint"),
    [("idempotency_key", "receipt_key_once"), ("challenge_id", "receipt_challenge_id_key")],
)
async def test_key_and_challenge_are_used_once(shared_stage: Stage, once: str, constraint: str) -> None:
    task_id = await registered_task(shared_stage)
    first, second = accepted_rows(task_id), accepted_rows(task_id)
    await store(shared_stage, first)
    second["receipt"][once] = first["receipt"][once]
    assert await refused_by(shared_stage, second) == constraint


async def test_too_many_attempts_is_stored_once_a_day(shared_stage: Stage) -> None:
    task_id = await registered_task(shared_stage)

    def refused(received_at: datetime) -> Rows:
        rows = accepted_rows(task_id, received_at, outcome="rejected", reasons=["too_many_attempts"])
        del rows["acceptance"]
        return rows

    await store(shared_stage, refused(NOON))
    await store(shared_stage, refused(NOON + timedelta(days=1)))
    assert await refused_by(shared_stage, refused(NOON)) == "too_many_attempts_once_a_day"


async def test_a_window_that_shrinks_under_an_acceptance_is_refused(shared_stage: Stage) -> None:
    task_id = await registered_task(shared_stage)
    await store(shared_stage, accepted_rows(task_id))
    with pytest.raises(asyncpg.CheckViolationError):
        await shared_stage.sql("UPDATE task SET closes_at = $2 WHERE task_id = $1", task_id, NOON)


async def test_a_window_that_grows_takes_its_acceptances_along(shared_stage: Stage) -> None:
    task_id, extended_to = await registered_task(shared_stage), CLOSES_AT + timedelta(days=7)
    await store(shared_stage, accepted_rows(task_id))
    await shared_stage.sql("UPDATE task SET closes_at = $2 WHERE task_id = $1", task_id, extended_to)
    [row] = await shared_stage.sql("SELECT closes_at FROM acceptance WHERE task_id = $1", task_id)
    assert row["closes_at"] == extended_to


# --- What was held, and what people decide ---


def held_rows(task_id: str, received_at: datetime = NOON, **review: Any) -> Rows:
    """What a check-in leaves that a reviewer has accepted."""
    rows = accepted_rows(task_id, received_at, outcome="review", reasons=["look_alike"], **_DOUBTFUL)
    receipt, acceptance = rows["receipt"], rows["acceptance"]
    of = {name: receipt[name] for name in ("task_id", "person_id", "received_at")}
    reviewed = {"review_id": receipt["check_in_id"], "kind": "check_in", **of}
    decided = {"state": "accepted", "decided_at": received_at}
    accepted = {"outcome": "review", "review_state": "accepted", "decided_at": received_at}
    return {
        "receipt": receipt,
        "attempt": rows["attempt"],
        "review": {**reviewed, **decided, **review},
        "acceptance": {**acceptance, **accepted},
    }


_DOUBTFUL: Row = {"score": 0.6, "threshold": 0.55}


async def test_the_right_rows_of_a_review_are_taken(shared_stage: Stage) -> None:
    task_id = await registered_task(shared_stage)
    await store(shared_stage, held_rows(task_id))
    assert (await shared_stage.status(task_id))["progress"]["accepted"] == 1


HELD: dict[str, tuple[dict[str, Row], str]] = {
    "of a review that is pending": (
        {"review": {"state": "pending", "decided_at": None}},
        "accepted_review",
    ),
    "of a review that was rejected": ({"review": {"state": "rejected"}}, "accepted_review"),
    "of a review that became moot": ({"review": {"state": "moot"}}, "accepted_review"),
    "without its review": ({"acceptance": {"review_state": None, "decided_at": None}}, "acceptance_check1"),
    "as if it had not been held": (
        {"acceptance": {"outcome": "accepted", "review_state": None, "decided_at": None}},
        "accepted_attempt",
    ),
    "of a check-in as a manual request": (
        {"acceptance": {"method": "manual"}},
        "acceptance_check",
    ),
}


@pytest.mark.parametrize("held", HELD)
async def test_no_acceptance_of_what_people_have_not_accepted(shared_stage: Stage, held: str) -> None:
    changes, constraint = HELD[held]
    rows = changed(held_rows(await registered_task(shared_stage)), **changes)
    assert await refused_by(shared_stage, rows) == constraint


async def test_no_review_of_a_refused_attempt(shared_stage: Stage) -> None:
    """Nobody can accept by review what failed: a review is of an attempt that was held."""
    rows = changed(held_rows(await registered_task(shared_stage)), attempt={"outcome": "rejected"})
    assert await refused_by(shared_stage, rows) == "reviewed_attempt"


@pytest.mark.parametrize("score", [0.5499999, None, nan])
async def test_nothing_below_the_threshold_is_held_for_review(
    shared_stage: Stage, score: float | None
) -> None:
    rows = changed(held_rows(await registered_task(shared_stage)), attempt={"score": score})
    assert await refused_by(shared_stage, rows) == "held_is_a_match"


async def test_no_held_check_in_is_accepted_late(shared_stage: Stage) -> None:
    rows = held_rows(await registered_task(shared_stage), CLOSES_AT)
    assert await refused_by(shared_stage, rows) == "accepted_in_window"


async def test_a_reviewer_decides_once(shared_stage: Stage) -> None:
    rows = held_rows(await registered_task(shared_stage))
    await store(shared_stage, rows)
    decision = {
        "review_id": rows["review"]["review_id"],
        "iss": "i",
        "actor": "r-1",
        "decision": "accept",
        "note": "",
        "decided_at": NOON,
    }
    await store(shared_stage, {"review_decision": decision})
    assert await refused_by(shared_stage, {"review_decision": decision}) == "review_decision_pkey"


async def test_no_challenge_for_somebody_who_is_not_on_the_roster(shared_stage: Stage) -> None:
    task_id = await registered_task(shared_stage)
    challenge = {"challenge_id": uuid4(), "task_id": task_id, "person_id": "p-9", "expires_at": NOON}
    assert await refused_by(shared_stage, {"challenge": challenge}) == "challenge_task_id_person_id_fkey"


async def test_no_review_of_somebody_who_is_not_on_the_roster(shared_stage: Stage) -> None:
    task_id = await registered_task(shared_stage)
    asked = {
        "review_id": uuid4(),
        "kind": "manual",
        "task_id": task_id,
        "person_id": "p-9",
        "received_at": NOON,
    }
    assert await refused_by(shared_stage, {"review": asked}) == "review_task_id_person_id_fkey"
