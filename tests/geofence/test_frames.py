"""Frames against the vectors and against prcoords, an independent implementation of both shifts.

prcoords was checked first: forward it meets the vectors to their last digit, and its BD-09 agrees with
eviltransform's to 1e-13°. Its inverses stop at about 1e-7°, so ours are also put through its forward functions.
"""

import json
import math
from pathlib import Path

import prcoords
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from geofence import SHENZHEN, Frame, from_wgs84, on_earth, to_wgs84
from tests.geofence.ground import apart_m

SHIFTED = [Frame.GCJ02, Frame.BD09]
FORWARD = {Frame.GCJ02: prcoords.wgs_gcj, Frame.BD09: prcoords.wgs_bd}
INVERSE = {Frame.GCJ02: prcoords.gcj_wgs_bored, Frame.BD09: prcoords.bd_wgs_bored}

frames = st.sampled_from(Frame)
shifted = st.sampled_from(SHIFTED)
lons, lats = st.floats(-179, 179), st.floats(-80, 80)  # both ways stay within ±180
lons_in_china, lats_in_china = st.floats(73, 135), st.floats(3.5, 53.5)


def vectors(shared: Path) -> list[dict[str, list[float]]]:
    listed: list[dict[str, list[float]]] = json.loads(
        (shared / "data" / "vectors" / "wgs84_to_gcj02.json").read_text()
    )
    assert len(listed) >= 5
    return listed


def test_vectors_both_ways(shared: Path) -> None:
    for vector in vectors(shared):
        (lat, lon), (gcj_lat, gcj_lon) = vector["wgs"], vector["gcj"]
        assert from_wgs84(lon, lat, Frame.GCJ02) == pytest.approx((gcj_lon, gcj_lat), abs=1e-9)
        assert to_wgs84(gcj_lon, gcj_lat, Frame.GCJ02) == pytest.approx((lon, lat), abs=1e-9)


def test_a_wrong_label_moves_a_point_by_half_a_kilometre(shared: Path) -> None:
    for vector in vectors(shared):
        lat, lon = vector["wgs"]
        assert 567 <= apart_m((lon, lat), from_wgs84(lon, lat, Frame.GCJ02)) <= 619
        assert 1000 <= apart_m((lon, lat), from_wgs84(lon, lat, Frame.BD09)) <= 1400


@given(lons, lats, shifted)
@example(139.7, 35.7, Frame.GCJ02)  # Tokyo: there is no box outside which nothing is shifted
@example(105.0, 35.0, Frame.GCJ02)  # the root of the formula
def test_forward_agrees_with_prcoords_everywhere(lon: float, lat: float, frame: Frame) -> None:
    theirs = FORWARD[frame]((lat, lon), False)
    assert from_wgs84(lon, lat, frame) == pytest.approx((theirs.lon, theirs.lat), abs=1e-10)


@given(lons_in_china, lats_in_china, shifted)
def test_prcoords_takes_our_inverse_back(lon: float, lat: float, frame: Frame) -> None:
    wgs_lon, wgs_lat = to_wgs84(lon, lat, frame)
    theirs = FORWARD[frame]((wgs_lat, wgs_lon), False)
    assert (theirs.lon, theirs.lat) == pytest.approx((lon, lat), abs=1e-9)


@given(lons_in_china, lats_in_china, shifted)
def test_inverse_agrees_with_prcoords_as_far_as_its_goes(lon: float, lat: float, frame: Frame) -> None:
    theirs = INVERSE[frame]((lat, lon))
    assert to_wgs84(lon, lat, frame) == pytest.approx((theirs.lon, theirs.lat), abs=5e-7)


@given(lons, lats, frames)
@example(105.0, 0.0, Frame.GCJ02)
@example(0.0, 0.0, Frame.BD09)
@example(-179.0, 80.0, Frame.BD09)
@example(179.0, -80.0, Frame.GCJ02)
def test_round_trip(lon: float, lat: float, frame: Frame) -> None:
    assert to_wgs84(*from_wgs84(lon, lat, frame), frame) == pytest.approx((lon, lat), abs=1e-9)


@given(lons, lats, frames)
def test_round_trip_the_other_way(lon: float, lat: float, frame: Frame) -> None:
    there = to_wgs84(lon, lat, frame)
    assert from_wgs84(*there, frame) == pytest.approx((lon, lat), abs=1e-9)


@given(st.floats(-180, 180), st.floats(-90, 90), frames)
@example(180.0, 90.0, Frame.BD09)
@example(-180.0, -90.0, Frame.GCJ02)
@example(0.0, 0.0, Frame.BD09)
def test_total_on_earth(lon: float, lat: float, frame: Frame) -> None:
    assert all(math.isfinite(v) for v in (*from_wgs84(lon, lat, frame), *to_wgs84(lon, lat, frame)))


@pytest.mark.parametrize("frame", Frame)
@pytest.mark.parametrize(
    ("lon", "lat"),
    [(math.nan, 22.5), (114.0, math.nan), (math.inf, 22.5), (114.0, -math.inf), (180.1, 22.5), (22.5, 114.0)],
)
def test_what_is_no_position_is_refused(lon: float, lat: float, frame: Frame) -> None:
    assert not on_earth(lon, lat)
    with pytest.raises(ValueError, match="not a position"):
        to_wgs84(lon, lat, frame)
    with pytest.raises(ValueError, match="not a position"):
        from_wgs84(lon, lat, frame)


@given(lons, lats)
def test_cgcs2000_is_wgs84_here(lon: float, lat: float) -> None:
    assert from_wgs84(lon, lat, Frame.CGCS2000) == to_wgs84(lon, lat, Frame.CGCS2000) == (lon, lat)


def test_the_published_one_step_inverse_would_not_do() -> None:
    """The negative control: the step that everyone copies misses by a metre and more in the city."""
    lon, lat = (SHENZHEN.west + SHENZHEN.east) / 2, (SHENZHEN.south + SHENZHEN.north) / 2
    gcj_lon, gcj_lat = from_wgs84(lon, lat, Frame.GCJ02)
    once = prcoords.gcj_wgs((gcj_lat, gcj_lon))
    assert apart_m((once.lon, once.lat), (lon, lat)) > 1
