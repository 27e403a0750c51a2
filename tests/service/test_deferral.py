"""Near a deadline and under load a submission is taken first and judged later, true to when it was received."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from checkin_service import app
from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres import deferred
from checkin_service.adapters.postgres.database import Connection, open_database
from checkin_service.overload import look_at_backlog, look_for_deadlines
from checkin_service.usecases.judge_deferred import PAUSE, judge_next
from checkin_service.usecases.sweep import sweep
from checkin_service.web.check_ins import judge_of
from face import WorkerFailed
from tests.service.conftest import UNLIMITED
from tests.service.situations import breakdown, services_of
from tests.service.stage import (
    ALL_SCOPES,
    FAR,
    Json,
    Reply,
    Stage,
    check_in_fields,
    photo_of,
    running_service,
    until,
)
from tests.service.test_erasure import erase, stored, withdraw
from tests.service.test_purge import opened, overdue, purged
from tests.service.window import CLOSES_AT, MICROSECOND, NOON, task_at_noon

SELFIE = photo_of("p-1", shot=1)
MINUTE = timedelta(minutes=1)
IN_TIME = CLOSES_AT - MINUTE
DEVICE = {"platform": "android", "model": "HUAWEI P60", "device_id": "d-1", "reduced_accuracy": False}


@pytest.fixture(autouse=True)
def nothing_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests look and judge when they mean to."""
    monkeypatch.setattr(app, "run_beside", lambda *_: None)


async def overload(stage: Stage) -> None:
    """Photographs wait for a minute, and the service has just looked who is near a deadline."""
    stage.engine.stats = replace(stage.engine.stats, waiting=600, analysis_s=0.2)
    await look_for_deadlines(services_of(stage).database, services_of(stage).admission)


async def near_the_end(stage: Stage, *person_ids: str) -> None:
    """An overloaded service a minute before T1 closes."""
    await task_at_noon(stage, "T1", *person_ids)
    await stage.set_clock(IN_TIME)
    await overload(stage)


async def fields_of(stage: Stage, person_id: str = "p-1", **changes: Any) -> Json:
    return check_in_fields("T1", await stage.challenge(person_id, "T1"), **changes)


async def taken(stage: Stage, person_id: str = "p-1", **more: Any) -> Reply:
    reply = await stage.check_in(person_id, "T1", **more)
    assert reply.status == 202, reply.body
    return reply


async def judge_one(stage: Stage) -> bool:
    found, _ = await judge_next(judge_of(services_of(stage)))
    return found


async def read(stage: Stage, pending: Reply, person_id: str = "p-1") -> Reply:
    return await stage.person(person_id, "GET", pending.body["status_url"])


async def kept(stage: Stage) -> int:
    return int((await stage.sql("SELECT count(*) FROM deferred_submission"))[0][0])


async def swept(stage: Stage) -> None:
    async with opened(stage) as database:
        await sweep(database)


# --- Taken ---


async def test_it_is_taken_at_once_and_judged_later(stage: Stage) -> None:
    await near_the_end(stage)
    pending = await taken(stage)
    assert pending.body.keys() == {"check_in_id", "status_url", "received_at"}
    assert pending.headers["Location"] == pending.body["status_url"]
    assert stage.engine.analysed == ["p-1"], "of the enrolment alone"
    still = await read(stage, pending)
    assert (still.status, still.body["outcome"]) == (200, "pending")
    assert await judge_one(stage)
    judged = await read(stage, pending)
    assert (judged.body["outcome"], judged.body["received_at"]) == ("accepted", IN_TIME.isoformat())
    assert judged.body["check_in_id"] == pending.body["check_in_id"]
    assert await kept(stage) == 0
    assert not await judge_one(stage)


async def test_a_retry_is_told_so_again_and_then_gets_the_verdict(stage: Stage) -> None:
    await near_the_end(stage)
    fields = await fields_of(stage)
    first = await stage.submit("p-1", fields, SELFIE, "k")
    again = await stage.submit("p-1", fields, SELFIE, "k")
    assert (first.status, again.status, again.body) == (202, 202, first.body)
    other = await stage.submit("p-1", fields, photo_of("p-1", shot=2), "k")
    assert other.code == "idempotency_key_reused"
    assert await kept(stage) == 1
    await judge_one(stage)
    judged = await stage.submit("p-1", fields, SELFIE, "k")
    assert (judged.status, judged.body["outcome"]) == (201, "accepted")
    assert judged.body["check_in_id"] == first.body["check_in_id"]


async def test_a_retry_is_told_so_again_also_once_the_load_is_gone(stage: Stage) -> None:
    await near_the_end(stage)
    fields = await fields_of(stage)
    first = await stage.submit("p-1", fields, SELFIE, "k")
    stage.engine.stats = replace(stage.engine.stats, waiting=0)
    again = await stage.submit("p-1", fields, SELFIE, "k")
    assert (again.status, again.body) == (202, first.body)


async def test_without_load_it_is_judged_at_once(stage: Stage) -> None:
    await near_the_end(stage)
    stage.engine.stats = replace(stage.engine.stats, waiting=0)
    assert (await stage.check_in("p-1", "T1")).status == 201


@pytest.mark.parametrize(
    ("before", "status"), [(timedelta(hours=2), 202), (timedelta(hours=2) + MICROSECOND, 503)]
)
async def test_it_is_taken_within_two_hours_of_the_end(stage: Stage, before: timedelta, status: int) -> None:
    await task_at_noon(stage, "T1")
    await stage.set_clock(CLOSES_AT - before)
    await overload(stage)
    assert (await stage.check_in("p-1", "T1")).status == status


async def test_what_needs_no_face_is_judged_at_once(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.register("T2", "p-3", approved_at=NOON.isoformat())
    await stage.platform("DELETE", "/v1/persons/p-2")
    await stage.consent("p-2")
    await stage.set_clock(IN_TIME)
    await overload(stage)
    assert (await stage.check_in("p-1", "T1", FAR)).reasons == ["outside_geofence"]
    assert (await stage.check_in("p-2", "T1")).reasons == ["not_enrolled"]
    assert await kept(stage) == 0


async def test_who_is_accepted_already_is_told_at_once(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.check_in("p-1", "T1")
    await stage.set_clock(IN_TIME)
    await overload(stage)
    assert (await stage.check_in("p-1", "T1")).reasons == ["already_checked_in"]


async def test_no_more_is_taken_than_can_be_judged_in_time(stage: Stage) -> None:
    await near_the_end(stage)
    services_of(stage).admission.backlog = 100_000
    refused = await stage.check_in("p-1", "T1")
    assert (refused.status, refused.code) == (503, "unavailable")
    # and who comes back as told comes back before the end
    assert 1 <= int(refused.headers["Retry-After"]) <= 13


# --- Judged true to the receipt ---


async def test_what_came_in_time_is_in_time_however_late_it_is_judged(stage: Stage) -> None:
    await near_the_end(stage)
    pending = await taken(stage)
    await stage.set_clock(CLOSES_AT + 4 * MINUTE)
    assert (await stage.status("T1"))["state"] == "expired_pending_review"
    await judge_one(stage)
    assert (await read(stage, pending)).body["outcome"] == "accepted"
    assert (await stage.status("T1"))["state"] == "completed"


async def test_everything_that_was_sent_is_judged(stage: Stage) -> None:
    """Two at once, and one of them judged at once in another task: the same but for ids and times."""
    await near_the_end(stage)
    fields = await fields_of(stage, device=DEVICE)
    assert (await stage.submit("p-1", fields, SELFIE, "k")).status == 202
    await judge_one(stage)
    deferred_one = (await stored(stage))["attempt"][0]
    await erase(stage)
    await stage.set_clock(NOON)
    stage.engine.stats = replace(stage.engine.stats, waiting=0)
    await stage.ready_task("T2", "p-1", approved_at=(NOON - timedelta(days=1)).isoformat())
    fields |= {"task_id": "T2", "challenge_id": await stage.challenge("p-1", "T2")}
    await stage.submit("p-1", fields, SELFIE, "k2")
    at_once = next(row for row in (await stored(stage))["attempt"] if row["task_id"] == "T2")
    same = ("device", "distance_m", "r95_m", "zone", "score", "threshold", "reasons", "outcome")
    assert {name: at_once[name] for name in same} == {name: deferred_one[name] for name in same}
    assert at_once["device"] == DEVICE


async def test_another_face_is_refused_later(stage: Stage) -> None:
    await near_the_end(stage)
    pending = await taken(stage, selfie=photo_of("somebody"))
    await judge_one(stage)
    assert (await read(stage, pending)).reasons == ["non_match"]


async def test_the_longest_waiting_is_judged_first(stage: Stage) -> None:
    people = ["p-1", "p-2", "p-3"]
    await near_the_end(stage, *people)
    for number, person_id in enumerate(people):
        await stage.set_clock(IN_TIME + number * MINUTE / 10)
        await taken(stage, person_id)
    stage.engine.analysed.clear()
    while await judge_one(stage):
        pass
    assert stage.engine.analysed == people


# --- What goes wrong ---


async def test_our_failure_keeps_it_waiting_and_is_never_a_refusal(stage: Stage) -> None:
    await near_the_end(stage, "p-1", "p-2")
    pending, other = await taken(stage, "p-1"), await taken(stage, "p-2")
    with breakdown(stage), pytest.raises(WorkerFailed):
        await judge_one(stage)
    assert (await read(stage, pending)).body["outcome"] == "pending"
    # the others need not wait for it
    assert await judge_one(stage)
    assert (await read(stage, other, "p-2")).body["outcome"] == "accepted"
    assert not await judge_one(stage)
    await stage.set_clock(IN_TIME + PAUSE)
    assert await judge_one(stage)
    assert (await read(stage, pending)).body["outcome"] == "accepted"


async def test_it_is_never_given_up(stage: Stage) -> None:
    """Ten minutes after the end what nobody has judged is abandoned; not what we have promised to judge."""
    await near_the_end(stage)
    pending = await taken(stage)
    await stage.set_clock(CLOSES_AT + timedelta(hours=1))
    await swept(stage)
    assert (await stage.status("T1"))["state"] == "expired_pending_review"
    await judge_one(stage)
    assert (await read(stage, pending)).body["outcome"] == "accepted"


async def test_control_an_ordinary_receipt_is_given_up_then(stage: Stage) -> None:
    await near_the_end(stage)
    await taken(stage)
    await stage.sql("UPDATE receipt SET deferred = false")
    await stage.set_clock(CLOSES_AT + timedelta(hours=1))
    await swept(stage)
    assert not await judge_one(stage)
    [(ended,)] = await stage.sql("SELECT ended FROM receipt WHERE received_at = $1", IN_TIME)
    assert (ended, (await stage.status("T1"))["state"]) == ("abandoned", "expired")


async def test_whose_reference_is_out_of_force_meanwhile_is_not_enrolled(stage: Stage) -> None:
    """And has withdrawn nothing."""
    await near_the_end(stage)
    pending = await taken(stage)
    await stage.sql("UPDATE person SET reference_id = NULL")
    assert await judge_one(stage)
    ended = await read(stage, pending)
    assert (ended.body["outcome"], ended.reasons) == ("rejected", ["not_enrolled"])


async def test_in_an_unreadable_picture_no_face_is_seen(stage: Stage) -> None:
    """Who was told of a verdict to come gets one, and it costs no attempt."""
    await near_the_end(stage)
    fields = await fields_of(stage)
    pending = await stage.submit("p-1", fields, photo_of("broken"), "k")
    assert pending.status == 202
    await judge_one(stage)
    ended = await read(stage, pending)
    assert (ended.body["outcome"], ended.reasons) == ("rejected", ["no_face"])
    assert ended.body["attempts_left"] == 10
    assert await kept(stage) == 0
    await stage.set_clock(CLOSES_AT)
    assert (await stage.status("T1"))["state"] == "expired"


async def test_what_has_ended_is_judged_afresh_when_it_is_sent_again(stage: Stage) -> None:
    await near_the_end(stage)
    fields = await fields_of(stage)
    pending = await stage.submit("p-1", fields, SELFIE, "k")
    await withdraw(stage)
    assert (await read(stage, pending)).code == "consent_required"
    await stage.consent("p-1")
    stage.engine.stats = replace(stage.engine.stats, waiting=0)
    assert (await stage.enrol("p-1")).status == 201
    await overload(stage)
    again = await stage.submit("p-1", fields, SELFIE, "k")
    assert (again.status, again.body) == (202, pending.body)
    await judge_one(stage)
    assert (await read(stage, pending)).body["outcome"] == "accepted"


async def test_whoever_dies_with_one_is_taken_over_from(stage: Stage) -> None:
    await near_the_end(stage)
    pending = await taken(stage)
    async with opened(stage) as dying, dying.connection() as connection:
        assert await deferred.lease_next(connection)
    assert not await judge_one(stage)
    await stage.set_clock(IN_TIME + timedelta(seconds=30))
    assert await judge_one(stage)
    assert (await read(stage, pending)).body["outcome"] == "accepted"


async def test_however_many_wait_none_is_read_but_the_next(stage: Stage) -> None:
    """Also by a connection that has planned for none."""
    await near_the_end(stage)
    async with opened(stage) as database, database.connection() as connection:
        await stage.sql("ANALYZE receipt, deferred_submission")
        for _ in range(2):
            assert await deferred.lease_next(connection) is None
        await many_wait(stage, 300)
        async with connection.transaction():
            [first] = await connection.fetch("SELECT min(received_at) FROM deferred_submission")
            read = await rows_read(connection)
            leased = await deferred.lease_next(connection)
            assert await rows_read(connection) - read < 20
    assert leased
    assert leased.receipt.received_at == first["min"]


async def many_wait(stage: Stage, number: int) -> None:
    await stage.sql(
        """
        WITH received AS (
            INSERT INTO receipt (check_in_id, iss, person_id, idempotency_key, body_digest, challenge_id, task_id,
                                 received_at, deferred)
            SELECT gen_random_uuid(), 'i', person_id, 'k' || n, '', gen_random_uuid(), task_id,
                   checkin_now() - n * interval '1 ms', true
            FROM member, generate_series(1, $1) AS n RETURNING check_in_id, received_at)
        INSERT INTO deferred_submission SELECT check_in_id, received_at, '' FROM received
        """,
        number,
    )


async def rows_read(connection: Connection) -> int:
    """Of receipts and what waits, in this transaction."""
    return int(
        await connection.fetchval(
            """
            SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables
            WHERE relname IN ('receipt', 'deferred_submission')
            """
        )
    )


async def test_a_judge_that_is_stopped_leaves_it_to_the_others(stage: Stage) -> None:
    await near_the_end(stage)
    await taken(stage)
    stage.engine.gate.clear()
    stage.engine.analysed.clear()
    stopped = asyncio.create_task(judge_one(stage))
    await until(lambda: stage.engine.analysed)
    stopped.cancel()
    await asyncio.wait([stopped])
    stage.engine.gate.set()
    assert await judge_one(stage)


async def test_several_judges_judge_each_once(stage: Stage) -> None:
    people = [f"p-{n}" for n in range(1, 7)]
    await near_the_end(stage, *people)
    for person_id in people:
        await taken(stage, person_id)
    found = await asyncio.gather(*(judge_one(stage) for _ in range(10)))
    assert sum(found) == len(people)
    assert [row[0] for row in await stage.sql("SELECT count(*) FROM attempt")] == [len(people)]


async def test_two_processes_share_the_work(stage: Stage, stores: EmbeddedStores, tmp_path: Path) -> None:
    people = [f"p-{n}" for n in range(1, 7)]
    await near_the_end(stage, *people)
    for person_id in people:
        await taken(stage, person_id)
    async with running_service(
        stage.database_url, stores.redis_url or "", tmp_path, None, **UNLIMITED
    ) as other:
        found = await asyncio.gather(*(judge_one(which) for which in (stage, other) * 5))
    assert sum(found) == len(people)
    assert (await stage.status("T1"))["state"] == "completed"


# --- What people take back ---


async def test_an_erased_person_has_nothing_left_to_judge(stage: Stage) -> None:
    await near_the_end(stage)
    pending = await taken(stage)
    await erase(stage)
    assert await kept(stage) == 0
    assert not await judge_one(stage)
    assert (await read(stage, pending)).status == 404


async def test_an_erasure_while_it_is_judged(stage: Stage) -> None:
    await near_the_end(stage)
    await taken(stage)
    async with while_judging(stage) as judging:
        await erase(stage)
    assert await judging
    assert await stage.sql("SELECT FROM attempt") == []


Way = Callable[[Stage], Awaitable[object]]


async def narrow(stage: Stage) -> None:
    await stage.consent("p-1", [scope for scope in ALL_SCOPES if scope != "location"])


@pytest.mark.parametrize("way", [withdraw, narrow])
async def test_a_withdrawn_consent_ends_it(stage: Stage, way: Way) -> None:
    await near_the_end(stage)
    pending = await taken(stage)
    await way(stage)
    assert await kept(stage) == 0
    assert not await judge_one(stage)
    ended = await read(stage, pending)
    assert (ended.status, ended.code) == (403, "consent_required")
    [told] = await stage.sql("SELECT details FROM audit WHERE action = 'abandon'")
    assert json.loads(told["details"])["check_in_id"] == pending.body["check_in_id"]
    await stage.set_clock(CLOSES_AT)
    assert (await stage.status("T1"))["state"] == "expired"


@pytest.mark.parametrize("way", [withdraw, narrow])
async def test_a_consent_withdrawn_while_it_is_judged_ends_it(stage: Stage, way: Way) -> None:
    await near_the_end(stage)
    pending = await taken(stage)
    async with while_judging(stage) as judging:
        await way(stage)
    assert await judging
    assert (await read(stage, pending)).code == "consent_required"
    assert await kept(stage) == 0
    assert await stage.sql("SELECT FROM attempt") == []


class while_judging:  # noqa: N801  read like a function, beside `Stage.while_analysing`
    """Holds a judge in the analysis of the face until the block ends."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def __aenter__(self) -> asyncio.Task[bool]:
        self.stage.engine.gate.clear()
        self.stage.engine.analysed.clear()
        judging = asyncio.create_task(judge_one(self.stage))
        await until(lambda: self.stage.engine.analysed)
        return judging

    async def __aexit__(self, *_: object) -> None:
        self.stage.engine.gate.set()


# --- What is kept of it ---


async def test_what_it_holds_is_encrypted_exported_without_it_and_kept_until_the_verdict(
    stage: Stage,
) -> None:
    await near_the_end(stage)
    await taken(stage, device=DEVICE)
    [row] = await stage.sql("SELECT sealed, encode(sealed, 'escape') AS text FROM deferred_submission")
    assert SELFIE[:64] not in row["sealed"]
    assert "HUAWEI" not in row["text"]
    [told] = (await stored(stage))["deferred_submission"]
    assert told.keys() == {"check_in_id", "received_at"}
    await stage.set_clock(CLOSES_AT + timedelta(days=400))
    assert "deferred_submission" not in await overdue(stage)
    await purged(stage)
    assert await kept(stage) == 1
    await judge_one(stage)
    assert await kept(stage) == 0


async def test_what_a_defect_left_behind_a_purge_removes(stage: Stage) -> None:
    await near_the_end(stage)
    await taken(stage)
    await stage.sql("UPDATE receipt SET ended = 'withdrawn'")
    await stage.set_clock(IN_TIME + 10 * MINUTE)
    assert (await overdue(stage))["deferred_submission"] == 1  # type: ignore[index]
    await purged(stage)
    assert await kept(stage) == 0


async def test_the_backlog_is_seen(stage: Stage) -> None:
    await near_the_end(stage)
    await taken(stage)
    await stage.set_clock(IN_TIME + 7 * MINUTE)
    wired = services_of(stage)
    wired.admission.backlog = 0
    async with open_database(stage.database_url, max_connections=1) as database:
        await look_at_backlog(database, wired.admission, wired.metrics)
    assert wired.admission.backlog == 1
    assert b"checkin_deferred_waiting 1.0" in wired.metrics.render()
    assert b"checkin_deferred_oldest_seconds 420.0" in wired.metrics.render()
