"""What happens to tasks, told to whoever listens: changes of the feed, and check-ins as they are judged.

One reader a process asks the database, and only while somebody listens. Both sources are numbered under the feed's
lock, so that asking for what is greater misses nothing. NOTIFY is not used: at every commit that notifies, PostgreSQL
takes a lock for which all others wait.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

import structlog

from checkin_service.adapters.postgres.database import DATABASE_FAILURES, Connection, Database
from checkin_service.adapters.postgres.feed import feed_epoch

ASKED_EVERY_S = 0.5
MOST_AT_ONCE = 500
"""Events read in one turn, and kept for a listener who reads slowly; with more the listener is let go."""

log = structlog.get_logger("checkin_service.watch")


@dataclass(frozen=True, slots=True)
class Event:
    """`type`: the feed's, or `attempt` with the `outcome`. `change`, `audit`: its seq, in the one that it is from."""

    type: str
    task_id: str
    at: datetime
    outcome: str | None
    change: int | None
    audit: int | None


@dataclass(frozen=True, slots=True)
class Position:
    """Up to where somebody knows everything: `seq` of the feed in its epoch, and of the audit.

    >>> Position("e", 7, 9).after(Event("attempt", "T1", datetime.min, "accepted", None, 12))
    Position(epoch='e', change=7, audit=12)
    """

    epoch: str
    change: int
    audit: int

    def knows(self, event: Event) -> bool:
        return (event.change or 0) <= self.change and (event.audit or 0) <= self.audit

    def after(self, event: Event) -> "Position":
        return Position(self.epoch, event.change or self.change, event.audit or self.audit)


class TooMany(Exception):
    """As many listen as may."""


class FellBehind(Exception):
    """The listener did not keep up, or what it knows is of another life of the data."""


class Ended(Exception):
    """Nobody is told anything any more."""


class Listener:
    """Events after a position, each once: those missed before it came, then those that it is told."""

    def __init__(self) -> None:
        self.position = Position("", 0, 0)
        self._missed: deque[Event] = deque()
        self._told: asyncio.Queue[Event | type[FellBehind | Ended]] = asyncio.Queue()

    def begin(self, position: Position, missed: Sequence[Event]) -> None:
        self.position = position
        self._missed.extend(missed)

    def tell(self, events: Sequence[Event]) -> None:
        for event in events:
            self._told.put_nowait(event)
        if self._told.qsize() > MOST_AT_ONCE:
            self.end(FellBehind)

    def end(self, why: type[FellBehind | Ended]) -> None:
        """Whatever it has not heard yet, it will not hear any more."""
        while not self._told.empty():
            self._told.get_nowait()
        self._told.put_nowait(why)

    async def next(self, timeout_s: float) -> Event | None:
        """None when nothing happened meanwhile. Raises `FellBehind` or `Ended`, and nothing comes after that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.position.knows(event := await self._next()):
                    pass
                self.position = self.position.after(event)
                return event
        return None

    async def _next(self) -> Event:
        if self._missed:
            return self._missed.popleft()
        told = await self._told.get()
        if isinstance(told, type):
            raise told
        return told


class Watch:
    """Lets at most so many listen at once."""

    def __init__(self, database: Database, listeners: int) -> None:
        self._database = database
        self._limit = listeners
        self._listeners: set[Listener] = set()
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    @asynccontextmanager
    async def listen(self, since: Position | None) -> AsyncIterator[Listener]:
        """A listener who knows everything up to `since`, or by default up to now. Raises `TooMany`, `FellBehind`, and
        one of `DATABASE_FAILURES`."""
        if self.listeners >= self._limit:
            raise TooMany
        listener = Listener()
        self._listeners.add(listener)
        try:
            # in this order: what happens after the reader began is told, what happened before is missed
            await self._begin_reading()
            listener.begin(*await self.missed(since))
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners:
                await self._stop_reading()

    async def missed(self, since: Position | None) -> tuple[Position, list[Event]]:
        """What happened after `since`, and what they know without it. Raises `FellBehind`."""
        async with self._database.snapshot() as connection:
            now = await _position(connection)
            if since is None:
                return now, []
            if since.epoch != now.epoch:
                raise FellBehind
            events = await _events_after(connection, since)
        if len(events) > MOST_AT_ONCE:
            raise FellBehind
        return since, events

    async def close(self) -> None:
        """Lets every listener go, and takes no more."""
        self._limit = 0
        for listener in self._listeners:
            listener.end(Ended)
        await self._stop_reading()

    async def _begin_reading(self) -> None:
        async with self._starting:
            if self._reader is None or self._reader.done():
                async with self._database.snapshot() as connection:
                    position = await _position(connection)
                self._reader = asyncio.create_task(self._read(position))

    async def _stop_reading(self) -> None:
        reader, self._reader = self._reader, None
        if reader:
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader

    async def _read(self, position: Position) -> None:
        answered = True
        while True:
            await asyncio.sleep(ASKED_EVERY_S)
            try:
                position = await self._tell_after(position)
                answered = True
            except DATABASE_FAILURES as error:
                # who listens is told what was missed when it is back
                if answered:
                    log.warning("watch_failed", error=type(error).__name__)
                answered = False

    async def _tell_after(self, position: Position) -> Position:
        async with self._database.snapshot() as connection:
            now = await _position(connection)
            events = await _events_after(connection, position) if now != position else []
        lost = now.epoch != position.epoch or len(events) > MOST_AT_ONCE
        for listener in self._listeners:
            if lost:
                listener.end(FellBehind)
            else:
                listener.tell(events)
        return now


async def _position(connection: Connection) -> Position:
    row = await connection.fetchrow(
        """
        SELECT coalesce((SELECT max(seq) FROM change), 0) AS change,
               coalesce((SELECT max(seq) FROM audit), 0) AS audit
        """
    )
    return Position(await feed_epoch(connection), **row)


async def _events_after(connection: Connection, position: Position) -> list[Event]:
    """One more than `MOST_AT_ONCE` at most. Changes come before check-ins: the two have no common numbers."""
    rows = await connection.fetch(
        """
        (SELECT type, task_id, at, NULL AS outcome, seq AS change, NULL::bigint AS audit
         FROM change WHERE seq > $1 ORDER BY seq LIMIT $3)
        UNION ALL
        (SELECT 'attempt', task_id, at, details->>'outcome', NULL, seq
         FROM audit WHERE seq > $2 AND action = 'judge' ORDER BY seq LIMIT $3)
        """,
        position.change,
        position.audit,
        MOST_AT_ONCE + 1,
    )
    return [Event(**row) for row in rows]
