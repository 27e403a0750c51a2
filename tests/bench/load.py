"""Check-ins as phones send them: so many a second whatever becomes of those before them, or always so many at a time.

A latency counts from when the submission was meant to be sent, which a generator that falls behind cannot shorten; one
that was not judged is infinitely long. A load of which anything is refused for what it is measures nothing and raises
`BenchFault`.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from tests.bench.cost import Cost, measured
from tests.bench.fault import BenchFault
from tests.faults.arrivals import Call, Heed, arrive, call_once, in_turn

# Then a phone gives up, and its check-in has failed.
PATIENCE_S = 15.0
# What a service says that has too much to do; 0 is nothing in time.
NOT_NOW = {0, 202, 503}
# For a picture: as many between 50 and 75 as between 99.8 and 99.9.
PERCENTILES = [round(100 - 50 * 500 ** (-step / 63), 4) for step in range(64)]


@dataclass(frozen=True, slots=True)
class Load:
    """What callers heard, when each submission was `due` by the event loop's clock, and what it cost until the last
    answer."""

    heard: Sequence[Heed]
    due: Sequence[float]
    cost: Cost

    @property
    def judged(self) -> list[Heed]:
        return [heed for heed in self.heard if heed.heard.status == 201]

    @property
    def per_second(self) -> float:
        return len(self.judged) / self.cost.wall_s

    @property
    def not_judged(self) -> int:
        return len(self.heard) - len(self.judged)

    def latency_ms(self, percentile: float) -> float:
        """Of all submissions; one that occurred, and none between two."""
        times = [
            heed.at - due if heed.heard.status == 201 else math.inf
            for heed, due in zip(self.heard, self.due, strict=True)
        ]
        return float(np.percentile(times, percentile, method="higher")) * 1000

    def curve(self) -> list[tuple[float, float | None]]:
        """Latency in ms by percentile, None where it is infinite."""
        latencies = ((percentile, self.latency_ms(percentile)) for percentile in PERCENTILES)
        return [(percentile, ms if math.isfinite(ms) else None) for percentile, ms in latencies]


async def steady(port: int, calls: Sequence[Call], width: int, seconds: float) -> Load:
    """Always so many at a time for so long; all of them are judged, or it is a `BenchFault`."""
    since = time.monotonic()
    with measured() as cost:
        heard = await in_turn(_ample(calls), width, seconds, partial(call_once, port, PATIENCE_S))
    load = Load(_accepted(heard), [since] * len(heard), cost)
    if load.not_judged:
        raise BenchFault(f"{load.not_judged} of {len(heard)} were not judged, only {width} at a time")
    return load


async def open_model(port: int, calls: Sequence[Call], rate: float) -> Load:
    """So many a second."""
    since = time.monotonic()
    with measured() as cost:
        heard = await arrive(calls, rate, partial(call_once, port, PATIENCE_S))
    return Load(_accepted(heard), [since + number / rate for number in range(len(calls))], cost)


def _ample(calls: Sequence[Call]) -> Iterator[Call]:
    yield from calls
    raise BenchFault(f"{len(calls)} submissions were too few")


def _accepted(heard: Sequence[Heed]) -> Sequence[Heed]:
    """The same, if everybody who was judged was accepted, and somebody was."""
    said = Counter(map(_said, heard))
    if set(said) - {"accepted", *map(str, NOT_NOW)} or not said["accepted"]:
        raise BenchFault(f"these are not check-ins that are accepted: {dict(said)}")
    return heard


def _said(heed: Heed) -> str:
    """The outcome, the status of whoever was not judged now, or all that was said."""
    if heed.heard.status == 201:
        return (
            str(heed.answer["outcome"])
            if heed.answer["outcome"] == "accepted"
            else str(heed.answer["reasons"])
        )
    return str(heed.heard.status) if heed.heard.status in NOT_NOW else heed.heard.body.decode()[:300]
