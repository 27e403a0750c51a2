"""A pool of worker processes for asyncio, under uvloop as well.

One photograph at a time goes to a worker. A crash, a hang or exhausted memory costs that one photograph: the
worker is killed, a spare takes its place at once and a new one is started. (``concurrent.futures`` loses every
job in flight when one process dies, and stays broken.)
"""

import asyncio
import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Any, Self

from face.analysis import Analysis, analysis_from_json
from face.frames import MOST_PHOTO_BYTES
from face.image_errors import ImageError, ImageUnreadable, error_from_json
from face.worker_process import WorkerFailed, WorkerProcess

ENGINE_FACTORY = "face.engine:build_engine"

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0
# The deadline, and a kill, which is the kernel's where memory ends.
_PERHAPS_THE_MACHINE = frozenset({"PoolTimeout", "SIGKILL"})
_MOST_QUARANTINED = 1024
# What a photograph is taken to need until some were seen, and what the newest counts in the average.
_ANALYSIS_S = 0.25
_NEWEST_SHARE = 0.1


JOB_NAME: ContextVar[str] = ContextVar("JOB_NAME", default="")
"""What the caller of :meth:`WorkerPool.analyse` calls the job, so that a lost worker's cause can be traced to it."""


def _tell_nobody(name: str, cause: str) -> None: ...


class PoolFull(Exception):
    """Too many photographs are waiting already; nothing was done with this one."""


class PoolTimeout(Exception):
    """The photograph waited too long for a worker, or its analysis took too long."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """What the pool is doing. ``failures`` are workers lost to a crash, a hang or memory, ``start_fault`` why
    the latest attempt to start one failed (None once one succeeded), ``confined_by`` which of
    :data:`face.confinement.MECHANISMS` hold the workers, ``analysis_s`` what the latest photographs took in a
    worker on average, and ``cpu_s`` what they would have taken with processors to spare, None where that is not known.
    ``absent`` belongs to engines elsewhere, None for a pool: why which of them do not answer."""

    ready: int
    busy: int
    starting: int
    waiting: int
    jobs: int
    failures: int
    recycled: int
    start_fault: str | None
    confined_by: tuple[str, ...]
    analysis_s: float = 0.0
    cpu_s: float | None = None
    absent: Mapping[str, str] | None = None


@dataclass(slots=True, eq=False)
class _Job:
    photo: bytes
    digest: bytes
    name: str
    answer: asyncio.Future[Analysis]
    patience: asyncio.TimerHandle | None = field(default=None)

    def fail(self, fault: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(fault)

    def succeed(self, analysis: Analysis) -> None:
        if not self.answer.done():
            self.answer.set_result(analysis)


class WorkerPool:
    """``async with WorkerPool(options={"cache_dir": "…"}) as pool: analysis = await pool.analyse(photo)``.

    ``factory`` ("module:function") makes each worker's engine of ``options``, which are sent as JSON.

    ``workers`` photographs are analysed at once, on ``workers + spares`` warm processes; ``queue_limit`` more
    may wait, each for ``patience_s`` at most. ``deadline_s`` counts from the start in the worker. A worker may
    grow by ``headroom_bytes`` over its warm size and is replaced after ``recycle_after`` photographs. ``on_loss``
    is told of each worker that a job has cost: the job's :data:`JOB_NAME`, and the cause in a word.
    """

    def __init__(
        self,
        factory: str = ENGINE_FACTORY,
        options: Mapping[str, Any] = MappingProxyType({}),
        *,
        workers: int = 2,
        spares: int = 1,
        queue_limit: int = 32,
        deadline_s: float = 10.0,
        patience_s: float = 10.0,
        recycle_after: int = 10_000,
        headroom_bytes: int = 400_000_000,
        start_limit_s: float = 60.0,
        on_loss: Callable[[str, str], None] = _tell_nobody,
    ) -> None:
        self._workers = workers
        self._spares = spares
        self._queue_limit = queue_limit
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._recycle_after = recycle_after
        self._command = (factory, json.dumps(dict(options)), str(headroom_bytes))
        self._start_limit_s = start_limit_s
        self._on_loss = on_loss
        self._crew: set[WorkerProcess] = set()
        self._idle: list[WorkerProcess] = []
        self._leaving: set[WorkerProcess] = set()
        self._waiting: deque[_Job] = deque()
        self._quarantine = _Quarantine()
        self._answered = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._busy = self._starting = self._jobs = self._failures = self._recycled = 0
        self._start_fault: str | None = None
        self._confined_by: tuple[str, ...] = ()
        self._analysis_s = self._cpu_s = _ANALYSIS_S
        self.model_id = ""

    async def __aenter__(self) -> Self:
        """Start one worker, and the others behind it. Raises :class:`WorkerFailed` with the first one's
        reason, so that damaged weights stop the service instead of starting workers for ever."""
        first = await self._start_worker()
        self.model_id = first.model_id
        self._join(first)
        for _ in range(self._workers + self._spares - 1):
            self._hire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every worker at once; whoever still waits gets :class:`WorkerFailed`."""
        self._closed = True
        for job in self._waiting:
            job.fail(WorkerFailed("the pool is closed"))
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(worker.end() for worker in self._crew | self._leaving))
        self._crew.clear()
        self._idle.clear()

    @property
    def stats(self) -> PoolStats:
        return PoolStats(
            ready=len(self._crew),
            busy=self._busy,
            starting=self._starting,
            waiting=len(self._waiting),
            jobs=self._jobs,
            failures=self._failures,
            recycled=self._recycled,
            start_fault=self._start_fault,
            confined_by=self._confined_by,
            analysis_s=self._analysis_s,
            cpu_s=self._cpu_s,
        )

    async def analyse(self, photo: bytes) -> Analysis:
        """What the engine says about a JPEG or PNG.

        Raises ``ImageError`` for a picture that cannot be read (one that has cost two workers counts as such, and
        is not tried again), :class:`PoolFull` at once, :class:`PoolTimeout`, or :class:`WorkerFailed`;
        ``ValueError`` for more than 32 MB. A caller that is cancelled frees its place in the queue; a photograph
        already in a worker is finished and its answer dropped.
        """
        if len(photo) > MOST_PHOTO_BYTES:
            raise ValueError(f"a photograph of {len(photo)} bytes")
        digest = hashlib.sha256(photo).digest()
        self._quarantine.check(digest)
        job = _Job(photo, digest, JOB_NAME.get(), asyncio.get_running_loop().create_future())
        self._admit(job)
        try:
            return await job.answer
        finally:
            self._forget(job)

    def _admit(self, job: _Job) -> None:
        if self._closed:
            raise WorkerFailed("the pool is closed")
        if len(self._waiting) >= self._queue_limit and not self._has_room():
            raise PoolFull(f"{self._queue_limit} photographs are waiting")
        job.patience = asyncio.get_running_loop().call_later(self._patience_s, self._give_up, job)
        self._waiting.append(job)
        self._dispatch()

    def _give_up(self, job: _Job) -> None:
        job.fail(PoolTimeout(f"no worker was free for {self._patience_s:g} s"))
        self._forget(job)

    def _forget(self, job: _Job) -> None:
        assert job.patience is not None
        job.patience.cancel()
        if job in self._waiting:
            self._waiting.remove(job)

    def _has_room(self) -> bool:
        return bool(self._idle) and self._busy < self._workers

    def _dispatch(self) -> None:
        while self._waiting and self._has_room():
            worker = self._idle.pop()
            if not worker.is_alive:
                self._lose(worker)
                continue
            job = self._waiting.popleft()
            self._forget(job)
            self._busy += 1
            self._run(self._serve(worker, job))

    async def _serve(self, worker: WorkerProcess, job: _Job) -> None:
        since = time.monotonic()
        reply: dict[str, Any] = {}
        try:
            async with asyncio.timeout(self._deadline_s):
                reply = await worker.ask(job.photo)
            job.succeed(_analysis(reply))
            self._answered += 1
        except ImageError as refusal:
            job.fail(refusal)
        except TimeoutError:
            self._blame(worker, job, PoolTimeout(f"the analysis took longer than {self._deadline_s:g} s"))
        except WorkerFailed as fault:
            self._blame(worker, job, fault)
        finally:
            job.fail(WorkerFailed("the pool is closed"))  # nobody waits any more unless the pool cancelled us
            self._busy -= 1
            self._jobs += 1
            self._measure(time.monotonic() - since, reply.get("cpu_s"))
            self._release(worker)
            self._dispatch()

    def _measure(self, took_s: float, cpu_s: Any) -> None:
        """``cpu_s``: as the worker says, which is not trusted with anything else either."""
        self._analysis_s += _NEWEST_SHARE * (took_s - self._analysis_s)
        is_possible = isinstance(cpu_s, float) and 0 <= cpu_s <= took_s
        self._cpu_s += _NEWEST_SHARE * ((cpu_s if is_possible else took_s) - self._cpu_s)

    def _blame(self, worker: WorkerProcess, job: _Job, fault: Exception) -> None:
        self._lose(worker)
        cause = getattr(fault, "cause", type(fault).__name__)
        self._on_loss(job.name, cause)
        try:
            self._quarantine.blame(job.digest, self._answered, is_certain=cause not in _PERHAPS_THE_MACHINE)
            job.fail(fault)
        except ImageUnreadable as refusal:
            job.fail(refusal)

    def _release(self, worker: WorkerProcess) -> None:
        if worker not in self._crew:
            return
        if worker.jobs >= self._recycle_after and not self._starting:  # one at a time
            self._recycled += 1
            self._replace(worker)
        else:
            self._idle.append(worker)

    def _lose(self, worker: WorkerProcess) -> None:
        if worker in self._crew:
            self._failures += 1
            self._replace(worker)

    def _replace(self, worker: WorkerProcess) -> None:
        self._crew.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if not self._closed:
            self._leaving.add(worker)
            self._run(self._see_off(worker))
            self._hire()

    async def _see_off(self, worker: WorkerProcess) -> None:
        await worker.end()
        self._leaving.discard(worker)

    def _hire(self) -> None:
        self._starting += 1
        self._run(self._bring_in())

    async def _bring_in(self) -> None:
        pause_s = _FIRST_PAUSE_S
        try:
            while not (worker := await self._started_or_none()):
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        finally:
            self._starting -= 1
        self._join(worker)

    async def _started_or_none(self) -> WorkerProcess | None:
        try:
            worker = await self._start_worker()
        except (WorkerFailed, OSError) as fault:
            self._start_fault = str(fault)
            return None
        self._start_fault = None
        return worker

    async def _start_worker(self) -> WorkerProcess:
        return await WorkerProcess.start(self._command, self._start_limit_s)

    def _join(self, worker: WorkerProcess) -> None:
        self._confined_by = worker.confined_by
        self._crew.add(worker)
        self._idle.append(worker)
        self._run(self._watch(worker))
        self._dispatch()

    async def _watch(self, worker: WorkerProcess) -> None:
        """Notice the death of an idle worker; a busy one's is noticed by its job."""
        await worker.exited()
        if worker in self._idle:
            self._lose(worker)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Quarantine:
    """Photographs, by digest, that ended a worker; twice is too often. The oldest are forgotten.

    >>> quarantine = _Quarantine(most=2)
    >>> for digest in (b"a", b"b", b"c", b"a"):
    ...     quarantine.blame(digest, answered=0, is_certain=True)
    >>> quarantine.blame(b"c", answered=0, is_certain=False)  # as "a" in between, and nothing has been answered since
    >>> quarantine.blame(b"c", answered=0, is_certain=False)
    Traceback (most recent call last):
    face.image_errors.ImageUnreadable: This photograph cannot be analysed. Take another one.
    """

    def __init__(self, most: int = _MOST_QUARANTINED) -> None:
        self._most = most
        # how many workers it has ended, and how many photographs had been answered and blamed when it was last blamed
        self._records: dict[bytes, tuple[int, int, int]] = {}
        self._blamed = 0

    def blame(self, digest: bytes, answered: int, *, is_certain: bool) -> None:
        """Raises ``ImageUnreadable`` for the second time, and whenever it is asked again (:meth:`check`).

        A machine that stalls or runs out of memory ends workers, too, and not those of one photograph alone. So what
        may be its doing does not count again when others have ended workers in between and none, of which there were
        ``answered`` so far, has been answered.
        """
        deaths, answered_then, blamed_then = self._records.pop(digest, (0, 0, 0))
        is_its_own = is_certain or answered > answered_then or self._blamed == blamed_then
        self._blamed += 1
        self._records[digest] = deaths + (is_its_own or not deaths), answered, self._blamed
        if len(self._records) > self._most:
            del self._records[next(iter(self._records))]
        self.check(digest)

    def check(self, digest: bytes) -> None:
        if self._records.get(digest, (0,))[0] >= 2:
            raise ImageUnreadable("fatal", "This photograph cannot be analysed. Take another one.")


def _analysis(reply: dict[str, Any]) -> Analysis:
    """The answer in a reply. Raises the ``ImageError`` in it, and ``WorkerFailed`` for another shape."""
    try:
        if "refused" in reply:
            raise error_from_json(reply["refused"])
        return analysis_from_json(reply["analysis"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise WorkerFailed("the worker's reply has another shape than an answer's") from None
