"""Promise 10: a crashing, hanging or exhausted face worker costs one request.

Colleagues check in together; one of them sends a photograph that makes its worker crash, spin or eat memory. The
workers are the service's own, with an engine of fixed answers that obeys the mark on that photograph.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pytest

from checkin_service import app
from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.settings import Settings
from face import Analysis, WorkerFailed, WorkerPool
from tests.faults.marked_engine import ORDERS, analyse
from tests.faults.record import Record
from tests.service.conftest import UNLIMITED
from tests.service.fixed_engine import FixedEngine
from tests.service.stage import Reply, Stage, check_in_fields, photo_of, running_service, until

UNLUCKY, *NEIGHBOURS = PERSONS = [f"p-{n}" for n in range(5)]
WORKERS = 2
DEADLINE_S = 1.5
WHOLE_AGAIN_S = {1: 2.0, 0: 5.0}
"""Until as many photographs can be analysed at once as before, by the number of spares."""
REPLACED_S = 5.0
"""Until there is a spare again."""

Serve = Callable[[], AbstractAsyncContextManager[Stage]]


@pytest.fixture
def serve(database_url: str, stores: EmbeddedStores, tmp_path: Path) -> Serve:
    """Starts a service on the test's database; more than one are replicas."""
    return lambda: running_service(database_url, stores.redis_url or "", tmp_path, "real", **UNLIMITED)


def pool_of(monkeypatch: pytest.MonkeyPatch, spares: int, cache_dir: Path | None = None) -> list[WorkerPool]:
    """What services started from now on analyse with; their pools, once they run."""
    factory = "tests.faults.marked_engine:marked" + ("_and_heavy" if cache_dir else "")
    options = {"cache_dir": str(cache_dir)} if cache_dir else {}
    pools: list[WorkerPool] = []

    def open_pool(_: Settings) -> WorkerPool:
        pools.append(
            WorkerPool(
                factory,
                options,
                workers=WORKERS,
                spares=spares,
                deadline_s=DEADLINE_S,
                headroom_bytes=64_000_000,
            )
        )
        return pools[-1]

    monkeypatch.setattr(app, "worker_pool", open_pool)
    return pools


async def prepare(stage: Stage, *task_ids: str) -> None:
    await asyncio.gather(*(stage.enrol(person_id) for person_id in PERSONS))
    for person_id in PERSONS:
        await stage.consent(person_id)
    for task_id in task_ids:
        assert (await stage.register(task_id, *PERSONS)).status == 201


@dataclass(frozen=True, slots=True)
class Round:
    """How everybody fared who checked in to one task at once. `again`: the unlucky one, by the same key."""

    unlucky: Reply
    neighbours: list[Reply]
    again: Reply

    @property
    def lost(self) -> int:
        return sum(reply.status == 503 for reply in (self.unlucky, *self.neighbours))


async def one_round(stage: Stage, task_id: str, mark: str) -> Round:
    fields = {p: check_in_fields(task_id, await stage.challenge(p, task_id)) for p in PERSONS}
    # one person's photographs have to differ from task to task
    photos = {p: photo_of(mark if p == UNLUCKY else p, PERSONS.index(p) + hash_of(task_id)) for p in PERSONS}

    async def send(person_id: str) -> Reply:
        return await stage.submit(person_id, fields[person_id], photos[person_id], f"{task_id}-{person_id}")

    unlucky, *neighbours = await asyncio.gather(*(send(p) for p in (UNLUCKY, *NEIGHBOURS)))
    return Round(unlucky, neighbours, await send(UNLUCKY))


def hash_of(task_id: str) -> int:
    return 100 * int(task_id.removeprefix("T"))


async def recovery(pool: WorkerPool) -> tuple[float, float]:
    """Seconds from the next loss of a worker until there are enough of them, and until there are as many as before."""
    before = pool.stats
    await until(lambda: pool.stats.failures > before.failures)
    lost = time.perf_counter()
    await until(lambda: pool.stats.ready >= WORKERS)
    enough = time.perf_counter()
    await until(lambda: pool.stats.ready == before.ready)
    return enough - lost, time.perf_counter() - lost


def is_unavailable(reply: Reply) -> bool:
    return reply.status == 503 and reply.code == "unavailable" and int(reply.headers["Retry-After"]) > 0


def is_accepted(reply: Reply) -> bool:
    return reply.status == 201 and reply.body["outcome"] == "accepted"


@pytest.mark.parametrize("spares", WHOLE_AGAIN_S)
async def test_it_costs_one_request_and_the_workers_are_as_many_as_before(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, record: Record, full: bool, spares: int
) -> None:
    pools = pool_of(monkeypatch, spares, tmp_path / "networks" if full else None)
    marks = [*ORDERS] * 5 if full else [*ORDERS][: 3 * spares or 1]
    tasks = {f"T{n}": mark for n, mark in enumerate(marks)}
    recoveries = []
    async with serve() as stage:
        await prepare(stage, *tasks)
        [pool] = pools
        for task_id, mark in tasks.items():
            await until(lambda: pool.stats.ready == WORKERS + spares)
            watch = asyncio.create_task(recovery(pool))
            seen = await one_round(stage, task_id, mark)
            recoveries.append(await watch)
            assert is_unavailable(seen.unlucky), (mark, seen.unlucky)
            assert all(map(is_accepted, seen.neighbours)), mark
            assert (seen.again.status, seen.again.code) == (422, "image_unreadable"), mark
            assert is_accepted(await stage.check_in(UNLUCKY, task_id))
            assert (await stage.status(task_id))["state"] == "completed"
        assert pool.stats.failures == 2 * len(marks)
    whole_s, replaced_s = map(max, zip(*recoveries, strict=True))
    if full:
        assert whole_s < WHOLE_AGAIN_S[spares]
        assert replaced_s < REPLACED_S
    record.kept(
        f"{len(marks)} workers lost under {len(marks) * len(NEIGHBOURS)} neighbours with {spares} spares: "
        f"{len(marks)} answers 503, whole again in {whole_s:.1f} s at most, replaced in {replaced_s:.1f} s"
    )


async def test_over_replicas_a_fatal_photograph_costs_each_of_them_two_workers_at_most(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = pool_of(monkeypatch, spares=0)
    async with serve() as one, serve() as other:
        await prepare(one, "T1")
        fields = check_in_fields("T1", await one.challenge(UNLUCKY, "T1"))
        turns = [one, other] * 4
        answers = [await replica.submit(UNLUCKY, fields, photo_of("crash"), "k") for replica in turns]
        assert [answer.status for answer in answers] == [503, 503, *[422] * 6]
        assert [pool.stats.failures for pool in pools] == [2, 2]


# --- Control ---


class Executor(FixedEngine):
    """The standard library's pool of processes in the place of ours."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        super().__init__()
        self._executor = executor

    async def analyse(self, photo: bytes) -> Analysis:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, analyse, photo)
        except BrokenProcessPool:
            raise WorkerFailed("the executor is broken") from None


@asynccontextmanager
async def executor(_: Settings) -> AsyncIterator[Executor]:
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as processes:
        yield Executor(processes)


async def test_control_the_standard_executor_loses_everybody_and_stays_broken(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    monkeypatch.setattr(app, "worker_pool", executor)
    async with serve() as stage:
        await prepare(stage, "T1")
        seen = await one_round(stage, "T1", "crash")
    assert seen.lost > 1
    assert is_unavailable(seen.again)
    record.control(f"ProcessPoolExecutor lost {seen.lost} of {len(PERSONS)} and stayed broken")
