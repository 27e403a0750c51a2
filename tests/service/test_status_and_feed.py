"""What the platform sees: a task's state at an instant, its ETag, the change feed, and what the sweeper writes down."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from checkin_service import app
from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres import feed, tasks
from checkin_service.adapters.postgres.audit import SETTLED_IN
from checkin_service.adapters.postgres.database import Connection, Database, open_database
from checkin_service.adapters.postgres.tasks import TaskHead
from checkin_service.ports import KeysUnavailable
from checkin_service.usecases import register_task
from checkin_service.usecases import sweep as sweep_module
from checkin_service.usecases.sweep import sweep
from tests.service.conftest import SetClock, sweep_for_ever
from tests.service.situations import services_of
from tests.service.stage import Json, Reply, Stage, members_digest, photo_of, running_service
from tests.service.window import (
    CLOSES_AT,
    MICROSECOND,
    NOON,
    OPENS_AT,
    PROVISIONAL_CLOSES_AT,
    PROVISIONAL_OPENS_AT,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
# for tests with a service of their own: the sweeper and the feed look at everything there is
OWN_SERVICE = pytest.mark.asyncio(loop_scope="function")

APPROVED = {"approved_at": OPENS_AT.isoformat()}
HOLD_FEED = f"SELECT pg_advisory_xact_lock({feed.FEED_LOCK})"
VOID = {"reason": "x"}


def new_id(kind: str = "T") -> str:
    return f"{kind}-{uuid4().hex[:12]}"


async def poll(stage: Stage, task_id: str, etag: str | None = None, **options: Any) -> Reply:
    headers = {"If-None-Match": etag} if etag is not None else {}
    return await stage.platform("GET", f"/v1/tasks/{task_id}", headers=headers, **options)


async def changes_of(stage: Stage, task_id: str) -> list[str]:
    rows = await stage.sql("SELECT type FROM change WHERE task_id = $1 ORDER BY rev", task_id)
    return [row["type"] for row in rows]


# --- States ---


@pytest.mark.parametrize("flow", ["first_application", "routine"])
async def test_a_task_waits_for_material_then_opens(
    shared_stage: Stage, shared_clock: SetClock, flow: str
) -> None:
    await shared_clock(NOON)
    task_id, first, second = new_id(), new_id("p"), new_id("p")
    await shared_stage.register(task_id, first, second, **APPROVED, flow=flow)
    for person_id, state in ((first, "pending_material"), (second, "open")):
        await shared_stage.enrol(person_id)
        assert (await shared_stage.status(task_id))["state"] == state


async def test_a_task_that_opens_later_is_open_to_the_platform(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    await shared_clock(OPENS_AT - timedelta(minutes=4))
    task_id, person_id = new_id(), new_id("p")
    await shared_stage.ready_task(task_id, person_id, **APPROVED)
    assert (await shared_stage.status(task_id))["state"] == "open"


@pytest.mark.parametrize(("instant", "state"), [(CLOSES_AT - MICROSECOND, "open"), (CLOSES_AT, "expired")])
async def test_the_window_is_half_open(
    shared_stage: Stage, shared_clock: SetClock, instant: datetime, state: str
) -> None:
    await shared_clock(NOON)
    task_id, person_id = new_id(), new_id("p")
    await shared_stage.ready_task(task_id, person_id, **APPROVED)
    await shared_clock(instant)
    assert (await shared_stage.status(task_id))["state"] == state


async def test_a_task_that_never_got_its_material_expires_too(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    await shared_clock(CLOSES_AT)
    task_id = new_id()
    assert (await shared_stage.register(task_id, new_id("p"), **APPROVED)).body["state"] == "expired"


async def test_who_is_accepted_needs_no_reference_any_more(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    await shared_clock(NOON)
    task_id, first, second = new_id(), new_id("p"), new_id("p")
    await shared_stage.ready_task(task_id, first, second, **APPROVED)
    await shared_stage.check_in(first, task_id)
    await shared_stage.person(first, "DELETE", "/v1/me/consent")
    status = await shared_stage.status(task_id)
    assert [m["reference"] for m in status["members"]] == ["missing", "ready"]
    assert status["state"] == "open"
    await shared_stage.person(second, "DELETE", "/v1/me/consent")
    assert (await shared_stage.status(task_id))["state"] == "pending_material"


async def test_completed_stays_completed(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOON)
    task_id, person_id = new_id(), new_id("p")
    await shared_stage.ready_task(task_id, person_id, **APPROVED)
    await shared_stage.check_in(person_id, task_id)
    await shared_stage.person(person_id, "DELETE", "/v1/me/consent")
    for instant in (NOON, CLOSES_AT, CLOSES_AT + timedelta(days=400)):
        await shared_clock(instant)
        assert (await shared_stage.status(task_id))["state"] == "completed"


@pytest.mark.parametrize("completed", [False, True])
async def test_voided_comes_before_everything(
    shared_stage: Stage, shared_clock: SetClock, completed: bool
) -> None:
    await shared_clock(NOON)
    task_id, person_id = new_id(), new_id("p")
    await shared_stage.ready_task(task_id, person_id, **APPROVED)
    if completed:
        await shared_stage.check_in(person_id, task_id)
    await shared_stage.platform("POST", f"/v1/tasks/{task_id}/void", VOID)
    for instant in (NOON, CLOSES_AT):
        await shared_clock(instant)
        status = await shared_stage.status(task_id)
        assert (status["state"], status["progress"]["accepted"]) == ("voided", int(completed))


async def test_a_provisional_window_does_not_expire(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(PROVISIONAL_OPENS_AT)
    task_id, person_id = new_id(), new_id("p")
    await shared_stage.ready_task(task_id, person_id, approved_at=PROVISIONAL_OPENS_AT.isoformat())
    status = await shared_stage.status(task_id)
    assert (status["state"], status["window"]["provisional"]) == ("open", True)
    for instant in (PROVISIONAL_CLOSES_AT, PROVISIONAL_CLOSES_AT + timedelta(days=400)):
        await shared_clock(instant)
        assert (await shared_stage.status(task_id))["state"] == "expired_pending_review"


async def test_a_check_in_after_a_provisional_end_is_in_review(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    await shared_clock(PROVISIONAL_OPENS_AT)
    task_id, person_id = new_id(), new_id("p")
    await shared_stage.ready_task(task_id, person_id, approved_at=PROVISIONAL_OPENS_AT.isoformat())
    await shared_clock(PROVISIONAL_CLOSES_AT)
    before = await shared_stage.status(task_id)
    assert (await shared_stage.check_in(person_id, task_id)).body["outcome"] == "review"
    status = await shared_stage.status(task_id)
    assert status["members"] == [{"person_id": person_id, "state": "in_review", "reference": "ready"}]
    assert (status["progress"]["in_review"], status["rev"]) == (1, before["rev"] + 1)
    assert status["members_digest"] == members_digest(status)
    assert (await changes_of(shared_stage, task_id))[-1] == "member_in_review"


@asynccontextmanager
async def unjudged(stage: Stage, task_id: str, person_id: str, received_at: datetime) -> AsyncIterator[None]:
    """A submission that was received then and is not judged before the block ends."""
    await stage.set_clock(received_at)
    async with stage.while_analysing(stage.check_in(person_id, task_id)) as submitted:
        yield
    await submitted


async def test_a_receipt_in_time_keeps_a_task_from_expiring(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    await shared_clock(NOON)
    task_id, person_id = new_id(), new_id("p")
    await shared_stage.ready_task(task_id, person_id, **APPROVED)
    async with unjudged(shared_stage, task_id, person_id, CLOSES_AT - MICROSECOND):
        await shared_clock(CLOSES_AT)
        assert (await shared_stage.status(task_id))["state"] == "expired_pending_review"
    assert (await shared_stage.status(task_id))["state"] == "completed"


async def test_a_receipt_that_is_late_does_not(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOON)
    task_id, person_id, receipt = new_id(), new_id("p"), uuid4()
    await shared_stage.ready_task(task_id, person_id, **APPROVED)
    insert = """INSERT INTO receipt (check_in_id, iss, person_id, idempotency_key, body_digest, challenge_id, task_id,
                received_at) VALUES ($1, 'x', $2, 'k', '', $1, $3, $4)"""
    await shared_stage.sql(insert, receipt, person_id, task_id, CLOSES_AT)
    await shared_clock(CLOSES_AT + timedelta(seconds=1))
    assert (await shared_stage.status(task_id))["state"] == "expired"
    await shared_stage.sql("UPDATE receipt SET received_at = $2 WHERE check_in_id = $1", receipt, NOON)
    assert (await shared_stage.status(task_id))["state"] == "expired_pending_review"


async def revoke(stage: Stage, task_id: str) -> None:
    """As the authority will (task life): the fact is stored already, the call comes later."""
    await stage.sql("UPDATE acceptance SET revoked_at = checkin_now() WHERE task_id = $1", task_id)


async def test_a_revoked_member_invalidates_the_task_when_it_ends(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    await shared_clock(NOON)
    task_id, first, second = new_id(), new_id("p"), new_id("p")
    await shared_stage.ready_task(task_id, first, second, **APPROVED, flow="routine")
    await shared_stage.check_in(first, task_id)
    await revoke(shared_stage, task_id)
    status = await shared_stage.status(task_id)
    assert (status["state"], [m["state"] for m in status["members"]]) == ("open", ["revoked", "not_started"])
    assert "check_in_id" not in status["members"][0]
    async with unjudged(shared_stage, task_id, second, CLOSES_AT - MICROSECOND):
        await shared_clock(CLOSES_AT)
        assert (await shared_stage.status(task_id))["state"] == "expired_pending_review"
    assert (await shared_stage.status(task_id))["state"] == "invalidated"


async def test_a_revoked_member_may_be_accepted_again(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOON)
    task_id, person_id = new_id(), new_id("p")
    await shared_stage.ready_task(task_id, person_id, **APPROVED, flow="routine")
    first = await shared_stage.check_in(person_id, task_id)
    await revoke(shared_stage, task_id)
    second = await shared_stage.check_in(person_id, task_id)
    assert second.body["check_in_id"] != first.body["check_in_id"]
    status = await shared_stage.status(task_id)
    assert status["members"][0]["check_in_id"] == second.body["check_in_id"]
    assert status["state"] == "completed"


# --- The status itself ---


async def test_an_accepted_member_is_shown_with_the_instant_and_nothing_more(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    await shared_clock(NOON)
    task_id, first, second = new_id(), new_id("p"), new_id("p")
    await shared_stage.ready_task(task_id, first, second, **APPROVED)
    await shared_clock(NOON + timedelta(milliseconds=120))
    accepted = await shared_stage.check_in(first, task_id)
    status = await shared_stage.status(task_id)
    assert status["members"] == [
        {
            "person_id": first,
            "state": "accepted",
            "accepted_at": "2026-03-20T12:00:00.120+08:00",
            "method": "face",
            "check_in_id": accepted.body["check_in_id"],
            "reference": "ready",
        },
        {"person_id": second, "state": "not_started", "reference": "ready"},
    ]
    assert status["progress"] == {"total": 2, "accepted": 1, "in_review": 0}
    assert status["members_digest"] == members_digest(status)


async def test_a_refused_attempt_moves_nothing(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOON)
    task_id, person_id = new_id(), new_id("p")
    await shared_stage.ready_task(task_id, person_id, **APPROVED)
    before = await poll(shared_stage, task_id)
    assert (await shared_stage.check_in(person_id, task_id, selfie=photo_of("x"))).body[
        "outcome"
    ] == "rejected"
    after = await poll(shared_stage, task_id)
    assert (after.body, after.headers["ETag"]) == (before.body, before.headers["ETag"])


async def test_every_revision_is_one_entry_of_the_feed(shared_stage: Stage) -> None:
    task_id, first, second = new_id(), new_id("p"), new_id("p")
    await shared_stage.register(task_id, first, second)
    steps: dict[str, Callable[[], Awaitable[Any]]] = {
        "material_ready": lambda: shared_stage.enrol(first),
        "": lambda: shared_stage.enrol(first),
        "material_missing": lambda: shared_stage.person(first, "DELETE", "/v1/me/consent"),
        "fence_changed": lambda: shared_stage.platform(
            "POST", f"/v1/tasks/{task_id}/fence", {"reason": "x", "place": _other_place()}
        ),
    }
    expected = ["task_registered"]
    for change, step in steps.items():
        before = await poll(shared_stage, task_id)
        assert (await step()).status < 300
        after = await poll(shared_stage, task_id)
        expected += [change] if change else []
        assert await changes_of(shared_stage, task_id) == expected
        assert after.body["rev"] == len(expected)
        assert (after.headers["ETag"] == before.headers["ETag"]) == (not change)


def _other_place() -> Json:
    circle = {"type": "Circle", "coordinates": [114.06, 22.544], "radius_m": 100}
    return {"registered_address": "x", "frame": "wgs84", "fence": circle}


async def test_one_enrolment_is_told_to_every_task_of_the_person(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    await shared_clock(NOON)
    task_ids, person_id = [new_id() for _ in range(3)], new_id("p")
    for task_id in task_ids:
        await shared_stage.register(task_id, person_id, **APPROVED)
    await shared_stage.enrol(person_id)
    for task_id in task_ids:
        assert await changes_of(shared_stage, task_id) == ["task_registered", "material_ready"]
        assert (await shared_stage.status(task_id))["rev"] == 2


# --- ETag ---


async def test_the_etag_is_made_of_id_revision_and_state(shared_stage: Stage) -> None:
    task_id = new_id()
    await shared_stage.register(task_id, new_id("p"))
    reply = await poll(shared_stage, task_id)
    assert reply.headers["ETag"] == f'"{task_id}-1-pending_material"'


async def test_the_etag_moves_with_time_alone(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOON)
    task_id, person_id = new_id(), new_id("p")
    await shared_stage.ready_task(task_id, person_id, **APPROVED)
    before = await poll(shared_stage, task_id)
    await shared_clock(CLOSES_AT - MICROSECOND)
    assert (await poll(shared_stage, task_id, before.headers["ETag"])).status == 304
    await shared_clock(CLOSES_AT)
    after = await poll(shared_stage, task_id, before.headers["ETag"])
    assert (after.status, after.body["state"], after.body["rev"]) == (200, "expired", before.body["rev"])
    assert after.headers["ETag"] != before.headers["ETag"]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("{tag}", 304),
        ("W/{tag}", 304),
        ("*", 304),
        (' "a", W/"b" ,{tag}', 304),
        ('"a",W/{tag},"b"', 304),
        ('"{tag}"', 200),
        ('"a"', 200),
        ("T-1-open", 200),
        ("", 200),
        ("w/", 200),
        ('"unclosed', 200),
    ],
)
async def test_a_poll_that_names_the_etag_gets_no_body(shared_stage: Stage, header: str, status: int) -> None:
    task_id = new_id()
    await shared_stage.register(task_id, new_id("p"))
    tag = (await poll(shared_stage, task_id)).headers["ETag"]
    reply = await poll(shared_stage, task_id, header.replace("{tag}", tag))
    assert (reply.status, reply.headers["ETag"]) == (status, tag)
    assert bool(reply.body) == (status == 200)


async def test_etags_may_come_in_several_lines(shared_stage: Stage) -> None:
    task_id = new_id()
    await shared_stage.register(task_id, new_id("p"))
    tag = (await poll(shared_stage, task_id)).headers["ETag"]
    token = shared_stage.token("platform", "tasks")
    lines = [("Authorization", f"Bearer {token}"), ("If-None-Match", '"a"'), ("If-None-Match", tag)]
    async with shared_stage.client.get(f"/v1/tasks/{task_id}", headers=lines) as response:
        assert response.status == 304


@pytest.mark.parametrize("etag", [None, "*", '"T-none-1-open"'])
async def test_an_absent_task_is_absent_whatever_the_etag(shared_stage: Stage, etag: str | None) -> None:
    reply = await poll(shared_stage, "T-none", etag)
    assert (reply.status, reply.code) == (404, "not_found")


async def test_a_status_can_be_asked_for_without_its_body(shared_stage: Stage) -> None:
    task_id = new_id()
    await shared_stage.register(task_id, new_id("p"))
    reply = await shared_stage.platform("HEAD", f"/v1/tasks/{task_id}")
    assert (reply.status, reply.body) == (200, "")
    assert reply.headers["ETag"] == (await poll(shared_stage, task_id)).headers["ETag"]


# --- Query ---


async def test_a_query_answers_in_the_order_asked_each_once(shared_stage: Stage) -> None:
    first, second = new_id(), new_id()
    for task_id in (first, second):
        await shared_stage.register(task_id, new_id("p"))
    asked = {"task_ids": [second, "x", first, "y", second, "x"]}
    reply = await shared_stage.call("POST", "/v1/tasks/query", "officer", "review", json=asked)
    assert reply.status == 200
    assert reply.body["tasks"] == [await shared_stage.status(task_id) for task_id in (second, first)]
    assert reply.body["missing"] == ["x", "y"]


@pytest.mark.parametrize("task_ids", [[], [f"T-none-{n}" for n in range(500)]], ids=["none", "five hundred"])
async def test_a_query_takes_up_to_five_hundred(shared_stage: Stage, task_ids: list[str]) -> None:
    reply = await shared_stage.platform("POST", "/v1/tasks/query", {"task_ids": task_ids})
    assert (reply.status, reply.body) == (200, {"tasks": [], "missing": task_ids})


# --- The feed ---


async def page(stage: Stage, after: str = "", **query: Any) -> Json:
    reply = await stage.platform("GET", "/v1/changes", params={"after": after, **query})
    assert reply.status == 200, reply.body
    body: Json = reply.body
    return body


@OWN_SERVICE
async def test_the_feed_is_read_in_pages(stage: Stage) -> None:
    empty = await page(stage)
    assert (empty["changes"], empty["has_more"]) == ([], False)
    for n in range(5):
        await stage.register(f"T{n}", "p-1")
    seen, cursor = [], empty["next"]
    for more in (True, True, False):
        found = await page(stage, cursor, limit=2)
        assert found["has_more"] is more
        assert found["feed_epoch"] == empty["feed_epoch"]
        seen += found["changes"]
        cursor = found["next"]
    assert [change["task_id"] for change in seen] == ["T0", "T1", "T2", "T3", "T4"]
    assert [change["seq"] for change in seen] == sorted({change["seq"] for change in seen})
    assert seen[0].keys() == {"seq", "task_id", "rev", "type", "at"}
    assert seen[0]["at"] == (await stage.status("T0"))["registered_at"]
    again = await page(stage, cursor)
    assert (again["changes"], again["next"], again["has_more"]) == ([], cursor, False)
    assert (await page(stage))["changes"] == seen


@OWN_SERVICE
async def test_a_full_last_page_is_the_last(stage: Stage) -> None:
    for n in range(2):
        await stage.register(f"T{n}", "p-1")
    assert (await page(stage, limit=2))["has_more"] is False


@OWN_SERVICE
async def test_a_page_holds_five_hundred_unless_asked_for_less(stage: Stage) -> None:
    await stage.register("T1", "p-1")
    fill = """INSERT INTO change SELECT nextval('change_seq'), 'T1', rev, 'fence_changed', checkin_now()
              FROM generate_series(2, 501) AS rev"""
    await stage.sql(fill)
    found = await page(stage)
    assert (len(found["changes"]), found["has_more"]) == (500, True)
    assert len((await page(stage, found["next"]))["changes"]) == 1


@OWN_SERVICE
async def test_a_cursor_from_before_a_restore_is_gone(stage: Stage) -> None:
    await stage.register("T1", "p-1")
    old = await page(stage)
    await stage.sql("UPDATE feed_epoch SET epoch = 'restored'")
    reply = await stage.platform("GET", "/v1/changes", params={"after": old["next"]})
    assert (reply.status, reply.code) == (410, "feed_epoch_changed")
    fresh = await page(stage)
    assert (fresh["feed_epoch"], fresh["changes"]) == ("restored", old["changes"])


async def polled_between_two_writers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, second_lock: int
) -> list[str]:
    """Tasks that a poller sees who asks while one registration has its seq but no commit, and once more later."""
    hold, drawn, record = asyncio.Event(), asyncio.Event(), feed.record_change

    async def slow(connection: Connection, task_id: str, change_type: str, at: datetime) -> None:
        await record(connection, task_id, change_type, at)
        if task_id == "T-slow":
            drawn.set()
            await hold.wait()

    monkeypatch.setattr(register_task, "record_change", slow)
    first = asyncio.create_task(stage.register("T-slow", "p-1"))
    await drawn.wait()
    monkeypatch.setattr(feed, "FEED_LOCK", second_lock)
    second = asyncio.create_task(stage.register("T-quick", "p-2"))
    waiting = asyncio.create_task(stage.until_waiting(1))
    await asyncio.wait({second, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    early = await page(stage)
    hold.set()
    await asyncio.gather(first, second)
    late = await page(stage, early["next"])
    return [change["task_id"] for change in early["changes"] + late["changes"]]


@OWN_SERVICE
async def test_a_poller_misses_nothing_between_two_writers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = await polled_between_two_writers(stage, monkeypatch, feed.FEED_LOCK)
    assert seen == ["T-slow", "T-quick"]


@OWN_SERVICE
async def test_without_one_lock_for_all_a_poller_would_miss_a_change(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unlocked(*_: object) -> None:
        """An audit takes the lock as well, and would order the two."""

    monkeypatch.setattr(register_task, "write_audit", unlocked)
    seen = await polled_between_two_writers(stage, monkeypatch, feed.FEED_LOCK + 1)
    assert seen == ["T-quick"]


# --- The sweeper ---


@asynccontextmanager
async def database_of(stage: Stage) -> AsyncIterator[Database]:
    async with open_database(stage.service_url, max_connections=4) as database:
        yield database


async def swept(stage: Stage, instant: datetime) -> int:
    """Sweeps once at an instant."""
    await stage.set_clock(instant)
    async with database_of(stage) as database:
        return await sweep(database)


async def ended(stage: Stage) -> list[tuple[str, str, datetime]]:
    """What the feed says of windows that ended."""
    rows = await stage.sql(
        "SELECT task_id, type, at FROM change WHERE type LIKE 'task\\_expired%' ORDER BY seq"
    )
    return [(row["task_id"], row["type"], row["at"]) for row in rows]


async def ready_at_noon(stage: Stage, task_id: str, *person_ids: str, **changes: Any) -> None:
    await stage.set_clock(NOON)
    await stage.ready_task(task_id, *person_ids, **APPROVED | changes)


@OWN_SERVICE
async def test_the_end_of_a_window_is_written_down_once(stage: Stage) -> None:
    await ready_at_noon(stage, "T1")
    rev = (await stage.status("T1"))["rev"]
    assert await swept(stage, CLOSES_AT - MICROSECOND) == 0
    assert await ended(stage) == []
    await stage.set_clock(CLOSES_AT)
    unswept = await stage.status("T1")
    assert (unswept["state"], unswept["rev"]) == ("expired", rev)
    assert await swept(stage, CLOSES_AT + timedelta(hours=1)) == 1
    assert await swept(stage, CLOSES_AT + timedelta(days=1)) == 0
    assert await ended(stage) == [("T1", "task_expired", CLOSES_AT)]
    status = await stage.status("T1")
    assert (status["state"], status["rev"]) == ("expired", rev + 1)


@OWN_SERVICE
async def test_what_is_completed_or_voided_ends_in_silence(stage: Stage) -> None:
    await ready_at_noon(stage, "T-completed", "p-1")
    await stage.check_in("p-1", "T-completed")
    await stage.register("T-voided", "p-2", **APPROVED)
    await stage.platform("POST", "/v1/tasks/T-voided/void", VOID)
    for instant in (CLOSES_AT, CLOSES_AT + timedelta(days=1)):
        assert await swept(stage, instant) == 0
    assert await ended(stage) == []


@OWN_SERVICE
async def test_an_invalidated_task_is_announced_as_expired(stage: Stage) -> None:
    await ready_at_noon(stage, "T1", flow="routine")
    await stage.check_in("p-1", "T1")
    await revoke(stage, "T1")
    assert await swept(stage, CLOSES_AT) == 1
    assert (await stage.status("T1"))["state"] == "invalidated"
    assert await ended(stage) == [("T1", "task_expired", CLOSES_AT)]


@OWN_SERVICE
async def test_a_provisional_end_is_announced_once_and_never_as_expired(stage: Stage) -> None:
    await stage.set_clock(PROVISIONAL_OPENS_AT)
    await stage.ready_task("T1", approved_at=PROVISIONAL_OPENS_AT.isoformat())
    found = [
        await swept(stage, PROVISIONAL_CLOSES_AT + after)
        for after in (timedelta(), timedelta(1), timedelta(99))
    ]
    assert found == [1, 0, 0]
    assert await ended(stage) == [("T1", "task_expired_pending_review", PROVISIONAL_CLOSES_AT)]


@OWN_SERVICE
async def test_a_pending_end_is_followed_by_the_final_one(stage: Stage) -> None:
    await ready_at_noon(stage, "T1", "p-1", "p-2")
    async with unjudged(stage, "T1", "p-1", CLOSES_AT - MICROSECOND):
        assert await swept(stage, CLOSES_AT) == 1
        assert await swept(stage, CLOSES_AT) == 0
        assert (await stage.status("T1"))["state"] == "expired_pending_review"
    assert (await stage.status("T1"))["state"] == "expired"
    assert await swept(stage, CLOSES_AT) == 1
    assert await ended(stage) == [
        ("T1", "task_expired_pending_review", CLOSES_AT),
        ("T1", "task_expired", CLOSES_AT),
    ]


@OWN_SERVICE
async def test_a_pending_end_that_turns_out_completed_is_no_expiry(stage: Stage) -> None:
    await ready_at_noon(stage, "T1")
    async with unjudged(stage, "T1", "p-1", CLOSES_AT - MICROSECOND):
        await swept(stage, CLOSES_AT)
    assert (await stage.status("T1"))["state"] == "completed"
    assert await swept(stage, CLOSES_AT) == 0
    assert (await changes_of(stage, "T1"))[-3:] == [
        "task_expired_pending_review",
        "member_accepted",
        "task_completed",
    ]


@OWN_SERVICE
async def test_a_receipt_that_nobody_judges_is_abandoned_after_ten_minutes(stage: Stage) -> None:
    await ready_at_noon(stage, "T1")
    await stage.set_clock(CLOSES_AT - MICROSECOND)
    async with stage.while_analysing(stage.check_in("p-1", "T1", key="k")) as submitted:
        late = CLOSES_AT + timedelta(minutes=10)
        await swept(stage, late - MICROSECOND)
        assert (await stage.status("T1"))["state"] == "expired_pending_review"
        await swept(stage, late)
        assert (await stage.status("T1"))["state"] == "expired"
    verdict = await submitted
    assert (verdict.body["outcome"], verdict.reasons) == ("rejected", ["window_closed"])
    assert [change for _, change, _ in await ended(stage)] == ["task_expired_pending_review", "task_expired"]
    assert (await stage.status("T1"))["state"] == "expired"


@OWN_SERVICE
async def test_more_windows_than_a_page_are_all_written_down(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when a page is full of windows that stay pending, which are looked at again every time."""
    monkeypatch.setattr(sweep_module, "BATCH", 2)
    await stage.set_clock(PROVISIONAL_OPENS_AT)
    for n in range(3):
        approved_at = PROVISIONAL_OPENS_AT.isoformat()
        await stage.register(f"T-pending-{n}", "p-1", approved_at=approved_at)
        await stage.register(f"T-expired-{n}", "p-1", **APPROVED)
    assert await swept(stage, PROVISIONAL_CLOSES_AT) == 6
    assert await swept(stage, PROVISIONAL_CLOSES_AT) == 0
    expired = [f"T-expired-{n}" for n in range(3)]
    assert [task for task, change, _ in await ended(stage) if change == "task_expired"] == expired


async def swept_twice_at_once(stage: Stage) -> list[int]:
    """Two sweepers, both of which have looked before either has written."""
    await ready_at_noon(stage, "T1")
    await stage.set_clock(CLOSES_AT)
    async with database_of(stage) as database:
        async with stage.holding(HOLD_FEED):
            sweepers = [asyncio.create_task(sweep(database)) for _ in range(2)]
            waiting = asyncio.create_task(stage.until_waiting(2))
            await asyncio.wait({*sweepers, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        return sorted(await asyncio.gather(*sweepers))


@OWN_SERVICE
async def test_two_sweeps_at_once_write_down_one_end(stage: Stage) -> None:
    assert await swept_twice_at_once(stage) == [0, 1]
    assert await ended(stage) == [("T1", "task_expired", CLOSES_AT)]


@OWN_SERVICE
async def test_without_lock_and_mark_two_sweeps_would_write_it_twice(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unlocked(connection: Connection, *_: object) -> list[TaskHead]:
        head = await tasks.read_head(connection, "T1")
        return [head] if head else []

    async def always(*_: object) -> bool:
        return True

    monkeypatch.setattr(tasks, "due_tasks", unlocked)
    monkeypatch.setattr(tasks, "mark_end", always)
    assert await swept_twice_at_once(stage) == [1, 1]
    assert await ended(stage) == [("T1", "task_expired", CLOSES_AT)] * 2


@OWN_SERVICE
async def test_a_sweep_removes_what_nothing_can_use_any_more(stage: Stage) -> None:
    await ready_at_noon(stage, "T1")
    await stage.challenge("p-1", "T1")
    await stage.platform("POST", "/v1/tasks/T1/void", VOID, headers={"Idempotency-Key": "k"})
    counts = "SELECT (SELECT count(*) FROM challenge) + (SELECT count(*) FROM idempotency_key) AS n"
    await swept(stage, NOON + timedelta(hours=23, minutes=59))
    assert (await stage.sql(counts))[0]["n"] == 2
    await swept(stage, NOON + timedelta(days=1, minutes=4))
    assert (await stage.sql(counts))[0]["n"] == 0


@OWN_SERVICE
@pytest.mark.usefixtures("sweeping")
async def test_a_running_service_sweeps_by_itself_and_survives_failures(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [ConnectionError(), KeyError("a defect")]

    async def failing_at_first(database: Database) -> int:
        if failures:
            raise failures.pop()
        return await sweep(database)

    monkeypatch.setattr(app, "SWEEP_INTERVAL_S", 0.02)
    monkeypatch.setattr(app, "sweep", failing_at_first)
    assert stores.redis_url is not None
    async with running_service(database_url, stores.redis_url, tmp_path) as stage:
        await stage.register("T1", approved_at="2026-01-05T10:00:00+08:00")
        async with asyncio.timeout(10):
            while not await ended(stage):  # noqa: ASYNC110  the event is in the database
                await asyncio.sleep(0.01)
    assert not failures


@OWN_SERVICE
async def test_a_task_ends_while_the_key_store_is_away(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has to be done beside it waits, and it does not."""
    tried = asyncio.Event()

    async def away(*_: object) -> None:
        tried.set()
        raise KeysUnavailable

    async with running_service(database_url, stores.redis_url or "", tmp_path) as stage:
        await stage.register("T1", approved_at="2026-01-05T10:00:00+08:00")
        monkeypatch.setattr(app, "_finish_deletions", away)
        monkeypatch.setattr(app, "SWEEP_INTERVAL_S", 0.02)
        sweeping = asyncio.create_task(sweep_for_ever(services_of(stage)))
        async with asyncio.timeout(10):
            while not await ended(stage):  # noqa: ASYNC110  the event is in the database
                await asyncio.sleep(0.01)
        sweeping.cancel()
    assert tried.is_set()


@OWN_SERVICE
async def test_an_end_is_told_when_nothing_of_the_window_can_be_on_its_way_any_more(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the feed calls expired, an order alone takes back."""
    monkeypatch.setattr(sweep_module, "ANNOUNCED_IN", SETTLED_IN)
    await stage.set_clock(NOON)
    await stage.register("T1", approved_at=OPENS_AT.isoformat())
    told = []
    for at in (CLOSES_AT, CLOSES_AT + SETTLED_IN - MICROSECOND, CLOSES_AT + SETTLED_IN):
        await swept(stage, at)
        told.append(len(await ended(stage)))
    assert told == [0, 0, 1]


@OWN_SERVICE
async def test_the_sweep_command_sweeps(stage: Stage) -> None:
    await stage.register("T1", approved_at="2026-01-05T10:00:00+08:00")
    unused = "redis://127.0.0.1:1"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "checkin_service",
        "sweep",
        env={**os.environ, "DATABASE_URL": stage.service_url, "REDIS_URL": unused},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert (process.returncode, printed) == (0, b"1 windows ended\n")
    assert [change for _, change, _ in await ended(stage)] == ["task_expired"]
