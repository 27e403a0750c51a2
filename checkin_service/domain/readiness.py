"""What about a task is better looked at before its first day than found out at a building's door."""

from dataclasses import dataclass

from checkin_service.domain.reasons import Doubt

# An honest phone among high houses errs by some 20 m at the median and by twice that now and then. With less room than
# this, somebody at the very middle is refused now and then for nothing that they did.
LEAST_ROOM_M = 40.0

# A campus with its grounds. A registered address is a building or a part of one.
LARGEST_M2 = 250_000.0

# The default is 100; from twice that on, the buffer and not the drawn fence says who is at the address.
WIDE_BUFFER_M = 200.0

# A label of the wrong frame moves a fence by 567 m at least (domain.md), and an address is told anew to some tens.
SAME_PLACE_M = 300.0


@dataclass(frozen=True, slots=True)
class FenceFigures:
    """A version of a task's fence in figures. `room_m`: from the point deepest inside to the nearest one that is out,
    buffer included. `elsewhere_m`: how far another fence of the task or the enterprise lies; None when there is none.
    """

    area_m2: float
    buffer_m: float
    room_m: float
    polygons: int
    elsewhere_m: float | None


def fence_doubts(fence: FenceFigures) -> tuple[Doubt, ...]:
    """Every doubt, in the enum's order.

    >>> fence_doubts(FenceFigures(area_m2=400.0, buffer_m=0.0, room_m=10.0, polygons=1, elsewhere_m=620.0))
    (<Doubt.FENCE_NARROW: 'fence_narrow'>, <Doubt.FENCE_ELSEWHERE: 'fence_elsewhere'>)
    """
    found = {
        Doubt.FENCE_NARROW: fence.room_m < LEAST_ROOM_M,
        Doubt.FENCE_WIDE: fence.area_m2 > LARGEST_M2,
        Doubt.FENCE_BUFFER_WIDE: fence.buffer_m >= WIDE_BUFFER_M,
        Doubt.FENCE_SCATTERED: fence.polygons > 1,
        Doubt.FENCE_ELSEWHERE: fence.elsewhere_m is not None and fence.elsewhere_m > SAME_PLACE_M,
    }
    return tuple(doubt for doubt, holds in found.items() if holds)


@dataclass(frozen=True, slots=True)
class EnrolledMember:
    """What is stored to compare a member with. `photos`: 0 when nothing is. `in_force`: this service can compare by a
    model of it; `decides`: by the one whose score decides. `consented`: to all that a check-in does."""

    person_id: str
    photos: int
    in_force: bool
    decides: bool
    consented: bool


def reference_doubt(member: EnrolledMember) -> Doubt | None:
    """What is wrong with a member's reference, the worst first; None when nothing is.

    >>> reference_doubt(EnrolledMember("p-1", photos=1, in_force=True, decides=True, consented=False))
    <Doubt.SINGLE_PHOTOGRAPH: 'single_photograph'>
    """
    found = {
        Doubt.REFERENCE_MISSING: not member.photos,
        Doubt.REFERENCE_UNUSABLE: not member.in_force,
        Doubt.REFERENCE_OF_ANOTHER_MODEL: not member.decides,
        Doubt.SINGLE_PHOTOGRAPH: member.photos == 1,
    }
    return next((doubt for doubt, holds in found.items() if holds), None)
