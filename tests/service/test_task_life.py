"""The table of docs/task-life.md, cell by cell over HTTP; and what suspension, revocation and closing mean."""

import asyncio
import json
from datetime import datetime, timedelta

import asyncpg
import pytest

from checkin_service.adapters.postgres.database import open_database
from checkin_service.usecases.sweep import sweep
from tests.service import situations
from tests.service.conftest import SetClock
from tests.service.situations import (
    LATER,
    ROUTINE,
    Situation,
    accept,
    assert_conflict,
    new_id,
    order,
    ordered,
    traces,
)
from tests.service.stage import FAR, Json, Stage, check_in_fields, photo_of, place
from tests.service.window import CLOSES_AT, MICROSECOND, NOON, OPENS_AT
from tests.task_life import COMMANDS, REFUSED, ROWS, TABLE, THERE, state_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
# for tests with a service of their own, because they sweep everything
OWN_SERVICE = pytest.mark.asyncio(loop_scope="function")

# how each row of the table comes about
BROUGHT_ABOUT: dict[str, list[Situation]] = {
    "pending_material": [situations.pending_material],
    "open": [situations.open_],
    "suspended": [situations.suspended],
    "suspended, over": [situations.suspended_and_over],
    "completed": [situations.completed],
    "completed, over": [situations.completed_and_over],
    "expired_pending_review": [situations.unjudged_at_the_end, situations.provisional_end],
    "invalidated": [situations.invalidated],
    "expired": [situations.expired],
    "voided": [situations.voided],
    "closed": [situations.closed],
}
END = {"deadline_at": LATER, "document_no": "深建〔2026〕1号"}
ELSEWHERE = place(fence={"type": "Circle", "coordinates": list(FAR), "radius_m": 100})
# beside the reason
FIELDS: dict[str, Json] = {"extend": END, "fence": {"place": ELSEWHERE}, "resume": END}
TOLD = {
    "void": ["task_voided"],
    "extend": ["deadline_changed"],
    "fence": ["fence_changed"],
    "suspend": ["task_suspended"],
    "resume": ["task_resumed", "deadline_changed"],
    "revoke": ["member_revoked"],
    "close": ["task_closed"],
}


def call_of(command: str, person_id: str) -> str:
    return f"members/{person_id}/revoke" if command == "revoke" else command


def body_of(command: str) -> Json:
    return {"reason": "名单有误"} | FIELDS.get(command, {})


async def test_every_row_comes_about() -> None:
    assert list(BROUGHT_ABOUT) == ROWS


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("row", "situation"),
    [(row, situation) for row in BROUGHT_ABOUT for situation in BROUGHT_ABOUT[row]],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_every_cell_of_the_table(
    shared_stage: Stage, shared_clock: SetClock, row: str, situation: Situation, command: str
) -> None:
    stage, cell = shared_stage, TABLE[row, command]
    task_id, person_id = new_id(), new_id("p")
    await situation(stage, task_id, person_id, new_id("p"))
    # a microsecond on, for no two fences take force at one instant
    await shared_clock((await stage.sql("SELECT checkin_now()"))[0][0] + MICROSECOND)
    before, (changes, audit) = await stage.status(task_id), await traces(stage, task_id)
    state = before["state"]
    assert state == ("expired" if row == "closed" else state_of(row))
    call, body = call_of(command, person_id), body_of(command)

    stale = await order(stage, task_id, call, body, headers={"If-Match": '"stale"'})
    assert (stale.status, stale.code) == (412, "stale_revision")
    assert await stage.status(task_id) == before
    present = f'"{task_id}-{before["rev"]}-{state}"'
    for headers in ({"If-Match": present}, {}):
        reply = await order(stage, task_id, call, body, headers=headers)
        after = await stage.status(task_id)
        if cell == REFUSED:
            assert_conflict(reply, state)
        else:
            assert (reply.status, reply.body) == (200, after)
        if cell in {REFUSED, THERE}:
            assert after == before
            assert await traces(stage, task_id) == (changes, audit)
        else:
            assert (after["state"], after["rev"]) == (cell, before["rev"] + len(TOLD[command]))
            assert await traces(stage, task_id) == ([*changes, *TOLD[command]], [*audit, command])


@pytest.mark.parametrize("command", COMMANDS)
async def test_an_absent_task_takes_no_command(shared_stage: Stage, command: str) -> None:
    for headers in ({}, {"If-Match": "*"}):
        reply = await order(
            shared_stage, "T-none", call_of(command, "p-1"), body_of(command), headers=headers
        )
        assert (reply.status, reply.code) == (404, "not_found")


@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_is_written_down_with_who_and_why(
    shared_stage: Stage, shared_clock: SetClock, command: str
) -> None:
    situation = {"resume": situations.suspended, "close": situations.voided}.get(command, situations.open_)
    task_id, person_id = new_id(), new_id("p")
    await situation(shared_stage, task_id, person_id, new_id("p"))
    await shared_clock(NOON + MICROSECOND)
    path = f"/v1/tasks/{task_id}/{call_of(command, person_id)}"
    reply = await shared_stage.call("POST", path, "officer-7", "tasks", json=body_of(command))
    assert reply.status == 200
    query = "SELECT iss, actor, action, details FROM audit WHERE task_id = $1 ORDER BY seq DESC LIMIT 1"
    written = (await shared_stage.sql(query, task_id))[0]
    assert (written["iss"], written["actor"], written["action"]) == (
        "checkin-development",
        "officer-7",
        command,
    )
    named = {"person_id": person_id} if command == "revoke" else {}
    assert json.loads(written["details"]) == body_of(command) | named


@pytest.mark.parametrize(
    ("deadline_at", "code"),
    [
        ("2026-04-02T00:00:00+08:00", "deadline_too_early"),
        ("2026-04-30T00:00:00Z", "deadline_not_day_end"),
    ],
)
@pytest.mark.parametrize(
    ("situation", "command"),
    [
        *((situation, "extend") for situation in (situations.open_, situations.expired)),
        *((situation, "extend") for situation in (situations.invalidated, situations.suspended)),
        *((situation, "resume") for situation in (situations.suspended, situations.suspended_and_over)),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_no_order_moves_the_end_backwards_or_into_a_day(
    shared_stage: Stage,
    shared_clock: SetClock,
    situation: Situation,
    command: str,
    deadline_at: str,
    code: str,
) -> None:
    task_id = new_id()
    await situation(shared_stage, task_id, new_id("p"), new_id("p"))
    before, left = await shared_stage.status(task_id), await traces(shared_stage, task_id)
    reply = await order(shared_stage, task_id, command, body_of(command) | {"deadline_at": deadline_at})
    assert (reply.status, reply.faults) == (422, {("/deadline_at", code)})
    assert (await shared_stage.status(task_id), await traces(shared_stage, task_id)) == (before, left)


# --- Suspension ---


async def test_a_suspension_moves_nothing_but_the_state(shared_stage: Stage, shared_clock: SetClock) -> None:
    task_id = new_id()
    await situations.open_(shared_stage, task_id, new_id("p"), new_id("p"))
    before = await shared_stage.status(task_id)
    during = await ordered(shared_stage, task_id, "suspend")
    assert during == before | {"state": "suspended", "rev": before["rev"] + 1}
    await shared_clock(NOON + timedelta(days=7))
    after = await ordered(shared_stage, task_id, "resume")
    assert after == before | {"rev": before["rev"] + 2}


@pytest.mark.parametrize("missing", [["deadline_at", "document_no"], ["deadline_at"], ["document_no"]])
async def test_after_the_end_a_resumption_needs_an_order(
    shared_stage: Stage, shared_clock: SetClock, missing: list[str]
) -> None:
    task_id = new_id()
    await situations.suspended_and_over(shared_stage, task_id, new_id("p"), new_id("p"))
    body = {name: value for name, value in body_of("resume").items() if name not in missing}
    before = await shared_stage.status(task_id)
    reply = await order(shared_stage, task_id, "resume", body)
    assert (reply.status, reply.code) == (409, "deadline_required")
    assert await shared_stage.status(task_id) == before
    await shared_clock(CLOSES_AT - MICROSECOND)
    assert (await order(shared_stage, task_id, "resume", body)).body["state"] == "open"


async def test_an_order_may_leave_a_task_over(shared_stage: Stage, shared_clock: SetClock) -> None:
    task_id = new_id()
    await situations.suspended_and_over(shared_stage, task_id, new_id("p"), new_id("p"))
    status = await ordered(
        shared_stage, task_id, "resume", body_of("resume") | {"deadline_at": CLOSES_AT.isoformat()}
    )
    assert (status["state"], status["closes_at"]) == ("expired", CLOSES_AT.isoformat())
    assert (await traces(shared_stage, task_id))[0][-1] == "task_resumed"


async def test_a_resumption_by_another_end_is_another_command(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    task_id = new_id()
    await situations.suspended(shared_stage, task_id, new_id("p"), new_id("p"))
    resumed = await ordered(shared_stage, task_id, "resume")
    assert resumed["closes_at"] == CLOSES_AT.isoformat()
    assert_conflict(await order(shared_stage, task_id, "resume", body_of("resume")), "open")
    assert (await order(shared_stage, task_id, "resume")).body == resumed


async def test_a_task_may_be_suspended_again(shared_stage: Stage, shared_clock: SetClock) -> None:
    task_id = new_id()
    await situations.suspended(shared_stage, task_id, new_id("p"), new_id("p"))
    # at the same instant, as far as the judging clock tells
    await ordered(shared_stage, task_id, "resume")
    await ordered(shared_stage, task_id, "suspend")
    await shared_clock(NOON + timedelta(days=1))
    await ordered(shared_stage, task_id, "resume")
    query = "SELECT suspended_at, resumed_at FROM suspension WHERE task_id = $1 ORDER BY suspension_id"
    stored = [tuple(row) for row in await shared_stage.sql(query, task_id)]
    assert stored == [(NOON, NOON), (NOON, NOON + timedelta(days=1))]


@pytest.mark.parametrize(
    ("interval", "constraint"),
    [
        ((NOON, None), "suspended_once"),
        ((NOON, NOON - MICROSECOND), "suspension_check"),
    ],
)
async def test_no_suspension_beside_another_or_ending_before_it_began(
    shared_stage: Stage,
    shared_clock: SetClock,
    interval: tuple[datetime, datetime | None],
    constraint: str,
) -> None:
    task_id = new_id()
    await situations.suspended(shared_stage, task_id, new_id("p"), new_id("p"))
    insert = "INSERT INTO suspension (task_id, suspended_at, resumed_at) VALUES ($1, $2, $3)"
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
        await shared_stage.sql(insert, task_id, *interval)
    assert getattr(refused.value, "constraint_name", None) == constraint


async def test_what_a_suspension_hid_is_told_by_its_end(shared_stage: Stage, shared_clock: SetClock) -> None:
    """The last acceptance falls into it, of a submission from before."""
    task_id, last = new_id(), new_id("p")
    await situations.open_(shared_stage, task_id, new_id("p"), last)
    async with shared_stage.while_analysing(shared_stage.check_in(last, task_id)) as submitted:
        await shared_clock(NOON + MICROSECOND)
        await ordered(shared_stage, task_id, "suspend")
    reply = await submitted
    assert (reply.body["outcome"], reply.body["task"]["state"]) == ("accepted", "suspended")
    told = (await traces(shared_stage, task_id))[0]
    assert told[-2:] == ["task_suspended", "member_accepted"]
    assert (await shared_stage.status(task_id))["state"] == "suspended"
    assert (await ordered(shared_stage, task_id, "resume"))["state"] == "completed"
    assert (await traces(shared_stage, task_id))[0] == [*told, "task_resumed", "task_completed"]


async def test_a_retry_during_a_suspension_is_judged_as_of_its_receipt(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    task_id, person_id = new_id(), new_id("p")
    await situations.open_(shared_stage, task_id, new_id("p"), person_id)
    fields = check_in_fields(task_id, await shared_stage.challenge(person_id, task_id))
    selfie = photo_of(person_id, 78)
    with situations.breakdown(shared_stage):
        assert (await shared_stage.submit(person_id, fields, selfie, key="again")).status == 503
    await shared_clock(NOON + MICROSECOND)
    await ordered(shared_stage, task_id, "suspend")
    reply = await shared_stage.submit(person_id, fields, selfie, key="again")
    assert (reply.body["outcome"], reply.body["task"]["state"]) == ("accepted", "suspended")


async def test_the_interval_is_half_open(shared_stage: Stage, shared_clock: SetClock) -> None:
    task_id, person_id = new_id(), new_id("p")
    await situations.open_(shared_stage, task_id, new_id("p"), person_id)
    suspended_at, resumed_at = NOON + timedelta(hours=1), NOON + timedelta(hours=2)
    await shared_clock(suspended_at)
    await ordered(shared_stage, task_id, "suspend")
    await shared_clock(resumed_at)
    await ordered(shared_stage, task_id, "resume")
    for instant, refused in (
        (suspended_at - MICROSECOND, False),
        (suspended_at, True),
        (resumed_at - MICROSECOND, True),
        (resumed_at, False),
    ):
        await shared_clock(instant)
        reply = await shared_stage.check_in(person_id, task_id, selfie=photo_of("nobody"))
        assert reply.reasons == (["task_not_open"] if refused else ["no_face"]), instant


async def swept(stage: Stage, instant: datetime) -> list[tuple[str, datetime]]:
    """The feed's entries of passing the end, after a sweep at an instant."""
    await stage.set_clock(instant)
    async with open_database(stage.service_url, max_connections=1) as database:
        await sweep(database)
    ends = await stage.sql("SELECT type, at FROM change WHERE type LIKE 'task\\_expired%' ORDER BY seq")
    return [tuple(row) for row in ends]


@OWN_SERVICE
async def test_passing_the_end_is_told_once_the_task_is_resumed(stage: Stage) -> None:
    await situations.suspended_and_over(stage, "T1", "p-1", "p-2")
    assert await swept(stage, CLOSES_AT + timedelta(days=2)) == []
    await ordered(stage, "T1", "resume", body_of("resume"))
    later = datetime.fromisoformat(LATER)
    assert await swept(stage, later - MICROSECOND) == []
    assert await swept(stage, later) == [("task_expired", later)]


@OWN_SERVICE
async def test_a_task_resumed_as_it_stands_is_told_to_be_over(stage: Stage) -> None:
    await situations.suspended_and_over(stage, "T1", "p-1", "p-2")
    assert await swept(stage, CLOSES_AT) == []
    await ordered(stage, "T1", "resume", body_of("resume") | {"deadline_at": CLOSES_AT.isoformat()})
    assert await swept(stage, CLOSES_AT + timedelta(days=1)) == [("task_expired", CLOSES_AT)]


@OWN_SERVICE
async def test_what_nobody_judged_is_not_given_up_while_suspended(stage: Stage) -> None:
    await situations.unjudged_at_the_end(stage, "T1", "p-1", "p-2")
    await ordered(stage, "T1", "suspend")
    assert await swept(stage, CLOSES_AT + timedelta(minutes=10)) == []
    await ordered(stage, "T1", "resume", body_of("resume") | {"deadline_at": CLOSES_AT.isoformat()})
    assert (await stage.status("T1"))["state"] == "expired_pending_review"
    assert await swept(stage, CLOSES_AT + timedelta(minutes=10)) == [("task_expired", CLOSES_AT)]


# --- Revocation ---


async def test_a_revoked_person_checks_in_again_before_the_end(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    task_id, person_id = new_id(), new_id("p")
    await situations.completed(shared_stage, task_id, new_id("p"), person_id)
    status = await ordered(shared_stage, task_id, f"members/{person_id}/revoke")
    assert [member["state"] for member in status["members"]] == ["accepted", "revoked"]
    assert (status["state"], status["progress"]["accepted"]) == ("open", 1)
    await accept(shared_stage, task_id, person_id)
    assert (await traces(shared_stage, task_id))[0][-3:] == [
        "member_revoked",
        "member_accepted",
        "task_completed",
    ]
    assert (await shared_stage.status(task_id))["state"] == "completed"


async def test_a_retry_of_what_was_revoked_accepts_nothing(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    task_id, person_id = new_id(), new_id("p")
    await situations.open_(shared_stage, task_id, new_id("p"), person_id)
    challenge_id = await shared_stage.challenge(person_id, task_id)
    fields = check_in_fields(task_id, challenge_id)
    selfie = photo_of(person_id, 77)
    first = await shared_stage.submit(person_id, fields, selfie, key="once")
    assert first.body["outcome"] == "accepted"
    for instant in (NOON, CLOSES_AT):
        await shared_clock(instant)
        revoked = await ordered(shared_stage, task_id, f"members/{person_id}/revoke")
        again = await shared_stage.submit(person_id, fields, selfie, key="once")
        assert (again.status, again.body) == (201, first.body)
        assert await shared_stage.status(task_id) == revoked
    assert revoked["state"] == "invalidated"


@pytest.mark.parametrize("scope", ["tasks", "review"])
async def test_platform_and_reviewers_revoke(shared_stage: Stage, shared_clock: SetClock, scope: str) -> None:
    task_id, person_id = new_id(), new_id("p")
    await situations.open_(shared_stage, task_id, person_id, new_id("p"))
    path = f"/v1/tasks/{task_id}/members/{person_id}/revoke"
    reply = await shared_stage.call("POST", path, "officer-7", scope, json={"reason": "x"})
    assert (reply.status, reply.body["members"][0]["state"]) == (200, "revoked")
    query = "SELECT revoked_at FROM acceptance WHERE task_id = $1"
    assert [row["revoked_at"] for row in await shared_stage.sql(query, task_id)] == [NOON]


async def test_only_what_was_accepted_is_revoked(shared_stage: Stage, shared_clock: SetClock) -> None:
    task_id, person_id = new_id(), new_id("p")
    await situations.open_(shared_stage, task_id, new_id("p"), person_id)
    assert_conflict(await order(shared_stage, task_id, f"members/{person_id}/revoke"), "open")
    stranger = await order(shared_stage, task_id, f"members/{new_id('p')}/revoke")
    assert (stranger.status, stranger.code) == (404, "not_found")


async def test_no_first_application_knows_revocations(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOON)
    task_id, person_id = new_id(), new_id("p")
    await shared_stage.ready_task(task_id, person_id, approved_at=OPENS_AT.isoformat())
    await accept(shared_stage, task_id, person_id)
    assert_conflict(await order(shared_stage, task_id, f"members/{person_id}/revoke"), "completed")


async def test_a_rectification_does(shared_stage: Stage, shared_clock: SetClock) -> None:
    failed, task_id, person_id = new_id(), new_id(), new_id("p")
    await situations.expired(shared_stage, failed, new_id("p"), person_id)
    case_id = (await shared_stage.status(failed))["case_id"]
    follows = {"case_id": case_id, "round": 2, "rectifies": failed, "flow": "rectification"}
    changes = ROUTINE | follows | {"deadline_at": LATER}
    assert (await shared_stage.register(task_id, person_id, **changes)).status == 201
    await accept(shared_stage, task_id, person_id)
    assert (await ordered(shared_stage, task_id, f"members/{person_id}/revoke"))["state"] == "open"


@OWN_SERVICE
@pytest.mark.parametrize("revoked_first", [True, False])
async def test_a_revocation_and_a_check_in_at_once_come_one_after_the_other(
    stage: Stage, revoked_first: bool
) -> None:
    await situations.open_(stage, "T1", "p-1", "p-2")
    earlier = (await stage.status("T1"))["members"][0]["check_in_id"]
    calls = [order(stage, "T1", "members/p-1/revoke"), stage.check_in("p-1", "T1")]
    racing = []
    async with stage.holding("SELECT FROM task WHERE task_id = 'T1' FOR UPDATE"):
        for waiting, call in enumerate(calls if revoked_first else reversed(calls), start=1):
            racing.append(asyncio.create_task(call))
            await stage.until_waiting(waiting)
    replies = await asyncio.gather(*racing)
    revoked, again = replies if revoked_first else reversed(replies)
    assert (revoked.status, again.body["outcome"]) == (200, "accepted")
    assert (again.body["check_in_id"] == earlier) is not revoked_first
    member = (await stage.status("T1"))["members"][0]
    assert member["state"] == ("accepted" if revoked_first else "revoked")


@OWN_SERVICE
@pytest.mark.parametrize("swept_before", [True, False])
async def test_the_end_of_a_task_that_was_complete_is_told_after_a_revocation(
    stage: Stage, swept_before: bool
) -> None:
    """Whenever the sweeper came."""
    await situations.completed_and_over(stage, "T1", "p-1", "p-2")
    if swept_before:
        assert await swept(stage, CLOSES_AT) == []
    await ordered(stage, "T1", "members/p-1/revoke")
    assert await swept(stage, CLOSES_AT) == [("task_expired", CLOSES_AT)]
    await ordered(stage, "T1", "members/p-2/revoke")
    assert await swept(stage, CLOSES_AT) == [("task_expired", CLOSES_AT)]


# --- Closing ---


async def test_a_closed_task_says_since_when(shared_stage: Stage, shared_clock: SetClock) -> None:
    task_id = new_id()
    await situations.expired(shared_stage, task_id, new_id("p"), new_id("p"))
    before = await shared_stage.status(task_id)
    assert "closed_at" not in before
    await shared_clock(CLOSES_AT + timedelta(days=30))
    closed = await ordered(shared_stage, task_id, "close")
    closed_at = (CLOSES_AT + timedelta(days=30)).isoformat()
    assert closed == before | {"closed_at": closed_at, "rev": before["rev"] + 1}
    assert_conflict(await order(shared_stage, task_id, "void"), "expired, closed")


@OWN_SERVICE
async def test_the_end_is_told_of_a_task_closed_before_the_sweeper_came(stage: Stage) -> None:
    await situations.closed(stage, "T1", "p-1", "p-2")
    assert await swept(stage, CLOSES_AT) == [("task_expired", CLOSES_AT)]
