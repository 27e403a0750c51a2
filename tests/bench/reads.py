"""What the platform asks all day, and the calls beside a check-in: service and PostgreSQL on one core, the generator on
another."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np

from tests.bench.cost import Cost, measured, pinned
from tests.bench.fault import BenchFault
from tests.bench.plan import Plan
from tests.bench.report import Row, Table
from tests.bench.site import Api, Site, calling

WIDTH = 8
IN_QUERY = IN_PAGE = 100
Ask = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answers:
    times_s: list[float]
    cost: Cost

    def rows(self, what: str, least: float | None = None) -> list[Row]:
        number = len(self.times_s)
        return [
            Row(what, number / self.cost.wall_s, "/s and core", least=least),
            Row("service, PostgreSQL", self.cost.ms(number, "service", "postgres"), "ms"),
            Row("latency, p95", float(np.percentile(self.times_s, 95, method="higher")) * 1000, "ms"),
        ]


async def measure(site: Site, plan: Plan) -> list[Table]:
    cores = sorted(os.sched_getaffinity(0))
    async with site.serving() as [process], calling(site, process.base) as api:
        with pinned(cores[:1], cores[-1:]):
            asks = await _asks(site, api, plan)
            rows = [
                row
                for what, (ask, share, least) in asks.items()
                for row in (await many(ask, max(WIDTH, round(plan.reads * share)))).rows(what, least)
            ]
    apart = "another" if len(cores) > 1 else "the same, for there is one only"
    note = f"{WIDTH} at a time over connections that are kept; tasks of 20. The generator is on {apart} core."
    return [Table("Reading, on one core", note, rows)]


async def many(ask: Ask, number: int, width: int = WIDTH) -> Answers:
    """So many times, so many at once, after a tenth of it to warm up."""
    await _in_parallel(ask, number // 10 + 1, width)
    with measured() as cost:
        times = await _in_parallel(ask, number, width)
    return Answers(times, cost)


async def _in_parallel(ask: Ask, number: int, width: int) -> list[float]:
    times: list[float] = []
    waiting = iter(range(number))

    async def worker() -> None:
        for _ in waiting:
            since = time.perf_counter()
            await ask()
            times.append(time.perf_counter() - since)

    await asyncio.gather(*(worker() for _ in range(width)))
    return times


async def _asks(site: Site, api: Api, plan: Plan) -> dict[str, tuple[Ask, float, float | None]]:
    """Each with how many of the plan's calls it makes, and how many a second and core are meant to be answered."""
    path, headers = "/v1/tasks/T-0", api.headers("platform", "tasks")
    async with api.session.get(api.base + path, headers=headers) as answer:
        unchanged = headers | {"If-None-Match": answer.headers["ETag"]}
    first = await api.call("GET", "/v1/changes?limit=1", 200)
    after = f"{first['feed_epoch']}.{await _newest(site) - IN_PAGE}"
    members = cycle(list(site.members)[-IN_QUERY:])
    asked = {"task_ids": [f"T-{n}" for n in range(IN_QUERY)]}

    async def poll() -> None:
        async with api.session.get(api.base + path, headers=unchanged) as answer:
            if answer.status != 304:
                raise BenchFault(f"a poll answered {answer.status}")

    async def status() -> None:
        _complete((await api.call("GET", path, 200))["members"], 20)

    async def query() -> None:
        _complete((await api.call("POST", "/v1/tasks/query", 200, json=asked))["tasks"], IN_QUERY)

    async def page() -> None:
        _complete((await api.call("GET", f"/v1/changes?after={after}", 200))["changes"], IN_PAGE)

    async def challenge() -> None:
        person_id, task_id = next(members)
        body = {"task_id": task_id}
        await api.call("POST", "/v1/challenges", 201, person_id, "checkin", json=body)

    return {
        "poll with a current ETag, 304": (poll, 1, 1000),
        "status": (status, 0.5, None),
        f"query of {IN_QUERY} tasks": (query, 0.05, None),
        f"page of the feed, {IN_PAGE} changes": (page, 0.3, None),
        "challenge": (challenge, 0.3, None),
    }


async def _newest(site: Site) -> int:
    [row] = await site.stage.sql("SELECT max(seq) AS newest FROM change")
    return int(row["newest"])


def _complete(found: list[Any], number: int) -> None:
    if len(found) != number:
        raise BenchFault(f"{len(found)} of {number} came")
