"""How attempts went, in numbers: of one task, and of all on some days."""

import json
from datetime import date, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from checkin_service.adapters.postgres import reports
from tests.service.rows import accepted_rows, changed, store
from tests.service.stage import FAR, Json, Stage, photo_of
from tests.service.window import NOON, task_at_noon

SHARED = pytest.mark.asyncio(loop_scope="module")
DAYS = {"from": "2026-03-19", "to": "2026-03-21"}


async def of_task(stage: Stage, task_id: str = "T1") -> Json:
    reply = await stage.platform("GET", f"/v1/tasks/{task_id}/statistics")
    assert reply.status == 200, reply.body
    body: Json = reply.body
    return body


async def of_period(stage: Stage, **days: str) -> Json:
    reply = await stage.call("GET", "/v1/statistics", "ops", "operate", params=DAYS | days)
    assert reply.status == 200, reply.body
    body: Json = reply.body
    return body


async def attempt(stage: Stage, person_id: str = "p-1", at: datetime = NOON, **values: Any) -> None:
    """A judged attempt, as the check-in path would have stored it."""
    judged = {
        "shanghai_day": at.date(),
        "person_id": person_id,
        "outcome": "rejected",
        "reasons": ["no_face"],
        "score": None,
        **values,
    }
    for column in ("device", "signals"):
        if column in judged:
            judged[column] = json.dumps(judged[column])
    rows = accepted_rows("T1", at)
    del rows["acceptance"]
    await store(stage, changed(rows, receipt={"person_id": person_id}, attempt=judged))


async def test_a_task_without_attempts_has_noughts(stage: Stage) -> None:
    await stage.register("T1")
    assert await of_task(stage) == {
        "task_id": "T1",
        "outcomes": {"accepted": 0, "rejected": 0, "review": 0},
        "reasons": [],
        "hours": [],
        "phones": [],
        "signals": [],
        "reviews": {"pending": 0, "pending_second": 0, "accepted": 0, "rejected": 0, "moot": 0},
    }


async def test_check_ins_are_counted_by_outcome_reason_hour_and_review(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.check_in("p-1", "T1", at=FAR)
    await stage.set_clock(NOON + timedelta(hours=1))
    await stage.check_in("p-1", "T1", at=FAR)
    await stage.check_in("p-2", "T1", at=FAR)
    await stage.check_in("p-2", "T1", selfie=photo_of("p-2"))  # the reference's own
    await stage.check_in("p-1", "T1")
    await stage.check_in("p-1", "T1")  # a repeat, which is no attempt
    told = await of_task(stage)
    assert told["outcomes"] == {"accepted": 1, "rejected": 3, "review": 1}
    assert told["reasons"] == [
        {"code": "outside_geofence", "attempts": 3, "persons": 2},
        {"code": "duplicate_photo", "attempts": 1, "persons": 1},
    ]
    assert told["hours"] == [
        {"hour": 12, "attempts": 1, "rejected": 1},
        {"hour": 13, "attempts": 4, "rejected": 2},
    ]
    assert told["reviews"]["pending"] == 1


async def test_another_tasks_attempts_are_not_counted(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    await task_at_noon(stage, "T2", "p-1")
    await stage.check_in("p-1", "T2", at=FAR)
    assert (await of_task(stage))["outcomes"]["rejected"] == 0


async def test_an_unknown_task_is_not_found(stage: Stage) -> None:
    assert (await stage.platform("GET", "/v1/tasks/T9/statistics")).status == 404


# --- Phones ---


def phones(told: Json) -> dict[tuple[str, str | None], tuple[int, int, int]]:
    return {
        (phone["platform"], phone["model"]): (phone["attempts"], phone["persons"], phone["rejected"])
        for phone in told["phones"]
    }


@pytest.mark.parametrize(
    ("by_person", "named"),
    [((2, 2, 1), True), ((3, 1, 0), False), ((4, 4, 0), False), ((2, 1, 1), False), ((1, 1, 3), True)],
)
async def test_a_model_is_named_from_five_attempts_by_three_persons_on(
    stage: Stage, by_person: tuple[int, ...], named: bool
) -> None:
    people = ("p-1", "p-2", "p-3")
    await task_at_noon(stage, "T1", *people)
    device = {"platform": "android", "model": "Pura 70"}
    for person_id, number in zip(people, by_person, strict=True):
        for _ in range(number):
            await attempt(stage, person_id, device=device)
    [(platform, model)] = phones(await of_task(stage))
    assert (platform, model) == ("android", "Pura 70" if named else None)


async def test_the_rest_of_a_platform_is_one_row(stage: Stage) -> None:
    people = ("p-1", "p-2", "p-3")
    await task_at_noon(stage, "T1", *people)
    for person_id in people:
        for _ in range(2):
            await attempt(stage, person_id, device={"platform": "ios", "model": "iPhone17,1"})
        await attempt(stage, person_id, device={"platform": "ios", "model": f"rare of {person_id}"})
    # a model of another platform's name is another one
    await attempt(stage, "p-1", device={"platform": "android", "model": "iPhone17,1"})
    await attempt(stage, "p-2", device={"platform": "ios", "model": None})
    await attempt(stage, "p-3", device=None)
    assert phones(await of_task(stage)) == {
        ("ios", "iPhone17,1"): (6, 3, 6),
        ("ios", None): (4, 3, 4),
        ("android", None): (1, 1, 1),
        ("other", None): (1, 1, 1),
    }


async def test_refusals_of_a_phone_are_told_by_reason(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    ios: Json = {"device": {"platform": "ios"}}
    await attempt(stage, **ios)
    await attempt(stage, **ios, reasons=["outside_geofence", "position_frame_suspect"])
    await attempt(stage, **ios, reasons=["outside_geofence"])
    await attempt(stage, **ios, outcome="review", reasons=["look_alike"], score=0.6)
    [phone] = (await of_task(stage))["phones"]
    assert (phone["attempts"], phone["rejected"]) == (4, 3)
    assert phone["reasons"] == [
        {"code": "outside_geofence", "attempts": 2},
        {"code": "no_face", "attempts": 1},
        {"code": "position_frame_suspect", "attempts": 1},
    ]


async def test_signals_are_counted_by_code(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    for person_id, codes in (("p-1", ("shared_device", "clock_far_off")), ("p-2", ("shared_device",))):
        await attempt(stage, person_id, signals=[{"code": code, "figures": {}} for code in codes])
    assert (await of_task(stage))["signals"] == [
        {"code": "shared_device", "attempts": 2, "persons": 2},
        {"code": "clock_far_off", "attempts": 1, "persons": 1},
    ]


async def test_what_is_left_of_an_erased_persons_attempts_is_counted(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    await stage.check_in("p-1", "T1", at=FAR)
    await stage.check_in("p-1", "T1", device={"platform": "ios"})
    assert (await stage.platform("DELETE", "/v1/persons/p-1")).status == 204
    told = await of_task(stage)
    assert told["outcomes"] == {"accepted": 1, "rejected": 0, "review": 0}
    assert phones(told) == {("other", None): (1, 1, 0)}


# --- Over all tasks ---


async def test_all_tasks_are_counted_by_the_day_in_shanghai(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    midnight = datetime.fromisoformat("2026-03-20T00:00:00+08:00")
    for at in (midnight - timedelta(seconds=1), midnight, midnight + timedelta(hours=24)):
        await attempt(stage, at=at)
    told = await of_period(stage, **{"from": "2026-03-20", "to": "2026-03-20"})
    assert told["outcomes"]["rejected"] == 1
    assert (told["from"], told["to"]) == ("2026-03-20", "2026-03-20")
    assert told.keys() == {"from", "to", "outcomes", "reasons", "hours", "phones", "signals"}
    assert (await of_period(stage))["outcomes"]["rejected"] == 3


@SHARED
@pytest.mark.parametrize(
    ("days", "faults"),
    [
        ({}, {("from", "missing"), ("to", "missing")}),
        ({"from": "2026-03-01"}, {("to", "missing")}),
        ({"from": "1.3.2026", "to": "2026-02-29"}, {("from", "bad_format"), ("to", "bad_format")}),
        ({"from": "20260301", "to": "2026-W10-1"}, {("from", "bad_format"), ("to", "bad_format")}),
        ({"from": "2026-03-02", "to": "2026-03-01"}, {("to", "bad_period")}),
        ({"from": "2026-01-01", "to": "2026-04-03"}, {("to", "bad_period")}),
        ({"from": "0001-01-01", "to": "9999-12-31"}, {("to", "bad_period")}),
    ],
)
async def test_periods_that_are_refused(
    shared_stage: Stage, days: dict[str, str], faults: set[tuple[str, str]]
) -> None:
    reply = await shared_stage.call("GET", "/v1/statistics", "ops", "operate", params=days)
    assert (reply.status, reply.faults) == (422, faults)


@SHARED
async def test_a_quarter_is_the_longest_period(shared_stage: Stage) -> None:
    days = {"from": "2026-01-01", "to": "2026-04-02"}
    assert (await shared_stage.call("GET", "/v1/statistics", "r", "review", params=days)).status == 200


# --- By index ---


async def plan_of(stage: Stage, query: str, *values: Any) -> str:
    """The plan as it would be with many rows: whatever index there is, is used."""
    connection = await asyncpg.connect(stage.database_url)
    try:
        await connection.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
        return "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {query}", *values))
    finally:
        await connection.close()


@SHARED
@pytest.mark.parametrize(
    ("query", "values"),
    [(reports.OF_TASK, (5, 3, "T1")), (reports.OF_PERIOD, (5, 3, date(2026, 3, 1), date(2026, 3, 2)))],
    ids=["task", "period"],
)
async def test_attempts_are_found_by_index(shared_stage: Stage, query: str, values: tuple[Any, ...]) -> None:
    plan = await plan_of(shared_stage, query, *values)
    assert "on attempt" in plan
    assert "Seq Scan on attempt" not in plan


@SHARED
async def test_the_same_plan_would_show_a_scan_of_everything(shared_stage: Stage) -> None:
    plan = await plan_of(shared_stage, "SELECT FROM attempt WHERE judged_at > $1", NOON)
    assert "Seq Scan on attempt" in plan
