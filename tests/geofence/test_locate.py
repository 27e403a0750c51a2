"""What the fixes say: which count, where their median is, and the zone at its exact edges."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofence import (
    Box,
    CircleFence,
    Fence,
    Fix,
    FixRules,
    Frame,
    Location,
    Zone,
    from_wgs84,
    locate,
    parse_fence,
    r95_factor,
    zone_at,
)
from tests.geofence.ground import LAT, LON, place, square

SHOT = datetime(2026, 11, 20, 9, 12, 3, tzinfo=UTC)
FENCE = parse_fence({"type": "Polygon", "coordinates": [square(-50, -50, 100)]}, Frame.WGS84)


def fix(x_m: float = 0, y_m: float = 0, accuracy_m: float | None = 20, age_s: float = 0) -> Fix:
    """A WGS-84 fix so many metres from the fence's middle; the fence reaches 50 m to all sides."""
    lon, lat = place(x_m, y_m)
    return Fix(lon, lat, SHOT - timedelta(seconds=age_s), accuracy_m)


def located(
    *fixes: Fix,
    fence: Fence = FENCE,
    buffer_m: float = 0,
    frame: Frame = Frame.WGS84,
    factor: float = 1.62,
    reduced: bool = False,
    rules: FixRules | None = None,
) -> Location:
    return locate(
        fence,
        buffer_m,
        fixes,
        frame,
        SHOT,
        r95_factor=factor,
        reduced_accuracy=reduced,
        rules=rules or FixRules(),
    )


def unusable(given_: int, implausible: int = 0, usable: int = 0) -> Location:
    return Location(Zone.UNUSABLE, None, None, None, None, given_, implausible, usable, False)


def test_inside() -> None:
    here = located(fix(), buffer_m=100)
    assert here.zone is Zone.INSIDE
    assert here.distance_m == pytest.approx(-150, abs=0.01)
    assert here.r95_m == pytest.approx(32.4)
    assert (here.lon, here.lat) == pytest.approx((LON, LAT), abs=1e-9)
    assert (here.given, here.implausible, here.usable, here.frame_suspect) == (1, 0, 1, False)


@pytest.mark.parametrize(("x_m", "zone"), [(149, "inside"), (155, "possible"), (190, "outside")])
def test_zones_about_fence_and_buffer(x_m: float, zone: str) -> None:
    there = located(fix(x_m), buffer_m=100)
    assert there.zone == zone
    assert there.distance_m == pytest.approx(x_m - 150, abs=0.01)


def test_the_edge_of_inside_is_exact() -> None:
    lon, lat = place(80, 10)
    just_enough_m = FENCE.signed_distance_m(lon, lat)
    at_zero = located(fix(80, 10), buffer_m=just_enough_m)
    assert (at_zero.distance_m, at_zero.zone) == (0, Zone.INSIDE)
    short = located(fix(80, 10), buffer_m=math.nextafter(just_enough_m, 0))
    assert short.zone is Zone.POSSIBLE


def test_the_edge_of_possible_is_exact() -> None:
    lon, lat = place(80, 10)
    gap_m = FENCE.signed_distance_m(lon, lat)
    at_r95 = located(fix(80, 10, accuracy_m=gap_m), factor=1.0)
    assert (at_r95.distance_m, at_r95.zone) == (at_r95.r95_m, Zone.POSSIBLE)
    beyond = located(fix(80, 10, accuracy_m=math.nextafter(gap_m, 0)), factor=1.0)
    assert beyond.zone is Zone.OUTSIDE


@given(st.floats(-1e4, 1e7), st.floats(0.01, 173))
def test_zones_leave_no_gap(distance_m: float, r95_m: float) -> None:
    expected = [distance_m <= 0, 0 < distance_m <= r95_m, distance_m > r95_m]
    assert [zone_at(distance_m, r95_m) is zone for zone in list(Zone)[:3]] == expected
    assert expected.count(True) == 1


@pytest.mark.parametrize("accuracy_m", [1, 60, 100])
def test_a_large_disc_that_touches_the_fence_is_not_inside(accuracy_m: float) -> None:
    assert located(fix(51, accuracy_m=accuracy_m)).zone is Zone.POSSIBLE


def test_no_fix() -> None:
    assert located() == unusable(0)


@pytest.mark.parametrize(
    "dropped",
    [
        fix(age_s=60.001),
        fix(age_s=-5.001),
        fix(accuracy_m=None),
        fix(accuracy_m=0),
        fix(accuracy_m=-1),
        fix(accuracy_m=100.001),
    ],
    ids=["stale", "future", "no accuracy", "zero accuracy", "negative accuracy", "coarse"],
)
def test_a_fix_that_is_dropped(dropped: Fix) -> None:
    assert located(dropped) == unusable(1)
    beside = located(dropped, fix(10))
    assert (beside.given, beside.usable) == (2, 1)
    assert beside.distance_m == pytest.approx(-40, abs=0.01)


@pytest.mark.parametrize("kept", [fix(age_s=60), fix(age_s=-5), fix(accuracy_m=100), fix(accuracy_m=0.001)])
def test_a_fix_at_the_limit_is_kept(kept: Fix) -> None:
    assert located(kept).usable == 1


def test_the_limits_are_the_callers() -> None:
    rules = FixRules(max_age_s=10, max_ahead_s=0, max_accuracy_m=30)
    assert located(fix(age_s=11), rules=rules) == unusable(1)
    assert located(fix(age_s=-1), rules=rules) == unusable(1)
    assert located(fix(accuracy_m=31), rules=rules) == unusable(1)
    assert located(fix(age_s=10, accuracy_m=30), rules=rules).usable == 1


@pytest.mark.parametrize(
    ("lon", "lat"),
    [(0.0, 0.0), (-0.0, 0.0), (LAT, LON), (180.5, 22.5), (114.0, -90.5), (1e308, 0.0)],
    ids=["0/0", "-0/0", "exchanged", "beyond 180", "beyond 90", "huge"],
)
def test_an_implausible_fix_is_dropped_and_counted(lon: float, lat: float) -> None:
    wrong = Fix(lon, lat, SHOT, 20)
    assert located(wrong) == unusable(1, implausible=1)
    assert located(replace(wrong, accuracy_m=None)) == unusable(1, implausible=1)
    beside = located(wrong, fix())
    assert (beside.zone, beside.given, beside.implausible, beside.usable) == (Zone.INSIDE, 2, 1, 1)


def test_exchanged_numbers_that_are_a_place_on_earth() -> None:
    """Where both ways round are possible, only the one that leads into the box is taken for a mistake."""
    cologne = Box(south=50, north=52, west=6, east=8)
    fence = CircleFence.around(7.0, 51.0, Frame.WGS84, 100)

    def zone(lon: float, lat: float) -> tuple[str, int]:
        fixes = [Fix(lon, lat, SHOT, 20)]
        there = locate(
            fence, 0, fixes, Frame.WGS84, SHOT, r95_factor=1.73, reduced_accuracy=False, box=cologne
        )
        return there.zone, there.implausible

    assert zone(7.0, 51.0) == ("inside", 0)
    assert zone(51.0, 7.0) == ("unusable", 1)
    assert zone(40.0, 7.0) == ("outside", 0)


def test_numbers_in_the_box_either_way_round_are_taken_as_they_stand() -> None:
    kazakh = Box(south=45, north=55, west=45, east=55)
    there = locate(
        CircleFence.around(50.0, 48.0, Frame.WGS84, 100),
        0,
        [Fix(50.0, 48.0, SHOT, 20)],
        Frame.WGS84,
        SHOT,
        r95_factor=1.73,
        reduced_accuracy=False,
        box=kazakh,
    )
    assert (there.zone, there.implausible) == (Zone.INSIDE, 0)


@pytest.mark.parametrize(("lon", "lat"), [(116.4, 39.9), (-74.0, 40.7), (-65.94, -22.54), (0.0, 51.5)])
def test_a_far_position_is_plausible_and_outside(lon: float, lat: float) -> None:
    far = located(Fix(lon, lat, SHOT, 20))
    assert (far.zone, far.implausible) == (Zone.OUTSIDE, 0)
    assert far.distance_m is not None
    assert far.distance_m > 1e6


def test_reduced_accuracy_never_counts() -> None:
    assert located(fix(), fix(1), reduced=True) == unusable(2, usable=2)


def test_median_of_three_leaves_out_the_stray() -> None:
    here = located(fix(10, 0), fix(12, 5), fix(3000, 2))
    assert here.distance_m == pytest.approx(12 - 50, abs=0.01)


def test_median_of_two_is_their_middle_and_the_worse_accuracy() -> None:
    here = located(fix(0, 0, accuracy_m=10), fix(30, 0, accuracy_m=30), factor=1.0)
    assert here.distance_m == pytest.approx(15 - 50, abs=0.01)
    assert here.r95_m == 30


@pytest.mark.parametrize(
    ("accuracies_m", "expected_m"), [([5], 5), ([5, 9], 9), ([9, 5, 7], 7), ([5, 20, 9, 7], 9), ([8] * 10, 8)]
)
def test_accuracy_is_the_upper_median(accuracies_m: list[float], expected_m: float) -> None:
    assert located(*(fix(accuracy_m=a) for a in accuracies_m), factor=1.0).r95_m == expected_m


offsets_m = st.floats(-400, 400)


@given(st.lists(st.tuples(offsets_m, offsets_m), min_size=1, max_size=10), st.sampled_from(Frame))
def test_the_median_is_the_same_on_the_plane_and_in_every_frame(
    spread: list[tuple[float, float]], frame: Frame
) -> None:
    fixes = [Fix(*from_wgs84(*place(x, y), frame), SHOT, 20) for x, y in spread]
    here = located(*fixes, frame=frame)
    x_m, y_m = (median(values) for values in zip(*spread, strict=True))
    assert (here.lon, here.lat) == pytest.approx(place(x_m, y_m), abs=2e-7)


@pytest.mark.parametrize("true_frame", [Frame.GCJ02, Frame.BD09])
def test_honest_numbers_under_a_wrong_name_are_suspect(true_frame: Frame) -> None:
    mislabelled = Fix(*from_wgs84(LON, LAT, true_frame), SHOT, 20)
    there = located(mislabelled, buffer_m=100)
    assert (there.zone, there.frame_suspect) == (Zone.OUTSIDE, True)
    assert located(mislabelled, buffer_m=100, frame=true_frame).frame_suspect is False


def test_wgs84_numbers_named_gcj02_are_suspect() -> None:
    assert located(fix(), frame=Frame.GCJ02).frame_suspect


def test_suspect_only_when_it_would_be_inside() -> None:
    lon, lat = from_wgs84(*place(80, 0), Frame.GCJ02)
    assert located(Fix(lon, lat, SHOT, 20), buffer_m=29).frame_suspect is False
    assert located(Fix(lon, lat, SHOT, 20), buffer_m=31).frame_suspect is True


def test_outside_under_every_name_is_not_suspect() -> None:
    there = located(fix(5000))
    assert (there.zone, there.frame_suspect) == (Zone.OUTSIDE, False)


def test_possible_is_not_suspect() -> None:
    """Fence and shift so that the numbers would be inside under another name, but are possible under this one."""
    lon, lat = from_wgs84(LON, LAT, Frame.GCJ02)
    wide = CircleFence.around(LON, LAT, Frame.WGS84, 560)
    there = located(Fix(lon, lat, SHOT, 100), fence=wide)
    assert (there.zone, there.frame_suspect) == (Zone.POSSIBLE, False)


def test_cgcs2000_is_no_other_frame() -> None:
    for name in (Frame.WGS84, Frame.CGCS2000):
        assert located(fix(90), frame=name).frame_suspect is False


def test_factors_by_platform() -> None:
    assert r95_factor("android") == 1.62
    assert {r95_factor(p) for p in ("ios", "harmony", "devtools", "other", None)} == {1.73}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_fix_that_is_not_finite_cannot_be_made(bad: float) -> None:
    for lon, lat, accuracy_m in ((bad, LAT, 20), (LON, bad, 20), (LON, LAT, bad)):
        with pytest.raises(ValueError, match="finite"):
            Fix(lon, lat, SHOT, accuracy_m)


def test_a_fix_needs_an_offset() -> None:
    with pytest.raises(ValueError, match="offset"):
        Fix(LON, LAT, SHOT.replace(tzinfo=None))


@pytest.mark.parametrize("buffer_m", [-1, math.nan, math.inf])
def test_a_buffer_that_is_none(buffer_m: float) -> None:
    with pytest.raises(ValueError, match="buffer_m"):
        located(fix(), buffer_m=buffer_m)


@pytest.mark.parametrize("factor", [0, -1.62, math.nan, math.inf])
def test_a_factor_that_is_none(factor: float) -> None:
    with pytest.raises(ValueError, match="r95_factor"):
        located(fix(), factor=factor)
