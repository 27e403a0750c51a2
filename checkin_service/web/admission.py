"""Who is let in while more comes than can be done, decided from the head of a request alone.

What is sent again goes before what is new, and that before polls: docs/decisions/0010-overload.md.
"""

import asyncio
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from random import SystemRandom

from checkin_service.adapters.postgres.database import Database
from checkin_service.adapters.postgres.deferred import ReceiptKey, receipts_among
from checkin_service.metrics import Metrics
from checkin_service.ports import FaceEngine
from checkin_service.settings import Settings
from checkin_service.usecases.refusals import Refusal

BODIES_LIMIT = 256 * 1024 * 1024
"""Bytes of photographs that may be in the house at once."""

BEGUN_BYTES = 16 * 1024
"""So much of a body must be there, or all of it, before it counts: with heads alone, or a byte a second, one caller
could keep everybody else out."""
UPLOAD_S = 2.0
"""A body that takes longer from there loads neither workers nor memory as yet: it counts no more until it is there."""

TOGETHER_S = 0.03
"""Whoever is asked about within so long is one look at the database: it is done when many come."""

_RECEIPT_S = 1 / 200
"""What taking a submission costs that is judged later, counted carefully."""

_TAKING_S, _JUDGES_WAIT_S = 1.0, 30.0
"""How long after one submission others are expected, and how long judging leaves workers and processors to them."""

_LONGEST_RETRY_S, _LONGEST_RETRY_NEAR_A_DEADLINE_S = 60.0, 10.0
_jitter = SystemRandom()


class Urgency(StrEnum):
    """Classes of calls, the first to be let in and the last to be shed first."""

    RETRY = "retry"
    SUBMISSION = "submission"
    ENROLMENT = "enrolment"
    POLL = "poll"


@dataclass(frozen=True, slots=True)
class _Limit:
    """What a class bears. `waits`: the expected wait for a face worker, in settings' longest waits; `lag_s`: how late
    the event loop is; `queue`: how many wait for a database connection, in sizes of the pool."""

    waits: float
    lag_s: float
    queue: int


_LIMITS: Mapping[Urgency, _Limit] = {
    Urgency.RETRY: _Limit(2, 2.0, 20),
    Urgency.SUBMISSION: _Limit(1, 1.0, 10),
    Urgency.ENROLMENT: _Limit(0.5, 0.5, 5),
    Urgency.POLL: _Limit(math.inf, 0.5, 2),
}


@dataclass(slots=True)
class Admission:
    """One a process. `admitted`: photographs let in and not yet analysed; `bodies`: their bytes. Others keep up
    `backlog`, the submissions to be judged later, `oldest_s`, how long the first of them waits, `closing`, who is on
    one of the tasks that close soon, `closing_tasks`, when the first of these does, `next_end`, by the monotonic clock,
    and `lag_s`."""

    settings: Settings
    faces: FaceEngine
    database: Database
    metrics: Metrics
    admitted: int = 0
    bodies: int = 0
    backlog: int = 0
    oldest_s: float = 0.0
    closing_tasks: frozenset[str] = frozenset()
    closing: frozenset[str] = frozenset()
    next_end: float = math.inf
    lag_s: float = 0.0
    _taking_until: float = 0.0
    _booked_until: dict[bool, float] = field(default_factory=dict)
    _asked: set[ReceiptKey] = field(default_factory=set)
    _looking: asyncio.Task[set[ReceiptKey]] | None = None

    @property
    def expected_wait_s(self) -> float:
        """How long a photograph would wait for a worker that was let in now."""
        return self._ahead * self.faces.stats.analysis_s / self.settings.face_workers

    @property
    def _expected_deferral_s(self) -> float:
        """How long it would wait to be judged once nothing else comes in, so that workers have their processors for
        themselves: while receipts are taken these go before."""
        stats = self.faces.stats
        return self._ahead * (stats.cpu_s or stats.analysis_s) / self.settings.face_workers

    @property
    def _ahead(self) -> int:
        stats = self.faces.stats
        return max(self.admitted, stats.waiting + stats.busy) + self.backlog

    @property
    def is_taking(self) -> bool:
        """Whether submissions to be judged later are coming in, which go before those that are there already; for so
        long as these can wait."""
        return time.monotonic() < self._taking_until and self.oldest_s < _JUDGES_WAIT_S

    def admits(self, urgency: Urgency) -> bool:
        """Whether there is room for a call of this class."""
        limit = _LIMITS[urgency]
        return (
            not self._is_strained(limit)
            and self.bodies <= BODIES_LIMIT
            and self.admitted < self.settings.face_queue + self.settings.face_workers
            and self.expected_wait_s <= limit.waits * self.settings.longest_wait_s
        )

    def defers(self, person_id: str) -> bool:
        """Whether the person is near a deadline and there is room to take a submission now and judge it later."""
        return (
            person_id in self.closing
            and not self._is_strained(_LIMITS[Urgency.SUBMISSION])
            and self.bodies <= BODIES_LIMIT
            and self._expected_deferral_s <= self.settings.longest_deferral_s
        )

    def check(self, urgency: Urgency) -> None:
        """Raises `Refusal` unavailable unless the event loop and the database bear a call of this class."""
        if self._is_strained(_LIMITS[urgency]):
            raise self.refusal(urgency)

    def refusal(self, urgency: Urgency, person_id: str = "") -> Refusal:
        """Unavailable, with a time to come back at when those before are done who were told to come back."""
        self.metrics.shed.labels(urgency).inc()
        return Refusal("unavailable", retry_after_s=self._retry_after_s(person_id in self.closing))

    def is_for_later(self, urgency: Urgency, person_id: str) -> bool:
        """False where there is room for a call of this class now, True where the person's is judged later. Raises
        `Refusal` unavailable where there is room for neither."""
        if self.admits(urgency):
            return False
        if self.defers(person_id):
            self._taking_until = time.monotonic() + _TAKING_S
            return True
        raise self.refusal(urgency, person_id)

    async def has_receipt(self, key: ReceiptKey) -> bool:
        """Whether a submission is sent again. Raises what a broken database raises."""
        if self._looking is None:
            self._asked = set()
            self._looking = asyncio.create_task(self._look_together(self._asked))
        self._asked.add(key)
        return key in await asyncio.shield(self._looking)

    async def _look_together(self, asked: set[ReceiptKey]) -> set[ReceiptKey]:
        await asyncio.sleep(TOGETHER_S)
        self._looking = None
        async with self.database.connection() as connection:
            return await receipts_among(connection, asked)

    @contextmanager
    def enter(self, urgency: Urgency, person_id: str = "") -> Iterator["Place"]:
        """A place for a call with photographs until it is answered; with `person_id` for one that can be judged later.
        Raises `Refusal` unavailable, here or when its body begins."""
        place = Place(self, urgency, person_id, self.is_for_later(urgency, person_id))
        try:
            yield place
        finally:
            place.leave()

    def _is_strained(self, limit: _Limit) -> bool:
        queue = limit.queue * self.settings.database_connections
        return self.lag_s > limit.lag_s or self.database.waiting > queue

    def _retry_after_s(self, near_a_deadline: bool) -> int:
        """Each refusal books the next place, so that not all come back together."""
        now, each_s = time.monotonic(), self.faces.stats.analysis_s / self.settings.face_workers
        wait_s, longest_s = self.expected_wait_s, _LONGEST_RETRY_S
        if near_a_deadline:
            each_s, wait_s, longest_s = _RECEIPT_S, 0.0, self._longest_retry_s(now)
        booked = max(self._booked_until.get(near_a_deadline, 0.0), now) + each_s
        self._booked_until[near_a_deadline] = min(booked, now + longest_s)
        ahead_s = min(wait_s + self._booked_until[near_a_deadline] - now, longest_s)
        return max(1, math.ceil(_jitter.uniform(0.7, 1.3) * ahead_s))

    def _longest_retry_s(self, now: float) -> float:
        """Near a deadline: there is time for another try after the next."""
        left_s = self.next_end - now
        return min(left_s / 3, _LONGEST_RETRY_NEAR_A_DEADLINE_S) if left_s > 0 else 1.0


@dataclass(slots=True)
class Place:
    """A call with photographs that is in the house. `deferred`: it is to be judged later, and waits for no worker;
    `counted`: photographs and bytes, as far as it counts."""

    admission: Admission
    urgency: Urgency
    person_id: str
    deferred: bool
    size: int = 0
    counted: tuple[int, int] = (0, 0)
    _late: asyncio.TimerHandle | None = None
    _is_late: bool = False

    def received(self, so_far: int) -> None:
        """So many bytes of its body are there. Raises `Refusal` unavailable once it begins to count, when others
        have taken the room there was."""
        self.size = so_far
        if self._late is None and so_far >= BEGUN_BYTES:
            self._decide(self.urgency)
            self._late = asyncio.get_running_loop().call_later(UPLOAD_S, self._give_way)
        if self._late and not self._is_late:
            self._count()

    def arrived(self) -> None:
        """Its body is there, however long it took. Raises `Refusal` as `received` does, but whoever took long to send
        it is not sent away before any who come again."""
        if self._late:
            self._late.cancel()
        if not self.counted[1]:
            self._decide(Urgency.RETRY)
        self._count()

    def leave(self) -> None:
        """It counts no more."""
        if self._late:
            self._late.cancel()
        self._recount(0, 0)

    def _decide(self, urgency: Urgency) -> None:
        self.deferred = self.deferred or self.admission.is_for_later(urgency, self.person_id)

    def _give_way(self) -> None:
        self._is_late = True
        self._recount(0, 0)

    def _count(self) -> None:
        self._recount(0 if self.deferred else 1, self.size)

    def _recount(self, photographs: int, size: int) -> None:
        self.admission.admitted += photographs - self.counted[0]
        self.admission.bodies += size - self.counted[1]
        self.counted = photographs, size
