"""The published Chinese calendar from the package `chinesecalendar`, as a value of the domain."""

from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache

import chinese_calendar

from checkin_service.domain.calendar import Calendar

# Raised when a day of an already published year changes: a correction here, or a notice amended in the year.
_REVISION = 1

# 国办发明电〔2005〕35号 makes this Saturday a workday. The package enters it as a rest day (its issue 125).
_OMITTED_WORKDAYS = frozenset({date(2005, 12, 31)})


@cache
def published_calendar() -> Calendar:
    """The rest days of every year that the installed package knows (2004 to 2026 in its version 1.11).

    Asking the package for each of its 8,400 days takes a third of a second, once a process.

    >>> calendar = published_calendar()
    >>> saturday, monday = date(2024, 10, 12), date(2024, 10, 7)
    >>> calendar.is_rest_day(saturday), calendar.is_rest_day(monday)
    (False, True)
    """
    first_day = date(min(chinese_calendar.holidays).year, 1, 1)
    last_day = date(max(chinese_calendar.holidays).year, 12, 31)
    return Calendar(
        version=f"cn-{last_day.year}.{_REVISION}",
        first_day=first_day,
        last_day=last_day,
        rest_days=frozenset(filter(chinese_calendar.is_holiday, _days(first_day, last_day)))
        - _OMITTED_WORKDAYS,
    )


def _days(first_day: date, last_day: date) -> Iterator[date]:
    return (first_day + timedelta(days=n) for n in range((last_day - first_day).days + 1))
