"""Promise 14: who comes with everybody else in the last minute is taken before the end and judged after it, true to
when it was received.

People come back as `Retry-After` says. In the full form the minute passes, and two processes do what they can with the
real engine. In the short form the workers are so slow that everything waits, the clock jumps to the end, and another
process goes on.
"""

import asyncio
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

from checkin_service.adapters.embedded import EmbeddedStores
from tests import portraits
from tests.faults.arrivals import Call, Crowd, Heed, Photo, arrive, gather, insist, prepare, two_cores
from tests.faults.processes import processes
from tests.faults.record import Record
from tests.service.stage import Stage, photo_of, running_service

PATIENCE_S = 15.0
# While everybody comes, with service, stores and callers on two cores.
RECEIPTS_PER_S = 300
JUDGED_IN = timedelta(minutes=5)
# What somebody has who died over it is theirs for so long.
LEASE_S = 30
# Of so many, one has sent somebody else's photograph.
STRANGERS = 10


@dataclass(frozen=True, slots=True)
class Evening:
    """Everybody comes within `burst_s`, so long before the end; `warm` have come before. `switches` are those of the
    service's processes, `others` those of what takes their place at the end, to which the clock jumps then."""

    crowd: Crowd
    warm: int
    burst_s: float
    closing_s: float
    processes: int
    switches: Sequence[str]
    others: Sequence[str] = ()
    portrait: bytes | None = None

    @property
    def photo(self) -> Photo:
        if self.portrait is None:
            return lambda person_id, number: photo_of("q" if is_stranger(number) else person_id, number)
        return self._selfie

    def _selfie(self, _: str, number: int) -> bytes:
        """Nobody sends one of theirs again, and no two send the same bytes."""
        if is_stranger(number):
            selfie = portraits.astronaut_altered()
        else:
            selfie = portraits.hopper_selfie(number // self.crowd.persons)
        return selfie + str(number).encode()


def is_stranger(number: int) -> bool:
    return number % STRANGERS == 0


def paced(analysis_s: float) -> list[str]:
    settings = {"FACE_WORKERS": 1, "LONGEST_WAIT_S": 0.5, "LONGEST_DEFERRAL_S": 100_000}
    return [
        f"--analysis-s={analysis_s}",
        *(f"--set=CHECKIN_{name}={value}" for name, value in settings.items()),
    ]


SHORT = Evening(Crowd(20, 5), 1, 0.5, 6.0, 1, paced(1.0), paced(0.005))
FULL = Evening(
    Crowd(410, 10, apart=True), 100, 5.0, 60.0, 2, ["--analyse-for-real"], portrait=portraits.hopper()
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What callers have `heard`, and how many submissions were not judged when the tasks closed; `stored`: what there
    is of each in the end, by its key."""

    evening: Evening
    strangers: set[str]
    heard: Sequence[Heed]
    unjudged: int
    stored: Mapping[str, Any]

    @property
    def missed(self) -> list[str]:
        """Who was not received before the end."""
        rows = ((heed, self.stored.get(heed.call.submission.key)) for heed in self.heard)
        return [heed.call.submission.key for heed, row in rows if not (row and row["in_time"])]

    @property
    def receipts_per_s(self) -> float:
        """While everybody came."""
        times: list[datetime] = sorted(
            self.stored[heed.call.submission.key]["received_at"] for heed in self.heard
        )
        end = times[0] + timedelta(seconds=self.evening.burst_s)
        return sum(received_at < end for received_at in times) / self.evening.burst_s

    @property
    def longest(self) -> timedelta:
        """From a receipt to its verdict."""
        waits: list[timedelta] = [row["judged_at"] - row["received_at"] for row in self.stored.values()]
        return max(waits)

    def untrue(self) -> Iterator[str]:
        """Verdicts on somebody received in time that are not what they should be, or not what the caller was told."""
        for heed in self.heard:
            key = heed.call.submission.key
            row, expected = self.stored[key], ["non_match"] if key in self.strangers else []
            if row["reasons"] != expected or row["accepted_at"] != (None if expected else row["received_at"]):
                yield f"{key}: {row['reasons']}"
            if (
                heed.heard.status == 202
                and datetime.fromisoformat(heed.answer["received_at"]) != row["received_at"]
            ):
                yield f"{key}: told another time"


async def last_evening(
    database_url: str, stores: EmbeddedStores, folder: Path, evening: Evening, *switches: str
) -> Seen:
    redis_url = stores.redis_url or ""
    async with running_service(
        database_url, redis_url, folder, "real" if evening.portrait else None
    ) as stage:
        await gather(stage, evening.crowd, evening.portrait)
    await close_in(stage, 3600)
    calls = await prepare(stage, evening.crowd.members, evening.photo)
    strangers = {call.submission.key for number, call in enumerate(calls, 1) if is_stranger(number)}
    at = stage.database_url, redis_url, folder
    with two_cores():
        async with processes(evening.processes, folder, *at, *evening.switches, *switches) as running:
            ports = [process.port for process in running]
            await come(ports, calls[: evening.warm], 1, time.monotonic() + PATIENCE_S)
            await close_in(stage, evening.closing_s)
            end = time.monotonic() + evening.closing_s
            heard = await come(ports, calls[evening.warm :], evening.burst_s, end)
            await time_passes(stage, end - time.monotonic(), jumping=bool(evening.others))
            unjudged = await count_unjudged(stage)
            if not evening.others:
                await all_judged(stage, ports, heard)
        if evening.others:
            await time_passes(stage, LEASE_S, jumping=True)
            async with processes(1, folder, *at, *evening.others, *switches) as [other]:
                await all_judged(stage, [other.port], heard)
    return Seen(evening, strangers, heard, unjudged, await stored(stage))


async def close_in(stage: Stage, seconds: float) -> None:
    await stage.sql("UPDATE task SET closes_at = clock_timestamp() + make_interval(secs => $1)", seconds)


async def come(ports: Sequence[int], calls: Sequence[Call], within_s: float, until: float) -> list[Heed]:
    by_turns = cycle(ports)

    async def send(call: Call) -> Heed:
        return await insist(next(by_turns), PATIENCE_S, until, call)

    return await arrive(calls, len(calls) / within_s, send)


async def time_passes(stage: Stage, seconds: float, *, jumping: bool) -> None:
    if not jumping:
        await asyncio.sleep(seconds)
    elif seconds > 0:
        [row] = await stage.sql("SELECT checkin_now() - clock_timestamp() AS ahead")
        ahead = row["ahead"] + timedelta(seconds=seconds)
        head = "CREATE OR REPLACE FUNCTION checkin_now() RETURNS timestamptz LANGUAGE sql VOLATILE"
        await stage.sql(f"{head} AS $$ SELECT clock_timestamp() + interval '{ahead.total_seconds()} s' $$")


async def count_unjudged(stage: Stage) -> int:
    return int((await stage.sql("SELECT count(*) FROM receipt WHERE answer IS NULL"))[0][0])


async def all_judged(stage: Stage, ports: Sequence[int], heard: Sequence[Heed]) -> None:
    """Returns when they are, and has those come again who went without an answer."""
    unanswered = [heed.call for heed in heard if heed.heard.status not in {201, 202}]
    async with asyncio.timeout(JUDGED_IN.total_seconds()):
        await come(ports, unanswered, 1, math.inf)
        while await count_unjudged(stage):  # noqa: ASYNC110  in the database
            await asyncio.sleep(0.1)


async def stored(stage: Stage) -> dict[str, Any]:
    rows = await stage.sql(
        """
        SELECT idempotency_key, r.received_at, r.received_at < t.closes_at AS in_time, judged_at, reasons, accepted_at
        FROM receipt r JOIN task t USING (task_id) LEFT JOIN attempt a USING (check_in_id)
        LEFT JOIN acceptance USING (check_in_id)
        """
    )
    return {row["idempotency_key"]: row for row in rows}


async def test_everybody_who_comes_in_the_last_minute_is_in_time(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, full: bool, record: Record
) -> None:
    seen = await last_evening(database_url, stores, tmp_path, FULL if full else SHORT)
    assert seen.missed == []
    assert list(seen.untrue()) == []
    assert seen.unjudged > 0, "the end came too late to try anything"
    if full:
        assert seen.longest <= JUDGED_IN
        assert seen.receipts_per_s >= RECEIPTS_PER_S
    record.kept(
        f"{len(seen.heard)} submissions within {seen.evening.burst_s:g} s, {seen.evening.closing_s:g} s before "
        f"the end: {seen.receipts_per_s:.0f} receipts a second (of {RECEIPTS_PER_S}), nobody missed it, "
        f"{seen.unjudged} judged after it, {seen.longest.total_seconds():.0f} s after the receipt at most, all true"
    )


async def test_control_without_receipts_first_people_miss_the_end(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, full: bool, record: Record
) -> None:
    off = ["--set", "CHECKIN_RECEIPT_FIRST_HOURS=0"]
    seen = await last_evening(database_url, stores, tmp_path, FULL if full else SHORT, *off)
    assert seen.missed
    record.control(f"judged first, {len(seen.missed)} of {len(seen.heard)} missed the end")
