"""The plane against geographiclib's geodesics."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofence.plane import Plane
from tests.geofence.ground import GEOD, LAT, LON, apart_m, place

PLANE = Plane.at(LON, LAT)


def metres(reach: float) -> st.SearchStrategy[float]:
    return st.floats(-reach, reach)


def test_axes_point_east_and_north() -> None:
    assert PLANE.xy(*place(300, 0)) == pytest.approx((300, 0), abs=1e-5)
    assert PLANE.xy(*place(0, -300)) == pytest.approx((0, -300), abs=1e-5)


@given(metres(700), metres(700), metres(700), metres(700))
def test_two_points_near_the_fence(x1: float, y1: float, x2: float, y2: float) -> None:
    a, b = place(x1, y1), place(x2, y2)
    assert math.dist(PLANE.xy(*a), PLANE.xy(*b)) == pytest.approx(apart_m(a, b), abs=1e-5)


@given(metres(70_000), metres(70_000), metres(500), metres(500))
def test_two_points_at_the_far_end_of_a_wide_fence(x: float, y: float, dx: float, dy: float) -> None:
    a, b = place(x, y), place(x + dx, y + dy)
    assert math.dist(PLANE.xy(*a), PLANE.xy(*b)) == pytest.approx(apart_m(a, b), rel=1e-4, abs=1e-4)


lons, lats, bearings = st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 180)


@pytest.mark.parametrize(
    ("far_m", "within_m"), [(20_000, 1e-4), (100_000, 0.01), (1_000_000, 10), (10_000_000, 20_000)]
)
@given(lons, lats, bearings)
def test_distance_from_the_origin(
    far_m: float, within_m: float, lon: float, lat: float, bearing: float
) -> None:
    there_lon, there_lat, _ = GEOD.fwd(lon, lat, bearing, far_m)
    assert math.hypot(*Plane.at(lon, lat).xy(there_lon, there_lat)) == pytest.approx(far_m, abs=within_m)


@given(lons, lats, lons, lats)
def test_a_far_point_is_simply_far(lon: float, lat: float, at_lon: float, at_lat: float) -> None:
    far_m = math.hypot(*Plane.at(at_lon, at_lat).xy(lon, lat))
    assert far_m == pytest.approx(apart_m((at_lon, at_lat), (lon, lat)), rel=0.1, abs=1e-3)


def test_no_seam_at_the_antimeridian_or_at_114_east() -> None:
    for seam in (180.0, 114.0):
        plane = Plane.at(seam - 0.001, 22.5)
        assert plane.xy(seam - 1e-9, 22.5) == pytest.approx(plane.xy(seam - 360 + 1e-9, 22.5), abs=1e-3)


def test_the_antipode_is_half_way_round() -> None:
    assert Plane.at(0.0, 0.0).xy(180.0, 0.0)[0] == pytest.approx(20_003_931, rel=0.002)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        PLANE.xy(bad, LAT)
    with pytest.raises(ValueError, match="finite"):
        PLANE.xy(LON, bad)
