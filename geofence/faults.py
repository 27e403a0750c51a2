"""What can be wrong with a fence: each fault has a stable code, a place and a sentence on what to do."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

# A hundred faults are enough to work on; a hostile input could have as many as it has brackets.
MAX_FAULTS = 100


class FaultCode(StrEnum):
    """Every code that a fence can be refused with."""

    TYPE = "fence_type"
    UNKNOWN_MEMBER = "fence_unknown_member"
    COORDINATES = "fence_coordinates"
    NOT_FINITE = "fence_not_finite"
    TOO_MANY_POINTS = "fence_too_many_points"
    RING_SHORT = "fence_ring_short"
    RING_OPEN = "fence_ring_open"
    SELF_INTERSECTION = "fence_self_intersection"
    HOLE_OUTSIDE = "fence_hole_outside"
    OVERLAP = "fence_overlap"
    AREA = "fence_area"
    RADIUS = "fence_radius"
    OUTSIDE_BOX = "fence_outside_box"
    SWAPPED = "fence_swapped"


@dataclass(frozen=True, slots=True)
class Fault:
    """`pointer` is a JSON pointer (RFC 6901) relative to the fence object, "" for the object itself.

    `message` is English and repeats no coordinates, so that it may be logged.
    """

    pointer: str
    code: FaultCode
    message: str


class FenceError(ValueError):
    """The fence is refused; `faults` holds every fault found, the first `MAX_FAULTS` at most."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{fault.pointer or 'fence'}: {fault.message}" for fault in self.faults))


@dataclass(slots=True)
class FaultList:
    """Faults as they are found."""

    found: list[Fault] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.found)

    def add(self, pointer: str, code: FaultCode, message: str) -> None:
        """Keep the fault, unless there are plenty already."""
        if len(self.found) < MAX_FAULTS:
            self.found.append(Fault(pointer, code, message))
