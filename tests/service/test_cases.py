"""The rounds of a case: what is shown of each, what follows, and that nothing is carried over."""

import pytest

from tests.service.conftest import SetClock
from tests.service.situations import (
    LATER,
    Situation,
    accept,
    completed,
    expired,
    invalidated,
    new_id,
    open_,
    ordered,
    provisional_end,
    suspended,
    suspended_and_over,
    voided,
)
from tests.service.stage import Json, Stage
from tests.service.window import CLOSES_AT, NOON, OPENS_AT

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORDERED = {"flow": "rectification", "approved_at": CLOSES_AT.isoformat(), "deadline_at": LATER}


async def read_case(stage: Stage, case_id: str, scope: str = "tasks") -> Json:
    reply = await stage.call("GET", f"/v1/cases/{case_id}", "somebody", scope)
    assert reply.status == 200, reply.body
    case: Json = reply.body
    return case


async def case_of(stage: Stage, task_id: str) -> Json:
    return await read_case(stage, (await stage.status(task_id))["case_id"])


async def rectification(stage: Stage, failed: str, *persons: str, **changes: object) -> str:
    """The next round after a failed one, registered."""
    earlier = await stage.status(failed)
    task_id = new_id()
    follows = {"case_id": earlier["case_id"], "round": earlier["round"] + 1, "rectifies": failed}
    reply = await stage.register(task_id, *persons, **ORDERED | follows | changes)
    assert reply.status == 201, reply.body
    return task_id


@pytest.mark.parametrize("scope", ["tasks", "review"])
async def test_a_case_shows_every_round_in_order(
    shared_stage: Stage, shared_clock: SetClock, scope: str
) -> None:
    first, second = new_id("p"), new_id("p")
    routine = new_id()
    await invalidated(shared_stage, routine, first, second)
    wrong = await rectification(shared_stage, routine, first, second)
    await ordered(shared_stage, wrong, "void")
    right = await rectification(shared_stage, routine, first)
    status = await shared_stage.status(right)
    rounds = [
        {
            "task_id": routine,
            "round": 1,
            "flow": "routine",
            "rectifies": None,
            "state": "invalidated",
            "opens_at": OPENS_AT.isoformat(),
            "closes_at": CLOSES_AT.isoformat(),
            "progress": {"total": 2, "accepted": 1, "in_review": 0},
        },
        {
            "task_id": wrong,
            "round": 2,
            "flow": "rectification",
            "rectifies": routine,
            "state": "voided",
            "opens_at": CLOSES_AT.isoformat(),
            "closes_at": LATER,
            "progress": {"total": 2, "accepted": 0, "in_review": 0},
        },
        {
            "task_id": right,
            "round": 2,
            "flow": "rectification",
            "rectifies": routine,
            "state": "open",
            "opens_at": CLOSES_AT.isoformat(),
            "closes_at": LATER,
            "progress": {"total": 1, "accepted": 0, "in_review": 0},
        },
    ]
    case = await read_case(shared_stage, status["case_id"], scope)
    assert case == {"case_id": status["case_id"], "rounds": rounds, "follows": None}


async def test_nothing_is_carried_over(shared_stage: Stage, shared_clock: SetClock) -> None:
    """Neither who was accepted, nor the attempts of the day."""
    person, other = new_id("p"), new_id("p")
    routine = new_id()
    await expired(shared_stage, routine, person, other)
    task_id = await rectification(shared_stage, routine, person, other)
    status = await shared_stage.status(task_id)
    assert [member["state"] for member in status["members"]] == ["not_started"] * 2
    assert (status["window"]["basis"], status["closes_at"]) == ("order", LATER)
    mine = (await shared_stage.person(person, "GET", "/v1/me")).body["tasks"]
    assert {task["task_id"]: task["own_state"] for task in mine} == {
        routine: "accepted",
        task_id: "not_started",
    }
    await accept(shared_stage, task_id, person)
    assert (await shared_stage.status(routine))["state"] == "expired"


@pytest.mark.parametrize(
    ("situation", "follows"),
    [
        (open_, None),
        (suspended, None),
        (suspended_and_over, None),
        (provisional_end, None),
        (completed, "passed"),
        (expired, "rectification_order"),
        (invalidated, "rectification_order"),
        (voided, None),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_what_follows_a_routine_verification(
    shared_stage: Stage, shared_clock: SetClock, situation: Situation, follows: str | None
) -> None:
    task_id = new_id()
    await situation(shared_stage, task_id, new_id("p"), new_id("p"))
    assert (await case_of(shared_stage, task_id))["follows"] == follows


async def test_what_follows_a_first_application(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOON)
    task_id = new_id()
    await shared_stage.register(task_id, new_id("p"), approved_at=OPENS_AT.isoformat())
    assert (await case_of(shared_stage, task_id))["follows"] is None
    await shared_clock(CLOSES_AT)
    assert (await case_of(shared_stage, task_id))["follows"] == "certificate_lapses"


async def test_what_follows_a_rectification(shared_stage: Stage, shared_clock: SetClock) -> None:
    routine, person = new_id(), new_id("p")
    await expired(shared_stage, routine, person, new_id("p"))
    task_id = await rectification(shared_stage, routine, person, deadline_at="2026-05-01T00:00:00+08:00")
    assert (await case_of(shared_stage, routine))["follows"] is None
    await shared_clock(CLOSES_AT.replace(month=5, day=1))
    assert (await case_of(shared_stage, routine))["follows"] == "withdrawal"
    # a failed rectification may be followed by one more, if the authority orders it
    again = await rectification(shared_stage, task_id, person, approved_at="2026-05-01T00:00:00+08:00")
    case = await case_of(shared_stage, routine)
    assert ([of["rectifies"] for of in case["rounds"]], case["follows"]) == ([None, routine, task_id], None)
    # void as if it had never been
    await ordered(shared_stage, again, "void")
    assert (await case_of(shared_stage, routine))["follows"] == "withdrawal"


async def test_a_closed_round_stays_to_be_seen(shared_stage: Stage, shared_clock: SetClock) -> None:
    task_id = new_id()
    await expired(shared_stage, task_id, new_id("p"), new_id("p"))
    await ordered(shared_stage, task_id, "close")
    case = await case_of(shared_stage, task_id)
    assert case["follows"] == "rectification_order"
    assert [(of["state"], of["closed_at"]) for of in case["rounds"]] == [("expired", CLOSES_AT.isoformat())]


@pytest.mark.parametrize("case_id", ["SZ-none", "a b", "%00"])
async def test_an_unknown_case_is_not_found(shared_stage: Stage, case_id: str) -> None:
    reply = await shared_stage.platform("GET", f"/v1/cases/{case_id}")
    assert (reply.status, reply.code) == (404, "not_found")
