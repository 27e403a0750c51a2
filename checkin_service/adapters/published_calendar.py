"""The published Chinese calendar from the package `chinesecalendar`: what a new database knows before any import."""

from datetime import date
from functools import cache
from importlib.metadata import version

import chinese_calendar

from checkin_service.domain.calendar import Notice, days_between, is_weekend

SOURCE = f"chinesecalendar {version('chinesecalendar')}"

# 国办发明电〔2005〕35号 makes this Saturday a workday. The package enters it as a rest day (its issue 125).
_OMITTED_WORKDAYS = frozenset({date(2005, 12, 31)})


@cache
def published_notices() -> tuple[Notice, ...]:
    """Every year that the installed package knows (2004 to 2026 in its version 1.11), each day with its own year.

    Asking the package for each of its 8,400 days takes a third of a second, once a process.

    >>> by_year = {notice.year: notice for notice in published_notices()}
    >>> date(2024, 10, 7) in by_year[2024].days_off, date(2024, 10, 12) in by_year[2024].workdays
    (True, True)
    """
    years = sorted({day.year for day in chinese_calendar.holidays})
    return tuple(_notice(year) for year in range(years[0], years[-1] + 1))


def _notice(year: int) -> Notice:
    moved = [
        day
        for day in days_between(date(year, 1, 1), date(year, 12, 31))
        if is_weekend(day) == chinese_calendar.is_workday(day) or day in _OMITTED_WORKDAYS
    ]
    return Notice(
        year,
        days_off=frozenset(day for day in moved if not is_weekend(day)),
        workdays=frozenset(filter(is_weekend, moved)),
    )
