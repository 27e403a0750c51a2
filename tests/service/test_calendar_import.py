"""A year's notice is imported: what is refused, which windows move and how, and what becomes of what was held."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.notice_file import NoticeFault, parse_notice
from checkin_service.adapters.postgres import calendars
from checkin_service.adapters.postgres.database import open_database
from checkin_service.domain.window import one_month_window
from checkin_service.usecases import import_calendar as importing
from checkin_service.usecases import recompute_windows as recomputing
from checkin_service.usecases.import_calendar import Imported, import_calendar
from checkin_service.usecases.sweep import sweep
from tests.service import situations
from tests.service.notices import Json, as_file, notice_2027, period
from tests.service.reviewing import asked, decide, doubtful, told
from tests.service.situations import accept, ordered
from tests.service.stage import Stage, running_service
from tests.service.window import (
    CLOSES_AT,
    MICROSECOND,
    NOON,
    OPENS_AT,
    PROVISIONAL_CLOSES_AT,
    PROVISIONAL_OPENS_AT,
    task_at_noon,
)

# With it the window that ends provisionally on Monday, 11 January ends on Thursday, 14 January.
LONGER = notice_2027(period("2027-01-11", "2027-01-13"))
OFFICIAL_CLOSES_AT = datetime.fromisoformat("2027-01-15T00:00:00+08:00")
# With it that window would end a day earlier than guessed, on its nominal Sunday.
SHORTER = notice_2027(workdays=["2027-01-10"])
# Qingming of 2026 off until Tuesday: the window that ends on Thursday, 2 April is not touched by that, but by
# the second: Thursday and Friday off as well.
ADDED_2026 = [period("2026-04-02", "2026-04-03"), period("2026-04-06", "2026-04-07")]


async def imported(stage: Stage, document: Json, actor: str = "clerk") -> Imported:
    notice, source = parse_notice(as_file(document))
    async with open_database(stage.service_url, max_connections=2) as database:
        return await import_calendar(database, notice, source, actor)


async def published_2026(stage: Stage) -> Json:
    """The present notice for 2026, as a file."""
    query = "SELECT days_off, workdays FROM calendar_year WHERE year = 2026 ORDER BY calendar_version DESC LIMIT 1"
    row = (await stage.sql(query))[0]
    return {
        "year": 2026,
        "source": "国办发明电〔2025〕7号",
        "days_off": [period(str(day), str(day)) for day in row["days_off"]],
        "workdays": [str(day) for day in row["workdays"]],
    }


async def amended_2026(stage: Stage) -> Imported:
    document = await published_2026(stage)
    known = {off["from"] for off in document["days_off"]}
    added = [period(day, day) for off in ADDED_2026 for day in (off["from"], off["to"]) if day not in known]
    return await imported(stage, document | {"days_off": document["days_off"] + added})


async def swept(stage: Stage, instant: datetime) -> None:
    await stage.set_clock(instant)
    async with open_database(stage.service_url, max_connections=1) as database:
        await sweep(database)


async def provisional_task(stage: Stage, *person_ids: str, task_id: str = "T1", **changes: Any) -> Json:
    await stage.set_clock(PROVISIONAL_OPENS_AT)
    approved = {"approved_at": PROVISIONAL_OPENS_AT.isoformat()}
    await stage.ready_task(task_id, *person_ids, **approved | changes)
    status = await stage.status(task_id)
    assert (status["window"]["provisional"], status["closes_at"]) == (True, PROVISIONAL_CLOSES_AT.isoformat())
    return status


async def held(stage: Stage, person_id: str, at: datetime, task_id: str = "T1") -> str:
    """The id of a check-in that is held because the end that it comes after is provisional."""
    await stage.set_clock(at)
    reply = await stage.check_in(person_id, task_id)
    assert (reply.body["outcome"], reply.reasons) == ("review", [])
    return str(reply.body["check_in_id"])


async def read(stage: Stage, person_id: str, check_in_id: str) -> tuple[str, list[str]]:
    """The state of its review, and the codes of its reasons, as the person reads them."""
    reply = await stage.person(person_id, "GET", f"/v1/check-ins/{check_in_id}")
    assert reply.status == 200
    return reply.body["review"]["state"], reply.reasons


async def everything(stage: Stage) -> list[list[tuple[Any, ...]]]:
    tables = ("calendar_version", "calendar_year", "task", "change", "audit", "review")
    return [sorted(map(tuple, await stage.sql(f"SELECT {t}::text FROM {t}"))) for t in tables]


# --- The file ---


def test_a_file_says_days_off_and_workdays() -> None:
    notice, source = parse_notice(as_file(notice_2027()))
    assert (notice.year, source, len(notice.days_off), len(notice.workdays)) == (2027, "虚构的通知", 27, 4)
    assert {date(2027, 2, 5), date(2027, 2, 11)} <= notice.days_off


def test_a_new_year_may_reach_back_into_december() -> None:
    notice, _ = parse_notice(as_file(notice_2027(period("2026-12-31", "2026-12-31"))))
    assert date(2026, 12, 31) in notice.days_off


def test_the_file_of_the_page_is_one() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "calendar.md").read_text("utf-8")
    document = page.split("```json\n")[1].split("```")[0]
    assert parse_notice(document.encode())[0] == parse_notice(as_file(notice_2027()))[0]


def without(name: str) -> Json:
    return {field: value for field, value in notice_2027().items() if field != name}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff", "UTF-8"),
        (b"{", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b"[]", "object"),
        (as_file(notice_2027()).replace(b'{"year"', b'{"year": 2027, "year"'), "year is there twice"),
        *((as_file(without(name)), name) for name in ("year", "source", "days_off", "workdays")),
        (as_file(notice_2027(holidays=[])), "holidays"),
        (
            as_file(notice_2027({"holiday": "x", "from": "2027-03-01", "to": "2027-03-02", "note": ""})),
            "note",
        ),
        (as_file(notice_2027(source=" ")), "source"),
        (as_file(notice_2027(year="2027")), "year"),
        (as_file(notice_2027(year=2027.5)), "year"),
        (as_file(notice_2027(workdays=["2027-02-30"])), "workdays"),
        (as_file(notice_2027(workdays=["20270306"])), "workdays"),
        (as_file(notice_2027(period("2027-03-02", "2027-03-01"))), "2027-03-01"),
        (as_file(notice_2027(period("2027-03-02", "2127-03-01"))), "2127-03-01"),
        (as_file(notice_2027(period("2027-02-11", "2027-02-12"))), "2027-02-11 is named twice"),
        (as_file(notice_2027(workdays=["2027-02-20"])), "2027-02-20 is named twice"),
        (as_file(notice_2027(workdays=["2027-05-02"])), "2027-05-02 is both"),
        (as_file(notice_2027(period("2028-01-01", "2028-01-02"))), "2028-01-01 is not of 2027"),
        (as_file(notice_2027(period("2026-11-30", "2026-12-01"))), "2026-11-30 is not of 2027"),
        (as_file(notice_2027(workdays=["2027-03-05"])), "2027-03-05 is worked anyway"),
        (as_file(notice_2027(days_off=[])), "2027-09-15 is a statutory holiday"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_notice_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(NoticeFault) as refused:
        parse_notice(content)
    assert said in str(refused.value)


# --- Versions ---


async def test_a_new_database_knows_what_the_package_knows(stage: Stage) -> None:
    async with open_database(stage.service_url, max_connections=1) as database:
        async with database.connection() as connection:
            calendar = await calendars.read_calendar(connection)
        await importing.seed_calendar(database)
    assert calendar.first_day == date(2004, 1, 1)
    assert calendar.version == f"cn-{calendar.last_day.year}.1"
    assert len(await stage.sql("SELECT FROM calendar_version")) == 1


async def test_vectors_hold_by_the_calendar_in_the_database(stage: Stage, shared: Path) -> None:
    vectors = json.loads((shared / "data" / "vectors" / "window.json").read_text())
    async with (
        open_database(stage.service_url, max_connections=1) as database,
        database.connection() as connection,
    ):
        for vector in vectors:
            approved_at = datetime.fromisoformat(vector["approved_at"])
            for from_year in (0, approved_at.year):
                calendar = await calendars.read_calendar(connection, from_year)
                window = one_month_window(approved_at, calendar)
                assert window.closes_at == datetime.fromisoformat(vector["end_exclusive"]), vector
                assert window.provisional is vector["provisional"], vector


async def test_each_import_is_a_version_with_its_source_and_actor(stage: Stage) -> None:
    await stage.set_clock(NOON)
    versions = [(await imported(stage, document, "li")).version for document in (notice_2027(), LONGER)]
    assert versions == ["cn-2027.1", "cn-2027.2"]
    query = "SELECT calendar_version, source, actor, imported_at FROM calendar_version ORDER BY number"
    stored = [tuple(row) for row in await stage.sql(query)]
    assert stored[1:] == [(version, "虚构的通知", "li", NOON) for version in versions]
    query = "SELECT iss, actor, action FROM audit WHERE action = 'calendar_import'"
    assert [tuple(row) for row in await stage.sql(query)] == [
        ("checkin_service", "li", "calendar_import")
    ] * 2


async def test_the_same_content_again_changes_nothing(stage: Stage) -> None:
    await provisional_task(stage)
    await imported(stage, LONGER)
    before = await everything(stage)
    again = await imported(stage, LONGER | {"source": "其他来源"})
    assert (again.version, again.recomputed.windows) == (None, 0)
    assert await everything(stage) == before


@pytest.mark.parametrize("year", [2028, 2003, 1999])
async def test_a_year_that_leaves_a_gap_is_refused(stage: Stage, year: int) -> None:
    before = await everything(stage)
    # without statutory holidays that fall on workdays there is nothing else to refuse
    days_off = [
        period(f"{year}-{first}", f"{year}-{last}")
        for first, last in (("01-01", "01-31"), ("04-01", "05-30"), ("09-01", "10-30"))
    ]
    with pytest.raises(NoticeFault, match=f"{year} would leave a gap"):
        await imported(stage, {"year": year, "source": "x", "days_off": days_off, "workdays": []})
    assert await everything(stage) == before


async def test_what_another_process_imports_counts_at_once(stage: Stage) -> None:
    await imported(stage, LONGER)
    await stage.set_clock(PROVISIONAL_OPENS_AT)
    reply = await stage.register("T1", approved_at=PROVISIONAL_OPENS_AT.isoformat())
    window = reply.body["window"]
    assert (window["provisional"], window["calendar_version"]) == (False, "cn-2027.1")
    assert reply.body["closes_at"] == OFFICIAL_CLOSES_AT.isoformat()


# --- Windows ---


async def test_a_provisional_window_becomes_official_and_later_exactly_once(stage: Stage) -> None:
    before = await provisional_task(stage)
    path = "/v1/tasks/T1"
    etag = (await stage.platform("GET", path)).headers["ETag"]
    done = await imported(stage, LONGER)
    assert (done.recomputed.windows, done.recomputed.moved) == (1, 1)
    moved = await stage.platform("GET", path, headers={"If-None-Match": etag})
    assert moved.status == 200
    assert moved.body == before | {
        "closes_at": OFFICIAL_CLOSES_AT.isoformat(),
        "rev": before["rev"] + 1,
        "window": before["window"]
        | {
            "last_day": "2027-01-14",
            "rolled_over": [f"2027-01-{day}" for day in range(10, 14)],
            "provisional": False,
            "calendar_version": "cn-2027.1",
        },
    }
    assert await told(stage, "T1") == ["deadline_changed"]
    audit = await stage.sql("SELECT iss, actor, details FROM audit WHERE action = 'recompute'")
    assert [(row["iss"], row["actor"]) for row in audit] == [("checkin_service", "system")]
    assert json.loads(audit[0]["details"])["calendar_version"] == "cn-2027.1"
    await swept(stage, PROVISIONAL_OPENS_AT)
    assert await stage.status("T1") == moved.body


async def test_an_official_end_that_is_earlier_moves_nothing_back(stage: Stage) -> None:
    before = await provisional_task(stage)
    done = await imported(stage, SHORTER)
    assert (done.recomputed.windows, done.recomputed.moved) == (1, 0)
    version = {"provisional": False, "calendar_version": "cn-2027.1"}
    assert await stage.status("T1") == before | {
        "rev": before["rev"] + 1,
        "window": before["window"] | version,
    }
    assert await told(stage, "T1") == ["deadline_changed"]
    await stage.set_clock(PROVISIONAL_CLOSES_AT)
    assert (await stage.status("T1"))["state"] == "expired"


async def test_an_amendment_moves_what_rests_on_its_days_and_nothing_else(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.ready_task("T2", "p-2", approved_at=(OPENS_AT + timedelta(days=10)).isoformat())
    untouched = await stage.status("T2")
    done = await amended_2026(stage)
    assert (done.version, done.recomputed.windows, done.recomputed.moved) == ("cn-2026.2", 1, 1)
    status = await stage.status("T1")
    assert (status["window"]["last_day"], status["window"]["calendar_version"]) == ("2026-04-08", "cn-2026.2")
    assert (status["window"]["provisional"], await told(stage, "T1")) == (False, ["deadline_changed"])
    assert await stage.status("T2") == untouched


async def test_an_amendment_taken_back_leaves_the_later_end(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    original = await published_2026(stage)
    await amended_2026(stage)
    later = await stage.status("T1")
    assert (await imported(stage, original)).version == "cn-2026.3"
    version = {"calendar_version": "cn-2026.3"}
    assert await stage.status("T1") == later | {
        "rev": later["rev"] + 1,
        "window": later["window"] | version,
    }


async def test_a_new_year_that_reaches_back_moves_a_window_of_december(stage: Stage) -> None:
    await stage.set_clock(datetime(2026, 12, 1, tzinfo=UTC))
    await stage.ready_task("T1", approved_at="2026-11-30T10:00:00+08:00")
    await stage.ready_task("T2", "p-2", approved_at="2026-11-29T10:00:00+08:00")
    untouched = await stage.status("T2")
    first = await stage.status("T1")
    assert (first["window"]["last_day"], first["window"]["provisional"]) == ("2026-12-30", False)
    await imported(stage, notice_2027(period("2026-12-30", "2026-12-31")))
    status = await stage.status("T1")
    assert (status["window"]["last_day"], status["window"]["provisional"]) == ("2027-01-04", False)
    assert await stage.status("T2") == untouched


async def test_a_task_that_is_over_stays_over_and_is_named(stage: Stage) -> None:
    await situations.expired(stage, "T1", "p-1", "p-2")
    before = await stage.status("T1")
    assert before["state"] == "expired"
    done = await amended_2026(stage)
    assert (done.recomputed.windows, done.recomputed.missed) == (0, ["T1"])
    assert await stage.status("T1") == before
    await swept(stage, CLOSES_AT)
    assert (await amended_2026(stage)).recomputed.missed == ["T1"]
    assert await told(stage, "T1") == ["member_accepted", "task_expired"]


@pytest.mark.parametrize("command", ["void", "close"])
async def test_what_is_void_or_closed_stays_as_it_is(stage: Stage, command: str) -> None:
    await provisional_task(stage)
    if command == "close":
        await accept(stage, "T1", "p-1")
    before = await ordered(stage, "T1", command)
    assert (await imported(stage, LONGER)).recomputed.windows == 0
    assert await stage.status("T1") == before


async def test_an_order_is_left_as_it_was_given(stage: Stage) -> None:
    await situations.expired(stage, "T0", "p-1", "p-2")
    case_id = (await stage.status("T0"))["case_id"]
    follows = {"case_id": case_id, "round": 2, "rectifies": "T0", "flow": "rectification"}
    ordered_end = {"approved_at": OPENS_AT.isoformat(), "deadline_at": PROVISIONAL_CLOSES_AT.isoformat()}
    assert (await stage.register("T1", "p-1", **follows | ordered_end)).status == 201
    before = await stage.status("T1")
    assert (await imported(stage, LONGER)).recomputed.windows == 0
    assert await stage.status("T1") == before


@pytest.mark.parametrize(
    ("deadline_at", "closes_at", "basis"),
    [
        (OFFICIAL_CLOSES_AT + timedelta(days=9), OFFICIAL_CLOSES_AT + timedelta(days=9), "order"),
        (OFFICIAL_CLOSES_AT - timedelta(days=1), OFFICIAL_CLOSES_AT, "one_month"),
    ],
)
async def test_an_extension_of_a_provisional_window_takes_nothing_that_the_law_gives(
    stage: Stage, deadline_at: datetime, closes_at: datetime, basis: str
) -> None:
    await provisional_task(stage)
    body = {"reason": "x", "deadline_at": deadline_at.isoformat(), "document_no": "1"}
    extended = await ordered(stage, "T1", "extend", body)
    assert (extended["window"]["basis"], extended["window"]["provisional"]) == ("order", True)
    await imported(stage, LONGER)
    status = await stage.status("T1")
    assert (status["closes_at"], status["window"]["basis"]) == (closes_at.isoformat(), basis)
    assert status["window"]["provisional"] is False


async def test_a_suspended_task_is_recomputed_too(stage: Stage) -> None:
    await provisional_task(stage)
    await ordered(stage, "T1", "suspend")
    await imported(stage, LONGER)
    status = await stage.status("T1")
    assert (status["state"], status["closes_at"]) == ("suspended", OFFICIAL_CLOSES_AT.isoformat())


async def test_a_window_whose_end_was_told_opens_again_and_ends_once_more(stage: Stage) -> None:
    await provisional_task(stage)
    await swept(stage, PROVISIONAL_CLOSES_AT)
    assert (await stage.status("T1"))["state"] == "expired_pending_review"
    await imported(stage, LONGER)
    assert (await stage.status("T1"))["state"] == "open"
    await swept(stage, OFFICIAL_CLOSES_AT - MICROSECOND)
    await swept(stage, OFFICIAL_CLOSES_AT)
    assert await told(stage, "T1") == ["task_expired_pending_review", "deadline_changed", "task_expired"]
    ends = await stage.sql("SELECT at FROM change WHERE type = 'task_expired'")
    assert [row["at"] for row in ends] == [OFFICIAL_CLOSES_AT]


async def test_the_official_end_is_told_too_while_people_still_have_to_decide(stage: Stage) -> None:
    await provisional_task(stage)
    await doubtful(stage, "p-1", "T1")
    await swept(stage, PROVISIONAL_CLOSES_AT)
    await imported(stage, LONGER)
    await swept(stage, OFFICIAL_CLOSES_AT)
    ends = await stage.sql("SELECT at FROM change WHERE type = 'task_expired_pending_review' ORDER BY seq")
    assert [row["at"] for row in ends] == [PROVISIONAL_CLOSES_AT, OFFICIAL_CLOSES_AT]


# --- What was held ---


async def test_held_check_ins_are_accepted_in_time_and_closed_out_later(stage: Stage) -> None:
    await provisional_task(stage, "p-1", "p-2", "p-3")
    in_time = await held(stage, "p-1", OFFICIAL_CLOSES_AT - MICROSECOND)
    too_late = await held(stage, "p-2", OFFICIAL_CLOSES_AT)
    now = OFFICIAL_CLOSES_AT + timedelta(days=2)
    await stage.set_clock(now)
    done = await imported(stage, LONGER)
    assert done.recomputed.decided == {"accepted": 1, "rejected": 1}
    assert await read(stage, "p-1", in_time) == ("accepted", [])
    assert await read(stage, "p-2", too_late) == ("rejected", ["window_closed"])
    status = await stage.status("T1")
    assert status["state"] == "expired"
    assert [member["state"] for member in status["members"]] == ["accepted", "not_started", "not_started"]
    accepted_at = datetime.fromisoformat(status["members"][0]["accepted_at"])
    assert accepted_at == OFFICIAL_CLOSES_AT - MICROSECOND
    assert (await told(stage, "T1"))[2:] == [
        "deadline_changed",
        "review_decided",
        "member_accepted",
        "review_decided",
    ]
    decisions = await stage.sql(
        "SELECT iss, actor, decision, decided_at FROM review_decision ORDER BY decision"
    )
    assert [tuple(row) for row in decisions] == [
        ("checkin_service", "system", decision, now) for decision in ("accept", "reject")
    ]
    rev = status["rev"]
    await swept(stage, now)
    assert (await stage.status("T1"))["rev"] == rev + 1
    assert (await told(stage, "T1"))[-1] == "task_expired"


async def test_an_accepted_one_has_a_receipt_then(stage: Stage) -> None:
    await provisional_task(stage)
    check_in_id = await held(stage, "p-1", PROVISIONAL_CLOSES_AT)
    await imported(stage, LONGER)
    reply = await stage.person("p-1", "GET", f"/v1/check-ins/{check_in_id}")
    assert reply.body["receipt"].count(".") == 2
    assert (await stage.status("T1"))["state"] == "completed"
    assert (await told(stage, "T1"))[-3:] == ["review_decided", "member_accepted", "task_completed"]


async def test_of_several_held_ones_the_first_wins_and_the_others_are_moot(stage: Stage) -> None:
    await provisional_task(stage)
    moments = (PROVISIONAL_CLOSES_AT, OFFICIAL_CLOSES_AT - MICROSECOND, OFFICIAL_CLOSES_AT)
    ids = [await held(stage, "p-1", at) for at in moments]
    await imported(stage, LONGER)
    assert [(await read(stage, "p-1", check_in_id))[0] for check_in_id in ids] == ["accepted", "moot", "moot"]
    assert (await stage.status("T1"))["members"][0]["check_in_id"] == ids[0]


async def test_a_doubtful_one_in_time_stays_with_people(stage: Stage) -> None:
    await provisional_task(stage)
    await stage.set_clock(PROVISIONAL_CLOSES_AT)
    review_id = await doubtful(stage, "p-1", "T1")
    assert (await decide(stage, review_id)).status == 409
    assert (await imported(stage, LONGER)).recomputed.decided == {}
    assert (await read(stage, "p-1", review_id))[0] == "pending"
    assert (await decide(stage, review_id)).status == 200
    assert (await stage.status("T1"))["state"] == "completed"


async def test_a_doubtful_one_that_is_too_late_is_closed_out(stage: Stage) -> None:
    await provisional_task(stage)
    await stage.set_clock(OFFICIAL_CLOSES_AT)
    review_id = await doubtful(stage, "p-1", "T1")
    await imported(stage, LONGER)
    assert await read(stage, "p-1", review_id) == ("rejected", ["window_closed", "presentation_attack"])


@pytest.mark.parametrize(("at", "state"), [(-MICROSECOND, "pending"), (timedelta(), "rejected")])
async def test_a_held_manual_request_goes_to_people_when_it_was_in_time(
    stage: Stage, at: timedelta, state: str
) -> None:
    await provisional_task(stage)
    await stage.set_clock(OFFICIAL_CLOSES_AT + at)
    request_id = await asked(stage, "p-1", "T1")
    await imported(stage, LONGER)
    reply = await stage.person("p-1", "GET", f"/v1/manual-requests/{request_id}")
    assert reply.body["state"] == state


async def test_nobody_is_accepted_who_has_withdrawn_consent(stage: Stage) -> None:
    await provisional_task(stage)
    check_in_id = await held(stage, "p-1", PROVISIONAL_CLOSES_AT)
    assert (await stage.person("p-1", "DELETE", "/v1/me/consent")).status == 204
    await imported(stage, LONGER)
    assert (await read(stage, "p-1", check_in_id))[0] == "pending"
    assert (await stage.status("T1"))["progress"]["accepted"] == 0


async def test_while_the_end_is_provisional_nothing_is_closed_out(stage: Stage) -> None:
    """An amendment of December moves the guess, and what comes before the new one is in time, whatever the notice
    for January says."""
    await stage.set_clock(datetime.fromisoformat("2026-12-28T12:00:00+08:00"))
    await stage.ready_task("T1", "p-1", "p-2", approved_at="2026-11-30T10:00:00+08:00")
    document = await published_2026(stage)
    off = [*document["days_off"], period("2026-12-30", "2026-12-31")]
    await imported(stage, document | {"days_off": off})
    status = await stage.status("T1")
    assert (status["window"]["last_day"], status["window"]["provisional"]) == ("2027-01-04", True)
    check_in_id = await held(stage, "p-1", datetime.fromisoformat("2027-01-05T00:00:00+08:00"))
    await swept(stage, datetime.fromisoformat("2027-01-06T00:00:00+08:00"))
    assert (await read(stage, "p-1", check_in_id))[0] == "pending"
    await imported(stage, notice_2027())
    assert await read(stage, "p-1", check_in_id) == ("rejected", ["window_closed"])


async def test_what_nobody_has_judged_is_given_up_after_the_official_end_only(stage: Stage) -> None:
    await provisional_task(stage)
    with situations.breakdown(stage):
        assert (await stage.check_in("p-1", "T1")).status == 503
    ended = []
    for closes_at in (PROVISIONAL_CLOSES_AT, OFFICIAL_CLOSES_AT):
        await swept(stage, closes_at + timedelta(minutes=10))
        ended += [row["ended"] for row in await stage.sql("SELECT ended FROM receipt")]
        await imported(stage, LONGER)
    assert ended == [None, "abandoned"]


# --- At the same time, and interrupted ---


async def test_two_imports_at_once_make_one_version(stage: Stage) -> None:
    before = await provisional_task(stage, "p-1", "p-2")
    await held(stage, "p-1", PROVISIONAL_CLOSES_AT)
    both = await asyncio.gather(imported(stage, LONGER), imported(stage, LONGER))
    assert sorted(str(done.version) for done in both) == ["None", "cn-2027.1"]
    assert sum(done.recomputed.windows for done in both) == 1
    assert await told(stage, "T1") == [
        "member_in_review",
        "deadline_changed",
        "review_decided",
        "member_accepted",
    ]
    assert (await stage.status("T1"))["rev"] == before["rev"] + 4


async def test_two_recomputations_that_have_both_looked_move_a_window_once(stage: Stage) -> None:
    await provisional_task(stage)
    async with stage.holding("SELECT FROM task WHERE task_id = 'T1' FOR UPDATE"):
        racing = [asyncio.create_task(imported(stage, LONGER)) for _ in range(2)]
        await stage.until_waiting(2)
    await asyncio.gather(*racing)
    assert await told(stage, "T1") == ["deadline_changed"]


async def test_an_interrupted_import_is_finished_by_the_next_sweep(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_off(*_: Any, **__: Any) -> None:
        raise ConnectionError("the operator's machine is gone")

    await provisional_task(stage)
    with monkeypatch.context() as patch:
        patch.setattr(importing, "recompute_windows", break_off)
        with pytest.raises(ConnectionError):
            await imported(stage, LONGER)
    assert (await stage.status("T1"))["window"]["provisional"] is True
    await swept(stage, PROVISIONAL_OPENS_AT)
    assert (await stage.status("T1"))["closes_at"] == OFFICIAL_CLOSES_AT.isoformat()


async def test_an_interrupted_import_is_finished_by_the_same_one_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await provisional_task(stage, f"p-{number}", task_id=f"T{number}")
    recompute, left = recomputing._recompute, [1]

    async def break_off(*arguments: Any) -> None:
        if not left:
            raise ConnectionError("the operator's machine is gone")
        left.pop()
        await recompute(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(recomputing, "_recompute", break_off)
        with pytest.raises(ConnectionError):
            await imported(stage, LONGER)
        left.extend([1] * 3)
        again = await imported(stage, LONGER)
    assert (again.version, again.recomputed.windows) == (None, 2)
    assert [await told(stage, f"T{number}") for number in range(3)] == [["deadline_changed"]] * 3


@pytest.mark.parametrize(
    ("document", "at", "outcome"),
    [
        (LONGER, OFFICIAL_CLOSES_AT - MICROSECOND, ("accepted", [])),
        (LONGER, OFFICIAL_CLOSES_AT, ("rejected", ["window_closed"])),
        (SHORTER, PROVISIONAL_CLOSES_AT - MICROSECOND, ("accepted", [])),
        (SHORTER, PROVISIONAL_CLOSES_AT, ("rejected", ["window_closed"])),
    ],
)
async def test_a_check_in_in_flight_is_judged_by_the_new_end(
    stage: Stage, document: Json, at: datetime, outcome: tuple[str, list[str]]
) -> None:
    await provisional_task(stage)
    await stage.set_clock(at)
    async with stage.while_analysing(stage.check_in("p-1", "T1")) as submitted:
        await imported(stage, document)
    reply = await submitted
    assert (reply.body["outcome"], reply.reasons) == outcome
    assert await stage.sql("SELECT FROM review") == []


@pytest.mark.parametrize("imported_first", [True, False])
async def test_a_verdict_and_an_import_at_once_come_one_after_the_other(
    stage: Stage, imported_first: bool
) -> None:
    await provisional_task(stage)
    await stage.set_clock(PROVISIONAL_CLOSES_AT)
    calls: list[Callable[[], Any]] = [lambda: imported(stage, LONGER), lambda: stage.check_in("p-1", "T1")]
    racing = []
    async with stage.holding("SELECT FROM task WHERE task_id = 'T1' FOR UPDATE"):
        for waiting, call in enumerate(calls if imported_first else reversed(calls), start=1):
            racing.append(asyncio.create_task(call()))
            await stage.until_waiting(waiting)
    await asyncio.gather(*racing)
    status = await stage.status("T1")
    assert (status["state"], status["members"][0]["state"]) == ("completed", "accepted")
    told_of = ["member_in_review"] if not imported_first else []
    decided = ["review_decided"] if not imported_first else []
    assert await told(stage, "T1") == [
        *told_of,
        "deadline_changed",
        *decided,
        "member_accepted",
        "task_completed",
    ]


async def test_a_window_registered_by_the_old_calendar_meanwhile_is_found(stage: Stage) -> None:
    """Its transaction had read the calendar before the import, and committed after it."""
    await provisional_task(stage)
    await imported(stage, LONGER)
    await stage.sql("UPDATE task SET calendar_version = 'cn-2026.1', provisional = true")
    await swept(stage, PROVISIONAL_OPENS_AT)
    assert (await stage.status("T1"))["window"]["calendar_version"] == "cn-2027.1"


# --- The operator ---


def run_import(stage: Stage, file: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "checkin_service", "calendar-import", str(file), *more]
    environment = {"DATABASE_URL": stage.service_url, "CHECKIN_DATA_DIR": str(file.parent)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


async def test_the_command_says_what_it_did(stage: Stage, tmp_path: Path) -> None:
    await provisional_task(stage)
    file = tmp_path / "2027.json"
    file.write_bytes(as_file(LONGER))
    first, second = [await asyncio.to_thread(run_import, stage, file, "--actor", "li") for _ in range(2)]
    assert (first.returncode, first.stdout.splitlines()[0]) == (0, "cn-2027.1 is in force")
    assert (second.returncode, second.stdout.split(":")[0]) == (0, "nothing to do")
    assert [
        row["actor"] for row in await stage.sql("SELECT actor FROM calendar_version ORDER BY number")
    ] == ["system", "li"]


async def test_the_command_refuses_in_a_sentence(stage: Stage, tmp_path: Path) -> None:
    before = await everything(stage)
    files = {"gap.json": as_file(notice_2027(days_off=[])), "none.json": None}
    for name, content in files.items():
        if content:
            (tmp_path / name).write_bytes(content)
        run = await asyncio.to_thread(run_import, stage, tmp_path / name)
        assert (run.returncode, run.stdout) == (1, "")
        assert run.stderr.startswith("checkin_service calendar-import: ")
        assert "Traceback" not in run.stderr
    assert await everything(stage) == before


async def metrics(stage: Stage) -> str:
    return await (await stage.client.get("/metrics")).text()


@pytest.mark.usefixtures("sweeping")
@pytest.mark.parametrize(
    ("today", "warned"), [("2026-11-01T23:59:59+08:00", []), ("2026-11-02T00:00:00+08:00", [59])]
)
async def test_how_far_the_calendar_reaches_is_measured_and_warned_of(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path, today: str, warned: list[int]
) -> None:
    await provisional_task(stage)
    await stage.set_clock(datetime.fromisoformat(today))
    with capture_logs() as logs:
        # which sweeps when it starts
        async with running_service(stage.database_url, stores.redis_url or "", tmp_path) as other:
            async with asyncio.timeout(60):
                while "\ncheckin_provisional_tasks 1.0\n" not in (text := await metrics(other)):  # noqa: ASYNC110  the event is a scrape
                    await asyncio.sleep(0.01)
    assert "\ncheckin_calendar_end_timestamp_seconds 1.7987328e+09\n" in text
    assert [entry["days_ahead"] for entry in logs if entry["event"] == "calendar_ends"] == warned
