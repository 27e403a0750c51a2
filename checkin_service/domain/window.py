"""The period in which a check-in counts, by 民法典 articles 200 to 204.

    start = day of the approval in Shanghai;  nominal = start + 1 month, clipped to the month's end
    last  = first day from nominal on that is not a rest day;  closes_at = 24:00 of last, exclusive
    opens_at = the approval

A rectification order names its own last day, which is taken as given.
"""

from calendar import monthrange
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from itertools import count, takewhile
from typing import Literal

from checkin_service.domain.calendar import Calendar, day_of, end_of, shanghai_time

Basis = Literal["one_month", "order"]
DeadlineFault = Literal["deadline_not_day_end", "deadline_not_after_approval"]

_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """When a task is open: `opens_at <= received_at < closes_at`, both at +08:00, and how that came about.

    `rolled_over` are the rest days passed over from `nominal_day` to the day before `last_day`.
    A `provisional` window may still move to a later end and never expires a task.
    """

    basis: Basis
    start_day: date
    nominal_day: date
    last_day: date
    rolled_over: tuple[date, ...]
    provisional: bool
    calendar_version: str
    opens_at: datetime
    closes_at: datetime


def one_month_window(approved_at: datetime, calendar: Calendar) -> Window:
    """The window of one month after an aware `approved_at`; ValueError when it is naive.

    It is provisional when any day looked up in the calendar is unpublished. Looked up are the nominal day,
    the rest days passed over and the last day; the start day is not, for it may be a rest day as well.

    >>> year = Calendar("cn-2026.1", date(2026, 1, 1), date(2026, 12, 31), frozenset())
    >>> approved_at = datetime.fromisoformat("2026-01-31T10:00+08:00")
    >>> one_month_window(approved_at, year).closes_at.isoformat()
    '2026-03-01T00:00:00+08:00'
    >>> one_month_window(datetime.fromisoformat("2026-12-01T10:00+08:00"), year).provisional
    True
    """
    start_day = day_of(approved_at)
    nominal_day = _one_month_after(start_day)
    rolled_over = _rest_days_from(nominal_day, calendar)
    last_day = nominal_day + len(rolled_over) * _ONE_DAY
    return Window(
        basis="one_month",
        start_day=start_day,
        nominal_day=nominal_day,
        last_day=last_day,
        rolled_over=rolled_over,
        # The published span has no gaps, so its two ends vouch for the days between.
        provisional=not (calendar.is_published(nominal_day) and calendar.is_published(last_day)),
        calendar_version=calendar.version,
        opens_at=shanghai_time(approved_at),
        closes_at=end_of(last_day),
    )


def order_window(opens_at: datetime, deadline_at: datetime, calendar: Calendar) -> Window:
    """The window that an order sets: up to the exclusive `deadline_at`, not moved by rest days.

    It is never provisional; the calendar gives only its version. ValueError for a naive instant and for a
    deadline in which `deadline_fault` finds a fault.

    >>> year = Calendar("cn-2026.1", date(2026, 1, 1), date(2026, 12, 31), frozenset())
    >>> approved_at = datetime.fromisoformat("2026-03-02T10:00+08:00")
    >>> order_window(approved_at, datetime.fromisoformat("2026-03-15T16:00+00:00"), year).last_day
    datetime.date(2026, 3, 15)
    """
    fault = deadline_fault(opens_at, deadline_at)
    if fault:
        raise ValueError(f"{fault}: {deadline_at.isoformat()} after {opens_at.isoformat()}")
    last_day = day_of(deadline_at) - _ONE_DAY
    return Window(
        basis="order",
        start_day=day_of(opens_at),
        nominal_day=last_day,
        last_day=last_day,
        rolled_over=(),
        provisional=False,
        calendar_version=calendar.version,
        opens_at=shanghai_time(opens_at),
        closes_at=end_of(last_day),
    )


def recomputed_window(window: Window, calendar: Calendar) -> Window:
    """The window by a calendar that has changed under it: the later of its end and the official one, never earlier.

    Also for a provisional window whose end an order has moved: the order takes nothing that the law gives.

    >>> year = Calendar("cn-2026.1", date(2026, 1, 1), date(2026, 12, 31), frozenset())
    >>> guessed = one_month_window(datetime.fromisoformat("2026-12-01T10:00+08:00"), year)
    >>> next_year = Calendar("cn-2027.1", date(2026, 1, 1), date(2027, 12, 31), frozenset({date(2027, 1, 1)}))
    >>> window = recomputed_window(guessed, next_year)
    >>> (guessed.last_day, window.last_day, window.provisional)
    (datetime.date(2027, 1, 4), datetime.date(2027, 1, 4), False)
    """
    official = one_month_window(window.opens_at, calendar)
    later = max(official, window, key=lambda w: w.closes_at)
    return replace(later, provisional=official.provisional, calendar_version=calendar.version)


def deadline_fault(approved_at: datetime, deadline_at: datetime) -> DeadlineFault | None:
    """What is wrong with an ordered deadline, or None; ValueError for a naive instant."""
    if not is_day_end(deadline_at):
        return "deadline_not_day_end"
    if deadline_at <= shanghai_time(approved_at):
        return "deadline_not_after_approval"
    return None


def is_day_end(instant: datetime) -> bool:
    """Whether an aware `instant`, in whatever offset it is written, is exactly 00:00:00 at +08:00.

    >>> is_day_end(datetime.fromisoformat("2026-03-15T16:00:00+00:00"))
    True
    >>> is_day_end(datetime.fromisoformat("2026-03-16T00:00:00.000001+08:00"))
    False
    """
    return shanghai_time(instant).time() == time.min


def _one_month_after(day: date) -> date:
    year, month_index = divmod(day.year * 12 + day.month, 12)
    month = month_index + 1
    return date(year, month, min(day.day, monthrange(year, month)[1]))


def _rest_days_from(day: date, calendar: Calendar) -> tuple[date, ...]:
    days = (day + n * _ONE_DAY for n in count())
    return tuple(takewhile(calendar.is_rest_day, days))
