"""Where a person is relative to a fence, as far as the phone's fixes tell. Facts only: the caller decides."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from math import isfinite
from statistics import median, median_high

from geofence.fence import Fence
from geofence.frames import Frame, to_wgs84
from geofence.position import DEFAULT_RULES, SHENZHEN, Box, Fix, FixRules, is_plausible, is_usable


class Zone(StrEnum):
    """What the fixes say: inside, perhaps inside, outside, or nothing that can be used."""

    INSIDE = "inside"
    POSSIBLE = "possible"
    OUTSIDE = "outside"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class Location:
    """The measured facts.

    `distance_m`: signed distance from the median position to the fence, less the buffer; `r95_m`: the radius
    that holds the true position in 95 of 100 cases, as claimed; `lon, lat`: the median position in WGS-84.
    These four are None when the zone is unusable. `given`, `implausible`, `usable` count fixes.
    `frame_suspect`: outside, but the same numbers under another frame's name would be inside.
    """

    zone: Zone
    distance_m: float | None
    r95_m: float | None
    lon: float | None
    lat: float | None
    given: int
    implausible: int
    usable: int
    frame_suspect: bool


def r95_factor(platform: str | None) -> float:
    """How many times the claimed accuracy holds the true position in 95 of 100 cases.

    Android documents a 68 % radius, and √(ln 0.05 / ln 0.32) = 1.62. The others document less; 1.73 = √3
    takes their claim for the root mean square error, a 63 % radius.

    >>> r95_factor("android"), r95_factor("ios"), r95_factor(None)
    (1.62, 1.73, 1.73)
    """
    return 1.62 if platform == "android" else 1.73


def zone_at(distance_m: float, r95_m: float) -> Zone:
    """The zone of a signed distance to fence and buffer: the point decides, the radius only leaves doubt.

    >>> zone_at(0.0, 30.0), zone_at(30.0, 30.0), zone_at(30.001, 30.0)
    (<Zone.INSIDE: 'inside'>, <Zone.POSSIBLE: 'possible'>, <Zone.OUTSIDE: 'outside'>)
    """
    if distance_m <= 0:
        return Zone.INSIDE
    return Zone.POSSIBLE if distance_m <= r95_m else Zone.OUTSIDE


def locate(
    fence: Fence,
    buffer_m: float,
    fixes: Sequence[Fix],
    frame: Frame,
    captured_at: datetime,
    *,
    r95_factor: float,
    reduced_accuracy: bool,
    rules: FixRules = DEFAULT_RULES,
    box: Box = SHENZHEN,
) -> Location:
    """Measure the fixes, numbers in `frame`, against the fence widened by `buffer_m`.

    `captured_at` is the phone's time of the photograph, with offset. ValueError for a buffer that is negative
    or not finite, and for a factor that is not positive and finite.

    >>> from datetime import UTC
    >>> from geofence.fence import CircleFence
    >>> fence = CircleFence.around(114.06, 22.544, Frame.WGS84, 150.0)
    >>> shot = datetime(2026, 11, 20, 9, 0, 0, tzinfo=UTC)
    >>> def at(lon: float) -> Location:
    ...     fix = Fix(lon, 22.544, shot, accuracy_m=20.0)
    ...     return locate(fence, 100.0, [fix], Frame.WGS84, shot, r95_factor=1.62, reduced_accuracy=False)
    >>> [(str(at(lon).zone), round(at(lon).distance_m)) for lon in (114.06, 114.0625, 114.063)]
    [('inside', -250), ('possible', 7), ('outside', 59)]
    """
    _require(buffer_m, r95_factor)
    plausible = [fix for fix in fixes if is_plausible(fix, frame, box)]
    usable = [fix for fix in plausible if is_usable(fix, captured_at, rules)]
    given, implausible = len(fixes), len(fixes) - len(plausible)
    if reduced_accuracy or not usable:
        return Location(Zone.UNUSABLE, None, None, None, None, given, implausible, len(usable), False)
    lon, lat = _median_position(usable, frame)
    distance_m = fence.signed_distance_m(lon, lat) - buffer_m
    r95_m = r95_factor * _median_accuracy_m(usable)
    zone = zone_at(distance_m, r95_m)
    suspect = zone is Zone.OUTSIDE and _inside_under_another_name(fence, buffer_m, usable, frame)
    return Location(zone, distance_m, r95_m, lon, lat, given, implausible, len(usable), suspect)


def _require(buffer_m: float, r95_factor: float) -> None:
    if not (isfinite(buffer_m) and buffer_m >= 0 and isfinite(r95_factor) and r95_factor > 0):
        raise ValueError("buffer_m must be finite and not negative, r95_factor finite and positive")


def _median_position(fixes: Sequence[Fix], frame: Frame) -> tuple[float, float]:
    """Median along the parallel and the meridian: the plane's own axes, but no way back from it is needed."""
    places = [to_wgs84(fix.lon, fix.lat, frame) for fix in fixes]
    return median(lon for lon, _ in places), median(lat for _, lat in places)


def _median_accuracy_m(fixes: Sequence[Fix]) -> float:
    """Never shrunk by the number of fixes: they share the errors of one phone in one place."""
    return median_high(fix.accuracy_m for fix in fixes if fix.accuracy_m is not None)


def _inside_under_another_name(fence: Fence, buffer_m: float, fixes: Sequence[Fix], frame: Frame) -> bool:
    return any(
        fence.signed_distance_m(*_median_position(fixes, other)) <= buffer_m
        for other in Frame
        if other is not frame
    )
