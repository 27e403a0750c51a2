"""A plane in metres that touches the WGS-84 ellipsoid at a fence.

UTM would do nearly as well, but the seam of two of its zones (114° E) runs through the city. This plane has
no seam: every point of the Earth has a place on it, and a far point is simply far.
"""

from dataclasses import dataclass
from math import asin, cos, hypot, isfinite, radians, sin, sqrt
from typing import Self

_WGS84_A_M = 6378137.0
_WGS84_E2 = 0.0066943799901413165

_Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Plane:
    """The azimuthal plane at (lon, lat), WGS-84 degrees: bearing and distance from there are true.

    Distances from the origin are geodesic to 0.1 mm at 20 km, 1 cm at 100 km, 0.2 % at 10,000 km and under 10 %
    at the antipode. Between two points, both within 1 km of the origin, to 0.01 mm; within 100 km to 1 in 10,000.
    """

    lon: float
    lat: float
    origin: _Vector
    east: _Vector
    north: _Vector
    earth_radius_m: float

    @classmethod
    def at(cls, lon: float, lat: float) -> Self:
        """The plane that touches at (lon, lat)."""
        lam, phi = radians(lon), radians(lat)
        return cls(
            lon,
            lat,
            origin=_geocentric_m(lon, lat),
            east=(-sin(lam), cos(lam), 0.0),
            north=(-sin(phi) * cos(lam), -sin(phi) * sin(lam), cos(phi)),
            earth_radius_m=_WGS84_A_M * sqrt(1 - _WGS84_E2) / (1 - _WGS84_E2 * sin(phi) ** 2),
        )

    def xy(self, lon: float, lat: float) -> tuple[float, float]:
        """Metres to the east and to the north of the origin. ValueError unless both numbers are finite.

        >>> plane = Plane.at(114.0, 22.5)
        >>> plane.xy(114.0, 22.5)
        (0.0, 0.0)
        >>> [round(m, 2) for m in plane.xy(114.001, 22.501)]
        [102.9, 110.74]
        """
        if not (isfinite(lon) and isfinite(lat)):
            raise ValueError("not a position: lon and lat must be finite numbers")
        there = _geocentric_m(lon, lat)
        chord = (there[0] - self.origin[0], there[1] - self.origin[1], there[2] - self.origin[2])
        return self._unrolled(_dot(chord, self.east), _dot(chord, self.north), hypot(*chord))

    def _unrolled(self, east_m: float, north_m: float, chord_m: float) -> tuple[float, float]:
        """The foot of the chord on the plane, moved out to the length of the arc above the chord."""
        arc_m = 2 * self.earth_radius_m * asin(min(1.0, chord_m / (2 * self.earth_radius_m)))
        foot_m = hypot(east_m, north_m)
        if foot_m == 0:  # the origin itself, or its antipode: as far as can be, in no direction
            return arc_m, 0.0
        return east_m * arc_m / foot_m, north_m * arc_m / foot_m


def _geocentric_m(lon: float, lat: float) -> _Vector:
    """Earth-centred Cartesian coordinates of a point on the ellipsoid."""
    lam, phi = radians(lon), radians(lat)
    normal_m = _WGS84_A_M / sqrt(1 - _WGS84_E2 * sin(phi) ** 2)
    across_m = normal_m * cos(phi)
    return across_m * cos(lam), across_m * sin(lam), normal_m * (1 - _WGS84_E2) * sin(phi)


def _dot(a: _Vector, b: _Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
