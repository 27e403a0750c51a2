"""Worker processes: photographs a second with one and with two, memory, start-up."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from face.benchmark.fault import BenchmarkFault
from face.pool import ENGINE_FACTORY, WorkerPool
from face.worker_process import WorkerProcess

_START_LIMIT_S = 60.0
_HEADROOM_BYTES = 400_000_000
# Enough that a worker never waits for the next photograph.
_IN_FLIGHT_PER_WORKER = 2
_HAS_PROC = Path("/proc/self/status").exists()


@dataclass(frozen=True, slots=True)
class Throughput:
    """Photographs a second with one and with two worker processes."""

    one: float
    two: float

    @property
    def ratio(self) -> float:
        return self.two / self.one


@dataclass(frozen=True, slots=True)
class Memory:
    """What a worker holds, in MB (10^6 bytes) of resident memory.

    ``started_mb`` warm; ``after_tenth_mb`` and ``after_mb`` after a tenth and after all of ``photographs``;
    ``after_largest_mb`` and ``peak_mb``: another worker after, and at most during, one photograph of the largest size.
    """

    photographs: int
    started_mb: float
    after_tenth_mb: float
    after_mb: float
    after_largest_mb: float
    peak_mb: float

    @property
    def growth_mb(self) -> float:
        """From a tenth to the end: at first the heap takes its shape."""
        return self.after_mb - self.after_tenth_mb


@dataclass(frozen=True, slots=True)
class Start:
    """A worker from the start of its process until it is warm: seconds of wall clock, and of CPU where the system
    has a /proc to read it from."""

    wall_s: float
    cpu_s: float | None


async def throughput(
    options: Mapping[str, Any], sizes: Mapping[str, Sequence[bytes]], bursts: int, burst_s: float
) -> dict[str, Throughput]:
    """By size, the medians of ``bursts`` that alternate between one worker and two."""
    async with _pool(options, 1) as one, _pool(options, 2) as two:
        measured = {}
        for size, photos in sizes.items():
            pairs = [
                (await _per_second(one, 1, photos, burst_s), await _per_second(two, 2, photos, burst_s))
                for _ in range(bursts)
            ]
            measured[size] = Throughput(*(median(column) for column in zip(*pairs, strict=True)))
    return measured


@asynccontextmanager
async def _pool(options: Mapping[str, Any], workers: int) -> AsyncIterator[WorkerPool]:
    async with WorkerPool(options=options, workers=workers, spares=0, deadline_s=60, patience_s=60) as pool:
        async with asyncio.timeout(_START_LIMIT_S):
            while pool.stats.ready < workers:  # noqa: ASYNC110 - a pool tells only when it is asked
                await asyncio.sleep(0.05)
        yield pool


async def _per_second(pool: WorkerPool, workers: int, photos: Sequence[bytes], burst_s: float) -> float:
    """Until the last answer within ``burst_s``: what is then still in the workers does not count."""
    waiting = cycle(photos)
    started = perf_counter()
    answered: list[float] = []

    async def client() -> None:
        while perf_counter() - started < burst_s:
            await pool.analyse(next(waiting))
            answered.append(perf_counter() - started)

    await asyncio.gather(*(client() for _ in range(_IN_FLIGHT_PER_WORKER * workers)))
    in_time = [at for at in answered if at <= burst_s] or answered[:1]
    return len(in_time) / in_time[-1]


async def memory(
    options: Mapping[str, Any], photos: Sequence[bytes], count: int, largest: bytes
) -> Memory | None:
    """``count`` photographs in turns. None where the system has no /proc to read it from."""
    if not _HAS_PROC:
        return None
    tenth = count // 10
    async with _worker(options) as worker:
        started_mb = _resident_mb(worker)
        waiting = cycle(photos)
        await _feed(worker, islice(waiting, tenth))
        after_tenth_mb = _resident_mb(worker)
        await _feed(worker, islice(waiting, count - tenth))
        after_mb = _resident_mb(worker)
    async with _worker(options) as worker:
        await _feed(worker, [largest])
        return Memory(
            count, started_mb, after_tenth_mb, after_mb, _resident_mb(worker), _resident_mb(worker, "VmHWM")
        )


async def start(options: Mapping[str, Any], starts: int) -> Start:
    """The medians of ``starts``; the networks must have been made before."""
    walls, cpus = [], []
    for _ in range(starts):
        before = perf_counter()
        async with _worker(options) as worker:
            walls.append(perf_counter() - before)
            cpus.append(_cpu_s(worker) if _HAS_PROC else 0)
    return Start(median(walls), median(cpus) if _HAS_PROC else None)


@asynccontextmanager
async def _worker(options: Mapping[str, Any]) -> AsyncIterator[WorkerProcess]:
    command = (ENGINE_FACTORY, json.dumps(dict(options)), str(_HEADROOM_BYTES))
    worker = await WorkerProcess.start(command, _START_LIMIT_S)
    try:
        yield worker
    finally:
        await worker.end()


async def _feed(worker: WorkerProcess, photos: Iterable[bytes]) -> None:
    for photo in photos:
        reply = await worker.ask(photo)
        if "analysis" not in reply:
            raise BenchmarkFault(f"a worker did not analyse a photograph: {reply}")


def _resident_mb(worker: WorkerProcess, field: str = "VmRSS") -> float:
    lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    kib = next(line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kib) * 1024 / 1e6


def _cpu_s(worker: WorkerProcess) -> float:
    fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
