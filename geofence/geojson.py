"""Reads a fence from GeoJSON (RFC 7946) and names every fault of one that it refuses."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from geofence.faults import FaultCode, FaultList, FenceError
from geofence.fence import CircleFence, Fence, PolygonFence
from geofence.frames import Frame
from geofence.position import SHENZHEN, Box
from geofence.reading import MAX_ENTRIES, Position, Reader
from geofence.topology import Ring, region_of

MIN_AREA_M2, MAX_AREA_M2 = 20, 5_000_000
MIN_RADIUS_M, MAX_RADIUS_M = 1, 5_000

_MEMBERS = {
    "Polygon": ("type", "coordinates"),
    "MultiPolygon": ("type", "coordinates"),
    "Circle": ("type", "coordinates", "radius_m"),
}
_MISPLACED = {
    FaultCode.SWAPPED: "lon and lat are exchanged; give lon first, then lat",
    FaultCode.OUTSIDE_BOX: "outside the service area; check the numbers and the frame",
}


def parse_fence(geojson: object, frame: Frame, box: Box = SHENZHEN) -> Fence:
    """A fence from a parsed JSON value: Polygon, MultiPolygon, or Circle with `radius_m`; numbers in `frame`.

    Polygons: (lon, lat) positions, an altitude is ignored, edges are straight in the frame's degrees, the
    direction of rings does not matter; 20 m² to 5 km². Circles: a radius of 1 to 5,000 m. All within `box`.
    Whatever the value, the only error is FenceError, with every fault at once.

    >>> ring = [[114.059, 22.543], [114.061, 22.543], [114.061, 22.545], [114.059, 22.545], [114.059, 22.543]]
    >>> fence = parse_fence({"type": "Polygon", "coordinates": [ring]}, Frame.GCJ02)
    >>> round(fence.area_m2)
    45500
    >>> try:
    ...     parse_fence({"type": "Polygon", "coordinates": [ring[:-1]], "name": "yard"}, Frame.GCJ02)
    ... except FenceError as refusal:
    ...     [(fault.pointer, str(fault.code)) for fault in refusal.faults]
    [('/name', 'fence_unknown_member'), ('/coordinates/0', 'fence_ring_open')]
    """
    faults = FaultList()
    fence = _Parser(frame, box, faults, Reader(faults)).fence(geojson)
    if faults or fence is None:
        raise FenceError(faults.found)
    return fence


@dataclass(frozen=True, slots=True)
class _Parser:
    frame: Frame
    box: Box
    faults: FaultList
    reader: Reader

    def fence(self, geojson: object) -> Fence | None:
        if not isinstance(geojson, dict):
            self.faults.add(
                "", FaultCode.TYPE, "not an object; give a GeoJSON object with type and coordinates"
            )
            return None
        kind = geojson.get("type")
        if not (isinstance(kind, str) and kind in _MEMBERS):
            self.faults.add("/type", FaultCode.TYPE, f"unknown type; give one of {', '.join(_MEMBERS)}")
            return None
        self._refuse_unknown(geojson, kind)
        if kind == "Circle":
            return self._circle(geojson.get("coordinates"), geojson.get("radius_m"))
        return self._polygon_fence(kind, geojson.get("coordinates"))

    def _refuse_unknown(self, members: Iterable[object], kind: str) -> None:
        known = _MEMBERS[kind]
        for name in (str(member) for member in members if member not in known):
            pointer = "/" + name.replace("~", "~0").replace("/", "~1")
            message = f"unknown member; leave it out, a {kind} has only {', '.join(known)}"
            self.faults.add(pointer, FaultCode.UNKNOWN_MEMBER, message)

    def _circle(self, coordinates: object, radius: object) -> CircleFence | None:
        centre = self.reader.position(coordinates, "/coordinates")
        radius_m = self._radius_m(radius)
        if centre is None or self._refuse_misplaced([("/coordinates", centre)]) or radius_m is None:
            return None
        circle = CircleFence.around(*centre, self.frame, radius_m)
        if not self._reaches_no_edge(circle):
            message = "the circle reaches beyond the service area; make it smaller"
            self.faults.add("/radius_m", FaultCode.OUTSIDE_BOX, message)
        return circle

    def _radius_m(self, value: object) -> float | None:
        radius_m = self.reader.number(value, "/radius_m", FaultCode.RADIUS)
        if radius_m is None or MIN_RADIUS_M <= radius_m <= MAX_RADIUS_M:
            return radius_m
        message = f"the radius must be {MIN_RADIUS_M} to {MAX_RADIUS_M} m; give one in metres"
        self.faults.add("/radius_m", FaultCode.RADIUS, message)
        return None

    def _reaches_no_edge(self, circle: CircleFence) -> bool:
        box, (lon, lat) = self.box, circle.inside_point()
        nearest = ((box.west, lat), (box.east, lat), (lon, box.south), (lon, box.north))
        return all(circle.signed_distance_m(*edge) >= 0 for edge in nearest)

    def _polygon_fence(self, kind: str, coordinates: object) -> PolygonFence | None:
        polygons = self._polygons(kind, coordinates)
        if self.reader.overfull:
            message = f"more than {MAX_ENTRIES} positions, rings and polygons; simplify the fence"
            self.faults.add("/coordinates", FaultCode.TOO_MANY_POINTS, message)
            return None
        self._refuse_misplaced(list(_positions(polygons)))
        region = region_of(polygons, self.faults)
        if region is None:
            return None
        fence = None if region.is_empty else PolygonFence.drawn(region, self.frame)
        if fence is None or not MIN_AREA_M2 <= fence.area_m2 <= MAX_AREA_M2:
            message = f"the area without holes must be {MIN_AREA_M2} m² to {MAX_AREA_M2 // 10**6} km²"
            self.faults.add("/coordinates", FaultCode.AREA, message)
        return fence

    def _polygons(self, kind: str, coordinates: object) -> list[list[Ring | None]]:
        if kind == "Polygon":
            return [self.reader.rings(coordinates, "/coordinates")]
        return self.reader.polygons(coordinates, "/coordinates")

    def _refuse_misplaced(self, positions: Sequence[tuple[str, Position]]) -> bool:
        """Whether a position is outside the box; when all are, and in the same way, one fault says so."""
        wrong = [(pointer, code) for pointer, at in positions if (code := self._misplaced(*at))]
        if len(wrong) == len(positions) > 1 and len({code for _, code in wrong}) == 1:
            wrong = [("/coordinates", wrong[0][1])]
        for pointer, code in wrong:
            self.faults.add(pointer, code, _MISPLACED[code])
        return bool(wrong)

    def _misplaced(self, lon: float, lat: float) -> FaultCode | None:
        if self.box.holds(lon, lat, self.frame):
            return None
        return FaultCode.SWAPPED if self.box.holds(lat, lon, self.frame) else FaultCode.OUTSIDE_BOX


def _positions(polygons: Iterable[Iterable[Ring | None]]) -> Iterable[tuple[str, Position]]:
    """Every position that could be read, with its pointer."""
    for ring in (ring for rings in polygons for ring in rings if ring):
        yield from ((f"{ring.pointer}/{index}", at) for index, at in enumerate(ring.positions))
