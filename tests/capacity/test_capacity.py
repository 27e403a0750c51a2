"""That the page says what the model does, that the model counts right, and that what it rests on is measured and
replayed on check-ins that are what they should be."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.published_calendar import published_notices
from checkin_service.domain.calendar import calendar_of
from checkin_service.domain.retention import POLICY, Kind
from tests.bench.people import fixed_faces
from tests.bench.report import Row, as_record
from tests.bench.report import Table as BenchTable
from tests.bench.site import Site, made_site
from tests.capacity import left_behind
from tests.capacity.demand import (
    ASSUMPTIONS,
    PLACES,
    arrivals,
    days_between,
    fullest_last_day,
    planned,
    rates,
)
from tests.capacity.inputs import COSTS, ROOT, Inputs, costs_of, read_inputs, write_inputs
from tests.capacity.left_behind import Numbers
from tests.capacity.model import KEPT, MACHINE_CORES, Need, months_kept, needs, waiting_share
from tests.capacity.page import DEMAND, PAGE, TABLES, as_table, mark_of, write_page
from tests.capacity.queue import Work, least_cores, play
from tests.capacity.replay import EXPECTED, Replay, Seen, foretold, replayed
from tests.service.databases import Databases

in_module = pytest.mark.asyncio(loop_scope="module")
FEW = Numbers(accepted=8, refused=6, asked=4, tasks=2, deferred=6, after_checkpoint=1)
SOME = Replay("some", times=1, length_s=2, surge_s=1)


@pytest.fixture(scope="module")
def inputs() -> Inputs:
    return read_inputs()


# --- The page ---


@pytest.mark.parametrize("name", TABLES)
def test_the_page_has_the_tables_of_the_model(inputs: Inputs, name: str) -> None:
    [written] = re.findall(
        f"{re.escape(mark_of(name))} -->\n(.*?)\n<!-- end -->", PAGE.read_text("utf-8"), re.DOTALL
    )
    assert written == as_table(*TABLES[name](inputs))


def test_other_costs_make_another_page(inputs: Inputs, tmp_path: Path) -> None:
    page = tmp_path / "capacity.md"
    page.write_text(PAGE.read_text("utf-8"), "utf-8")
    dearer = replace(inputs, costs={**inputs.costs, "worker_mb": 10 * inputs.costs["worker_mb"]})
    write_page(dearer, page)
    assert as_table(*TABLES["answer"](dearer)) in page.read_text("utf-8")
    assert as_table(*TABLES["answer"](dearer)) != as_table(*TABLES["answer"](inputs))


def test_inputs_are_read_as_they_were_written(inputs: Inputs, tmp_path: Path) -> None:
    write_inputs(inputs, tmp_path / "capacity.json")
    assert read_inputs(tmp_path / "capacity.json") == inputs


def test_every_cost_is_a_row_of_the_benchmark() -> None:
    told = (ROOT / "docs" / "performance.md").read_text("utf-8")
    tables = {part.partition("\n")[0]: part for part in told.split("\n### ")}
    for title, *rows in COSTS.values():
        assert [row for row in rows if f"\n| {row} | " not in tables[title]] == []


def test_costs_come_from_a_full_run_and_the_right_row() -> None:
    polls = [Row("poll with a current ETag, 304", 900, "/s"), Row("service, PostgreSQL", 1.1, "ms")]
    several = [
        Row("service, PostgreSQL", 7, "ms"),
        Row("status", 500, "/s"),
        Row("service, PostgreSQL", 1.6, "ms"),
    ]
    told = as_record(
        "2026-11-23, in full, commit x",
        [BenchTable("Reading, on one core", "", polls + several)],
        whole=False,
    )
    assert costs_of(told) == {"poll_ms": 1.1, "status_ms": 1.6}
    assert costs_of({**told, "about": "2026-11-23, quick, commit x"}) == {}


# --- The model ---


def test_as_many_windows_end_on_one_day_as_is_assumed() -> None:
    days = days_between(date(2016, 1, 1), date(2026, 10, 31))
    calendar = calendar_of("published", published_notices())
    working = [day for day in days if not calendar.is_rest_day(day)]
    _, most = fullest_last_day(calendar, days)
    months = 12 * 10 + 10
    assert most == 8
    assert most / (len(working) / months) == pytest.approx(ASSUMPTIONS["closing_together"].least, abs=5e-4)


def test_twice_the_people_are_twice_the_work(inputs: Inputs) -> None:
    one, two = Need(inputs, planned(), 1), Need(inputs, planned(), 2)
    for figure in ("log_gb", "commits_per_s", "changes_per_s", "log_mb_per_s_deferred", "rows_for_good_gb"):
        assert getattr(two, figure) == pytest.approx(2 * getattr(one, figure))
    assert two.busy["face"] == pytest.approx(2 * one.busy["face"])
    assert two.rows_gb(36) == pytest.approx(2 * one.rows_gb(36))


def test_an_evening_by_hand(inputs: Inputs) -> None:
    """240,000 persons, a fifth of them in the evening, twice each, three of ten in the last hour."""
    assert rates(planned(), 1) == pytest.approx((240_000 * 0.2 * 2 * 0.3 / 3600, 3 * 8))
    need = Need(inputs, planned(), 1)
    assert need.busy["face"] == pytest.approx(24 * 0.65 * inputs.costs["face_ms"] / 1000)
    # whole cores for two kinds of machine, of which PostgreSQL's has two at least
    assert sum(need.at_once) >= sum(need.busy.values()) / 0.65 > sum(need.at_once) - 3


@pytest.mark.parametrize("wrong", DEMAND)
def test_receipts_first_bears_one_wrong_assumption(inputs: Inputs, wrong: str) -> None:
    worse = needs(inputs, planned(**{wrong: ASSUMPTIONS[wrong].most}), PLACES)
    for ordered, needed in zip(needs(inputs, planned(), PLACES), worse, strict=True):
        assert sum(ordered.receipts_first) <= sum(ordered.at_once)
        assert needed.receipts_first[0] <= ordered.machines * MACHINE_CORES
        assert needed.receipts_first[1] <= ordered.at_once[1]


def test_what_is_kept_goes_as_retention_says(inputs: Inputs) -> None:
    stays = (ROOT / "docs" / "retention.md").read_text("utf-8").partition("## What stays")[2]
    events = Need(inputs, planned(), 1).events
    tables = {table for event in events for table in inputs.left_behind[event]["tables"]}
    for_good = {table for table in tables if months_kept(table, "accepted") == float("inf")}
    also = {"attempt", "receipt"}  # without their figures
    assert {table for table in for_good - also if f"`{table}`" not in stays} == set()
    assert months_kept("audit", "accepted") == pytest.approx(
        POLICY[Kind.AUDIT].period / timedelta(days=30.4) + 1
    )
    assert months_kept("attempt", "refused_place") == pytest.approx(184 / 30.4 + 1)
    assert {"audit", "kept_photograph", "evidence"} <= tables & set(KEPT)


def test_rows_stop_growing_where_they_are_purged(inputs: Inputs) -> None:
    need = Need(inputs, planned(), 1)
    assert need.rows_gb(61) - need.rows_gb(49) == pytest.approx(need.rows_for_good_gb)
    assert need.rows_gb(12) - need.rows_gb(0) > need.rows_for_good_gb
    assert need.evidence_gb(12) == need.evidence_gb(120)


def test_waiting_by_the_textbook() -> None:
    """Two servers, two thirds busy: 2ρ²/(1 + ρ)."""
    waits, services = waiting_share(2, 2 / 3)
    assert waits == pytest.approx(8 / 15)
    assert services == pytest.approx(8 / 15 / (2 / 3))


# --- The queue ---


def test_who_comes_slower_than_is_judged_is_judged_at_once() -> None:
    evening = play([10.0] * 60, cores=2, work=Work(0.1, 0.01))
    assert (evening.deferred, evening.longest_s) == (0, 1)


def test_who_comes_faster_is_deferred_and_judged_in_the_end() -> None:
    """A minute's 40 a second take two cores two minutes in all."""
    evening = play([40.0] * 60, cores=2, work=Work(0.1, 0.0))
    assert evening.deferred > 0
    assert evening.backlog == pytest.approx(0, abs=1e-6)
    # 30 s are lost in which those come who are deferred
    assert 60 + 25 <= evening.longest_s <= 60 + 30 + 1


def test_the_least_cores_are_the_least() -> None:
    coming, work = arrivals(*rates(planned(), 7)), Work(0.06, 0.01)
    cores = least_cores(coming, work, 240, 1)
    enough, too_few = play(coming, cores, work), play(coming, cores - 1, work)
    assert enough.longest_s <= 240
    assert enough.latest_s <= 1
    assert too_few.longest_s > 240 or too_few.latest_s > 1


# --- What is measured and replayed ---


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    databases: Databases, stores: EmbeddedStores, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("capacity")
    people = FEW.people + SOME.number + 60
    async with made_site(
        databases, stores.redis_url or "", folder / "data", folder, fixed_faces(), people
    ) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(site: Site) -> Seen:
    """With all the time in the world: nothing that is asserted rests on how fast this machine is."""
    return await replayed(site, SOME, margin_s=600)


@in_module
async def test_everybody_of_a_replay_is_judged_as_they_should_be(seen: Seen) -> None:
    assert len(seen.sent) == len(seen.stored) == len(seen.heard) == SOME.number
    assert seen.missed == []
    assert seen.untrue == []
    assert {sent.kind for sent in seen.sent} == set(EXPECTED)
    assert seen.cost.cpu_s["service"] > 0


@in_module
async def test_a_replay_sees_who_is_missed_and_what_is_untrue(seen: Seen) -> None:
    [key, other, *_] = [sent.call.submission.key for sent in seen.sent if sent.kind == "accepted"]
    late = {key: {**seen.stored[key], "in_time": False}, other: {**seen.stored[other], "accepted_at": None}}
    spoilt = replace(seen, stored={**seen.stored, **late})
    assert spoilt.missed == [key]
    assert spoilt.untrue == [other]
    lost = replace(seen, stored={name: row for name, row in seen.stored.items() if name != key})
    assert lost.missed == lost.untrue == [key]


@in_module
async def test_what_check_ins_leave_behind(site: Site, seen: Seen) -> None:
    found = await left_behind.measure(site, FEW)
    assert json.loads(json.dumps(found)) == found
    assert set(found) >= set(Need(read_inputs(), planned(), 1).events)
    assert found["accepted"]["number"] == FEW.accepted
    assert found["accepted"]["object_bytes"] > 0
    assert found["refused_place"]["object_bytes"] == 0
    # what is to be judged later lies in the database, selfie and all
    assert found["deferred"]["wal_bytes"] > found["deferred"]["body_bytes"]
    assert found["deferred"]["tables"]["deferred_submission"] > 0
    assert found["accepted_after_checkpoint"]["wal_bytes"] > found["accepted"]["wal_bytes"]
    assert found["accepted"]["transactions"] >= 2


def test_what_is_foretold_is_of_the_same_arrivals(inputs: Inputs) -> None:
    few, many = Replay("few", 0.1, 20, 5), Replay("many", 20, 20, 5)
    assert foretold(inputs, few, 2)["deferred"] == 0
    assert foretold(inputs, many, 2)["deferred"] > 10
    assert foretold(inputs, few, 2)["all_ms"] == foretold(inputs, many, 2)["all_ms"]
