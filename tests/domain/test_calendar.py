"""The calendar against the State Council's notices, an independent package and the decree on holidays."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import ModuleType
from zoneinfo import ZoneInfo

import chinese_calendar
import pytest

from checkin_service.adapters.published_calendar import published_notices
from checkin_service.domain.calendar import (
    SHANGHAI,
    Calendar,
    Notice,
    calendar_of,
    changed_days,
    day_of,
    end_of,
    is_statutory_holiday,
    notice_faults,
)

PUBLISHED = calendar_of("cn-2026.1", published_notices())
TABULATED_YEARS = range(2025, 2037)


def days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


@pytest.fixture(scope="module")
def holidays() -> ModuleType:
    """The package `holidays`, whose table of Chinese days off was made from the notices by other people."""
    module: ModuleType = pytest.importorskip("holidays", reason="needs holidays, the independent table")
    return module


def test_the_calendar_covers_whole_years() -> None:
    assert date(2004, 1, 1) == PUBLISHED.first_day
    assert (PUBLISHED.last_day.month, PUBLISHED.last_day.day) == (12, 31)
    assert PUBLISHED.last_day >= date(2026, 12, 31)


def test_every_published_day_agrees_with_an_independent_table(holidays: ModuleType) -> None:
    theirs = holidays.CN(years=range(PUBLISHED.first_day.year, PUBLISHED.last_day.year + 2))
    differing = [
        day
        for day in days(PUBLISHED.first_day, PUBLISHED.last_day)
        if PUBLISHED.is_rest_day(day) == theirs.is_working_day(day)
    ]
    assert differing == []


def test_the_package_is_corrected_on_one_day_only() -> None:
    published = days(PUBLISHED.first_day, PUBLISHED.last_day)
    corrected = [day for day in published if PUBLISHED.is_rest_day(day) == chinese_calendar.is_workday(day)]
    # 国办发明电〔2005〕35号: "12月31日（星期六）上班"
    assert corrected == [date(2005, 12, 31)]


@pytest.mark.parametrize(
    ("day", "is_rest_day"),
    [
        (date(2024, 10, 12), False),  # a Saturday made into a workday
        (date(2024, 10, 13), True),
        (date(2024, 10, 7), True),  # a Monday given off
        (date(2024, 10, 8), False),
        (date(2018, 12, 31), True),  # given off by the notice for 2019
        (date(2020, 1, 31), True),  # the Spring Festival as lengthened during the epidemic
        (date(2026, 2, 14), False),
        (date(2026, 2, 23), True),
        (date(2026, 2, 24), False),
    ],
)
def test_days_of_the_notices(day: date, is_rest_day: bool) -> None:
    assert PUBLISHED.is_rest_day(day) is is_rest_day


def test_statutory_holidays_are_those_of_an_independent_almanac(holidays: ModuleType) -> None:
    for year in range(2027, TABULATED_YEARS.stop):
        ours = {day for day in days(date(year, 1, 1), date(year, 12, 31)) if is_statutory_holiday(day)}
        assert ours == set(holidays.CN(years=year, observed=False))


def test_statutory_holidays_are_published_as_rest_days_since_the_decree_is_in_force() -> None:
    last_day = min(PUBLISHED.last_day, date(TABULATED_YEARS.stop - 1, 12, 31))
    statutory = [day for day in days(date(2025, 1, 1), last_day) if is_statutory_holiday(day)]
    # Thirteen a year, less the Mid-Autumn of a year in which it coincides with National Day.
    assert len(statutory) >= 12 * (last_day.year - 2024)
    assert all(PUBLISHED.is_rest_day(day) for day in statutory)


def test_beyond_the_published_years_only_weekends_and_statutory_holidays_rest() -> None:
    until_2024 = Calendar("cn-2024.1", date(2024, 1, 1), date(2024, 12, 31), frozenset())
    missed = [
        day
        for day in days(date(2025, 1, 1), date(2026, 12, 31))
        if until_2024.is_rest_day(day) != PUBLISHED.is_rest_day(day)
    ]
    assert missed
    # What the law does not tell is exactly the shifting: workdays given off and weekends worked.
    assert all(PUBLISHED.is_rest_day(day) == (day.weekday() < 5) for day in missed)


def test_after_the_tabulated_years_only_fixed_holidays_are_found() -> None:
    spring_festival = date(TABULATED_YEARS.stop, 2, 16)
    assert not is_statutory_holiday(spring_festival)
    assert is_statutory_holiday(date(TABULATED_YEARS.stop, 10, 3))


def test_the_span_is_published_up_to_both_ends() -> None:
    year = Calendar("cn-2026.1", date(2026, 1, 1), date(2026, 12, 31), frozenset())
    around = [date(2025, 12, 31), date(2026, 1, 1), date(2026, 12, 31), date(2027, 1, 1)]
    assert [year.is_published(day) for day in around] == [False, True, True, False]


def test_a_rest_day_outside_the_span_is_refused() -> None:
    with pytest.raises(ValueError, match="2027-01-01 is outside"):
        Calendar("cn-2026.1", date(2026, 1, 1), date(2026, 12, 31), frozenset({date(2027, 1, 1)}))


def test_a_calendar_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="before it begins"):
        Calendar("cn-2026.1", date(2026, 1, 2), date(2026, 1, 1), frozenset())


@pytest.mark.parametrize("years", [[], [2024, 2026], [2026, 2024], [2024, 2025, 2025]])
def test_a_calendar_has_no_gaps_and_each_year_once(years: list[int]) -> None:
    with pytest.raises(ValueError, match="no gaps"):
        calendar_of("cn", [Notice(year, frozenset(), frozenset()) for year in years])


def test_what_the_package_knows_are_notices_without_faults() -> None:
    assert [fault for notice in published_notices() for fault in notice_faults(notice)] == []


def test_of_two_notices_the_later_years_tells_of_december() -> None:
    """As when the notice for 2019 gave a Monday off and had a Saturday worked, both of 2018."""
    known = {notice.year: notice for notice in published_notices()}
    moved = frozenset({date(2018, 12, 31)}), frozenset({date(2018, 12, 29)})
    earlier = replace(
        known[2018],
        days_off=known[2018].days_off - moved[0],
        workdays=known[2018].workdays - moved[1],
    )
    later = replace(
        known[2019], days_off=known[2019].days_off | moved[0], workdays=known[2019].workdays | moved[1]
    )
    assert notice_faults(later) == []
    before, after = calendar_of("a", [earlier]), calendar_of("b", [earlier, later])
    assert [day for day in changed_days(before, after) if day.year == 2018] == [
        date(2018, 12, 29),
        date(2018, 12, 31),
    ]
    as_published = calendar_of("c", [known[2018], known[2019]])
    assert after.rest_days == as_published.rest_days


def test_changed_are_days_of_another_kind_and_new_ones() -> None:
    assert changed_days(PUBLISHED, PUBLISHED) == []
    until_2025 = calendar_of("a", [n for n in published_notices() if n.year < 2026])
    new = changed_days(until_2025, PUBLISHED)
    assert new == days(date(2026, 1, 1), PUBLISHED.last_day)


def test_an_instant_is_not_taken_for_a_day() -> None:
    with pytest.raises(TypeError):
        PUBLISHED.is_rest_day(datetime(2026, 10, 1, tzinfo=UTC))


def test_shanghai_has_kept_its_offset_since_2004() -> None:
    zone = ZoneInfo("Asia/Shanghai")
    for day in days(date(2004, 1, 1), date(2060, 12, 31)):
        midnight = datetime(day.year, day.month, day.day, tzinfo=SHANGHAI)
        assert midnight.astimezone(zone).utcoffset() == midnight.utcoffset()


def test_the_offset_test_would_notice_daylight_saving() -> None:
    summer_of_1990 = datetime(1990, 7, 1, tzinfo=SHANGHAI)
    assert summer_of_1990.astimezone(ZoneInfo("Asia/Shanghai")).utcoffset() != summer_of_1990.utcoffset()


@pytest.mark.parametrize(
    ("instant", "day"),
    [
        ("2026-03-31T15:59:59.999999+00:00", date(2026, 3, 31)),
        ("2026-03-31T16:00:00+00:00", date(2026, 4, 1)),
        ("2026-03-31T23:59:59.999999+08:00", date(2026, 3, 31)),
        ("2025-12-31T23:30:00-01:00", date(2026, 1, 1)),
    ],
)
def test_the_day_of_an_instant_is_shanghais(instant: str, day: date) -> None:
    assert day_of(datetime.fromisoformat(instant)) == day


def test_a_day_ends_where_the_next_begins() -> None:
    new_years_eve = end_of(date(2026, 12, 31))
    assert new_years_eve == datetime(2026, 12, 31, 16, tzinfo=UTC)
    assert day_of(new_years_eve) == date(2027, 1, 1)
    assert day_of(new_years_eve - timedelta(microseconds=1)) == date(2026, 12, 31)


def test_a_naive_instant_has_no_day() -> None:
    with pytest.raises(ValueError, match="no offset"):
        day_of(datetime(2026, 3, 31, 16))  # noqa: DTZ001 - the fault under test
