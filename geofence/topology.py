"""From rings to one region, in the degrees they were drawn in: there, shared edges fit without rounding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from geofence.faults import FaultCode, FaultList


@dataclass(frozen=True, slots=True)
class Ring:
    """Positions (lon, lat) of one ring and where in the GeoJSON it stands."""

    pointer: str
    positions: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Area:
    pointer: str
    shape: BaseGeometry


def region_of(polygons: Sequence[Sequence[Ring | None]], faults: FaultList) -> BaseGeometry | None:
    """The union of polygons, each a shell and its holes (None: a ring already refused); None on any fault.

    Parts may touch, also along an edge, and so may holes; none may overlap.
    """
    parts = [part for rings in polygons if (part := _part(rings, faults)) is not None]
    _refuse_overlaps(parts, faults)
    return None if faults else shapely.union_all([part.shape for part in parts])


def _part(rings: Sequence[Ring | None], faults: FaultList) -> _Area | None:
    """The shell without its sound holes; every ring is looked at, even when the shell is refused."""
    areas = [_filled(ring, faults) if ring else None for ring in rings]
    shell, holes = areas[0] if areas else None, [hole for hole in areas[1:] if hole]
    sound = _refuse_overlaps(holes, faults)
    if shell is None:
        return None
    sound = _refuse_outside(sound, shell, faults)
    pointer = shell.pointer.removesuffix("/0")
    return _Area(pointer, shapely.difference(shell.shape, shapely.union_all([hole.shape for hole in sound])))


def _filled(ring: Ring, faults: FaultList) -> _Area | None:
    """The area within the ring, None with a fault when it has none or the numbers are not of this Earth."""
    if not _is_closed_ring(ring, faults) or np.abs(ring.positions).max() > 180:
        return None
    line = shapely.LinearRing(ring.positions)
    if not line.is_simple:
        faults.add(
            ring.pointer,
            FaultCode.SELF_INTERSECTION,
            "the ring crosses or touches itself; order its positions along the boundary, each once",
        )
        return None
    return _Area(ring.pointer, shapely.Polygon(line))


def _is_closed_ring(ring: Ring, faults: FaultList) -> bool:
    closed = ring.positions[0] == ring.positions[-1]
    long = len(ring.positions) >= 4 and len(set(ring.positions)) >= 3
    if not closed:
        faults.add(
            ring.pointer, FaultCode.RING_OPEN, "the ring is open; repeat its first position as its last"
        )
    if not long:
        faults.add(
            ring.pointer,
            FaultCode.RING_SHORT,
            "the ring is too short; give at least three different positions and the first one again",
        )
    return closed and long


def _refuse_overlaps(areas: Sequence[_Area], faults: FaultList) -> list[_Area]:
    """The areas that overlap no earlier one; each of the others is a fault."""
    earlier = _overlapped_earlier([area.shape for area in areas])
    for later, first in earlier.items():
        faults.add(
            areas[later].pointer,
            FaultCode.OVERLAP,
            f"it overlaps {areas[first].pointer}; merge the two or draw them side by side",
        )
    return [area for index, area in enumerate(areas) if index not in earlier]


def _overlapped_earlier(shapes: Sequence[BaseGeometry]) -> dict[int, int]:
    """Index of a shape → lowest index of one before it that it shares interior points with."""
    drawn = np.array(shapes, dtype=object)
    later, first = shapely.STRtree(drawn).query(drawn, predicate="intersects")
    later, first = later[later > first], first[later > first]
    # Asked as "apart?" it ends at the first crossing; asked as "overlapping?", crossing combs take minutes.
    apart = shapely.relate_pattern(drawn[later], drawn[first], "F********")
    earliest: dict[int, int] = {}
    for index, other in sorted(zip(later[~apart].tolist(), first[~apart].tolist(), strict=True)):
        earliest.setdefault(index, other)
    return earliest


def _refuse_outside(holes: Sequence[_Area], shell: _Area, faults: FaultList) -> list[_Area]:
    shapely.prepare(shell.shape)  # unprepared, crossing combs take minutes
    covered = [shapely.covers(shell.shape, hole.shape) for hole in holes]
    for hole, inside in zip(holes, covered, strict=True):
        if not inside:
            faults.add(
                hole.pointer,
                FaultCode.HOLE_OUTSIDE,
                f"the hole is not within the outer ring {shell.pointer}; draw it inside, or leave it out",
            )
    return [hole for hole, inside in zip(holes, covered, strict=True) if inside]
