"""A crash, a hang or exhausted memory costs one photograph; everything else goes on."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import uvloop

from face import Analysis, ImageUnreadable, PoolFull, PoolTimeout, WorkerFailed, WorkerPool
from face import pool as pool_module
from tests.face import engines

ROOT = Path(__file__).resolve().parents[2]
FIXED = "tests.face.engines:fixed"
ONCE = "tests.face.engines:buildable_once"
QUICK = {"deadline_s": 2.0, "patience_s": 20.0, "headroom_bytes": 64_000_000}


def fixed_pool(**settings: Any) -> WorkerPool:
    return WorkerPool(**{"factory": FIXED, **QUICK, **settings})


async def until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 (the pool has no event for every state)
            await asyncio.sleep(0.01)


async def whole(pool: WorkerPool, ready: int = 3) -> None:
    await until(lambda: pool.stats.ready == ready and not pool.stats.busy)


async def seen_from_inside(pool: WorkerPool) -> dict[str, int | str]:
    with pytest.raises(ImageUnreadable) as caught:
        await pool.analyse(engines.SELF)
    return caught.value.detail


async def test_answers_are_the_engines() -> None:
    async with fixed_pool(workers=1, spares=0) as pool:
        assert await pool.analyse(b"zhang#1") == engines.fixed().analyse(b"zhang#1")
        assert (await pool.analyse(engines.NO_FACE)).faces == 0
        assert pool.model_id == "dlib-resnet-v1"
        with pytest.raises(ImageUnreadable) as caught:
            await pool.analyse(engines.REFUSED)
    assert (caught.value.fault, caught.value.detail, str(caught.value)) == (
        "damaged",
        {"received_bytes": 7},
        "Take it again.",
    )


@pytest.mark.parametrize(
    ("hostile", "failure", "words"),
    [
        (engines.CRASH, WorkerFailed, "SIGSEGV"),
        (engines.HANG, PoolTimeout, "longer than 2 s"),
        (engines.MEMORY, WorkerFailed, "MemoryError"),
        (engines.FAULT, WorkerFailed, "^ZeroDivisionError$"),
    ],
    ids=["crash", "hang", "memory", "fault"],
)
async def test_a_hostile_photograph_costs_itself(
    hostile: bytes, failure: type[Exception], words: str
) -> None:
    async with fixed_pool() as pool:
        await whole(pool)
        jobs = [pool.analyse(photo) for photo in (b"slow#1", hostile, b"slow#2", b"wang", b"chen")]
        neighbour1, lost, neighbour2, *others = await asyncio.gather(*jobs, return_exceptions=True)
        assert isinstance(lost, failure)
        with pytest.raises(failure, match=words):
            raise lost
        assert all(isinstance(answer, Analysis) for answer in (neighbour1, neighbour2, *others))
        assert pool.stats.failures == 1
        await whole(pool)


async def test_the_spare_takes_the_dead_workers_place_at_once() -> None:
    async with fixed_pool(workers=1, spares=1) as pool:
        await whole(pool, ready=2)
        with pytest.raises(WorkerFailed):
            await pool.analyse(engines.CRASH)
        assert (pool.stats.ready, pool.stats.starting) == (1, 1)
        assert (await pool.analyse(b"wang")).faces == 1


async def test_without_a_spare_the_photograph_waits_for_the_new_worker() -> None:
    async with fixed_pool(workers=1, spares=0) as pool:
        with pytest.raises(WorkerFailed):
            await pool.analyse(engines.CRASH)
        assert pool.stats.ready == 0
        assert (await pool.analyse(b"wang")).faces == 1


async def test_an_idle_worker_that_dies_is_replaced() -> None:
    async with fixed_pool(workers=1, spares=0) as pool:
        first = await seen_from_inside(pool)
        os.kill(int(first["pid"]), signal.SIGKILL)
        await until(lambda: pool.stats.failures == 1)
        assert (await seen_from_inside(pool))["pid"] != first["pid"]


async def test_the_second_death_on_a_photograph_is_the_last_and_makes_it_unreadable() -> None:
    async with fixed_pool(workers=1) as pool:
        with pytest.raises(WorkerFailed):
            await pool.analyse(engines.CRASH)
        for _ in range(3):
            with pytest.raises(ImageUnreadable, match="Take another one"):
                await pool.analyse(engines.CRASH)
        assert pool.stats.failures == 2
        with pytest.raises(WorkerFailed):
            await pool.analyse(engines.CRASH + b"#")


async def test_a_stall_of_the_machine_is_no_photographs_fault() -> None:
    """What hangs as others do does not count again before one of them has been answered."""
    async with fixed_pool(workers=1, spares=0) as pool:
        for photo in (engines.HANG, engines.HANG + b"#", engines.HANG):
            with pytest.raises(PoolTimeout):
                await pool.analyse(photo)
        assert (await pool.analyse(b"wang")).faces == 1
        for _ in range(2):
            with pytest.raises(ImageUnreadable, match="Take another one"):
                await pool.analyse(engines.HANG)
        assert pool.stats.failures == 4


async def test_what_hangs_alone_hangs_twice_at_most() -> None:
    async with fixed_pool(workers=1, spares=0) as pool:
        with pytest.raises(PoolTimeout):
            await pool.analyse(engines.HANG)
        with pytest.raises(ImageUnreadable, match="Take another one"):
            await pool.analyse(engines.HANG)
        assert pool.stats.failures == 2


async def test_a_full_queue_refuses_at_once() -> None:
    async with fixed_pool(workers=1, spares=0, queue_limit=1) as pool:
        running = asyncio.create_task(pool.analyse(b"slow#1"))
        waiting = asyncio.create_task(pool.analyse(b"slow#2"))
        await until(lambda: pool.stats.waiting == 1)
        with pytest.raises(PoolFull):
            await pool.analyse(b"wang")
        assert [answer.faces for answer in await asyncio.gather(running, waiting)] == [1, 1]
        assert (await pool.analyse(b"wang")).faces == 1


async def test_waiting_is_limited() -> None:
    async with fixed_pool(workers=1, spares=0, patience_s=0.1) as pool:
        running = asyncio.create_task(pool.analyse(b"slow#1"))
        await until(lambda: pool.stats.busy == 1)
        with pytest.raises(PoolTimeout, match="no worker was free"):
            await pool.analyse(b"wang")
        assert pool.stats.waiting == 0
        assert (await running).faces == 1


async def test_a_cancelled_caller_leaves_nothing_behind() -> None:
    async with fixed_pool(workers=1, spares=0) as pool:
        inside = await seen_from_inside(pool)
        running = asyncio.create_task(pool.analyse(b"slow#1"))
        waiting = asyncio.create_task(pool.analyse(b"slow#2"))
        await until(lambda: pool.stats.waiting == 1)
        running.cancel()
        waiting.cancel()
        await asyncio.wait([running, waiting])
        assert pool.stats.waiting == 0
        answer = await pool.analyse(b"wang")  # not the answer to the photograph that was given up
        assert answer == engines.fixed().analyse(b"wang")
        assert (await seen_from_inside(pool))["pid"] == inside["pid"]
        assert (pool.stats.failures, pool.stats.jobs) == (0, 4)


async def test_workers_are_renewed_after_so_many_photographs() -> None:
    async with fixed_pool(workers=1, spares=0, recycle_after=3) as pool:
        pids = [(await seen_from_inside(pool))["pid"] for _ in range(7)]
        assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 1]
        assert (pool.stats.recycled, pool.stats.failures) == (2, 0)


async def test_a_worker_leaves_processors_to_whoever_takes_and_refuses() -> None:
    async with fixed_pool(workers=1, spares=0) as pool:
        pid = int((await seen_from_inside(pool))["pid"])
        niceness = os.getpriority(os.PRIO_PROCESS, pid)
        assert niceness == min(os.getpriority(os.PRIO_PROCESS, 0) + 10, 19)
        assert group_of(pid).endswith(" nice 10\n")


def group_of(pid: int) -> str:
    group = Path(f"/proc/{pid}/autogroup")
    return group.read_text() if group.exists() else "no groups here: nice 10\n"


async def test_what_a_worker_waits_for_is_no_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_NEWEST_SHARE", 1)
    async with fixed_pool(workers=1, spares=0) as pool:
        await pool.analyse(engines.SLOW)
        assert pool.stats.cpu_s is not None
        assert pool.stats.cpu_s < 0.3 <= pool.stats.analysis_s
        for untrue in (None, "0.01", float("nan"), -1.0, 0.6):
            pool._measure(0.5, untrue)
            assert pool.stats.cpu_s == 0.5


async def test_a_worker_knows_nothing_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://canary")
    async with fixed_pool(workers=1, spares=0) as pool:
        inside = await seen_from_inside(pool)
    variables = set(str(inside["variables"]).split())
    assert variables <= {
        *("PYTHONPATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX"),
        *("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH"),
    }
    assert inside["core_bytes"] == 0
    assert {"SIGINT", "SIGTERM"} <= set(str(inside["ignored"]).split())
    assert "multiprocessing" not in str(inside["modules"]).split()


async def test_a_worker_outlives_ctrl_c() -> None:
    async with fixed_pool(workers=1, spares=0) as pool:
        inside = await seen_from_inside(pool)
        for nuisance in (signal.SIGINT, signal.SIGTERM):
            os.kill(int(inside["pid"]), nuisance)
        assert (await seen_from_inside(pool))["pid"] == inside["pid"]


async def test_an_engine_that_cannot_be_built_stops_the_start() -> None:
    with pytest.raises(WorkerFailed, match=r"OSError: weights\.dat was altered"):
        async with fixed_pool(factory="tests.face.engines:unbuildable"):
            pytest.fail("the pool started")


async def test_an_engine_that_is_never_ready_stops_the_start() -> None:
    with pytest.raises(WorkerFailed, match=r"not ready after 0\.5 s"):
        async with fixed_pool(factory="tests.face.engines:never_ready", start_limit_s=0.5):
            pytest.fail("the pool started")


async def test_workers_that_do_not_start_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pool_module, "_FIRST_PAUSE_S", 0.001)
    async with fixed_pool(factory=ONCE, workers=1, spares=1) as pool:
        await until(lambda: (tmp_path / "calls").stat().st_size >= 3)
        assert pool.stats.start_fault == "OSError: weights.dat went away"
        assert (await pool.analyse(b"wang")).faces == 1


async def test_but_only_after_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pool_module, "_FIRST_PAUSE_S", 1000)
    async with fixed_pool(factory=ONCE, workers=1, spares=1) as pool:
        await until(lambda: pool.stats.start_fault is not None)
        for _ in range(3):
            await pool.analyse(b"slow")
        assert (tmp_path / "calls").stat().st_size == 2


async def test_a_reply_of_another_shape_is_a_failure() -> None:
    async with fixed_pool(factory="tests.face.engines:talks_nonsense", workers=1) as pool:
        with pytest.raises(WorkerFailed, match="another shape"):
            await pool.analyse(b"wang")
        assert pool.stats.failures == 1


async def test_closing_answers_whoever_waits_and_leaves_no_process() -> None:
    async with fixed_pool(workers=1, spares=1) as pool:
        await whole(pool, ready=2)
        pids = [int((await seen_from_inside(pool))["pid"])]
        jobs = [asyncio.create_task(pool.analyse(photo)) for photo in (engines.HANG, b"wang", b"chen")]
        await until(lambda: pool.stats.waiting == 2)
    answers = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(answer) for answer in answers] == [WorkerFailed] * 3
    with pytest.raises(WorkerFailed, match="closed"):
        await pool.analyse(b"wang")
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


SERVICE = """
import asyncio, face
async def main():
    async with face.WorkerPool("tests.face.engines:fixed", workers=1, spares=0) as pool:
        try:
            await pool.analyse(b"self")
        except face.ImageUnreadable as worker:
            print(worker.detail["pid"], flush=True)
        await pool.analyse(b"hang")
asyncio.run(main())
"""


async def test_a_busy_worker_dies_with_a_service_that_is_killed() -> None:
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVICE), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert service.stdout is not None
    pid = int(await service.stdout.readline())
    service.kill()
    await service.wait()
    await until(lambda: not is_running(pid))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return False
    return state != "Z"


def test_the_standard_executor_loses_the_neighbours() -> None:
    """The negative control: the same crash in ``concurrent.futures``."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        neighbour = pool.submit(time.sleep, 120)  # longer than any start of a process
        pool.submit(os.getpid).result()
        pool.submit(os._exit, 11)
        with pytest.raises(BrokenProcessPool):
            neighbour.result()
        with pytest.raises(BrokenProcessPool):
            pool.submit(time.sleep, 0)


def test_it_works_under_uvloop() -> None:
    async def crash_and_go_on() -> int:
        async with fixed_pool(workers=1, spares=1) as pool:
            with pytest.raises(WorkerFailed, match="SIGSEGV"):
                await pool.analyse(engines.CRASH)
            return (await pool.analyse(b"wang")).faces

    assert uvloop.run(crash_and_go_on()) == 1
