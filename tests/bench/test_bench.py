"""That the benchmark measures check-ins and nothing else, and says itself what is missed."""

import json
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from checkin_service.adapters.embedded import EmbeddedStores
from tests.bench import report
from tests.bench.check_ins import OURS
from tests.bench.cost import GENERATOR, Cost, memory_by_kind
from tests.bench.fault import BenchFault
from tests.bench.load import Load, open_model, steady
from tests.bench.people import fixed_faces
from tests.bench.report import Row, Table
from tests.bench.site import Site, calling, made_site
from tests.bench.truth import check
from tests.faults.arrivals import Call, Heed
from tests.faults.clients import Submission
from tests.faults.processes import ServiceProcess
from tests.faults.raw_connections import Heard
from tests.service.databases import Databases
from tests.service.stage import photo_of

in_module = pytest.mark.asyncio(loop_scope="module")
CALL = Call(Submission("p", "T", "key", b""), b"", b"")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    databases: Databases, stores: EmbeddedStores, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("bench")
    async with made_site(
        databases, stores.redis_url or "", folder / "data", folder, fixed_faces(), 60
    ) as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process(site: Site) -> AsyncIterator[ServiceProcess]:
    async with site.serving() as [running]:
        yield running


@in_module
async def test_what_is_measured_is_accepted_stored_and_told(site: Site, process: ServiceProcess) -> None:
    opened = await open_model(process.port, await site.calls(6), 100)
    busy = await steady(process.port, await site.calls(40), 2, 0.1)
    assert {*OURS, "valkey", GENERATOR} <= set(memory_by_kind())
    assert len(opened.judged) == 6
    assert math.isfinite(opened.latency_ms(100))
    judged = [*opened.judged, *busy.judged]
    async with calling(site, process.base) as api:
        assert await check(api, judged) == len(judged)
        lost = judged[0].answer["check_in_id"]
        await site.stage.sql("DELETE FROM acceptance WHERE check_in_id::text = $1", lost)
        with pytest.raises(BenchFault, match="not as callers were told"):
            await check(api, judged)


@in_module
async def test_refusals_are_no_measurement(site: Site, process: ServiceProcess) -> None:
    stranger = replace(site.faces, selfie=lambda number: photo_of("stranger", number))
    rejected = await replace(site, faces=stranger).calls(2)
    with pytest.raises(BenchFault, match="non_match"):
        await open_model(process.port, rejected, 100)
    refused = await site.calls(8)
    people = [call.submission.person_id for call in refused]
    await site.stage.sql("UPDATE consent SET withdrawn_at = given_at WHERE person_id = ANY($1)", people)
    with pytest.raises(BenchFault, match="consent_required"):
        await open_model(process.port, refused[:2], 100)
    with pytest.raises(BenchFault, match="consent_required"):
        await steady(process.port, refused[2:], 1, 0.005)


@in_module
async def test_too_few_submissions_are_no_measurement(site: Site, process: ServiceProcess) -> None:
    with pytest.raises(BenchFault, match="too few"):
        await steady(process.port, await site.calls(2), 1, 60)
    with pytest.raises(BenchFault, match="too few"):
        await site.calls(60)


def heed(status: int, at: float) -> Heed:
    return Heed(CALL, Heard(status, "", b"{}", 0.001), at)


def test_latency_counts_from_when_it_was_due_and_failures_are_never() -> None:
    load = Load([heed(201, 12.0), heed(201, 12.1), heed(503, 12.2), heed(0, 27)], [10, 11, 12, 12], Cost(2))
    assert load.latency_ms(0) == pytest.approx(1100)
    assert load.latency_ms(33) == pytest.approx(2000)
    assert (load.latency_ms(50), load.not_judged, load.per_second) == (math.inf, 2, 1)
    assert {late for _, late in load.curve()} == {None}


def test_a_curve_goes_from_the_median_to_the_tail_and_ends_where_somebody_was_not_judged() -> None:
    load = Load([*(heed(201, at) for at in range(1, 40)), heed(503, 0)], [0] * 40, Cost(1))
    curve = load.curve()
    assert (curve[0], curve[-1]) == ((50, 21_000), (99.9, None))
    # one of forty is 2.5 %
    assert {percentile > 97.4 for percentile, late in curve if late is None} == {True}


def test_the_report_says_what_is_missed_and_rounds_nothing_up() -> None:
    rows = [Row("rate", 59.97, "/s", least=60), Row("late", math.inf, "ms", most=1500), Row("other", 0.034)]
    table = Table("Some", "How.", [*rows, Row("time", 5.991, "ms", most=6)])
    lines = list(table.lines())
    assert "| rate | 59.9 /s | ≥ 60.0 /s | **missed** |" in lines
    assert "| late | never | ≤ 1,500 ms | **missed** |" in lines
    assert "| other | 0.0340 |  |  |" in lines
    assert "| time | 6.00 ms | ≤ 6.00 ms | kept |" in lines
    record = report.as_record("machine", [table, Table("None", "", fault="because")], whole=False)
    assert record["missed"] == ["Some: rate", "Some: late"]
    assert record["tables"][1]["fault"] == "because"
    assert json.loads(json.dumps(record, allow_nan=False))["tables"][0]["rows"][1]["value"] is None


def test_the_report_replaces_the_last_one_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    written = "before\n<!-- a -->\n{}\n<!-- end -->\nafter\n<!-- b -->\nother\n<!-- end -->\n"
    page.write_text(written.format("old"))
    report.put_into(page, "a", "new \\1")
    assert page.read_text() == written.format("new \\1")
    with pytest.raises(ValueError, match="<!-- c -->"):
        report.put_into(page, "c", "lost")
