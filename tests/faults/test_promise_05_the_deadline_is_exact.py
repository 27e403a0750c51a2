"""Promise 5: the deadline is exact to the microsecond, and what counts is when a submission was received."""

from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from checkin_service.adapters.postgres.database import open_database
from checkin_service.usecases import submit_check_in
from checkin_service.usecases.sweep import sweep
from checkin_service.usecases.verdict import CheckIn
from checkin_service.web import check_ins as web_check_ins
from face import WorkerFailed
from tests.faults.record import Record
from tests.service.rows import accepted_rows, store
from tests.service.stage import Json, Reply, Stage, check_in_fields, photo_of
from tests.service.window import CLOSES_AT, MICROSECOND, NOON, OPENS_AT, task_at_noon

MINUTE = timedelta(minutes=1)
IN_TIME = CLOSES_AT - MICROSECOND
SELFIE = photo_of("p-1", shot=1)
ORDERED_END = CLOSES_AT + timedelta(days=1)


async def in_time(stage: Stage) -> Json:
    """A submission's fields, with a challenge of the last microsecond."""
    await task_at_noon(stage, "T1")
    await stage.set_clock(IN_TIME)
    return check_in_fields("T1", await stage.challenge("p-1", "T1"))


async def swept(stage: Stage) -> None:
    async with open_database(stage.service_url, max_connections=1) as database:
        await sweep(database)


@pytest.mark.parametrize(
    ("received_at", "reasons"),
    [
        (OPENS_AT - MICROSECOND, ["window_not_open"]),
        (OPENS_AT, []),
        (CLOSES_AT - MICROSECOND, []),
        (CLOSES_AT, ["window_closed"]),
        (CLOSES_AT + MICROSECOND, ["window_closed"]),
    ],
    ids=["before the opening", "at the opening", "the last instant", "the end", "after the end"],
)
async def test_the_window_is_half_open(
    stage: Stage, received_at: datetime, reasons: list[str], record: Record
) -> None:
    await task_at_noon(stage, "T1")
    await stage.set_clock(received_at)
    judged = await stage.check_in("p-1", "T1")
    assert judged.reasons == reasons
    assert judged.body["received_at"] == received_at.isoformat()
    record.kept(f"received at {received_at.isoformat()}: {', '.join(reasons) or 'accepted'}")


async def test_an_extension_moves_the_exact_end(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    body = {"reason": "by order", "deadline_at": ORDERED_END.isoformat(), "document_no": "D-1"}
    assert (await stage.platform("POST", "/v1/tasks/T1/extend", body)).status == 200
    await stage.set_clock(ORDERED_END)
    assert (await stage.check_in("p-2", "T1")).reasons == ["window_closed"]
    await stage.set_clock(ORDERED_END - MICROSECOND)
    assert (await stage.check_in("p-1", "T1")).reasons == []


# --- Received in time, judged late ---


async def judged_a_minute_late(stage: Stage) -> tuple[Reply, str]:
    """The answer, and the task's state while it was awaited."""
    fields = await in_time(stage)
    async with stage.while_analysing(stage.submit("p-1", fields, SELFIE, "k")) as submitted:
        await stage.set_clock(CLOSES_AT + MINUTE)
        state = (await stage.status("T1"))["state"]
    return await submitted, state


async def test_what_was_received_in_time_and_processed_a_minute_later_is_accepted(
    stage: Stage, record: Record
) -> None:
    accepted, meanwhile = await judged_a_minute_late(stage)
    assert meanwhile == "expired_pending_review"
    assert (accepted.body["outcome"], accepted.body["received_at"]) == ("accepted", IN_TIME.isoformat())
    assert accepted.body["task"]["state"] == "completed"
    record.kept("received in time and judged a minute late: accepted")


async def test_control_received_only_once_it_is_processed_it_would_be_late(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    submit = submit_check_in.submit_check_in

    async def process_first(judge: submit_check_in.Judge, check_in: CheckIn, **mode: Any) -> Any:
        await judge.faces.analyse(check_in.selfie)
        return await submit(judge, check_in, **mode)

    monkeypatch.setattr(web_check_ins, "submit_check_in", process_first)
    refused, meanwhile = await judged_a_minute_late(stage)
    assert (refused.reasons, meanwhile) == (["window_closed"], "expired")
    record.control("received once it is processed: in time and refused as late")


async def fail_in_time(stage: Stage, monkeypatch: pytest.MonkeyPatch, fields: Json) -> None:
    """The submission is received, and its judging fails by no fault of the person."""

    async def fail(_: bytes) -> None:
        raise WorkerFailed("it crashed")

    with monkeypatch.context() as crashing:
        crashing.setattr(stage.engine, "analyse", fail)
        assert (await stage.submit("p-1", fields, SELFIE, "k")).status == 503


async def test_a_retry_after_the_end_keeps_its_time(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = await in_time(stage)
    await fail_in_time(stage, monkeypatch, fields)
    await stage.set_clock(CLOSES_AT + MINUTE)
    retried = await stage.submit("p-1", fields, SELFIE, "k")
    assert (retried.body["outcome"], retried.body["received_at"]) == ("accepted", IN_TIME.isoformat())


async def test_another_picture_on_an_old_key_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    fields = await in_time(stage)
    await fail_in_time(stage, monkeypatch, fields)
    await stage.set_clock(CLOSES_AT + MINUTE)
    swapped = await stage.submit("p-1", fields, photo_of("p-1", shot=2), "k")
    assert (swapped.status, swapped.code) == (422, "idempotency_key_reused")
    assert await stage.sql("SELECT * FROM acceptance") == []
    record.kept("another picture on an old key after the end: refused")


@pytest.mark.parametrize(
    ("late", "reasons"),
    [(10 * MINUTE - MICROSECOND, []), (10 * MINUTE, ["window_closed"])],
    ids=["just under ten minutes", "ten minutes"],
)
async def test_a_receipt_that_nobody_judged_is_abandoned_ten_minutes_after_the_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, late: timedelta, reasons: list[str]
) -> None:
    fields = await in_time(stage)
    await fail_in_time(stage, monkeypatch, fields)
    await stage.set_clock(CLOSES_AT + late)
    await swept(stage)
    state = "expired" if reasons else "expired_pending_review"
    assert (await stage.status("T1"))["state"] == state
    assert (await stage.submit("p-1", fields, SELFIE, "k")).reasons == reasons


# --- What PostgreSQL refuses by itself ---


async def test_a_late_acceptance_is_refused_by_the_database(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await store(stage, accepted_rows("T1", CLOSES_AT))
    assert refused.value.constraint_name == "accepted_in_window"


async def test_control_without_the_constraint_a_late_acceptance_is_taken(
    stage: Stage, record: Record
) -> None:
    await task_at_noon(stage, "T1")
    await stage.sql("ALTER TABLE acceptance DROP CONSTRAINT accepted_in_window")
    await store(stage, accepted_rows("T1", CLOSES_AT))
    assert (await stage.status("T1"))["progress"]["accepted"] == 1
    record.control("without its CHECK the database takes a late acceptance")


async def test_the_instant_of_the_receipt_is_the_databases_and_not_the_phones(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.set_clock(CLOSES_AT)
    fix = {"lon": 114.06, "lat": 22.544, "accuracy_m": 15, "at": NOON.isoformat()}
    late = await stage.check_in("p-1", "T1", captured_at=NOON.isoformat(), fixes=[fix])
    assert (late.reasons, late.body["received_at"]) == (["window_closed"], CLOSES_AT.isoformat())
