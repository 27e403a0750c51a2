"""Each signal at its limits, on made-up spoofers and on honest phones, and the page that gives the rates."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import isfinite
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from checkin_service.domain.reasons import Reason
from checkin_service.domain.signals import (
    POSITION_OF_USE,
    Finding,
    LocatedAttempt,
    Signal,
    SignalFacts,
    distinctive_places,
    signals,
)
from geofence import Fix
from tests.domain.honest_phones import TRIALS, Submission, false_alarms, moved, submissions, tables

NOW = datetime(2026, 11, 20, 1, tzinfo=UTC)
CENTRE = (114.06, 22.544)
MICROSECOND = timedelta(microseconds=1)
GEOD = Geod(ellps="WGS84")
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "signals.md").read_text("utf-8")

Places = Sequence[tuple[float, float]]

# Where a phone that is in order reports itself, second by second.
MOVING: Places = [(114.060213 + n * 1e-6, 22.544107 - n * 2e-6) for n in range(6)]
STILL: Places = [MOVING[0]] * 6


def fixes(places: Places, accuracy_m: float | None = 7.4, every_s: float = 3.0) -> list[Fix]:
    first = NOW - timedelta(seconds=every_s * (len(places) - 1))
    return [Fix(*place, first + n * timedelta(seconds=every_s), accuracy_m) for n, place in enumerate(places)]


FACTS = SignalFacts(
    received_at=NOW + timedelta(seconds=4),
    captured_at=NOW,
    platform="android",
    fixes=fixes(MOVING),
    fence_centre=CENTRE,
    frame_suspect=False,
    position=(114.055, 22.547),
    previous=None,
    others_with_fix=0,
    others_with_device=0,
    enterprises=1,
    approved_at=NOW - timedelta(days=17),
    registered_at=NOW - timedelta(days=17),
)


def found(facts: SignalFacts) -> dict[Signal, dict[str, float]]:
    return {finding.code: finding.figures for finding in signals(facts)}


def test_the_list_is_closed_and_none_can_be_taken_for_a_reason() -> None:
    rows = [line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith("| `")]
    assert rows == [f"`{signal}`" for signal in Signal] * 2
    assert not set(Signal) & set(Reason)


def test_a_phone_in_order_raises_nothing() -> None:
    assert signals(FACTS) == ()
    assert signals(replace(FACTS, fixes=[], position=None)) == ()


# --- The limits ---


@pytest.mark.parametrize(
    ("sent", "raised"),
    [
        (fixes(STILL[:5], every_s=2.5), True),
        (fixes(STILL[:4], every_s=60), False),
        (fixes(STILL[:5], every_s=2.499), False),
        (fixes([*STILL[:5], (STILL[0][0], STILL[0][1] + 1e-9)]), False),
        (fixes(STILL[:5], every_s=2.5)[::-1], True),
    ],
)
def test_zero_variance(sent: list[Fix], raised: bool) -> None:
    assert (Signal.ZERO_VARIANCE in found(replace(FACTS, fixes=sent))) is raised


def test_zero_variance_says_how_many_for_how_long() -> None:
    assert signals(replace(FACTS, fixes=fixes(STILL))) == (
        Finding(Signal.ZERO_VARIANCE, {"fixes": 6, "span_s": 15.0}),
    )


@pytest.mark.parametrize(
    ("east_deg", "north_deg", "hits"),
    [(0, 0, 1), (1e-6, -1e-6, 1), (1.1e-6, 0, 0), (0, -1.1e-6, 0)],
)
def test_fence_centre(east_deg: float, north_deg: float, hits: int) -> None:
    typed = (CENTRE[0] + east_deg, CENTRE[1] + north_deg)
    figures = found(replace(FACTS, fixes=fixes([*MOVING, typed]))).get(Signal.FENCE_CENTRE)
    assert figures == ({"fixes": 1, "of": 7} if hits else None)


@pytest.mark.parametrize(
    ("platform", "accuracy_m", "raised"),
    [
        ("android", 3.0, True),
        ("android", 3.5, False),
        ("android", 20.0, False),
        ("android", 5.0, True),
        ("ios", 5.0, False),
        ("ios", 65.0, False),
        ("ios", 10.0, False),
        ("ios", 20.0, True),
        ("harmony", 65.0, False),
        ("harmony", 30.0, False),
        ("harmony", 1.0, True),
        ("android", 100.0, True),
        ("android", 101.0, False),
        ("android", 0.0, False),
        ("ios", -1.0, False),
        ("android", None, False),
    ],
)
def test_round_accuracy(platform: str, accuracy_m: float | None, raised: bool) -> None:
    facts = replace(FACTS, platform=platform, fixes=fixes(MOVING, accuracy_m))
    assert found(facts) == ({Signal.ROUND_ACCURACY: {"accuracy_m": accuracy_m, "fixes": 6}} if raised else {})


def test_round_accuracy_is_of_a_position_that_moves_long_enough() -> None:
    other = replace(fixes(MOVING, 3.0)[0], accuracy_m=4.0)
    assert Signal.ROUND_ACCURACY not in found(replace(FACTS, fixes=[other, *fixes(MOVING, 3.0)[1:]]))
    assert Signal.ROUND_ACCURACY not in found(replace(FACTS, fixes=fixes(STILL, 3.0)))
    assert Signal.ROUND_ACCURACY not in found(replace(FACTS, fixes=fixes(MOVING[:4], 3.0, every_s=60)))
    assert Signal.ROUND_ACCURACY not in found(replace(FACTS, fixes=fixes(MOVING, 3.0, every_s=1.9)))


def after(elapsed_s: float, distance_m: float, bearing_deg: float = 20.0) -> SignalFacts:
    """An attempt so long after one at so great a distance, by another's geodesy."""
    lon, lat, _ = GEOD.fwd(*CENTRE, bearing_deg, distance_m)
    previous = LocatedAttempt(lon, lat, FACTS.received_at - timedelta(seconds=elapsed_s))
    return replace(FACTS, position=CENTRE, previous=previous)


@pytest.mark.parametrize(
    ("elapsed_s", "distance_m", "raised"),
    [
        (0, 12_300, False),
        (0, 12_500, True),
        (200, 32_200, False),
        (200, 32_600, True),
        (2.75 * 3600, 1_950_000, False),  # from Beijing by plane
        (2.5 * 3600, 1_950_000, True),
        (600, 1_200, False),  # the frame named wrong, then right
    ],
)
def test_impossible_speed(elapsed_s: float, distance_m: float, raised: bool) -> None:
    figures = found(after(elapsed_s, distance_m)).get(Signal.IMPOSSIBLE_SPEED)
    assert (figures is not None) is raised
    if figures:
        assert figures["elapsed_s"] == elapsed_s
        assert figures["distance_m"] == pytest.approx(distance_m, rel=0.006)


@given(st.floats(0, 86_400), st.floats(0, 97), st.floats(0, 124), st.floats(0, 360))
def test_nobody_on_the_fastest_train_is_reported(
    elapsed_s: float, speed_mps: float, mistimed_s: float, bearing_deg: float
) -> None:
    """Whatever a fix of the age that is still usable and a slow upload add to the time between the positions."""
    assert not signals(after(elapsed_s, speed_mps * (elapsed_s + mistimed_s), bearing_deg))


def test_a_position_is_of_no_use_after_a_day() -> None:
    there = LocatedAttempt(CENTRE[0] - 180, -CENTRE[1], FACTS.received_at - POSITION_OF_USE)
    assert not signals(replace(FACTS, position=CENTRE, previous=there))
    assert signals(replace(FACTS, position=CENTRE, previous=replace(there, received_at=NOW)))


def test_an_attempt_may_be_judged_before_an_earlier_one() -> None:
    assert not signals(after(-600, 20_000))


def test_without_a_position_there_is_no_speed() -> None:
    assert not signals(replace(after(0, 50_000), position=None))


@pytest.mark.parametrize("others", [0, 1, 2, 7])
def test_persons_who_share(others: int) -> None:
    figures = {"persons": others + 1} if others >= 2 else None
    shared = found(replace(FACTS, others_with_fix=others))
    assert shared == ({Signal.SHARED_FIX: figures} if figures else {})
    assert found(replace(FACTS, others_with_device=others)).get(Signal.SHARED_DEVICE) == figures


def test_places_that_two_phones_may_report_by_chance_are_not_looked_up() -> None:
    assert distinctive_places(fixes([(114.06, 22.54471), (0.0, 0.0)])) == frozenset()
    exact = [(114.060001, 22.54471), (114.06, 22.5447123)]
    assert distinctive_places(fixes([*exact, exact[0]])) == frozenset(exact)


def test_several_enterprises() -> None:
    assert found(replace(FACTS, enterprises=2)) == {Signal.SEVERAL_ENTERPRISES: {"enterprises": 2}}


def test_frame_suspect() -> None:
    assert found(replace(FACTS, frame_suspect=True)) == {Signal.FRAME_SUSPECT: {}}


@pytest.mark.parametrize("behind", [timedelta(minutes=10), -timedelta(minutes=10)])
def test_clock_far_off(behind: timedelta) -> None:
    facts = replace(FACTS, received_at=FACTS.captured_at + behind)
    assert not signals(facts)
    further = behind + (MICROSECOND if behind > timedelta(0) else -MICROSECOND)
    facts = replace(FACTS, received_at=FACTS.captured_at + further)
    assert found(facts) == {Signal.CLOCK_FAR_OFF: {"behind_s": further.total_seconds()}}


def test_registered_late() -> None:
    ten_days = FACTS.approved_at + timedelta(days=10)
    assert not signals(replace(FACTS, registered_at=ten_days))
    assert found(replace(FACTS, registered_at=ten_days + MICROSECOND)) == {
        Signal.REGISTERED_LATE: {"days": 10.0}
    }


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(st.lists(st.builds(Fix, NUMBERS, NUMBERS, TIMES, st.none() | NUMBERS), max_size=10), TIMES)
def test_whatever_a_phone_claims(sent: list[Fix], captured_at: datetime) -> None:
    codes = [finding.code for finding in signals(replace(FACTS, fixes=sent, captured_at=captured_at))]
    assert codes == [code for code in Signal if code in codes]


# --- Spoofers: honest submissions made dishonest ---


def _noisy(random: Random, facts: SignalFacts) -> Places:
    return [moved(facts.fence_centre, random.gauss(0, 5), random.gauss(0, 5)) for _ in range(6)]


def _mock_app(random: Random, facts: SignalFacts) -> SignalFacts:
    return replace(facts, fixes=fixes([_noisy(random, facts)[0]] * 6, 1.0))


def _pasted_centre(random: Random, facts: SignalFacts) -> SignalFacts:
    lon, lat = facts.fence_centre
    return replace(facts, fixes=fixes([(round(lon, 6), round(lat, 6))]))


def _mock_app_with_noise(random: Random, facts: SignalFacts) -> SignalFacts:
    return replace(facts, fixes=fixes(_noisy(random, facts), float(random.choice([1, 2, 3, 8, 50]))))


def _moved_between_cities(random: Random, facts: SignalFacts) -> SignalFacts:
    there = moved(facts.fence_centre, random.uniform(80_000, 400_000), random.uniform(0, 500_000))
    before = facts.received_at - timedelta(seconds=random.uniform(20, 600))
    return replace(facts, position=facts.fence_centre, previous=LocatedAttempt(*there, before))


def _one_fix_for_all(random: Random, facts: SignalFacts) -> SignalFacts:
    return replace(facts, others_with_fix=random.randint(2, 30))


def _one_phone_for_all(random: Random, facts: SignalFacts) -> SignalFacts:
    return replace(facts, others_with_device=random.randint(2, 30))


def _lent_certificate(random: Random, facts: SignalFacts) -> SignalFacts:
    return replace(facts, enterprises=random.randint(2, 5))


def _frame_by_another_name(random: Random, facts: SignalFacts) -> SignalFacts:
    return replace(facts, frame_suspect=True)


def _taken_beforehand(random: Random, facts: SignalFacts) -> SignalFacts:
    return replace(facts, captured_at=facts.received_at - timedelta(hours=random.uniform(0.5, 72)))


def _told_at_the_end(random: Random, facts: SignalFacts) -> SignalFacts:
    return replace(facts, registered_at=facts.approved_at + timedelta(days=random.uniform(10.1, 30)))


SPOOFERS: dict[Signal, Callable[[Random, SignalFacts], SignalFacts]] = {
    Signal.ZERO_VARIANCE: _mock_app,
    Signal.FENCE_CENTRE: _pasted_centre,
    Signal.ROUND_ACCURACY: _mock_app_with_noise,
    Signal.IMPOSSIBLE_SPEED: _moved_between_cities,
    Signal.SHARED_FIX: _one_fix_for_all,
    Signal.SHARED_DEVICE: _one_phone_for_all,
    Signal.SEVERAL_ENTERPRISES: _lent_certificate,
    Signal.FRAME_SUSPECT: _frame_by_another_name,
    Signal.CLOCK_FAR_OFF: _taken_beforehand,
    Signal.REGISTERED_LATE: _told_at_the_end,
}


@pytest.fixture(scope="module")
def honest() -> list[Submission]:
    return submissions()


@pytest.mark.parametrize("signal", Signal)
def test_every_spoofer_is_seen(honest: list[Submission], signal: Signal) -> None:
    random = Random(signal)
    silent = [one.facts for one in honest[:1000] if signal not in found(one.facts)]
    assert len(silent) > 900
    assert all(signal in found(SPOOFERS[signal](random, facts)) for facts in silent)


# --- Honest phones ---


def test_honest_persons_are_reported_as_seldom_as_stated(honest: list[Submission]) -> None:
    rates = false_alarms(honest)
    assert list(rates) == list(Signal)
    assert {signal for signal, rate in rates.items() if rate.high >= TRIALS[signal].bound} == set()
    # a rate of nothing would be below any bound, and one that cannot be seen is no measurement
    assert min(rate.pairs for rate in rates.values()) >= 400
    assert all(rate.errors > 0 for rate in rates.values())


def test_the_page_gives_the_rates_of_this_run(honest: list[Submission]) -> None:
    measured = [line for line in PAGE.splitlines() if " of " in line and line.endswith(" |") and "[" in line]
    assert measured == tables(honest)


def test_no_figure_is_a_coordinate(honest: list[Submission]) -> None:
    """Figures go to the platform, which has no business with where exactly somebody stood."""
    for one in honest[:2000]:
        spoofed = (SPOOFERS[signal](Random(1), one.facts) for signal in Signal)
        for finding in (finding for facts in spoofed for finding in signals(facts)):
            assert all(isfinite(figure) for figure in finding.figures.values())
            sent = {number for fix in one.facts.fixes for number in (fix.lon, fix.lat)}
            assert not sent & set(finding.figures.values())
