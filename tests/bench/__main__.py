"""`make bench`: one command, one report. BENCH_QUICK=1 takes a few minutes and is rougher.

Prints the tables and writes them to .artifacts/bench.json; in full also into docs/performance.md, with plots. Ends with
1 where something could not be measured; a target that is missed is said beside its figure and ends nothing.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import uvloop

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.logs import configure_logs
from tests.bench import check_ins, enrolments, large_case, naive, reads, scale, start
from tests.bench import faces as face_pipeline
from tests.bench.fault import BenchFault
from tests.bench.people import real_faces
from tests.bench.plan import FULL, QUICK, Plan
from tests.bench.publication import publish
from tests.bench.report import FOLDER, Table, circumstances
from tests.bench.site import Site, made_site
from tests.embedded.temporary import temporary_data_dir, temporary_stores
from tests.faults.arrivals import two_cores
from tests.service.databases import Databases

Measure = Callable[[Site, Plan], Awaitable[list[Table]]]
# What the naive service is compared with comes before it, and what fills the tables comes late.
PARTS: dict[str, Measure] = {
    "check-ins-dlib": partial(check_ins.measure, engine=check_ins.DLIB),
    "check-ins-both": partial(check_ins.measure, engine=check_ins.BOTH),
    "naive": naive.measure,
    "scale": scale.measure,
    "reads": reads.measure,
    "enrolments": enrolments.measure,
    "start": start.measure,
    "large-case": large_case.measure,
    "faces": face_pipeline.measure,
}


async def measure_all(
    stores: EmbeddedStores, data_dir: Path, plan: Plan, parts: Sequence[str]
) -> list[Table]:
    databases, redis_url = Databases(stores.database_url or ""), stores.redis_url or ""
    faces, tables = real_faces(data_dir / "models"), []
    async with made_site(databases, redis_url, data_dir, FOLDER, faces, plan.people) as site:
        for part in parts:
            since = time.monotonic()
            tables += await _tables(site, plan, part)
            print(f"{part}: {time.monotonic() - since:.0f} s", file=sys.stderr, flush=True)
    return tables


async def _tables(site: Site, plan: Plan, part: str) -> list[Table]:
    """Or one that says why there are none: the others are worth having all the same."""
    try:
        return await PARTS[part](site, plan)
    except (BenchFault, RuntimeError, TimeoutError) as fault:
        return [Table(part, "", fault=f"{type(fault).__name__}: {fault}")]


def run(plan: Plan, parts: Sequence[str]) -> tuple[str, list[Table]]:
    """What it ran on, and the tables; on two cores, whatever there are."""
    with two_cores(), temporary_stores() as stores, temporary_data_dir() as data_dir:
        about = circumstances(plan.name)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return about, runner.run(measure_all(stores, data_dir / "service", plan, parts))


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", default="", help=f"some of {','.join(PARTS)}; docs/performance.md stays")
    only = [part for part in parser.parse_args().only.split(",") if part]
    plan = QUICK if os.environ.get("BENCH_QUICK") else FULL
    FOLDER.mkdir(exist_ok=True)
    configure_logs()
    about, tables = run(plan, only or list(PARTS))
    faults = [table.fault for table in tables if table.fault]
    whole = plan is FULL and not only and not faults
    publish("make bench", "bench", about, tables, whole)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
