"""From what one check-in costs and how many come, what has to be bought."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from checkin_service.domain.retention import POLICY, Kind
from tests.capacity.demand import ASSUMPTIONS, FIRMS, LIMITS, PERSONS, Place, arrivals, rates
from tests.capacity.inputs import Inputs
from tests.capacity.queue import Work, least_cores

MACHINE_CORES = 4
"""Of a machine with one process of the service and a worker for each: with more its event loop would be the limit."""
CALLS = 3
"""An attempt passes the proxy with its challenge, the check-in, and a look at what is to be done."""
CONNECTIONS = 10
"""CHECKIN_DATABASE_CONNECTIONS."""
CONNECTION_MB, SYSTEM_MB = 10, 1000
KEY_STORE_CORES, KEY_STORE_GB = 2, 4
"""Of the key store's own server, which a check-in asks for nothing but a key."""
JUDGED_S, TAKEN_S = 240.0, 1.0
"""CHECKIN_LONGEST_DEFERRAL_S, of the five minutes that are promised; and how long somebody near a deadline waits to be
taken."""
HOURS, DAYS = 730.0, 30.4
"""Of a month."""
FOR_GOOD = None

# What of a table goes when; of a check-in that was accepted the bare facts stay.
KEPT: Mapping[str, Kind | None] = {
    "audit": Kind.AUDIT,
    "challenge": Kind.CHALLENGE,
    "evidence": Kind.EVIDENCE,
    "idempotency_key": Kind.IDEMPOTENCY_KEY,
    "kept_photograph": Kind.KEPT_PHOTOGRAPH,
    "last_position": Kind.LAST_POSITION,
    "processing_record": Kind.PROCESSING_RECORD,
    "reference": Kind.REFERENCE,
    "sent_fix": Kind.SENT_FIX,
    "template": Kind.REFERENCE,
}
REFUSED: Mapping[str, Kind | None] = {"attempt": Kind.REFUSED_ATTEMPT, "receipt": Kind.REFUSED_ATTEMPT}
_NOT_BY_TASK = {Kind.CHALLENGE, Kind.IDEMPOTENCY_KEY, Kind.LAST_POSITION}


@dataclass(frozen=True, slots=True)
class Money:
    """CNY a month."""

    cores: float
    disk: float
    objects: float

    @property
    def total(self) -> float:
        return self.cores + self.disk + self.objects


@dataclass(frozen=True)
class Need:
    """Of one installation, that has `times` Shenzhen's people."""

    inputs: Inputs
    assumed: Mapping[str, float]
    times: float

    # --- the last hour ---

    @cached_property
    def rates(self) -> tuple[float, float]:
        """Attempts a second, in the last hour and in its surge."""
        return rates(self.assumed, self.times)

    @cached_property
    def attempts(self) -> float:
        """A person's."""
        return self.assumed["with_face"] + self.assumed["without_face"]

    def each(self, with_face: float, without: float) -> float:
        """Of an attempt, from those of its two kinds."""
        return (
            with_face * self.assumed["with_face"] + without * self.assumed["without_face"]
        ) / self.attempts

    @cached_property
    def ms(self) -> dict[str, float]:
        """CPU of an attempt by who needs it, with its challenge and a look at the person's tasks, which is put at a
        status and like it split in halves."""
        costs, left = self.inputs.costs, self.inputs.left_behind
        look, refused = costs["status_ms"] / 2, left["refused_place"]
        return {
            "face": self.each(costs["face_ms"], 0),
            "service": self.each(costs["service_ms"] + costs["valkey_ms"], refused["service_ms"])
            + left["challenge"]["service_ms"]
            + look,
            "postgres": self.each(costs["postgres_ms"], refused["postgres_ms"])
            + left["challenge"]["postgres_ms"]
            + look,
            "proxy": CALLS * max(0.0, costs["proxied_ms"] - costs["generator_ms"]) + self.assumed["tls_ms"],
        }

    @cached_property
    def reading(self) -> float:
        """Cores that the platform's polls keep busy, half of them PostgreSQL's."""
        polls = self.times * FIRMS * self.assumed["polls"] / 60
        return (polls * self.inputs.costs["poll_ms"] + self.inputs.costs["feed_page_ms"]) / 1000

    @cached_property
    def busy(self) -> dict[str, float]:
        """Cores that are busy in the surge, if everybody is judged at once."""
        busy = {who: self.rates[1] * ms / 1000 for who, ms in self.ms.items()}
        half = self.reading / 2
        return busy | {"service": busy["service"] + half, "postgres": busy["postgres"] + half}

    @cached_property
    def at_once(self) -> tuple[int, int]:
        """Cores of the application and of PostgreSQL, to judge everybody at once."""
        return self._split(sum(self.busy.values()) / self.assumed["utilisation"])

    @cached_property
    def receipts_first(self) -> tuple[int, int]:
        """The same, if those who come too fast are taken first and judged within minutes."""
        hour, surge = self.rates
        deferred = self.inputs.left_behind["deferred"]
        work = Work(sum(self.ms.values()) / 1000, (deferred["service_ms"] + deferred["postgres_ms"]) / 1000)
        return self._split(least_cores(arrivals(hour, surge), work, JUDGED_S, TAKEN_S) + self.reading)

    def _split(self, cores: float) -> tuple[int, int]:
        """By who is busy; PostgreSQL has two at least."""
        postgres = cores * self.busy["postgres"] / sum(self.busy.values())
        return math.ceil(cores - postgres), max(2, math.ceil(postgres))

    # --- what is ordered ---

    @cached_property
    def machines(self) -> int:
        """Of the application, and one that may fail."""
        return math.ceil(self.at_once[0] / MACHINE_CORES) + 1

    @cached_property
    def cores(self) -> int:
        """Of the application's machines, of primary and standby, and of the key store's server."""
        return self.machines * MACHINE_CORES + 2 * self.at_once[1] + KEY_STORE_CORES

    @cached_property
    def memory_gb(self) -> float:
        return self.machines * self.machine_gb + 2 * self.postgres_gb + KEY_STORE_GB

    @cached_property
    def enrolling_hours(self) -> float:
        """In which the cores that judge at once enrol a month's people."""
        ms = sum(self.inputs.costs[f"enrolment_{who}_ms"] for who in ("face", "service", "postgres"))
        return self.events["enrolment"] * ms / 1000 / 3600 / (self.at_once[0] * self.assumed["utilisation"])

    @cached_property
    def event_loop(self) -> float:
        """How busy the one of each process is in the surge while all machines are there."""
        return self.busy["service"] / self.machines

    @cached_property
    def connections(self) -> int:
        """Of the pools, as large as they may get."""
        return self.machines * CONNECTIONS

    @cached_property
    def machine_gb(self) -> float:
        """Of each application machine, which keeps one worker warm."""
        costs = self.inputs.costs
        return (SYSTEM_MB + costs["service_mb"] + (MACHINE_CORES + 1) * costs["worker_mb"]) / 1000

    @cached_property
    def postgres_gb(self) -> float:
        """Of each PostgreSQL: a month's rows and indexes in memory, so that a check-in waits for no disk."""
        return (SYSTEM_MB + self.connections * CONNECTION_MB) / 1000 + self.rows_gb(1)

    # --- what is written ---

    @cached_property
    def events(self) -> dict[str, float]:
        """A month's."""
        persons, assumed = self.times * PERSONS, self.assumed
        return {
            "task": self.times * FIRMS,
            "enrolment": persons * assumed["enrolled"],
            "consent": persons * assumed["enrolled"],
            "challenge": persons * self.attempts,
            "accepted": persons,
            "refused_face": persons * (assumed["with_face"] - 1),
            "refused_place": persons * assumed["without_face"],
        }

    def rows_gb(self, months: float) -> float:
        """Rows with their indexes after so many months."""
        return sum(size * min(months, kept) for size, kept in self._rows())

    @cached_property
    def rows_for_good_gb(self) -> float:
        """What a year adds that is never purged."""
        return sum(12 * size for size, kept in self._rows() if math.isinf(kept))

    def _rows(self) -> Iterator[tuple[float, float]]:
        """GB that a month adds, and for how many months they are kept."""
        for event, number in self.events.items():
            for table, size in self.inputs.left_behind[event]["tables"].items():
                yield number * size / 1e9, months_kept(table, event)

    def evidence_gb(self, months: float) -> float:
        """Of selfies as large as assumed; whoever is refused leaves none, as was measured."""
        left = self.inputs.left_behind["accepted"]
        each_gb = self.assumed["selfie_kb"] * left["object_bytes"] / left["body_bytes"] / 1e6
        return float(self.events["accepted"] * each_gb * min(months, months_kept("evidence", "accepted")))

    @cached_property
    def log_growth(self) -> float:
        """How many times as much log a check-in writes where each changes pages that no other has changed."""
        left = self.inputs.left_behind
        return float(left["accepted_after_checkpoint"]["wal_bytes"] / left["accepted"]["wal_bytes"])

    @cached_property
    def log_gb(self) -> float:
        """A month's, in a large database."""
        left = self.inputs.left_behind
        written = sum(number * left[event]["wal_bytes"] for event, number in self.events.items())
        return float(written * self.log_growth / 1e9)

    @cached_property
    def log_mb_per_s(self) -> float:
        """In the surge, everybody judged at once, in a large database."""
        return self.rates[1] * self._an_attempt("wal_bytes") * self.log_growth / 1e6

    @cached_property
    def log_mb_per_s_deferred(self) -> float:
        """In the surge, everybody taken first, the selfie with it."""
        deferred = self.inputs.left_behind["deferred"]
        receipt = deferred["wal_bytes"] - deferred["body_bytes"] + 1000 * self.assumed["selfie_kb"]
        return float(self.rates[1] * receipt / 1e6)

    @cached_property
    def commits_per_s(self) -> float:
        """Transactions that write, in the surge."""
        return self.rates[1] * self._an_attempt("transactions")

    @cached_property
    def changes_per_s(self) -> float:
        """Of the feed, in the surge: an acceptance is one."""
        return self.rates[1] / self.attempts

    def _an_attempt(self, what: str) -> float:
        left = self.inputs.left_behind
        checked_in = self.each(left["accepted"][what], left["refused_place"][what])
        return checked_in + float(left["challenge"][what])

    # --- what it costs ---

    def money(self, prices: Mapping[str, float], months: float = 12) -> Money:
        """A month, once it has run for so many; evidence and the archive of a month's log twice or once as objects."""
        kept = 2 * self.evidence_gb(months) + self.log_gb + self.rows_gb(months)
        return Money(
            self.cores * HOURS * prices["core_hour"],
            2 * self.rows_gb(months) * prices["disk_gb"],
            kept * prices["object_gb"],
        )


def _kind_of(table: str, event: str) -> Kind | None:
    refused = event.startswith("refused")
    return (REFUSED.get(table) if refused else None) or KEPT.get(table)


def months_kept(table: str, event: str) -> float:
    """With the month for which a task may be open, from which on that is counted."""
    kind = _kind_of(table, event)
    if kind is FOR_GOOD:
        return math.inf
    return POLICY[kind].period.total_seconds() / 86_400 / DAYS + (0 if kind in _NOT_BY_TASK else 1)


def prices(of: str) -> dict[str, float]:
    """The `least`, `planned` or `most`."""
    return {name: getattr(ASSUMPTIONS[name], of) for name in ("core_hour", "disk_gb", "object_gb")}


def needs(inputs: Inputs, assumed: Mapping[str, float], places: Sequence[Place]) -> list[Need]:
    """Of one installation of each."""
    return [Need(inputs, assumed, place.times_each) for place in places]


def waiting_share(workers: int, busy: float) -> tuple[float, float]:
    """M/M/c: the share of those who wait for a worker, and for how many services on average. Erlang's C.

    >>> [round(figure, 3) for figure in waiting_share(1, 0.5)]
    [0.5, 1.0]
    """
    offered, inverse = workers * busy, 1.0
    for number in range(1, workers + 1):
        inverse = 1 + inverse * number / offered
    waits = 1 / (1 + (1 - busy) * (inverse - 1))
    return waits, waits / (workers * (1 - busy))


def one_primary_bears(need: Need) -> dict[str, float]:
    """How many times an installation's people until one PostgreSQL meets each limit, if everybody is judged at once."""
    held = need.changes_per_s * need.inputs.left_behind["commit"]["ms"] / 1000
    met = {
        "cores": need.busy["postgres"] / need.assumed["utilisation"],
        "feed": held,
        "log_mb": need.log_mb_per_s,
        "disk_gb": need.rows_gb(36),
        "connections": need.connections,
    }
    return {name: need.times * LIMITS[name].planned / figure for name, figure in met.items()}
