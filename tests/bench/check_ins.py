"""Check-ins through everything, with the real face engine: how many a second, how soon, and whose the time is."""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import mean
from typing import Any

from checkin_service.app import worker_pool
from checkin_service.settings import read_settings
from tests.bench.cost import GENERATOR, memory_by_kind
from tests.bench.load import PATIENCE_S, Load, open_model, steady
from tests.bench.plan import Plan
from tests.bench.report import LATE_MS, OURS_MS, Row, Table
from tests.bench.site import Api, Site, calling
from tests.bench.truth import check

# So many at a time that no face worker waits for the next photograph.
WIDTH = 8
AT_TARGET = "80 % of the target"
# Nobody does more: so many submissions are made ready for each second.
READY_PER_S = 90
OURS = ("service", "postgres")
KINDS = (*OURS, "valkey", "face", GENERATOR)


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
    database connection. `opened`: the rates of the open model, and what they came to, by what they are. `checked`:
    acceptances that are as callers were told."""

    bare: float
    most: Load
    held: float
    opened: Mapping[str, tuple[float, Load]]
    memory: Mapping[str, Sequence[float]]
    checked: int


async def measure(site: Site, plan: Plan, engine: Engine) -> list[Table]:
    """Before and after it the face workers alone, because the machine's speed drifts."""
    before = await bare(site, plan.pool_s, engine.settings)
    async with site.serving(1, *engine.settings) as [process], calling(site, process.base) as api:
        await warm_up(site, process.port, plan)
        most, held = await _most(site, api, process.port, plan)
        site.most[engine.name] = most.per_second
        rates = _rates(engine.target, most.per_second)
        opened = {of: (rate, await _arriving(site, process.port, rate, plan)) for of, rate in rates.items()}
        memory = memory_by_kind()
        loads = [most, *(load for _, load in opened.values())]
        checked = await check(api, [heed for load in loads for heed in load.judged])
    after = await bare(site, plan.pool_s, engine.settings)
    return list(_tables(Seen(mean((before, after)), most, held, opened, memory, checked), engine))


def _rates(target: float, most: float) -> dict[str, float]:
    """The one that is too much comes last: it leaves work behind."""
    return {"80 % of the most": 0.8 * most, AT_TARGET: 0.8 * target, "125 % of the most": 1.25 * most}


async def _arriving(site: Site, port: int, rate: float, plan: Plan) -> Load:
    return await open_model(port, await site.calls(max(1, round(rate * plan.open_s))), rate)


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
    site.give_back(calls[len(most.heard) :])
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
        [*_throughput(seen, engine), *_latencies(seen)],
        plotted={
            "latency": {engine.name: _curves(seen)},
            "rate": {f"{engine.name}, {_cores()} cores": seen.most.per_second},
        },
    )
    yield Table(
        f"Whose the time is, {engine.name}",
        "CPU by /proc, at most load.",
        list(_shares(seen)),
        plotted={"cpu": {engine.name: _by_kind(seen)}},
    )
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


def _latencies(seen: Seen) -> Iterator[Row]:
    for of, (rate, load) in seen.opened.items():
        aimed = of == AT_TARGET
        yield Row(f"open model, {of}: offered", rate, "/s")
        yield Row("judged", load.per_second, "/s")
        yield Row("not judged", 100 * load.not_judged / len(load.heard), "%", most=0 if aimed else None)
        yield Row("latency, median", load.latency_ms(50), "ms")
        yield Row("latency, p95", load.latency_ms(95), "ms", most=LATE_MS if aimed else None)
        yield Row("latency, p99", load.latency_ms(99), "ms")
        yield Row("latency, the longest", load.latency_ms(100), "ms")


def _curves(seen: Seen) -> dict[str, Any]:
    """Of each load, with what was offered and how much of it was not judged."""
    return {
        f"{of}: {rate:.3g} /s, {100 * load.not_judged / len(load.heard):.3g} % not judged": load.curve()
        for of, (rate, load) in seen.opened.items()
    }


def _by_kind(seen: Seen) -> dict[str, float]:
    return {kind: seen.most.cost.ms(len(seen.most.judged), kind) for kind in KINDS}


def _shares(seen: Seen) -> Iterator[Row]:
    number, cost = len(seen.most.judged), seen.most.cost
    yield Row("service and PostgreSQL, a check-in", cost.ms(number, *OURS), "ms", most=OURS_MS)
    for kind, ms in _by_kind(seen).items():
        yield Row(kind, ms, "ms")
    yield Row("cores in use", 100 * sum(cost.cpu_s.values()) / (cost.wall_s * _cores()), "%")
    yield Row("share of its time for which a check-in holds a connection", 100 * seen.held, "%", most=10)
    _, load = seen.opened["80 % of the most"]
    yield Row(
        "service and PostgreSQL, at 80 % of the most",
        load.cost.ms(len(load.judged), *OURS),
        "ms",
        most=OURS_MS,
    )


def _memory(seen: Seen) -> Iterator[Row]:
    yield Row("service", sum(seen.memory["service"]), "MB")
    yield Row("the largest face worker", max(seen.memory["face"]), "MB", most=350)
    yield Row("all face workers and the spare", sum(seen.memory["face"]), "MB")
    yield Row("PostgreSQL", sum(seen.memory["postgres"]), "MB")
    yield Row("Valkey", sum(seen.memory["valkey"]), "MB")
