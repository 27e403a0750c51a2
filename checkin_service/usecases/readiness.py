"""What about a task is better looked at before its first day: references, consents, fences, members who look alike.

Templates are opened here and not in a face worker, see docs/decisions/0004-who-compares.md.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from uuid import UUID

from checkin_service.adapters.postgres import persons, reports, tasks
from checkin_service.adapters.postgres.database import Database
from checkin_service.adapters.postgres.persons import RosterMember, SealedTemplate
from checkin_service.adapters.postgres.tasks import FenceVersion, TaskHead
from checkin_service.adapters.sealing import SealBroken
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.domain.decision import OperatingPoint, Policy
from checkin_service.domain.readiness import EnrolledMember, FenceFigures
from checkin_service.domain.reasons import Doubt
from checkin_service.usecases.look_alikes import opened
from checkin_service.usecases.templates import open_all
from face import DLIB_RESNET_MODEL, FINGERPRINT, Templates, alike_pairs, is_copy, resemblance
from geofence import EARTH, Fence, Frame, parse_fence

# On a roster of many strangers chance alone makes some pairs; nobody looks at more.
MOST_PAIRS = 100

# What `face.resemblance` tells a photograph again by.
_TELLING = (DLIB_RESNET_MODEL, FINGERPRINT)


@dataclass(frozen=True, slots=True)
class LookAlikes:
    """Members who could pass for each other. `pairs`, the nearest first, of the `found`; `left_out` counts who could
    not be compared for want of `consent`, of a `template`, or of a `seal` that holds."""

    pairs: Sequence[tuple[str, str, Doubt]]
    found: int
    compared: int
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Readiness:
    """`fences`: the version in force and those to come. `look_alikes`: None where the deciding model can't tell."""

    head: TaskHead
    members: Sequence[EnrolledMember]
    fences: Sequence[tuple[FenceVersion, FenceFigures]]
    look_alikes: LookAlikes | None


async def read_readiness(
    database: Database, keys: TemplateKeys, policy: Policy, task_id: str
) -> Readiness | None:
    """None when there is no such task."""
    point = policy.operating_points[0]
    tells = point.margin is not None
    async with database.snapshot() as connection:
        head = await tasks.read_head(connection, task_id)
        if head is None:
            return None
        members = await reports.read_enrolled(connection, task_id, point.model_id)
        fences = await reports.read_fences(connection, task_id, head.read_at)
        others = await reports.read_other_fences(connection, task_id)
        roster = await persons.read_roster(connection, task_id, None, point.model_id) if tells else None
    look_alikes = await _find_look_alikes(database, keys, point, *roster) if roster else None
    return Readiness(head, members, _measure(fences, others), look_alikes)


# --- Fences ---


def _measure(
    fences: Sequence[FenceVersion], others: Sequence[FenceVersion]
) -> list[tuple[FenceVersion, FenceFigures]]:
    drawn = [_drawn(version) for version in (*fences, *others)]
    return [(version, _figures(version, fence, drawn)) for version, fence in zip(fences, drawn, strict=False)]


def _drawn(version: FenceVersion) -> Fence:
    return parse_fence(version.fence, Frame(version.frame), EARTH)


def _figures(version: FenceVersion, fence: Fence, drawn: Iterable[Fence]) -> FenceFigures:
    away_m = [fence.signed_distance_m(*other.inside_point()) for other in drawn if other is not fence]
    is_many = version.fence["type"] == "MultiPolygon"
    return FenceFigures(
        area_m2=fence.area_m2,
        buffer_m=version.buffer_m,
        room_m=version.buffer_m - fence.signed_distance_m(*fence.inside_point()),
        polygons=len(version.fence["coordinates"]) if is_many else 1,
        elsewhere_m=max(0.0, *away_m) if away_m else None,
    )


# --- Look-alikes ---


async def _find_look_alikes(
    database: Database,
    keys: TemplateKeys,
    point: OperatingPoint,
    roster: Sequence[RosterMember],
    left_out: Mapping[str, int],
) -> LookAlikes:
    """No connection is held while everybody is compared."""
    data_keys = await keys.find_all([member.key_id for member in roster])
    pairs, broken = await asyncio.to_thread(_pairs, data_keys, roster, point)
    nearest = pairs[:MOST_PAIRS]
    async with database.connection() as connection:
        named = {person_id for pair in nearest for person_id in pair}
        sealed = await persons.read_sealed(connection, named, _TELLING)
    same = await asyncio.to_thread(_of_one_photograph, data_keys, nearest, sealed)
    told = [(*pair, Doubt.SAME_PHOTOGRAPH if pair in same else Doubt.ALIKE) for pair in nearest]
    return LookAlikes(told, len(pairs), len(roster) - broken, {**left_out, "seal": broken})


def _pairs(
    data_keys: Mapping[UUID, bytes], roster: Sequence[RosterMember], point: OperatingPoint
) -> tuple[list[tuple[str, str]], int]:
    """Who matches whom, and how many seals did not hold."""
    person_ids: list[str] = []
    references: list[list[Templates]] = []
    for member in roster:
        try:
            references.append(opened(data_keys, member, point.model_id))
            person_ids.append(member.person_id)
        except SealBroken:
            continue
    found = alike_pairs(references, point.model_id, point.threshold)
    named = [(person_ids[first], person_ids[second]) for first, second in found]
    return named, len(roster) - len(person_ids)


def _of_one_photograph(
    data_keys: Mapping[UUID, bytes],
    pairs: Sequence[tuple[str, str]],
    sealed: Mapping[str, tuple[UUID, Sequence[SealedTemplate]]],
) -> set[tuple[str, str]]:
    """The pairs of whom one photograph is enrolled for both."""
    photos = {person_id: _photographs(data_keys, person_id, *stored) for person_id, stored in sealed.items()}
    return {pair for pair in pairs if _share_one(*(photos.get(person_id, ()) for person_id in pair))}


def _photographs(
    data_keys: Mapping[UUID, bytes], person_id: str, key_id: UUID, sealed: Sequence[SealedTemplate]
) -> Sequence[Templates]:
    """None of a person who was enrolled anew meanwhile, or whose seal does not hold."""
    try:
        return open_all(data_keys[key_id], person_id, sealed, _TELLING) if key_id in data_keys else ()
    except SealBroken:
        return ()


def _share_one(first: Sequence[Templates], second: Sequence[Templates]) -> bool:
    near = (resemblance(one, other) for one, other in product(first, second))
    return any(found is not None and is_copy(found) for found in near)
