"""Decisions that meet each other, a check-in, a command or a withdrawal: the outcome is one of the two orders."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from checkin_service.adapters.postgres import persons, reviews, tasks
from checkin_service.adapters.postgres.database import Connection
from tests.service.reviewing import REVIEWER, SECOND, ask, asked, decide, doubtful, queue, told
from tests.service.situations import order
from tests.service.stage import Reply, Stage
from tests.service.window import CLOSES_AT, task_at_noon

HOLD_PERSON = "SELECT FROM person WHERE person_id = 'p-1' FOR UPDATE"
HOLD_TASK = "SELECT FROM task WHERE task_id = 'T1' FOR UPDATE"


async def at_once(stage: Stage, held: str, *calls: Awaitable[Reply]) -> list[Reply]:
    """The answers of calls that all wait for the same lock when it is given free."""
    async with stage.holding(held):
        started = [asyncio.ensure_future(call) for call in calls]
        await stage.until_waiting(len(calls))
    return list(await asyncio.gather(*started))


async def acceptances(stage: Stage) -> list[Any]:
    return await stage.sql("SELECT * FROM acceptance")


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lock_nothing(*_: object) -> None:
        return None

    async def only_look(connection: Connection, person_id: str) -> UUID:
        found: UUID = await connection.fetchval("SELECT key_id FROM person WHERE person_id = $1", person_id)
        return found

    monkeypatch.setattr(persons, "lock_person", only_look)
    monkeypatch.setattr(tasks, "lock_task", lock_nothing)


# --- Two reviewers ---


async def test_two_reviewers_of_a_check_in_at_once(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    replies = await at_once(
        stage,
        HOLD_PERSON,
        decide(stage, review_id, "accept", REVIEWER),
        decide(stage, review_id, "reject", SECOND),
    )
    assert sorted(reply.status for reply in replies) == [200, 409]
    [won] = [reply for reply in replies if reply.status == 200]
    assert len(await acceptances(stage)) == (won.body["state"] == "accepted")
    assert len(await stage.sql("SELECT FROM review_decision")) == 1


async def test_two_accepts_of_a_manual_request_at_once(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    request_id = await asked(stage, "p-1", "T1")
    calls = [decide(stage, request_id, reviewer=reviewer) for reviewer in (REVIEWER, SECOND)]
    replies = await at_once(stage, HOLD_PERSON, *calls)
    assert sorted(reply.body["state"] for reply in replies) == ["accepted", "pending_second"]
    assert len(await acceptances(stage)) == 1
    assert await told(stage, "T1") == [
        "member_in_review",
        "review_decided",
        "member_accepted",
        "task_completed",
    ]


async def test_without_the_locks_two_accepts_would_come_to_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: both see a request that nobody has decided. One may also fail at what the other holds."""
    read_facts, meeting = reviews.read_facts, asyncio.Barrier(2)

    async def read_together(*wanted: Any) -> Any:
        facts = await read_facts(*wanted)
        await meeting.wait()
        return facts

    await task_at_noon(stage, "T1")
    request_id = await asked(stage, "p-1", "T1")
    without_locks(monkeypatch)
    monkeypatch.setattr(reviews, "read_facts", read_together)
    await asyncio.gather(*(decide(stage, request_id, reviewer=r) for r in (REVIEWER, SECOND)))
    assert await acceptances(stage) == []


async def test_one_reviewer_twice_at_once(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    request_id = await asked(stage, "p-1", "T1")
    replies = await at_once(stage, HOLD_PERSON, *(decide(stage, request_id) for _ in range(2)))
    assert [(r.status, r.body["state"]) for r in replies] == [(200, "pending_second")] * 2
    assert await acceptances(stage) == []


# --- A check-in in flight ---


async def test_a_decision_during_the_analysis_of_a_check_in(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    async with stage.while_analysing(stage.check_in("p-1", "T1")) as submitted:
        assert (await decide(stage, review_id)).body["state"] == "accepted"
    reply = await submitted
    assert (reply.reasons, reply.body["check_in_id"]) == (["already_checked_in"], review_id)
    assert len(await acceptances(stage)) == 1


async def test_a_decision_and_a_verdict_at_once(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    challenge_id = await stage.challenge("p-1", "T1")
    checked_in, decided = await at_once(
        stage,
        HOLD_PERSON,
        stage.check_in("p-1", "T1", challenge_id=challenge_id),
        decide(stage, review_id),
    )
    assert len(await acceptances(stage)) == 1
    assert (checked_in.reasons == []) == (decided.status == 409)
    assert checked_in.body["outcome"] == "accepted"
    assert await queue(stage) == []


# --- Requests ---


async def test_two_requests_at_once_are_one(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    one, other = await at_once(stage, HOLD_PERSON, *(ask(stage, "p-1", "T1") for _ in range(2)))
    assert one.body == other.body
    assert await told(stage, "T1") == ["member_in_review"]


async def test_the_database_holds_one_open_request(stage: Stage) -> None:
    """Behind the lock: nothing that forgets it can add a second one."""
    await task_at_noon(stage, "T1")
    await asked(stage, "p-1", "T1")
    with pytest.raises(asyncpg.UniqueViolationError, match="manual_request_once"):
        await stage.sql(
            "INSERT INTO review (review_id, kind, task_id, person_id, received_at)"
            " SELECT gen_random_uuid(), kind, task_id, person_id, received_at FROM review"
        )


@pytest.mark.parametrize("method", ["face", "manual"])
async def test_the_database_accepts_nothing_that_people_have_not(stage: Stage, method: str) -> None:
    await task_at_noon(stage, "T1")
    await (doubtful if method == "face" else asked)(stage, "p-1", "T1")
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="accepted_review"):
        await stage.sql(
            "INSERT INTO acceptance (check_in_id, task_id, person_id, accepted_at, method, outcome, review_state,"
            " decided_at, opens_at, closes_at)"
            " SELECT v.review_id, v.task_id, v.person_id, v.received_at, $1, v.outcome, 'accepted', v.received_at,"
            " t.opens_at, t.closes_at FROM review v JOIN task t USING (task_id)",
            method,
        )


async def test_a_request_that_waits_for_a_lock_is_not_late_for_it(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    async with stage.holding(HOLD_PERSON):
        waiting = asyncio.ensure_future(ask(stage, "p-1", "T1"))
        await stage.until_waiting(1)
        await stage.set_clock(CLOSES_AT)
    assert (await waiting).status == 201


# --- Commands ---


async def test_a_decision_and_a_void_at_once(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    decided, voided = await at_once(stage, HOLD_TASK, decide(stage, review_id), order(stage, "T1", "void"))
    assert voided.status == 200
    assert (decided.status == 200) == (len(await acceptances(stage)) == 1)
    changes = await told(stage, "T1")
    assert changes[-1] == "task_voided"
    assert ("review_decided" in changes) == (decided.status == 200)


async def test_the_last_decision_and_the_close_at_once(stage: Stage) -> None:
    """A task is closed with nothing open in it, or not yet."""
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    await stage.set_clock(CLOSES_AT)
    decided, closed = await at_once(
        stage, HOLD_TASK, decide(stage, review_id, "reject"), order(stage, "T1", "close")
    )
    assert (decided.status, closed.status in {200, 409}) == (200, True)
    changes = await told(stage, "T1")
    assert changes[:2] == ["member_in_review", "review_decided"]
    assert changes[2:] == (["task_closed"] if closed.status == 200 else [])


# --- Withdrawal and erasure ---


async def withdraw(stage: Stage) -> Reply:
    return await stage.person("p-1", "DELETE", "/v1/me/consent")


async def erase(stage: Stage) -> Reply:
    return await stage.platform("DELETE", "/v1/persons/p-1")


@pytest.mark.parametrize(("change", "refused"), [(withdraw, 409), (erase, 404)])
async def test_a_decision_and_a_withdrawal_at_once(
    stage: Stage, change: Callable[[Stage], Awaitable[Reply]], refused: int
) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    decided, changed = await at_once(stage, HOLD_PERSON, decide(stage, review_id), change(stage))
    assert (changed.status, decided.status in {200, refused}) == (204, True)
    assert (decided.status == 200) == (len(await acceptances(stage)) == 1)
    # another one after the withdrawal comes too late in any case
    assert (await decide(stage, review_id, reviewer=SECOND)).status in {404, 409}


async def withdrawn_before_the_decision_is_written(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, until: Callable[[asyncio.Future[Reply]], Awaitable[Any]]
) -> tuple[Reply, bool]:
    """A decision between whose reading and writing the person withdraws; and whether that was done by then."""
    add_decision, withdrawals = reviews.add_decision, []
    done = False

    async def withdraw_first(*decision: Any) -> None:
        nonlocal done
        withdrawals.append(asyncio.ensure_future(withdraw(stage)))
        await until(withdrawals[0])
        done = withdrawals[0].done()
        await add_decision(*decision)

    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    monkeypatch.setattr(reviews, "add_decision", withdraw_first)
    decided = await decide(stage, review_id)
    assert (await withdrawals[0]).status == 204
    return decided, done


async def test_a_withdrawal_waits_for_a_decision_that_is_being_written(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided, done = await withdrawn_before_the_decision_is_written(
        stage, monkeypatch, lambda _: stage.until_waiting(1)
    )
    assert (decided.status, done) == (200, False)


async def test_without_the_locks_a_face_would_be_accepted_after_the_withdrawal(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control."""
    without_locks(monkeypatch)
    decided, done = await withdrawn_before_the_decision_is_written(
        stage, monkeypatch, lambda w: asyncio.wait([w])
    )
    assert (decided.status, done) == (200, True)
