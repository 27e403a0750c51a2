"""The platform's calls about persons: enrolment, what is stored, erasure."""

from typing import Any

from aiohttp import web

from checkin_service.adapters.postgres import persons
from checkin_service.usecases.check_photo import check_photo
from checkin_service.usecases.enrol_person import Enrolment, enrol_person
from checkin_service.usecases.erase_person import erase_person
from checkin_service.usecases.export_person import export_person
from checkin_service.usecases.refusals import FieldFault, Refusal
from checkin_service.web import schema
from checkin_service.web.admission import Urgency
from checkin_service.web.answers import Answer, export_answer, instant_text
from checkin_service.web.context import caller, language, services
from checkin_service.web.form import Form, read_form
from checkin_service.web.idempotency import once
from checkin_service.web.messages import Language, warning_text
from checkin_service.web.shape import Faults
from checkin_service.web.tasks import found_id, path_id

MAX_PHOTOS = 5


async def enrol(request: web.Request) -> web.Response:
    person_id, wired = path_id(request, "person_id"), services(request)
    with wired.admission.enter(Urgency.ENROLMENT) as place:
        form = await read_form(request, {"photo": MAX_PHOTOS}, {"basis"}, place.received)
        place.arrived()
        photos, basis = _parse_enrolment(form, wired.settings.enrolment_basis)
        for photo in photos:
            check_photo(photo)

        async def work() -> Answer:
            enrolment = Enrolment(person_id, photos, basis["kind"], basis["document"])
            answer = await enrol_person(
                wired.database, wired.keys, wired.faces, wired.policy, caller(request), enrolment
            )
            return Answer(201, _with_texts(answer, language(request)))

        return await once(request, form.digest(), work)


def _with_texts(answer: dict[str, Any], spoken: Language) -> dict[str, Any]:
    photos = [
        photo | {"warnings": [{"code": w, "message": warning_text(w, spoken)} for w in photo["warnings"]]}
        for photo in answer["photos"]
    ]
    return answer | {"photos": photos}


def _parse_enrolment(form: Form, default_basis: str) -> tuple[list[bytes], dict[str, Any]]:
    """Photographs and legal basis. Raises `Refusal` invalid with every fault of the form."""
    photos = form.files.get("photo", [])
    faults: Faults = [] if photos else [FieldFault("/photo", "missing")]
    basis = schema.parse_basis(form.texts.get("basis", [None])[0], default_basis, faults)
    schema.refuse(faults)
    return photos, basis


async def reference(request: web.Request) -> web.Response:
    person_id = found_id(request, "person_id")
    async with services(request).database.connection() as connection:
        found = await persons.read_reference(connection, person_id)
    if found is None:
        raise Refusal("not_found")
    body = {
        "person_id": person_id,
        "reference_id": str(found.reference_id),
        "engine": found.engine,
        "photos": found.photos,
        "created_at": instant_text(found.created_at),
        "basis": {"kind": found.basis_kind, "document": found.basis_document},
    }
    return Answer(200, body).response()


async def export(request: web.Request) -> web.Response:
    wired, person_id = services(request), found_id(request, "person_id")
    exported = await export_person(wired.database, wired.keys, caller(request), person_id)
    return export_answer(exported).response()


async def erase(request: web.Request) -> web.Response:
    wired, person_id = services(request), found_id(request, "person_id")

    async def work() -> Answer:
        await erase_person(wired.database, wired.keys, wired.evidence, caller(request), person_id)
        return Answer(204)

    return await once(request, b"", work)
