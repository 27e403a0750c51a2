"""Which days are rest days (休息日) in mainland China, as a value.

The State Council publishes the actual days year by year in the November or December before: weekends and
holidays, bridging days off, and weekend days made into workdays (调休). Inside the published years a
`Calendar` holds these days exactly. Beyond them it knows only what already stands in the law, so whatever is
computed there is provisional: the coming notice moves days off by rules that no statute gives.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone

# Shanghai has kept +08:00 without daylight saving since 1991 and approvals go back to 2004 only.
SHANGHAI = timezone(timedelta(hours=8), "CST")

_SATURDAY = 5
_ONE_DAY = timedelta(days=1)


def day_of(instant: datetime) -> date:
    """The day in Shanghai on which an aware `instant` falls; ValueError for a naive one.

    >>> day_of(datetime.fromisoformat("2026-03-31T16:00+00:00"))
    datetime.date(2026, 4, 1)
    """
    return shanghai_time(instant).date()


def shanghai_time(instant: datetime) -> datetime:
    """The same `instant` written at +08:00; ValueError for a naive one, which names no instant."""
    if instant.utcoffset() is None:
        raise ValueError(f"{instant!r} has no offset from UTC")
    return instant.astimezone(SHANGHAI)


def end_of(day: date) -> datetime:
    """24:00 of `day` in Shanghai, written as 00:00 of the next day: the first instant that is too late.

    >>> end_of(date(2026, 2, 28)).isoformat()
    '2026-03-01T00:00:00+08:00'
    """
    return datetime.combine(day + _ONE_DAY, time.min, SHANGHAI)


@dataclass(frozen=True, slots=True)
class Notice:
    """The State Council's notice for `year`: `days_off`, weekend days among them or not, and weekend days worked."""

    year: int
    days_off: frozenset[date]
    workdays: frozenset[date]


@dataclass(frozen=True, slots=True)
class Calendar:
    """The published rest days from `first_day` to `last_day`, both included, under the name `version`.

    ValueError when the span is empty or a rest day lies outside it.
    """

    version: str
    first_day: date
    last_day: date
    rest_days: frozenset[date]

    def __post_init__(self) -> None:
        if self.first_day > self.last_day:
            raise ValueError(f"the calendar ends on {self.last_day}, before it begins on {self.first_day}")
        strays = [day for day in self.rest_days if not self.is_published(day)]
        if strays:
            raise ValueError(
                f"{min(strays)} is outside the calendar from {self.first_day} to {self.last_day}"
            )

    def is_published(self, day: date) -> bool:
        """Whether `day` lies in the span for which the State Council's notices are known.

        A notice can reach back into the last days of December (2018-12-31 became a day off by the notice
        for 2019); those days count as published with their own year all the same.
        """
        return self.first_day <= day <= self.last_day

    def is_rest_day(self, day: date) -> bool:
        """Whether `day` is a rest day; outside the published span only as far as the law tells.

        There, weekends and statutory holidays count, and that is provisional: bridging days off, make-up
        workdays and the workdays given for holidays that fall on a weekend are known only from the notice.

        >>> published = Calendar("cn-2026.1", date(2026, 1, 1), date(2026, 12, 31), frozenset())
        >>> published.is_rest_day(date(2026, 12, 27)), published.is_rest_day(date(2027, 1, 3))
        (False, True)
        """
        if self.is_published(day):
            return day in self.rest_days
        return is_weekend(day) or is_statutory_holiday(day)


def calendar_of(version: str, notices: Iterable[Notice]) -> Calendar:
    """The calendar that notices make together, each year's once; ValueError when a year between them is missing.

    Where two speak of the same day, the later year's holds: its New Year may move days of the December before.

    >>> new_year = Notice(2027, frozenset({date(2026, 12, 31), date(2027, 1, 1)}), frozenset({date(2027, 1, 9)}))
    >>> calendar = calendar_of("cn-2027.1", [Notice(2026, frozenset(), frozenset()), new_year])
    >>> [calendar.is_rest_day(date(2026, 12, 30 + n)) for n in (0, 1)], calendar.is_rest_day(date(2027, 1, 9))
    ([False, True], False)
    """
    ordered = sorted(notices, key=lambda notice: notice.year)
    years = [notice.year for notice in ordered]
    if not years or years != list(range(years[0], years[-1] + 1)):
        raise ValueError(f"a calendar has no gaps, but these are its years: {years}")
    first_day, last_day = date(years[0], 1, 1), date(years[-1], 12, 31)
    rest_days = set(filter(is_weekend, days_between(first_day, last_day)))
    for notice in ordered:
        rest_days = rest_days - notice.workdays | notice.days_off
    return Calendar(
        version, first_day, last_day, frozenset(day for day in rest_days if first_day <= day <= last_day)
    )


def notice_faults(notice: Notice) -> list[str]:
    """What can't be right about a notice, in sentences; none when nothing is."""
    named = notice.days_off | notice.workdays
    faults = {
        f"{{}} is not of {notice.year}, nor of the December before": (
            d for d in named if not _may_name(notice, d)
        ),
        "{} is both a day off and a workday": notice.days_off & notice.workdays,
        "{} is worked anyway: a make-up workday is a Saturday or Sunday": (
            d for d in notice.workdays if not is_weekend(d)
        ),
        "{} is a statutory holiday, and this would make it a workday": _lost_holidays(notice),
    }
    return [sentence.format(day) for sentence, days in faults.items() for day in sorted(days)]


def changed_days(before: Calendar, after: Calendar) -> list[date]:
    """The days of `after`, in order, of which it tells something else than `before`, or more."""
    return [
        day
        for day in days_between(after.first_day, after.last_day)
        if not before.is_published(day) or before.is_rest_day(day) != after.is_rest_day(day)
    ]


def days_between(first: date, last: date) -> Iterator[date]:
    """Every day from `first` to `last`, both included."""
    return (first + n * _ONE_DAY for n in range((last - first).days + 1))


def is_weekend(day: date) -> bool:
    return day.weekday() >= _SATURDAY


def _may_name(notice: Notice, day: date) -> bool:
    return day.year == notice.year or (day.year, day.month) == (notice.year - 1, 12)


def _lost_holidays(notice: Notice) -> Iterator[date]:
    """Those of the decree in force since 2025."""
    if notice.year < _DECREE_YEAR:
        return
    for day in days_between(date(notice.year, 1, 1), date(notice.year, 12, 31)):
        rests = day in notice.days_off or (is_weekend(day) and day not in notice.workdays)
        if is_statutory_holiday(day) and not rests:
            yield day


def is_statutory_holiday(day: date) -> bool:
    """Whether everyone has `day` off by the State Council's decree on holidays.

    《全国年节及纪念日放假办法》, article 2, as amended in November 2024 and in force since 2025-01-01:
    1 January; the eve of the lunar new year and its first three days; Qingming; 1 and 2 May; Dragon Boat;
    Mid-Autumn; 1 to 3 October. The days that follow moon and sun are tabulated for 2025 to 2036; after that
    only the fixed ones are found.

    >>> [is_statutory_holiday(date(2027, 2, day)) for day in (4, 5, 8, 9)]
    [False, True, True, False]
    """
    return (day.month, day.day) in _FIXED_HOLIDAYS or day in _MOVABLE_HOLIDAYS


def _days(listed: str) -> list[date]:
    return [date.fromisoformat(day) for day in listed.split()]


# the first year of the decree as it is now
_DECREE_YEAR = 2025

# month, day
_FIXED_HOLIDAYS = frozenset({(1, 1), (5, 1), (5, 2), (10, 1), (10, 2), (10, 3)})

# The first day of the first lunar month.
_LUNAR_NEW_YEARS = _days("""
    2025-01-29 2026-02-17 2027-02-06 2028-01-26 2029-02-13 2030-02-03
    2031-01-23 2032-02-11 2033-01-31 2034-02-19 2035-02-08 2036-01-28
""")
# The sun at 15 degrees of ecliptic longitude.
_QINGMING = _days("""
    2025-04-04 2026-04-05 2027-04-05 2028-04-04 2029-04-04 2030-04-05
    2031-04-05 2032-04-04 2033-04-04 2034-04-05 2035-04-05 2036-04-04
""")
# The fifth day of the fifth lunar month.
_DRAGON_BOAT = _days("""
    2025-05-31 2026-06-19 2027-06-09 2028-05-28 2029-06-16 2030-06-05
    2031-06-24 2032-06-12 2033-06-01 2034-06-20 2035-06-10 2036-05-30
""")
# The fifteenth day of the eighth lunar month.
_MID_AUTUMN = _days("""
    2025-10-06 2026-09-25 2027-09-15 2028-10-03 2029-09-22 2030-09-12
    2031-10-01 2032-09-19 2033-09-08 2034-09-27 2035-09-16 2036-10-04
""")
_SPRING_FESTIVALS = [first + n * _ONE_DAY for first in _LUNAR_NEW_YEARS for n in (-1, 0, 1, 2)]
_MOVABLE_HOLIDAYS = frozenset(_SPRING_FESTIVALS + _QINGMING + _DRAGON_BOAT + _MID_AUTUMN)
