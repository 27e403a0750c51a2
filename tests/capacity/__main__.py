"""`python -m tests.capacity`: docs/capacity.md anew, from docs/capacity.json and the benchmark's latest report.

`--measure` measures first what check-ins leave behind, `--replay` then replays a last evening; each takes some minutes
and writes what it has found into docs/capacity.json.
"""

import argparse
import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import uvloop

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.logs import configure_logs
from tests.bench.people import real_faces
from tests.bench.report import circumstances
from tests.bench.site import Site, made_site
from tests.capacity import left_behind
from tests.capacity.inputs import BENCH, Inputs, costs_of, read_inputs, write_inputs
from tests.capacity.left_behind import Numbers
from tests.capacity.page import write_page
from tests.capacity.replay import AS_PLANNED, TOO_MUCH, replay_all
from tests.embedded.temporary import temporary_data_dir, temporary_stores
from tests.faults.arrivals import two_cores
from tests.service.databases import Databases

FOLDER = Path(".artifacts")
WARMING_UP = 200
Found = TypeVar("Found")


def with_costs(inputs: Inputs) -> Inputs:
    """Those of the benchmark's latest report, if there is one."""
    record = json.loads(BENCH.read_text("utf-8")) if BENCH.exists() else None
    found = costs_of(record) if record else {}
    if not record or not found:
        return inputs
    return replace(inputs, costs={**inputs.costs, **found}, about={**inputs.about, "costs": record["about"]})


def with_left_behind(inputs: Inputs) -> Inputs:
    numbers = Numbers()
    about, found = on_a_site(numbers.people, lambda site: left_behind.measure(site, numbers))
    return replace(inputs, left_behind=found, about={**inputs.about, "left_behind": about})


def with_replays(inputs: Inputs) -> Inputs:
    people = AS_PLANNED.number + TOO_MUCH.number + WARMING_UP
    about, found = on_a_site(people, lambda site: replay_all(site, inputs, len(os.sched_getaffinity(0))))
    return replace(inputs, replays=found, about={**inputs.about, "replays": about})


def on_a_site(people: int, work: Callable[[Site], Awaitable[Found]]) -> tuple[str, Found]:
    """What it ran on, and what was found, on two cores with stores of their own, on a disk."""
    with two_cores(), temporary_stores() as stores, temporary_data_dir() as data_dir:
        about = circumstances("in full")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return about, runner.run(_worked(stores, data_dir / "service", people, work))


async def _worked(
    stores: EmbeddedStores, data_dir: Path, people: int, work: Callable[[Site], Awaitable[Found]]
) -> Found:
    faces, databases = real_faces(data_dir / "models"), Databases(stores.database_url or "")
    async with made_site(databases, stores.redis_url or "", data_dir, FOLDER, faces, people) as site:
        return await work(site)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.capacity", description=__doc__)
    parser.add_argument("--measure", action="store_true", help="what check-ins leave behind")
    parser.add_argument("--replay", action="store_true", help="a last evening")
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    configure_logs()
    inputs = with_costs(read_inputs())
    if options.measure:
        inputs = with_left_behind(inputs)
        write_inputs(inputs)
    if options.replay:
        inputs = with_replays(inputs)
    write_inputs(inputs)
    # of the file, in which every figure is rounded
    write_page(read_inputs())


if __name__ == "__main__":
    main()
