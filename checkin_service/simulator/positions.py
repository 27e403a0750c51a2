"""What phones report of where they are: noise, accuracy by platform, fixes from a cache, and made-up ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import cos, pi, radians, sin
from random import Random
from typing import Any, Self

from geofence import Fence, Frame, from_wgs84, parse_fence

Json = dict[str, Any]
Point = tuple[float, float]
_METRES_PER_DEGREE = 111_000
_FARTHEST_M = 20_000.0
# Claimed 68 % radii in metres, as phones of each kind give them.
ACCURACIES_M: Mapping[str, Sequence[float]] = {
    "android": (3.8, 6.2, 12.5, 20.3, 31.0),
    "ios": (4.7, 8.0, 14.2, 35.0, 65.0),
    "harmony": (5.0, 10.0, 30.0),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What one submission says of its position.

    `beyond_m`: how far outside of fence and buffer the person truly is; None in the middle. `fixes` of them, the newest
    `age_s` old, a second apart. `accuracy_m`: None as the platform gives them. `noise_m`: no fix errs by more. `still`
    repeats one exact fix. `cached`: the first fix is ten minutes old and from elsewhere. `mislabelled`: written in
    GCJ-02 and called WGS-84. `exchanged`: lon for lat. `reduced`: the phone says that it gives a rough place only.
    """

    beyond_m: float | None = None
    fixes: int = 4
    age_s: float = 1
    accuracy_m: float | None = None
    noise_m: float = 50
    still: bool = False
    cached: bool = False
    mislabelled: bool = False
    exchanged: bool = False
    reduced: bool = False


@dataclass(frozen=True, slots=True)
class Ground:
    """A registered address: the GeoJSON in `frame`, and the fence that it means."""

    geojson: Json
    frame: Frame
    buffer_m: float
    fence: Fence

    @classmethod
    def anywhere(cls, random: Random) -> Self:
        """A block of 60 to 160 m or a circle of that reach, somewhere in the city.

        Small enough that who is put into another frame, 567 m away at the least, is outside.
        """
        frame = random.choice(list(Frame))
        centre = random.uniform(113.85, 114.35), random.uniform(22.53, 22.75)
        reach_m, bearing = random.uniform(60, 160), random.uniform(0, pi / 2)
        corners = [moved(centre, reach_m, bearing + turn * pi / 2) for turn in (0, 1, 2, 3, 0)]
        written = [list(from_wgs84(*corner, frame)) for corner in (centre, *corners)]
        block = {"type": "Polygon", "coordinates": [written[1:]]}
        circle = {"type": "Circle", "coordinates": written[0], "radius_m": reach_m}
        geojson = random.choice((block, circle))
        return cls(geojson, frame, random.choice((60, 80, 100)), parse_fence(geojson, frame))

    def point(self, beyond_m: float | None, bearing: float) -> Point:
        """(lon, lat), WGS-84, so many metres outside of fence and buffer, `bearing` (radians) from the middle; the
        middle for None."""
        middle = self.fence.inside_point()
        if beyond_m is None:
            return middle
        near_m, far_m = 0.0, _FARTHEST_M
        while far_m - near_m > 0.1:
            half_m = (near_m + far_m) / 2
            is_short = (
                self.fence.signed_distance_m(*moved(middle, half_m, bearing)) < self.buffer_m + beyond_m
            )
            near_m, far_m = (half_m, far_m) if is_short else (near_m, half_m)
        return moved(middle, near_m, bearing)


def moved(start: Point, metres: float, bearing: float) -> Point:
    """The point so far from `start` (WGS-84), to one part in a hundred. `bearing` in radians from the north."""
    lon, lat = start
    north, east = metres * cos(bearing), metres * sin(bearing)
    per_lon = _METRES_PER_DEGREE * cos(radians(lat))
    return lon + east / per_lon, lat + north / _METRES_PER_DEGREE


def position_fields(
    reading: Reading, ground: Ground, platform: str, captured_at: datetime, random: Random
) -> Json:
    """`frame` and `fixes` of a submission."""
    label = random.choice((Frame.WGS84, Frame.GCJ02))
    frame, label = (Frame.GCJ02, Frame.WGS84) if reading.mislabelled else (label, label)
    accuracy_m = reading.accuracy_m or random.choice(ACCURACIES_M[platform])
    true = ground.point(reading.beyond_m, random.uniform(0, 2 * pi))
    fixes = []
    for number in range(reading.fixes):
        age_s = reading.age_s + reading.fixes - 1 - number
        seen = true if reading.still else _noisy(true, accuracy_m, reading.noise_m, random)
        if reading.cached and number == 0:
            age_s, seen = 600, moved(true, 3000, random.uniform(0, 2 * pi))
        lon, lat = from_wgs84(*seen, frame)
        lon, lat = (lat, lon) if reading.exchanged else (lon, lat)
        at = (captured_at - timedelta(seconds=age_s)).isoformat()
        fixes.append({"lon": round(lon, 7), "lat": round(lat, 7), "accuracy_m": accuracy_m, "at": at})
    return {"frame": label, "fixes": fixes}


def _noisy(true: Point, accuracy_m: float, most_m: float, random: Random) -> Point:
    """Errs by the Rayleigh law of which `accuracy_m` is the 68 % radius, cut off at `most_m`."""
    error_m = accuracy_m / 1.51 * (2 * random.expovariate(1)) ** 0.5
    return moved(true, min(error_m, most_m), random.uniform(0, 2 * pi))
