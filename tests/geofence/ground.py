"""The tests' own ground: metres about a place in Shenzhen, laid out by geographiclib and not by our code."""

from math import atan2, degrees, hypot

from pyproj import Geod

from geofence import Frame, from_wgs84

LON, LAT = 114.06, 22.54
GEOD = Geod(ellps="WGS84")

Point = tuple[float, float]


def place(x_m: float, y_m: float) -> Point:
    """(lon, lat), WGS-84, of the point so many metres east and north of the origin."""
    lon, lat, _ = GEOD.fwd(LON, LAT, degrees(atan2(x_m, y_m)), hypot(x_m, y_m))
    return lon, lat


def apart_m(a: Point, b: Point) -> float:
    """Geodesic distance between two WGS-84 positions."""
    return float(GEOD.inv(*a, *b)[2])


def ring(corners_m: list[Point], frame: Frame = Frame.WGS84) -> list[list[float]]:
    """A closed GeoJSON ring through corners given in metres, written in `frame`."""
    positions = [list(from_wgs84(*place(*corner), frame)) for corner in corners_m]
    return [*positions, positions[0]]


def square(x_m: float, y_m: float, side_m: float, frame: Frame = Frame.WGS84) -> list[list[float]]:
    """The closed ring of a square whose south-west corner is at (x_m, y_m)."""
    east, north = x_m + side_m, y_m + side_m
    return ring([(x_m, y_m), (east, y_m), (east, north), (x_m, north)], frame)
