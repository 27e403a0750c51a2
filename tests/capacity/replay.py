"""The last minutes of a last evening against a service of its own, and what the model foretells of them."""

import asyncio
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.check_ins import warm_up
from tests.bench.cost import GENERATOR, Cost, measured
from tests.bench.people import place_of
from tests.bench.plan import QUICK
from tests.bench.site import Site
from tests.capacity.demand import arrivals, planned, rates
from tests.capacity.inputs import Inputs
from tests.capacity.queue import Evening, Work, play
from tests.faults.arrivals import Call, Heed, Send, arrive_at, insist, prepare
from tests.service.stage import FAR

PATIENCE_S = 20.0
# Who comes later than this before the end may be late by what the network takes.
MARGIN_S = 3.0
STEP_S = 0.1
JUDGED_BY_S = 300
KINDS = ("service", "postgres", "valkey", "face", GENERATOR)
EXPECTED = {"accepted": [], "refused_face": ["non_match"], "refused_place": ["outside_geofence"]}


@dataclass(frozen=True, slots=True)
class Replay:
    """`times` Shenzhen's rates of the last hour, for as many seconds, the surge at the end among them."""

    name: str
    times: float
    length_s: int
    surge_s: int
    seed: int = 20261123

    @property
    def coming(self) -> Sequence[float]:
        """In each second."""
        return arrivals(*rates(planned(), self.times), self.length_s, self.surge_s)

    @property
    def number(self) -> int:
        return math.floor(sum(self.coming))

    def times_s(self) -> list[float]:
        """When each comes: by chance, as people do who know nothing of each other."""
        random, total = np.random.default_rng(self.seed), np.cumsum([0.0, *self.coming])
        places = np.sort(random.uniform(0, total[-1], self.number))
        return [float(at) for at in np.interp(places, total, np.arange(len(total)))]


AS_PLANNED = Replay("Shenzhen's rates", 1, 120, 20)
TOO_MUCH = Replay("three times as many", 3, 60, 20)


@dataclass(frozen=True, slots=True)
class Sent:
    """A submission, and what has to come of it."""

    call: Call
    kind: str


@dataclass(frozen=True, slots=True)
class Seen:
    """`stored` by key: how it was taken and judged."""

    replay: Replay
    sent: Sequence[Sent]
    heard: Sequence[Heed]
    due: Sequence[float]
    stored: Mapping[str, Any]
    cost: Cost
    elsewhere_s: float

    @property
    def missed(self) -> list[str]:
        """Who was not received before the end."""
        return [key for key in self._keys if not (row := self.stored.get(key)) or not row["in_time"]]

    @property
    def untrue(self) -> list[str]:
        """Verdicts that are not what they should be, or that count from another moment."""
        return [
            sent.call.submission.key
            for sent in self.sent
            if (row := self.stored.get(sent.call.submission.key)) is None
            or row["reasons"] != EXPECTED[sent.kind]
            or row["accepted_at"] != (row["received_at"] if sent.kind == "accepted" else None)
        ]

    @property
    def deferred(self) -> int:
        return sum(row["deferred"] for row in self.stored.values())

    @property
    def longest_s(self) -> float:
        """From a receipt to its verdict."""
        rows = [row for row in self.stored.values() if row["judged_at"]]
        return max(float((row["judged_at"] - row["received_at"]).total_seconds()) for row in rows)

    @property
    def latency_ms(self) -> float:
        """95th percentile, of all, until any answer but to come again."""
        times = [heed.at - due for heed, due in zip(self.heard, self.due, strict=True)]
        return float(np.percentile(times, 95, method="higher")) * 1000

    @property
    def called(self) -> float:
        return sum(heed.calls for heed in self.heard) / len(self.heard)

    @property
    def _keys(self) -> Iterator[str]:
        return (sent.call.submission.key for sent in self.sent)


async def replayed(site: Site, replay: Replay, margin_s: float = MARGIN_S) -> Seen:
    """Raises `TimeoutError` when somebody is not judged five minutes after the last has come."""
    async with site.serving() as [process]:
        await warm_up(site, process.port, QUICK)
        sent, times_s = await people(site, replay), replay.times_s()
        length_s = replay.length_s + margin_s
        await _close_in(site, sent, length_s)
        started, busy = time.monotonic(), _busy_s()
        with measured() as cost:
            send = one_by_one(partial(insist, process.port, PATIENCE_S, started + length_s))
            heard = await arrive_at([one.call for one in sent], times_s, send)
            await _all_judged(site, sent)
        elsewhere_s = _busy_s() - busy - sum(cost.cpu_s.values())
        due = [started + at for at in times_s]
        return Seen(replay, sent, heard, due, await _stored(site, sent), cost, elsewhere_s)


def one_by_one(send: Send) -> Send:
    """Nobody comes again before they were answered."""
    answered: dict[str, asyncio.Lock] = {}

    async def sent(call: Call) -> Heed:
        async with answered.setdefault(call.submission.person_id, asyncio.Lock()):
            return await send(call)

    return sent


async def people(site: Site, replay: Replay) -> list[Sent]:
    """As many attempts of each kind as the plan has of them; who is refused comes again, and is accepted last."""
    assumed, number = planned(), replay.number
    attempts = assumed["with_face"] + assumed["without_face"]
    accepted = math.floor(number / attempts)
    refused_face = round(accepted * (assumed["with_face"] - 1))
    members = [site.members.popleft() for _ in range(accepted)]
    random = np.random.default_rng(replay.seed)
    kinds = {
        "accepted": members,
        "refused_face": members[:refused_face],
        "refused_place": [members[n] for n in random.integers(0, accepted, number - accepted - refused_face)],
    }
    calls = {kind: await _calls(site, kind, of_kind) for kind, of_kind in kinds.items()}
    return _in_order([Sent(call, kind) for kind, of_kind in calls.items() for call in of_kind], random)


def _in_order(sent: Sequence[Sent], random: np.random.Generator) -> list[Sent]:
    """Any, but that nobody comes again who is accepted."""
    shuffled = [sent[n] for n in random.permutation(len(sent))]
    last = {one.call.submission.person_id: at for at, one in enumerate(shuffled)}
    for at, one in enumerate(shuffled):
        to = last[one.call.submission.person_id]
        if one.kind == "accepted" and at != to:
            shuffled[at], shuffled[to] = shuffled[to], shuffled[at]
    return shuffled


async def _calls(site: Site, kind: str, members: Sequence[tuple[str, str]]) -> list[Call]:
    """Whose challenges outlast the replay."""
    photo = site.faces.stranger if kind == "refused_face" else site.faces.photo
    calls = await prepare(site.stage, members, photo, _far if kind == "refused_place" else place_of)
    await site.stage.sql("UPDATE challenge SET expires_at = clock_timestamp() + interval '1 hour'")
    return calls


def _far(_: str) -> tuple[float, float]:
    return FAR


async def _close_in(site: Site, sent: Sequence[Sent], seconds: float) -> None:
    """Their tasks, and nobody else's."""
    ends = "UPDATE task SET closes_at = clock_timestamp() + make_interval(secs => $1) WHERE task_id = ANY($2)"
    await site.stage.sql(ends, seconds, [one.call.submission.task_id for one in sent])


async def _all_judged(site: Site, sent: Sequence[Sent]) -> None:
    keys = [one.call.submission.key for one in sent]
    query = (
        "SELECT count(*) FROM receipt WHERE answer IS NULL AND ended IS NULL AND idempotency_key = ANY($1)"
    )
    async with asyncio.timeout(JUDGED_BY_S):
        while (await site.stage.sql(query, keys))[0][0]:  # noqa: ASYNC110  in the database
            await asyncio.sleep(0.2)


async def _stored(site: Site, sent: Sequence[Sent]) -> dict[str, Any]:
    rows = await site.stage.sql(
        """
        SELECT idempotency_key, r.received_at, r.received_at < t.closes_at AS in_time, deferred, judged_at, reasons,
               accepted_at
        FROM receipt r JOIN task t USING (task_id) LEFT JOIN attempt a USING (check_in_id)
        LEFT JOIN acceptance USING (check_in_id) WHERE idempotency_key = ANY($1)
        """,
        [one.call.submission.key for one in sent],
    )
    return {row["idempotency_key"]: row for row in rows}


def _busy_s() -> float:
    """Seconds for which the machine's processors have worked, for anybody, waiting for disks and the host left out."""
    user, nice, system, _, _, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / 100


# --- What is foretold, and what came of it ---

Figure = dict[str, float]


def foretold(inputs: Inputs, replay: Replay, cores: float) -> Figure:
    """From what one check-in costs; the generator is on the same cores."""
    ms = _ms(inputs)
    deferred = inputs.left_behind["deferred"]
    work = Work(sum(ms.values()) / 1000, (deferred["service_ms"] + deferred["postgres_ms"]) / 1000)
    evening = _played(replay, work, cores)
    faces = planned()["with_face"] / (planned()["with_face"] + planned()["without_face"])
    return _figures(ms, 100 * faces * evening.deferred / replay.number, evening.longest_s) | {"missed": 0}


def _ms(inputs: Inputs) -> Figure:
    """CPU of an attempt on average, without the challenge, which is there."""
    assumed, costs, refused = planned(), inputs.costs, inputs.left_behind["refused_place"]
    with_face = {kind: costs[f"{kind}_ms"] for kind in KINDS}
    without = {kind: refused.get(f"{kind}_ms", 0.0) for kind in KINDS} | {GENERATOR: costs["generator_ms"]}
    share = assumed["with_face"] / (assumed["with_face"] + assumed["without_face"])
    return {kind: share * with_face[kind] + (1 - share) * without[kind] for kind in KINDS}


def _played(replay: Replay, work: Work, cores: float) -> Evening:
    steps = math.ceil(replay.length_s / STEP_S)
    coming, _ = np.histogram(replay.times_s(), steps, (0, replay.length_s))
    return play([float(number) for number in coming], cores, work, STEP_S)


def came(seen: Seen, cores: int) -> Figure:
    ms = {kind: seen.cost.ms(len(seen.sent), kind) for kind in KINDS}
    deferred = 100 * seen.deferred / len(seen.sent)
    return _figures(ms, deferred, seen.longest_s) | {
        "missed": len(seen.missed),
        "untrue": len(seen.untrue),
        "latency_p95_ms": seen.latency_ms,
        "calls": seen.called,
        "elsewhere": 100 * seen.elsewhere_s / (seen.cost.wall_s * cores),
    }


def _figures(ms: Figure, deferred: float, longest_s: float) -> Figure:
    return {f"{kind}_ms": of_kind for kind, of_kind in ms.items()} | {
        "all_ms": sum(ms.values()),
        "deferred": deferred,
        "longest_s": longest_s,
    }


def record(inputs: Inputs, seen: Seen, cores: int) -> dict[str, Any]:
    replay = seen.replay
    hour, surge = rates(planned(), replay.times)
    about = {"name": replay.name, "attempts": len(seen.sent), "length_s": replay.length_s, "hour_per_s": hour}
    about |= {"surge_per_s": surge, "surge_s": replay.surge_s}
    happened = came(seen, cores)
    left = cores * (1 - happened["elsewhere"] / 100)
    told = {"foretold": foretold(inputs, replay, cores), "foretold_left": foretold(inputs, replay, left)}
    return about | told | {"came": happened}


async def replay_all(site: Site, inputs: Inputs, cores: int) -> list[dict[str, Any]]:
    return [record(inputs, await replayed(site, replay), cores) for replay in (AS_PLANNED, TOO_MUCH)]
