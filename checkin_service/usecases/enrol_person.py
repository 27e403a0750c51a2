"""The platform enrols a person: photographs become templates, and are not kept."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

from checkin_service.adapters.postgres import persons, tasks
from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.postgres.feed import record_changes
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.domain.decision import Policy
from checkin_service.domain.reasons import PhotoWarning
from checkin_service.ports import FaceEngine
from checkin_service.usecases.caller import Caller
from checkin_service.usecases.refusals import FieldFault, Refusal
from checkin_service.usecases.templates import seal_all
from face import Analysis, ImageError, Templates, compare, is_copy, quality_faults, resemblance


@dataclass(frozen=True, slots=True)
class Enrolment:
    """`photos`: 1 to 5 JPEG or PNG files; the legal basis goes into the processing record."""

    person_id: str
    photos: Sequence[bytes]
    basis_kind: str
    basis_document: str | None

    def digest(self, keys: TemplateKeys) -> bytes:
        """32 bytes that tell this person's same photographs in the same order again, to whoever has the key."""
        photos = " ".join(hashlib.sha256(photo).hexdigest() for photo in self.photos)
        return keys.pseudonym(f"photos\n{self.person_id} {photos}")


Look = Callable[[Connection], Awaitable[None]]


async def _see_nothing(_: Connection) -> None: ...


async def enrol_person(
    database: Database,
    keys: TemplateKeys,
    faces: FaceEngine,
    policy: Policy,
    caller: Caller,
    enrolment: Enrolment,
    look: Look = _see_nothing,
) -> dict[str, Any]:
    """Replaces the person's whole set, or leaves the old one untouched. Each photograph's `warnings` are codes.

    `look` is the caller's last look, with the person locked: what it raises leaves everything as it was.

    Raises `Refusal`: invalid with a reason for each photograph that can't serve, image_unreadable.
    """
    analyses = await _analyse(faces, enrolment.photos)
    faults = [fault for index, analysis in enumerate(analyses) for fault in _faults(index, analysis)]
    if faults:
        raise Refusal("invalid", faults)
    reference = {
        "reference_id": uuid4(),
        "engine": faces.model_id,
        "photos": len(analyses),
        "quality": [_measures(analysis) for analysis in analyses],
        "basis_kind": enrolment.basis_kind,
        "basis_document": enrolment.basis_document,
    }
    async with database.transaction() as connection:
        await _replace(connection, keys, enrolment, reference, analyses, look)
        details = {"pseudonym": keys.pseudonym(enrolment.person_id).hex()}
        await write_audit(connection, caller.iss, caller.sub, "enrol", None, details)
    return {
        "person_id": enrolment.person_id,
        "reference_id": str(reference["reference_id"]),
        "engine": faces.model_id,
        "photos": [
            {"quality": _measures(analysis), "warnings": photo_warnings(policy, index, analyses)}
            for index, analysis in enumerate(analyses)
        ],
    }


async def _analyse(faces: FaceEngine, photos: Sequence[bytes]) -> list[Analysis]:
    try:
        return await asyncio.gather(*(faces.analyse(photo) for photo in photos))
    except ImageError as error:
        raise Refusal(error.code) from error


def _faults(index: int, analysis: Analysis) -> Iterator[FieldFault]:
    pointer = f"/photo/{index}"
    if analysis.faces != 1:
        yield FieldFault(pointer, "multiple_faces" if analysis.faces else "no_face")
    elif faults := analysis.quality and quality_faults(analysis.quality):
        yield FieldFault(pointer, "poor_quality")
        yield from (FieldFault(pointer, code) for code in faults)


def _measures(analysis: Analysis) -> dict[str, float]:
    """Of a photograph that serves, for whoever wants to take a better one or doubts a comparison with it."""
    measures = asdict(analysis.quality) if analysis.quality else {}
    return {name: round(value, 3) for name, value in measures.items()}


def photo_warnings(policy: Policy, index: int, analyses: Sequence[Analysis]) -> list[PhotoWarning]:
    """What could be better about one photograph of the set: a copy of an earlier one adds nothing, and one that
    matches none of the others shows the person badly, or somebody else. Neither refuses it: a person is judged by the
    best, and who is on it is for the platform to say."""
    described = [analysis.templates for analysis in analyses]
    earlier, this, others = described[:index], described[index], described[:index] + described[index + 1 :]
    found = {
        PhotoWarning.SAME_PHOTO: any(_are_copies(this, other) for other in earlier),
        PhotoWarning.UNLIKE_OTHERS: bool(others) and not any(_match(policy, this, o) for o in others),
    }
    return [warning for warning, holds in found.items() if holds]


def _are_copies(one: Templates, other: Templates) -> bool:
    found = resemblance(one, other)
    return found is not None and is_copy(found, same_day=False)


def _match(policy: Policy, one: Templates, other: Templates) -> bool:
    point = policy.point_for(one, other)
    return point is not None and compare(one, other, point.model_id).value >= point.threshold


async def _replace(
    connection: Connection,
    keys: TemplateKeys,
    enrolment: Enrolment,
    reference: dict[str, Any],
    analyses: Sequence[Analysis],
    look: Look,
) -> None:
    person_id = enrolment.person_id
    key_id = await persons.ensure_locked(connection, person_id)
    await look(connection)
    # before the rows: a key without rows is harmless, rows without their key are lost
    data_key = await keys.make(key_id)
    task_ids = await tasks.lock_tasks_of(connection, person_id)
    templates = seal_all(data_key, person_id, [analysis.templates for analysis in analyses])
    was_missing = await persons.replace_reference(connection, person_id, reference, templates)
    basis = {"kind": enrolment.basis_kind, "document": enrolment.basis_document}
    pseudonym, digest = keys.pseudonym(person_id), enrolment.digest(keys)
    await persons.record_processing(connection, pseudonym, "enrolled", basis, digest)
    if was_missing:
        await record_changes(connection, task_ids, "material_ready", await tasks.read_now(connection))
