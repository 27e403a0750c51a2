"""A fence measures: how far, in metres, a position is from it. It decides nothing."""

from dataclasses import dataclass
from math import hypot, pi
from typing import Self

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from geofence.frames import Frame, to_wgs84
from geofence.plane import Plane

# An edge straight in BD-09 bends by up to 1.3 m over 1 km of WGS-84. Points every 25 m hold it to 1 mm; their
# number is limited, so that a fence of absurdly long edges costs no more than others.
_DRAWN_STEP_DEG = 0.00025
_DRAWN_MAX_STEPS = 2000


@dataclass(frozen=True, slots=True)
class PolygonFence:
    """Polygons as one region in metres on its own plane; holes are outside, shared edges no boundary."""

    plane: Plane
    region: BaseGeometry
    outline: BaseGeometry
    inner: tuple[float, float]

    @classmethod
    def drawn(cls, region: BaseGeometry, frame: Frame) -> Self:
        """The fence of a valid, non-empty (multi)polygon in degrees of `frame`, its edges straight there."""
        west, south, east, north = region.bounds
        plane = Plane.at(*to_wgs84((west + east) / 2, (south + north) / 2, frame))
        step_deg = max(_DRAWN_STEP_DEG, region.length / _DRAWN_MAX_STEPS)
        flat = shapely.transform(
            shapely.segmentize(region, step_deg), lambda drawn: _flat(drawn, plane, frame)
        )
        largest = max(shapely.get_parts(region), key=shapely.area)
        inner = shapely.get_point(shapely.maximum_inscribed_circle(largest), 0)
        fence = cls(plane, flat, flat.boundary, to_wgs84(inner.x, inner.y, frame))
        shapely.prepare([fence.region, fence.outline])
        return fence

    @property
    def area_m2(self) -> float:
        """Area on the plane, without the holes."""
        return float(self.region.area)

    def inside_point(self) -> tuple[float, float]:
        """(lon, lat), WGS-84, of a point well inside: about the middle of the largest polygon."""
        return self.inner

    def signed_distance_m(self, lon: float, lat: float) -> float:
        """Metres from the WGS-84 position to the nearest boundary, negative inside. ValueError if not finite.

        >>> square = shapely.box(114.059, 22.543, 114.061, 22.545)
        >>> fence = PolygonFence.drawn(square, Frame.WGS84)
        >>> round(fence.signed_distance_m(114.060, 22.544), 1)
        -102.9
        >>> abs(fence.signed_distance_m(114.059, 22.543)) < 1e-6  # a corner lies on the boundary
        True
        >>> round(fence.signed_distance_m(114.060, 22.546), 1)
        110.7
        """
        x_m, y_m = self.plane.xy(lon, lat)
        gap_m = float(shapely.distance(self.outline, shapely.points(x_m, y_m)))
        return -gap_m if shapely.contains_xy(self.region, x_m, y_m) else gap_m


@dataclass(frozen=True, slots=True)
class CircleFence:
    """Everything within `radius_m` of the point where the plane touches."""

    plane: Plane
    radius_m: float

    @classmethod
    def around(cls, lon: float, lat: float, frame: Frame, radius_m: float) -> Self:
        """The circle about (lon, lat), degrees of `frame`."""
        return cls(Plane.at(*to_wgs84(lon, lat, frame)), radius_m)

    @property
    def area_m2(self) -> float:
        """πr²."""
        return pi * self.radius_m**2

    def inside_point(self) -> tuple[float, float]:
        """(lon, lat), WGS-84, of the centre."""
        return self.plane.lon, self.plane.lat

    def signed_distance_m(self, lon: float, lat: float) -> float:
        """Metres from the WGS-84 position to the circle, negative inside. ValueError if not finite.

        >>> CircleFence.around(114.06, 22.544, Frame.WGS84, 150.0).signed_distance_m(114.06, 22.544)
        -150.0
        """
        return hypot(*self.plane.xy(lon, lat)) - self.radius_m


Fence = PolygonFence | CircleFence


def _flat(drawn: np.ndarray, plane: Plane, frame: Frame) -> np.ndarray:
    """(n, 2) degrees in `frame` → (n, 2) metres on the plane."""
    return np.array([plane.xy(*to_wgs84(lon, lat, frame)) for lon, lat in drawn.tolist()])
