"""What is asked of the service: given figures, assumptions with how far they may lie off, and the evening they make."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from checkin_service.domain.calendar import SHANGHAI, Calendar
from checkin_service.domain.window import one_month_window

FIRMS, PERSONS = 12_000, 240_000
"""Shenzhen, a month: issue 7."""

EVENING_S, LAST_HOUR_S, SURGE_S = 6 * 3600, 3600, 120
"""From 18:00 on; its last hour; the last two minutes, in which those come who come at the very end."""


@dataclass(frozen=True, slots=True)
class Assumption:
    """What nobody has measured: what is planned with, the least and the most that is likely, and why."""

    planned: float
    least: float
    most: float
    what: str
    why: str


ASSUMPTIONS: Mapping[str, Assumption] = {
    "closing_together": Assumption(
        1.0,
        0.385,
        1.0,
        "of a month's persons, those whose window ends on one and the same evening",
        "all: an authority may approve everybody on one day. With as many on each working day the fullest last day "
        "of 2016 to 2026 has those of 8 of a month's 20.8: windows roll over holidays",
    ),
    "on_last_evening": Assumption(
        0.2, 0.05, 0.5, "of them, those who come after 18:00 of the last day only", "nobody knows; SMS go out before"
    ),
    "in_last_hour": Assumption(
        0.3, 1 / 6, 0.6, "of the evening's attempts, those in its last hour", "even would be a sixth"
    ),
    "surge": Assumption(
        3.0, 1.0, 10.0, "times the last hour's rate, for its last two minutes", "an end draws people together"
    ),
    "with_face": Assumption(
        1.3, 1.05, 2.0, "attempts a person with a look at the face, one of them accepted", "light, glasses, movement"
    ),
    "without_face": Assumption(
        0.7, 0.2, 3.0, "attempts a person refused for the place, before any face", "tried on the way; indoors"
    ),
    "enrolled": Assumption(1.0, 0.2, 1.0, "of a month's persons, those enrolled anew", "references are kept 90 days"),
    "polls": Assumption(
        1.0, 0.0, 4.0, "polls a minute of every firm's task", "the feed alone, asked once a second, needs none of them"
    ),
    "selfie_kb": Assumption(
        150, 60, 400, "kB a selfie", "the mini-program draws anew what is over 400 kB, at 1,280 pixels"
    ),
    "tls_ms": Assumption(2.0, 1.0, 4.0, "ms of CPU for a caller's TLS, one connection an attempt", "not measured"),
    "utilisation": Assumption(
        0.65, 0.8, 0.5, "of its cores that the fullest minute may use", "waiting begins above: see below"
    ),
    "core_hour": Assumption(
        0.30, 0.15, 0.60, "CNY a core and hour, with 4 GB", "an assumption, no vendor's offer; bare metal is less"
    ),
    "disk_gb": Assumption(0.80, 0.35, 1.50, "CNY a GB and month of PostgreSQL's disk", "an assumption"),
    "object_gb": Assumption(0.15, 0.10, 0.30, "CNY a GB and month of objects and archives", "an assumption"),
}  # fmt: skip

LIMITS: Mapping[str, Assumption] = {
    "cores": Assumption(32, 16, 64, "cores of one PostgreSQL", "a usual large machine"),
    "feed": Assumption(0.5, 0.3, 0.7, "of the time, the feed's lock is held", "then the next waits as long again"),
    "log_mb": Assumption(100, 50, 300, "MB of log a second, to disk, archive and standby", "a 10 Gbit/s link has room"),
    "disk_gb": Assumption(4000, 2000, 16000, "GB of rows, to be copied every night and restored", "a restore in hours"),
    "connections": Assumption(500, 200, 1000, "connections", "without a pooler between"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Who asks: `times` Shenzhen in all, in so many installations that share nothing."""

    name: str
    times: float
    installations: int = 1

    @property
    def times_each(self) -> float:
        return self.times / self.installations


# By population, 17.8, 127 and 1,400 million, as decisions/0027.
PLACES = (Place("Shenzhen", 1), Place("Guangdong", 7), Place("China, by province", 80, 31))


def planned(**changes: float) -> dict[str, float]:
    """What is planned with, but for these."""
    return {name: assumption.planned for name, assumption in ASSUMPTIONS.items()} | changes


def rates(assumed: Mapping[str, float], times: float) -> tuple[float, float]:
    """Attempts a second in the last hour, and in its surge."""
    attempts = times * PERSONS * (assumed["with_face"] + assumed["without_face"])
    evening = attempts * assumed["closing_together"] * assumed["on_last_evening"]
    hour = evening * assumed["in_last_hour"] / LAST_HOUR_S
    return hour, hour * assumed["surge"]


def arrivals(
    hour: float, surge: float, length_s: int = LAST_HOUR_S, surge_s: int = SURGE_S
) -> Sequence[float]:
    """How many attempts come in each second of the last hour, or of a shorter one."""
    return [hour] * (length_s - surge_s) + [surge] * surge_s


def fullest_last_day(calendar: Calendar, days: Iterable[date]) -> tuple[date, float]:
    """The day on which most windows end, and of how many days' approvals, if there are as many on each working day."""
    approved = [
        datetime(day.year, day.month, day.day, 10, tzinfo=SHANGHAI)
        for day in days
        if not calendar.is_rest_day(day)
    ]
    ends = Counter(one_month_window(at, calendar).last_day for at in approved)
    day, most = ends.most_common(1)[0]
    return day, most


def days_between(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
