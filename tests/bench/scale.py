"""One, two and four processes of the service on one PostgreSQL and one Valkey, with the same check of what they did."""

import os
from collections.abc import Iterator

from tests.bench.check_ins import OURS, READY_PER_S
from tests.bench.cost import GENERATOR, pinned
from tests.bench.front import NAME, in_front, port_of
from tests.bench.load import Load, open_model, steady
from tests.bench.plan import Plan
from tests.bench.report import Row, Table
from tests.bench.site import Site, calling
from tests.bench.truth import check

PROCESSES = (1, 2, 4)
WIDTH_EACH = 4
WARMING_UP_PER_S = 10


async def measure(site: Site, plan: Plan) -> list[Table]:
    """With a core for each process as far as there are any, on which all the rest lives, too."""
    loads = {number: await _most(site, plan, number) for number in PROCESSES}
    rows = [row for number, load in loads.items() for row in _rows(number, load)]
    gain = loads[2].per_second / loads[1].per_second
    rows.insert(0, Row("2 processes against 1", gain, "times", least=1.8))
    note = (
        f"Each with one face worker, both encoders; before them {NAME}. One process, the stores, what stands before it "
        f"and the generator share one core; two share two; four share the {_cores(4)} there are. Every acceptance was "
        "compared with what its caller was told, with its task's status and with the feed."
    )
    rates = {
        f"{number} with a worker each on {_cores(number)} of the cores": load.per_second
        for number, load in loads.items()
    }
    return [Table("Several processes", note, rows, plotted={"rate": rates})]


async def _most(site: Site, plan: Plan, number: int) -> Load:
    with pinned(sorted(os.sched_getaffinity(0))[:number]):
        async with site.serving(number, "CHECKIN_FACE_WORKERS=1") as running, in_front(running) as base:
            await open_model(port_of(base), await site.calls(plan.warming_up), WARMING_UP_PER_S)
            calls = await site.calls(round(READY_PER_S * plan.scale_s))
            load = await steady(port_of(base), calls, WIDTH_EACH * number, plan.scale_s)
            site.give_back(calls[len(load.heard) :])
            async with calling(site, base) as api:
                await check(api, load.judged)
            return load


def _rows(number: int, load: Load) -> Iterator[Row]:
    judged, cost = len(load.judged), load.cost
    yield Row(f"{number} on {_cores(number)}: judged", load.per_second, "/s")
    yield Row("service, PostgreSQL", cost.ms(judged, *OURS), "ms")
    yield Row("face", cost.ms(judged, "face"), "ms")
    yield Row("nginx, generator", cost.ms(judged, "nginx", GENERATOR), "ms")


def _cores(number: int) -> int:
    return min(number, len(os.sched_getaffinity(0)))
