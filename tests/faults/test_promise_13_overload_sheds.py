"""Promise 13: of five times what can be done, nearly as much is done as can be, and the rest is told when to come back,
before it has sent its photograph.

The service is a process of its own with face workers as `serve` has them, on the same two cores as its callers. In the
short form the workers take their time over a photograph without needing a processor. The callers have an event loop of
their own, which leaves more of the processors to the service.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median, quantiles

import uvloop

from checkin_service.adapters.embedded import EmbeddedStores
from tests import portraits
from tests.faults.arrivals import (
    Call,
    Crowd,
    Heed,
    Photo,
    Send,
    arrive,
    call_once,
    gather,
    in_turn,
    memory_of,
    prepare,
    two_cores,
)
from tests.faults.processes import ServiceProcess, processes
from tests.faults.record import Record
from tests.service.stage import photo_of, running_service

TIMES = 5
WORKERS = 2
# A selfie is no smaller: what was read and not let in would be seen in memory.
PADDING = bytes(100_000)
MOST_GROWTH = 64 * 2**20
SHED_S, RECOVERED_S = 0.05, 10.0
BESIDE_PER_S = 5
# So many judged one after the other are nobody's luck.
AT_REST = 5


@dataclass(frozen=True, slots=True)
class Load:
    """`share` of the capacity is to be reached over `counted_s`, from when they have lost patience for whom there
    would be room at the beginning. Callers hang up after `patience_s`."""

    crowd: Crowd
    longest_wait_s: float
    patience_s: float
    capacity_s: float
    counted_s: float
    share: float
    switches: Sequence[str]
    portrait: bytes | None = None

    @property
    def warm_s(self) -> float:
        return 1.25 * self.patience_s + 0.25

    @property
    def photo(self) -> Photo:
        if self.portrait is None:
            return lambda person_id, number: photo_of(person_id, number) + PADDING
        selfie = portraits.hopper_altered()
        # no two callers send the same bytes
        return lambda _, number: selfie + number.to_bytes(4) + PADDING


# With room for others on the machine: what would be done by processors is a tenth of what they could.
SHORT = Load(Crowd(20, 30), 0.6, 2.0, 2.0, 3.0, 0.5, ["--analysis-s", "0.2"])
# Nobody has two submissions on their way at once, as long as callers wait: the second would be judged anew when the
# first is accepted, which no phone brings about.
FULL = Load(Crowd(800, 5, apart=True), 3.0, 5.0, 5.0, 10.0, 0.8, ["--analyse-for-real"], portraits.hopper())


@dataclass(frozen=True, slots=True)
class Seen:
    """`capacity` in submissions a second. `offered` came from `since` on; beside them came `held_back`, heads without
    their bodies, and `again`, each with what its sender was told `earlier`."""

    load: Load
    capacity: float
    since: float
    offered: Sequence[Heed]
    held_back: Sequence[Heed]
    earlier: Sequence[Heed]
    again: Sequence[Heed]
    grown_bytes: int
    recovered_s: float

    @property
    def goodput(self) -> float:
        """Submissions a second that were judged before their callers lost patience."""
        start = self.since + self.load.warm_s
        end = start + self.load.counted_s
        judged = [heed for heed in self.offered if heed.heard.status == 201 and start <= heed.at < end]
        return len(judged) / self.load.counted_s

    @property
    def told_again(self) -> list[Heed]:
        """Who came once more and was told the same: they go before who is new."""
        pairs = zip(self.earlier, self.again, strict=True)
        return [again for first, again in pairs if again.heard.body == first.heard.body]

    @property
    def shed(self) -> list[Heed]:
        return [heed for heed in [*self.offered, *self.held_back] if heed.heard.status == 503]


@asynccontextmanager
async def serving(
    database_url: str, stores: EmbeddedStores, folder: Path, load: Load, *switches: str
) -> AsyncIterator[tuple[ServiceProcess, Iterator[Call]]]:
    """A service, and a submission to it from each member."""
    redis_url = stores.redis_url or ""
    async with running_service(database_url, redis_url, folder, "real" if load.portrait else None) as stage:
        await gather(stage, load.crowd, load.portrait)
    settings = [
        f"--set=CHECKIN_LONGEST_WAIT_S={load.longest_wait_s}",
        f"--set=CHECKIN_FACE_WORKERS={WORKERS}",
    ]
    at = stage.database_url, redis_url, folder
    with two_cores():
        async with processes(1, folder, *at, *settings, *load.switches, *switches) as [process]:
            yield process, iter(await prepare(stage, load.crowd.members, load.photo))


async def overload(process: ServiceProcess, calls: Iterator[Call], load: Load) -> Seen:
    send = partial(call_once, process.port, load.patience_s)
    ask = partial(held_back, process.port, load.patience_s)
    earlier, capacity = await at_capacity(calls, load, send)
    rate, seconds = TIMES * capacity, load.warm_s + load.counted_s
    beside = int(BESIDE_PER_S * load.counted_s)
    async with memory_of(process.pid) as memory:
        since = time.monotonic()
        offered, asked, again = await asyncio.gather(
            arrive(list(islice(calls, int(rate * seconds))), rate, send),
            meanwhile(list(islice(calls, beside)), load, ask),
            meanwhile([heed.call for heed in earlier[:beside]], load, send),
        )
        recovered_s = await until_at_rest(calls, send) - (since + seconds)
    grown = max(memory) - memory[0]
    return Seen(load, capacity, since, offered, asked, earlier[:beside], again, grown, recovered_s)


async def at_capacity(calls: Iterator[Call], load: Load, send: Send) -> tuple[list[Heed], float]:
    """What was judged while there was always a little more to do, and how much that is a second once it goes."""
    heard = await in_turn(calls, 3 * WORKERS, load.capacity_s, send)
    judged = [heed for heed in heard if heed.heard.status == 201]
    first, *others = sorted(heed.at for heed in judged)[WORKERS:]
    return judged, len(others) / (others[-1] - first)


async def meanwhile(calls: Sequence[Call], load: Load, send: Send) -> list[Heed]:
    await asyncio.sleep(load.warm_s)
    return await arrive(calls, BESIDE_PER_S, send)


async def held_back(port: int, patience_s: float, call: Call) -> Heed:
    """By somebody who asks before they send a body."""
    asking = replace(call, head=call.head[:-2] + b"Expect: 100-continue\r\n\r\n", body=b"")
    return await call_once(port, patience_s, asking)


async def until_at_rest(calls: Iterator[Call], send: Send) -> float:
    """When the first of so many was sent that were judged one after the other."""
    since, judged = time.monotonic(), 0
    while judged < AT_REST:
        heed = await send(next(calls))
        judged += 1
        if heed.heard.status != 201:
            await asyncio.sleep(0.1)
            since, judged = time.monotonic(), 0
    return since


async def test_five_times_what_can_be_done(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, full: bool, record: Record
) -> None:
    load = FULL if full else SHORT
    async with serving(database_url, stores, tmp_path, load) as (process, calls):
        seen = await asyncio.to_thread(uvloop.run, overload(process, calls, load))
    took = sorted(heed.heard.seconds for heed in seen.shed)
    p99_s = quantiles(took, n=100)[-1]
    assert seen.goodput >= load.share * seen.capacity
    assert_shed(seen)
    assert len(seen.told_again) >= (1 if full else 0.5) * len(seen.again)
    assert seen.grown_bytes < MOST_GROWTH
    assert seen.recovered_s < RECOVERED_S
    if full:
        assert median(took) < SHED_S
    record.kept(
        f"{TIMES} times {seen.capacity:.1f}/s offered: {seen.goodput:.1f}/s judged "
        f"({seen.goodput / seen.capacity:.0%}), {len(took)} shed in {median(took) * 1000:.0f} ms (median; p99 "
        f"{p99_s * 1000:.0f} ms), {seen.grown_bytes / 2**20:.0f} MiB more memory, recovered in {seen.recovered_s:.1f} s"
    )


def assert_shed(seen: Seen) -> None:
    """Whoever was not judged was told when to come back, not all at the same time, and before a body was sent."""
    assert {heed.heard.status for heed in seen.offered} <= {201, 503, 0}
    assert {heed.heard.status for heed in seen.held_back} <= {503, 100}
    assert {heed.answer["code"] for heed in seen.shed} == {"unavailable"}
    assert any(heed.heard.status == 503 for heed in seen.held_back)
    back = Counter(int(heed.heard.fields["retry-after"]) for heed in seen.shed)
    assert min(back) >= 1
    [(_, most)] = back.most_common(1)
    assert most < back.total() / 3


async def test_control_let_in_everybody_waits_in_vain(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, full: bool, record: Record
) -> None:
    load = FULL if full else SHORT
    switches = ["--admit-everybody", "--set=CHECKIN_FACE_QUEUE=1000000"]
    async with serving(database_url, stores, tmp_path, load, *switches) as (process, calls):
        send = partial(call_once, process.port, load.patience_s)
        _, capacity = await at_capacity(calls, load, send)
        rate = TIMES * capacity
        since = time.monotonic()
        offered = await arrive(list(islice(calls, int(rate * (load.warm_s + load.counted_s)))), rate, send)
    seen = Seen(load, capacity, since, offered, (), (), (), 0, 0)
    assert seen.goodput < load.share * capacity
    record.control(
        f"everybody let in: of {rate:.0f}/s {seen.goodput:.1f}/s were judged before they hung up, where "
        f"{capacity:.1f}/s can be"
    )
