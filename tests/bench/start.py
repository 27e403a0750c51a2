"""From the start of the process until check-ins can be judged."""

import statistics
import time

import aiohttp

from tests.bench.plan import Plan
from tests.bench.report import Row, Table
from tests.bench.site import Site
from tests.faults.processes import ServiceProcess


async def measure(site: Site, plan: Plan) -> list[Table]:
    times = [await _start(site) for _ in range(plan.starts)]
    rows = [
        Row("until it is ready, median", statistics.median(times), "s"),
        Row("making the networks, at the first start of all", site.faces.made_in_s, "s"),
    ]
    return [Table("Start", f"Of {plan.starts}; the schema and the networks are there.", rows)]


async def _start(site: Site) -> float:
    since = time.perf_counter()
    async with site.serving() as [process]:
        await _judges(process)
        return time.perf_counter() - since


async def _judges(process: ServiceProcess) -> None:
    async with aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{process.base}/readyz") as answer:
                if answer.status == 200:
                    return
