"""From a JSON value of any shape to numbers and rings; what does not fit is noted and left out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf, isfinite

from geofence.faults import FaultCode, FaultList
from geofence.topology import Ring

# Positions, rings and polygons together: one every few metres along the largest fence that makes sense, and
# the most hostile drawing of so many still takes well under a second.
MAX_ENTRIES = 2000

Position = tuple[float, float]


@dataclass(slots=True)
class Reader:
    """One reading: each method returns what it could read, or None after it has noted why not."""

    faults: FaultList = field(default_factory=FaultList)
    entries: int = 0

    @property
    def overfull(self) -> bool:
        """More than `MAX_ENTRIES` came; the rest was not read."""
        return self.entries > MAX_ENTRIES

    def polygons(self, value: object, pointer: str) -> list[list[Ring | None]]:
        """The coordinates of a MultiPolygon."""
        polygons = self._array(value, pointer, "polygons")
        return [self.rings(polygon, f"{pointer}/{index}") for index, polygon in enumerate(polygons)]

    def rings(self, value: object, pointer: str) -> list[Ring | None]:
        """The coordinates of a Polygon: its outer ring, then its holes."""
        rings = self._array(value, pointer, "rings")
        return [self._ring(ring, f"{pointer}/{index}") for index, ring in enumerate(rings)]

    def position(self, value: object, pointer: str) -> Position | None:
        """The first two of two or three finite numbers."""
        if not (isinstance(value, list | tuple) and len(value) in (2, 3)):
            message = "not a position; give an array of lon and lat, and an altitude at most"
            self.faults.add(pointer, FaultCode.COORDINATES, message)
            return None
        read = [self.number(v, f"{pointer}/{i}", FaultCode.COORDINATES) for i, v in enumerate(value)]
        numbers = [number for number in read if number is not None]
        return (numbers[0], numbers[1]) if len(numbers) == len(read) else None

    def number(self, value: object, pointer: str, otherwise: FaultCode) -> float | None:
        """A finite number; `otherwise` is the code for anything that is no number at all."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.faults.add(pointer, otherwise, "missing or not a number; give a JSON number")
            return None
        number = _as_float(value)
        if not isfinite(number):
            self.faults.add(pointer, FaultCode.NOT_FINITE, "not a finite number; give one")
            return None
        return number

    def _ring(self, value: object, pointer: str) -> Ring | None:
        members = self._array(value, pointer, "positions")
        read = [self.position(member, f"{pointer}/{index}") for index, member in enumerate(members)]
        positions = [position for position in read if position is not None]
        return Ring(pointer, positions) if positions and len(positions) == len(read) else None

    def _array(self, value: object, pointer: str, of: str) -> Sequence[object]:
        if not (isinstance(value, list | tuple) and value):
            self.faults.add(pointer, FaultCode.COORDINATES, f"missing or empty; give an array of {of}")
            return ()
        self.entries += len(value)
        return () if self.overfull else value


def _as_float(value: float) -> float:
    """As a float; an integer too large for one counts as infinite."""
    try:
        return float(value)
    except OverflowError:
        return inf
