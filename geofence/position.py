"""Positions as a phone reports them, and which of them can be used."""

from dataclasses import dataclass
from datetime import datetime
from math import isfinite

from geofence.frames import Frame, on_earth, to_wgs84


@dataclass(frozen=True, slots=True)
class Box:
    """A service area in WGS-84 degrees, edges included. ValueError unless south < north and west < east."""

    south: float
    north: float
    west: float
    east: float

    def __post_init__(self) -> None:
        if not (-90 <= self.south < self.north <= 90 and -180 <= self.west < self.east <= 180):
            raise ValueError("a box needs -90 <= south < north <= 90 and -180 <= west < east <= 180")

    def holds(self, lon: float, lat: float, frame: Frame) -> bool:
        """Whether the numbers, read as a position in `frame`, lie in the box; False for no position at all.

        >>> SHENZHEN.holds(113.6, 22.3, Frame.WGS84), SHENZHEN.holds(113.6, 22.3, Frame.BD09)
        (True, False)
        >>> SHENZHEN.holds(22.54, 114.06, Frame.WGS84)
        False
        """
        if not on_earth(lon, lat):
            return False
        wgs_lon, wgs_lat = to_wgs84(lon, lat, frame)
        return self.west <= wgs_lon <= self.east and self.south <= wgs_lat <= self.north


SHENZHEN = Box(south=22.3, north=23.2, west=113.6, east=115.5)
EARTH = Box(south=-90, north=90, west=-180, east=180)


@dataclass(frozen=True, slots=True)
class Fix:
    """One reading of a position: numbers in the sender's frame, the phone's time, the claimed 68 % radius.

    Any finite numbers are taken, for a fix that cannot be true is counted, not refused.
    ValueError for NaN or infinite numbers and for a time without offset.
    """

    lon: float
    lat: float
    at: datetime
    accuracy_m: float | None = None

    def __post_init__(self) -> None:
        if not all(isfinite(v) for v in (self.lon, self.lat, self.accuracy_m or 0)):
            raise ValueError("a fix needs finite numbers")
        if self.at.utcoffset() is None:
            raise ValueError("a fix needs a time with an offset")


@dataclass(frozen=True, slots=True)
class FixRules:
    """Which fixes are usable; all limits are included."""

    max_age_s: float = 60
    max_ahead_s: float = 5
    max_accuracy_m: float = 100


DEFAULT_RULES = FixRules()


def is_plausible(fix: Fix, frame: Frame, box: Box) -> bool:
    """Whether the numbers can be a person's position: not off the Earth, not 0/0, not lon and lat exchanged.

    A plausible position may be anywhere on Earth.

    >>> from datetime import UTC
    >>> at = datetime(2026, 11, 20, tzinfo=UTC)
    >>> is_plausible(Fix(116.4, 39.9, at), Frame.WGS84, SHENZHEN)
    True
    >>> is_plausible(Fix(22.54, 114.06, at), Frame.WGS84, SHENZHEN)
    False
    """
    if not on_earth(fix.lon, fix.lat) or fix.lon == fix.lat == 0:
        return False
    exchanged = box.holds(fix.lat, fix.lon, frame) and not box.holds(fix.lon, fix.lat, frame)
    return not exchanged


def is_usable(fix: Fix, captured_at: datetime, rules: FixRules) -> bool:
    """Whether the fix is fresh and accurate enough at `captured_at`, the phone's own time of the photograph.

    >>> from datetime import UTC, timedelta
    >>> shot = datetime(2026, 11, 20, 9, 0, 0, tzinfo=UTC)
    >>> def aged(seconds: float) -> Fix:
    ...     return Fix(114.06, 22.54, shot - timedelta(seconds=seconds), accuracy_m=100)
    >>> [is_usable(aged(s), shot, DEFAULT_RULES) for s in (-5.001, -5, 60, 60.001)]
    [False, True, True, False]
    """
    age_s = (captured_at - fix.at).total_seconds()
    fresh = -rules.max_ahead_s <= age_s <= rules.max_age_s
    return fresh and fix.accuracy_m is not None and 0 < fix.accuracy_m <= rules.max_accuracy_m
