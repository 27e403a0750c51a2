"""Check-ins through everything, with the real face engine: how many a second, how soon, and whose the time is."""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import mean

from checkin_service.app import worker_pool
from checkin_service.settings import read_settings
from tests.bench.cost import GENERATOR, memory_by_kind
from tests.bench.load import PATIENCE_S, Load, open_model, steady
from tests.bench.plan import Plan
from tests.bench.report import Row, Table
from tests.bench.site import Api, Site, calling
from tests.bench.truth import check

# So many at a time that no face worker waits for the next photograph.
WIDTH = 8
# Of what can be done at most: with some room, and too much.
SOME_ROOM, TOO_MUCH = 0.8, 1.25
# Nobody does more: so many submissions are made ready for each second.
READY_PER_S = 90
OURS = ("service", "postgres")


@dataclass(frozen=True, slots=True)
class Engine:
    """A way to judge faces, by the service's settings; on two cores it is meant to judge `target` a second."""

    name: str
    settings: Sequence[str]
    target: float


DLIB = Engine(
    "dlib alone",
    # whose face it is is judged by the threshold for who is not East Asian
    ["CHECKIN_FACE_ENGINE=dlib", "CHECKIN_OPERATING_POINT=lfw_other_1e3"],
    60,
)
BOTH = Engine("both encoders with quality and fingerprint", [], 40)


@dataclass(frozen=True, slots=True)
class Seen:
    """`bare`: photographs a second of the face workers alone. `held`: for what share of its time a check-in holds a
    database connection. `opened`: loads by their rate. `checked`: acceptances that are as callers were told."""

    bare: float
    most: Load
    held: float
    opened: Mapping[float, Load]
    memory: Mapping[str, Sequence[float]]
    checked: int


async def measure(site: Site, plan: Plan, engine: Engine) -> list[Table]:
    """Before and after it the face workers alone, because the machine's speed drifts."""
    before = await bare(site, plan.pool_s, engine.settings)
    async with site.serving(1, *engine.settings) as [process], calling(site, process.base) as api:
        await warm_up(site, process.port, plan)
        most, held = await _most(site, api, process.port, plan)
        site.most[engine.name], opened = most.per_second, {}
        for rate in (SOME_ROOM * engine.target, SOME_ROOM * most.per_second, TOO_MUCH * most.per_second):
            calls = await site.calls(max(1, round(rate * plan.open_s)))
            opened[rate] = await open_model(process.port, calls, rate)
        memory = memory_by_kind()
        checked = await check(api, [heed for load in (most, *opened.values()) for heed in load.judged])
    after = await bare(site, plan.pool_s, engine.settings)
    return list(_tables(Seen(mean((before, after)), most, held, opened, memory, checked), engine))


async def warm_up(site: Site, port: int, plan: Plan) -> None:
    """A connection plans each statement the first time that it executes it."""
    await open_model(port, await site.calls(plan.warming_up), 20)


async def bare(site: Site, seconds: float, settings: Sequence[str]) -> float:
    """Photographs a second of as many workers as `serve` has, never idle, and nothing else."""
    environment = dict(setting.split("=", 1) for setting in settings)
    configured = read_settings({"CHECKIN_DATA_DIR": str(site.stage.settings.data_dir), **environment})
    async with worker_pool(configured) as pool:
        while pool.stats.ready < configured.face_workers:  # noqa: ASYNC110  a pool tells only when it is asked
            await asyncio.sleep(0.05)
        numbers, since = count(), time.monotonic()

        async def client() -> None:
            while time.monotonic() < since + seconds:
                await pool.analyse(site.faces.selfie(next(numbers)))

        await asyncio.gather(*(client() for _ in range(2 * configured.face_workers)))
        return pool.stats.jobs / (time.monotonic() - since)


async def _most(site: Site, api: Api, port: int, plan: Plan) -> tuple[Load, float]:
    """What can be done at most, and for what share of its time a check-in held a connection."""
    before = await _spent(api)
    calls = await site.calls(round(READY_PER_S * plan.steady_s))
    most = await steady(port, calls, WIDTH, plan.steady_s)
    held, requests = (now - then for now, then in zip(await _spent(api), before, strict=True))
    return most, held / requests


async def _spent(api: Api) -> tuple[float, float]:
    """Seconds for which connections were held, and of check-ins."""
    held = await api.metric("checkin_database_connection_seconds_total")
    return held, await api.metric("checkin_request_duration_seconds_sum", 'route="/v1/check-ins"')


# --- What is told of it ---


def _tables(seen: Seen, engine: Engine) -> Iterator[Table]:
    yield Table(
        f"Check-ins, {engine.name}",
        f"One service, rosters of 20, selfies of 480×640, everything on {_cores()} cores. At most: always {WIDTH} at a "
        f"time. Open model: so many a second whatever becomes of those before, each given up after {PATIENCE_S:g} s; "
        "latency from when it was meant to be sent, of all submissions, one not judged being infinitely late. "
        f"{seen.checked} acceptances were compared with what callers were told, their tasks' status and the feed.",
        [*_throughput(seen, engine), *_latencies(seen, engine)],
    )
    yield Table(f"Whose the time is, {engine.name}", "CPU by /proc, at most load.", list(_shares(seen)))
    yield Table(
        f"Memory, {engine.name}",
        "Private memory and shares of what is shared, after it.",
        list(_memory(seen)),
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _throughput(seen: Seen, engine: Engine) -> Iterator[Row]:
    rate = seen.most.per_second
    generator = seen.most.cost.cpu_s[GENERATOR] / (seen.most.cost.wall_s * _cores())
    yield Row("judged at most", rate, "/s", least=engine.target)
    yield Row("a core", rate / _cores(), "/s")
    yield Row("face workers alone", seen.bare, "/s")
    yield Row("judged, of what face workers alone do", 100 * rate / seen.bare, "%", least=75)
    yield Row("the generator's part of the cores", 100 * generator, "%")
    yield Row(
        "judged, of what they do on the rest", 100 * rate / (seen.bare * (1 - generator)), "%", least=75
    )


def _latencies(seen: Seen, engine: Engine) -> Iterator[Row]:
    for number, (rate, load) in enumerate(seen.opened.items()):
        of = ("80 % of the target", "80 % of the most", "125 % of the most")[number]
        yield Row(f"open model at {of}: offered", rate, "/s")
        yield Row("judged", load.per_second, "/s")
        yield Row("not judged", 100 * load.not_judged / len(load.heard), "%", most=None if number else 0)
        for percentile in (50, 95, 99, 100):
            aimed = 1500 if (number, percentile) == (0, 95) else None
            yield Row(f"latency, p{percentile}", load.latency_ms(percentile), "ms", most=aimed)


def _shares(seen: Seen) -> Iterator[Row]:
    number, cost = len(seen.most.judged), seen.most.cost
    yield Row("service and PostgreSQL, a check-in", cost.ms(number, *OURS), "ms", most=6)
    for kind in (*OURS, "valkey", "face", GENERATOR):
        yield Row(kind, cost.ms(number, kind), "ms")
    yield Row("cores in use", 100 * sum(cost.cpu_s.values()) / (cost.wall_s * _cores()), "%")
    yield Row("share of its time for which a check-in holds a connection", 100 * seen.held, "%", most=10)
    kind = "service and PostgreSQL, a check-in in the open model at 80 % of the target"
    load = next(iter(seen.opened.values()))
    yield Row(kind, load.cost.ms(len(load.judged), *OURS), "ms", most=6)


def _memory(seen: Seen) -> Iterator[Row]:
    yield Row("service", sum(seen.memory["service"]), "MB")
    yield Row("the largest face worker", max(seen.memory["face"]), "MB", most=350)
    yield Row("all face workers and the spare", sum(seen.memory["face"]), "MB")
    yield Row("PostgreSQL", sum(seen.memory["postgres"]), "MB")
    yield Row("Valkey", sum(seen.memory["valkey"]), "MB")
