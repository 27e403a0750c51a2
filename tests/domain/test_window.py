"""The window against its vectors and against a month and a rest-day count made by other packages."""

import json
from dataclasses import replace
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import chinese_calendar
import pytest
from dateutil.relativedelta import relativedelta
from hypothesis import example, given
from hypothesis import strategies as st

from checkin_service.adapters.published_calendar import published_notices
from checkin_service.domain.calendar import SHANGHAI, Calendar, calendar_of, day_of
from checkin_service.domain.window import (
    Window,
    deadline_fault,
    is_day_end,
    one_month_window,
    order_window,
    recomputed_window,
)

PUBLISHED = calendar_of("cn-2026.1", published_notices())
EARLIEST = datetime(2004, 1, 1)  # noqa: DTZ001 - hypothesis adds the offset itself
# The last approval whose window ends in a year that every version of the package from 1.11 on knows.
LATEST = datetime(2026, 11, 30)  # noqa: DTZ001
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
APPROVALS = st.datetimes(EARLIEST + timedelta(days=1), LATEST, timezones=OFFSETS)
ONE_DAY = timedelta(days=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def until(last_year: int) -> Calendar:
    """The published calendar as it stood before the notice for the year after `last_year` came out."""
    last_day = date(last_year, 12, 31)
    known = frozenset(day for day in PUBLISHED.rest_days if day <= last_day)
    return Calendar(f"cn-{last_year}.1", PUBLISHED.first_day, last_day, known)


def end_by_other_packages(approved_at: datetime) -> datetime:
    """closes_at by zoneinfo, dateutil and a walk day by day over chinese_calendar."""
    shanghai = ZoneInfo("Asia/Shanghai")
    day = approved_at.astimezone(shanghai).date() + relativedelta(months=1)
    while chinese_calendar.is_holiday(day) and day != date(2005, 12, 31):
        day += ONE_DAY
    return datetime.combine(day, time(0), shanghai) + relativedelta(days=1)


def test_vectors(shared: Path) -> None:
    vectors = json.loads((shared / "data" / "vectors" / "window.json").read_text())
    assert len(vectors) >= 14
    # The vectors were made while 2026 was the last published year.
    for vector in vectors:
        window = one_month_window(at(vector["approved_at"]), until(2026))
        assert window.start_day == date.fromisoformat(vector["start_day"]), vector
        assert window.nominal_day == date.fromisoformat(vector["nominal"]), vector
        assert window.last_day == date.fromisoformat(vector["last_day"]), vector
        assert window.closes_at == at(vector["end_exclusive"]), vector
        assert window.provisional is vector["provisional"], vector
        assert window.opens_at == at(vector["approved_at"]), vector


@given(APPROVALS)
@example(at("2005-11-30T09:00+08:00"))
@example(at("2024-01-31T23:59:59.999999+08:00"))
@example(at("2024-01-30T16:00:00+00:00"))
@example(at("2023-12-29T09:00+08:00"))
def test_the_end_is_that_of_other_packages(approved_at: datetime) -> None:
    window = one_month_window(approved_at, PUBLISHED)
    assert window.closes_at == end_by_other_packages(approved_at)
    assert not window.provisional


def test_the_end_is_that_of_other_packages_for_an_approval_on_every_day() -> None:
    for n in range((LATEST - EARLIEST).days + 1):
        approved_at = (EARLIEST + n * ONE_DAY).replace(hour=23, tzinfo=SHANGHAI)
        assert one_month_window(approved_at, PUBLISHED).closes_at == end_by_other_packages(approved_at)


def test_the_oracle_would_notice_a_calendar_without_shifted_days() -> None:
    weekends_only = Calendar("none", PUBLISHED.first_day, PUBLISHED.first_day, frozenset())
    approved_at = at("2024-09-12T09:00+08:00")
    assert one_month_window(approved_at, weekends_only).closes_at != end_by_other_packages(approved_at)


@given(APPROVALS)
def test_the_days_passed_over_lead_from_the_nominal_day_to_the_last(approved_at: datetime) -> None:
    window = one_month_window(approved_at, PUBLISHED)
    span = (window.last_day - window.nominal_day).days
    assert window.rolled_over == tuple(window.nominal_day + n * ONE_DAY for n in range(span))
    assert all(chinese_calendar.is_holiday(day) for day in window.rolled_over)
    assert window.opens_at == approved_at
    assert window.opens_at.utcoffset() == window.closes_at.utcoffset() == timedelta(hours=8)
    assert (window.basis, window.calendar_version) == ("one_month", PUBLISHED.version)


@pytest.mark.parametrize(
    ("approved_at", "nominal_day", "last_day"),
    [
        ("2024-01-31T09:00+08:00", date(2024, 2, 29), date(2024, 2, 29)),  # clipped, leap year
        ("2025-01-31T09:00+08:00", date(2025, 2, 28), date(2025, 2, 28)),  # clipped, common year
        ("2024-02-29T09:00+08:00", date(2024, 3, 29), date(2024, 3, 29)),  # not to the month's end
        ("2024-12-31T09:00+08:00", date(2025, 1, 31), date(2025, 2, 5)),  # into the Spring Festival
        ("2026-08-31T23:59:59.999999+08:00", date(2026, 9, 30), date(2026, 9, 30)),
        ("2026-08-31T16:00:00+00:00", date(2026, 10, 1), date(2026, 10, 8)),  # September 1 in Shanghai
        ("2024-09-12T09:00+08:00", date(2024, 10, 12), date(2024, 10, 12)),  # a Saturday worked
        ("2023-11-30T09:00+08:00", date(2023, 12, 30), date(2024, 1, 2)),  # over the year's end
        ("2005-11-30T09:00+08:00", date(2005, 12, 30), date(2005, 12, 30)),
    ],
)
def test_edges_of_the_month(approved_at: str, nominal_day: date, last_day: date) -> None:
    window = one_month_window(at(approved_at), PUBLISHED)
    assert (window.nominal_day, window.last_day) == (nominal_day, last_day)


def test_a_long_holiday_is_passed_over_and_listed() -> None:
    window = one_month_window(at("2026-01-17T15:00+08:00"), PUBLISHED)
    assert window.rolled_over == tuple(date(2026, 2, day) for day in range(17, 24))


@pytest.mark.parametrize(
    ("approved_at", "provisional"),
    [
        ("2023-11-29T09:00+08:00", False),  # ends on Friday 2023-12-29
        ("2023-11-30T09:00+08:00", True),  # Saturday 2023-12-30 is published, the end in 2024 is not
        ("2023-12-01T09:00+08:00", True),
    ],
)
def test_provisional_from_the_first_unpublished_day_looked_up(approved_at: str, provisional: bool) -> None:
    assert one_month_window(at(approved_at), until(2023)).provisional is provisional


def test_an_end_in_a_published_year_is_not_provisional_for_its_start_before_them() -> None:
    from_2024 = Calendar("cn-2024.1", date(2024, 1, 1), date(2024, 12, 31), frozenset())
    assert not one_month_window(at("2023-12-15T09:00+08:00"), from_2024).provisional
    # The nominal day is Saturday 2023-12-30, unpublished, although the end falls on 2024-01-01.
    assert one_month_window(at("2023-11-30T09:00+08:00"), from_2024).provisional


def test_a_provisional_end_passes_the_statutory_days_only() -> None:
    approved_at = at("2024-12-28T09:00+08:00")
    provisional = one_month_window(approved_at, until(2024))
    official = one_month_window(approved_at, until(2025))
    # Four days of the Spring Festival and a weekend.
    assert provisional.rolled_over == tuple(date(2025, 1, 28) + n * ONE_DAY for n in range(6))
    assert (provisional.last_day, official.last_day) == (date(2025, 2, 3), date(2025, 2, 5))


@given(APPROVALS, st.integers(2004, 2026))
def test_a_window_that_is_not_provisional_survives_every_later_notice(
    approved_at: datetime, last_year: int
) -> None:
    earlier = one_month_window(approved_at, until(last_year))
    later = one_month_window(approved_at, PUBLISHED)
    assert earlier.provisional is (earlier.last_day.year > last_year)
    assert earlier.provisional or earlier == replace(later, calendar_version=f"cn-{last_year}.1")


def test_a_naive_approval_is_refused() -> None:
    with pytest.raises(ValueError, match="no offset"):
        one_month_window(datetime(2026, 3, 31, 16), PUBLISHED)  # noqa: DTZ001 - the fault under test


YEARS_BEFORE_2027 = st.integers(2004, 2026)
SOME_DAYS = st.frozensets(st.dates(date(2004, 1, 1), date(2026, 12, 31)), max_size=60)


@given(APPROVALS, YEARS_BEFORE_2027, SOME_DAYS, SOME_DAYS)
def test_a_recomputed_window_ends_no_earlier_and_no_earlier_than_the_official_one(
    approved_at: datetime, last_year: int, off: frozenset[date], worked: frozenset[date]
) -> None:
    """Under any calendar that follows, however wrong the one before was."""
    earlier = one_month_window(approved_at, until(last_year))
    follows = replace(PUBLISHED, version="next", rest_days=PUBLISHED.rest_days - worked | off)
    official, window = one_month_window(approved_at, follows), recomputed_window(earlier, follows)
    assert window.closes_at == max(earlier.closes_at, official.closes_at)
    assert window.last_day == day_of(window.closes_at) - ONE_DAY
    assert (window.provisional, window.calendar_version) == (official.provisional, "next")
    assert (window.start_day, window.nominal_day, window.opens_at) == (
        official.start_day,
        official.nominal_day,
        official.opens_at,
    )
    assert recomputed_window(window, follows) == window


def test_a_recomputed_window_by_the_published_calendar_is_the_official_one() -> None:
    guessed = one_month_window(at("2024-12-28T09:00+08:00"), until(2024))
    assert recomputed_window(guessed, PUBLISHED) == one_month_window(at("2024-12-28T09:00+08:00"), PUBLISHED)


def test_an_order_is_taken_as_given() -> None:
    # 2026-02-17 is the first day of the Spring Festival; 2030 is published by nobody.
    for last_day in (date(2026, 2, 17), date(2030, 2, 3)):
        deadline_at = datetime.combine(last_day + ONE_DAY, time(0), SHANGHAI)
        window = order_window(at("2026-01-20T17:00+00:00"), deadline_at, until(2026))
        assert window.opens_at.utcoffset() == timedelta(hours=8)
        assert window == Window(
            basis="order",
            start_day=date(2026, 1, 21),
            nominal_day=last_day,
            last_day=last_day,
            rolled_over=(),
            provisional=False,
            calendar_version="cn-2026.1",
            opens_at=at("2026-01-21T01:00+08:00"),
            closes_at=deadline_at,
        )


@given(st.datetimes(EARLIEST, LATEST).map(lambda moment: moment.replace(tzinfo=SHANGHAI)), OFFSETS)
def test_a_day_ends_at_midnight_only_in_whatever_offset(instant: datetime, offset: timezone) -> None:
    midnight = instant.replace(hour=0, minute=0, second=0, microsecond=0)
    assert is_day_end(midnight.astimezone(offset))
    assert is_day_end(instant.astimezone(offset)) is (instant == midnight)


@pytest.mark.parametrize(
    ("deadline_at", "fault"),
    [
        ("2026-03-16T00:00:00+08:00", None),
        ("2026-03-15T16:00:00Z", None),
        ("2026-03-16T00:00:00Z", "deadline_not_day_end"),
        ("2026-03-15T23:59:59+08:00", "deadline_not_day_end"),
        ("2026-03-15T23:59:59.999999+08:00", "deadline_not_day_end"),
        ("2026-03-16T00:00:00.000001+08:00", "deadline_not_day_end"),
        ("2026-03-03T00:00:00+08:00", None),
        ("2026-03-02T00:00:00+08:00", "deadline_not_after_approval"),
    ],
)
def test_faults_of_a_deadline(deadline_at: str, fault: str | None) -> None:
    assert deadline_fault(at("2026-03-02T10:00+08:00"), at(deadline_at)) == fault


def test_a_deadline_at_the_instant_of_approval_leaves_no_window() -> None:
    midnight = at("2026-03-02T00:00+08:00")
    assert deadline_fault(midnight, midnight) == "deadline_not_after_approval"


@pytest.mark.parametrize("deadline_at", ["2026-03-15T12:00+08:00", "2026-03-02T00:00+08:00"])
def test_an_order_with_a_faulty_deadline_is_refused(deadline_at: str) -> None:
    with pytest.raises(ValueError, match="deadline_not"):
        order_window(at("2026-03-02T10:00+08:00"), at(deadline_at), PUBLISHED)


@pytest.mark.parametrize(
    ("approved_at", "deadline_at"),
    [("2026-03-02T10:00", "2026-03-16T00:00+08:00"), ("2026-03-02T10:00+08:00", "2026-03-16T00:00")],
)
def test_naive_instants_of_an_order_are_refused(approved_at: str, deadline_at: str) -> None:
    with pytest.raises(ValueError, match="no offset"):
        order_window(at(approved_at), at(deadline_at), PUBLISHED)
