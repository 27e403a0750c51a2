"""The four coordinate frames in which a position in China is written, and the ways between them.

GCJ-02 and BD-09 shift WGS-84 by some 600 m and 1.2 km in Shenzhen; CGCS2000 agrees with WGS-84 to within a
metre and counts as the same here. The shifts are known only from code; these formulas are PRCoords' (CC0),
on the Krasovsky ellipsoid as in the original (eviltransform has another radius and is 9 mm off).

The formulas are applied wherever on Earth the point is. The usual "outside China, leave unchanged" box is
left out on purpose: such a box has an edge, and Hong Kong's border runs along the city.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from math import atan2, cos, hypot, pi, radians, sin, sqrt

_KRASOVSKY_A_M = 6378245.0
_KRASOVSKY_E2 = 0.00669342162296594323
_BD09_LON_SHIFT, _BD09_LAT_SHIFT = 0.0065, 0.0060

# Every step of the inversion shrinks the error at least thirtyfold, so what is left is far below the step.
_INVERSE_STEP_DEG = 1e-10
_INVERSE_MAX_STEPS = 20


class Frame(StrEnum):
    """The frame that a pair of numbers is written in. A wrong label moves a point by half a kilometre."""

    WGS84 = "wgs84"
    GCJ02 = "gcj02"
    BD09 = "bd09"
    CGCS2000 = "cgcs2000"


def on_earth(lon: float, lat: float) -> bool:
    """Whether the numbers are a longitude within ±180 and a latitude within ±90 degrees (NaN is not).

    >>> on_earth(180.0, -90.0), on_earth(22.54, 114.06)
    (True, False)
    """
    return abs(lon) <= 180 and abs(lat) <= 90


def from_wgs84(lon: float, lat: float, frame: Frame) -> tuple[float, float]:
    """(lon, lat) in WGS-84 degrees → (lon, lat) in `frame`. ValueError unless `on_earth`.

    The result is finite, and next to ±180 or the poles it may lie a little beyond them.

    >>> [round(v, 9) for v in from_wgs84(114.0579, 22.5431, Frame.GCJ02)]
    [114.063013999, 22.540382814]
    """
    _require_on_earth(lon, lat)
    return _FROM_WGS84[frame](lon, lat)


def to_wgs84(lon: float, lat: float, frame: Frame) -> tuple[float, float]:
    """(lon, lat) in `frame` → (lon, lat) in WGS-84 degrees. ValueError unless `on_earth`.

    The exact inverse of `from_wgs84` between 80° S and 80° N, to better than 1e-9°; nearer to the poles the
    shifts are no longer one-to-one and the result is only finite.

    >>> lon, lat = from_wgs84(114.0579, 22.5431, Frame.BD09)
    >>> [round(v, 9) for v in to_wgs84(lon, lat, Frame.BD09)]
    [114.0579, 22.5431]
    """
    _require_on_earth(lon, lat)
    return _invert(_FROM_WGS84[frame], lon, lat)


def _require_on_earth(lon: float, lat: float) -> None:
    if not on_earth(lon, lat):
        raise ValueError("not a position: give lon within ±180 and lat within ±90 degrees")


def _invert(
    forward: Callable[[float, float], tuple[float, float]], lon: float, lat: float
) -> tuple[float, float]:
    """Fixed-point iteration: the published inverses are one step of it and err by up to 2.5 m."""
    guess_lon, guess_lat = lon, lat
    for _ in range(_INVERSE_MAX_STEPS):
        there_lon, there_lat = forward(guess_lon, guess_lat)
        miss_lon, miss_lat = lon - there_lon, lat - there_lat
        # The limits are for the poles, where the steps would run away to infinity.
        guess_lon = max(-360.0, min(360.0, guess_lon + miss_lon))
        guess_lat = max(-90.0, min(90.0, guess_lat + miss_lat))
        if max(abs(miss_lon), abs(miss_lat)) < _INVERSE_STEP_DEG:
            break
    return guess_lon, guess_lat


def _unchanged(lon: float, lat: float) -> tuple[float, float]:
    return lon, lat


def _gcj02(lon: float, lat: float) -> tuple[float, float]:
    east_m, north_m = _gcj02_shift_m(lon - 105, lat - 35)
    w2 = 1 - _KRASOVSKY_E2 * sin(radians(lat)) ** 2
    metres_per_lat = radians(_KRASOVSKY_A_M * (1 - _KRASOVSKY_E2) / w2**1.5)
    metres_per_lon = radians(_KRASOVSKY_A_M / sqrt(w2) * cos(radians(lat)))
    return lon + east_m / metres_per_lon, lat + north_m / metres_per_lat


def _gcj02_shift_m(x: float, y: float) -> tuple[float, float]:
    """The shift to the east and to the north, in metres; x and y are degrees from 105° E, 35° N."""
    ripple = 20 * sin(6 * pi * x) + 20 * sin(2 * pi * x)
    east_waves = 20 * sin(pi * x) + 40 * sin(pi * x / 3) + 150 * sin(pi * x / 12) + 300 * sin(pi * x / 30)
    north_waves = 20 * sin(pi * y) + 40 * sin(pi * y / 3) + 160 * sin(pi * y / 12) + 320 * sin(pi * y / 30)
    root = sqrt(abs(x))
    east_m = 300 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * root + (ripple + east_waves) * 2 / 3
    north_m = -100 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * root + (ripple + north_waves) * 2 / 3
    return east_m, north_m


def _bd09(lon: float, lat: float) -> tuple[float, float]:
    """GCJ-02 turned and stretched a little as if its degrees were polar coordinates, then shifted."""
    gcj_lon, gcj_lat = _gcj02(lon, lat)
    r = hypot(gcj_lon, gcj_lat) + 0.00002 * sin(radians(gcj_lat) * 3000)
    theta = atan2(gcj_lat, gcj_lon) + 0.000003 * cos(radians(gcj_lon) * 3000)
    return r * cos(theta) + _BD09_LON_SHIFT, r * sin(theta) + _BD09_LAT_SHIFT


_FROM_WGS84: Mapping[Frame, Callable[[float, float], tuple[float, float]]] = {
    Frame.WGS84: _unchanged,
    Frame.CGCS2000: _unchanged,
    Frame.GCJ02: _gcj02,
    Frame.BD09: _bd09,
}
