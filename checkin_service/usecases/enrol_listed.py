"""An operator enrols a person of a list, which may be gone through again, or by two at once.

The same as the platform's call, but that it looks first whether there is anything to do: nobody is enrolled twice with
the same photographs, an older list does not undo what the platform has sent since, and nobody who has taken their
consent back comes back by being on a list: docs/decisions/0029-enrolment-by-list.md.
"""

from enum import StrEnum

from checkin_service.adapters.postgres import persons
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.postgres.persons import EnrolmentHistory
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.domain.decision import Policy
from checkin_service.domain.reasons import NotEnrolled
from checkin_service.ports import FaceEngine
from checkin_service.usecases.caller import Caller
from checkin_service.usecases.check_photo import check_photo
from checkin_service.usecases.enrol_person import Enrolment, enrol_person
from checkin_service.usecases.refusals import Refusal


class Standing(StrEnum):
    """What there was to do about a person of the list."""

    ENROLLED = "enrolled"
    ALREADY = "already"
    REPLACED = "replaced"


class _Left(Exception):
    def __init__(self, standing: Standing) -> None:
        super().__init__(standing)
        self.standing = standing


async def enrol_listed(
    database: Database,
    keys: TemplateKeys,
    faces: FaceEngine,
    policy: Policy,
    caller: Caller,
    enrolment: Enrolment,
) -> Standing:
    """Enrols the person, or says why there is nothing to do: the set is in force `already`, or was `replaced` since.

    Raises what `enrol_person` and `check_photo` raise, and `Refusal` taken_back.
    """

    async def look(connection: Connection) -> None:
        pseudonym = keys.pseudonym(enrolment.person_id)
        history = await persons.read_history(
            connection, enrolment.person_id, pseudonym, enrolment.digest(keys)
        )
        if (standing := _standing(history, faces.model_id)) is not Standing.ENROLLED:
            raise _Left(standing)

    try:
        async with database.connection() as connection:
            await look(connection)
        for photo in enrolment.photos:
            check_photo(photo)
        await enrol_person(database, keys, faces, policy, caller, enrolment, look)
    except _Left as left:
        return left.standing
    return Standing.ENROLLED


def _standing(history: EnrolmentHistory, model_id: str) -> Standing:
    """What the person will be. A set that another engine has described is described anew, one that is purged is
    enrolled again. Raises `Refusal` taken_back."""
    if history.taken_back:
        raise Refusal(NotEnrolled.TAKEN_BACK)
    if not history.known or history.engine is None:
        return Standing.ENROLLED
    if not history.newest:
        return Standing.REPLACED
    return Standing.ALREADY if history.engine == model_id else Standing.ENROLLED
