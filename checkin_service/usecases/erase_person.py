"""The platform has a person erased."""

from checkin_service.adapters.postgres import persons
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.postgres.feed import record_changes
from checkin_service.adapters.postgres.key_store import Deletion
from checkin_service.adapters.postgres.tasks import read_now
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.ports import ObjectStore
from checkin_service.usecases.caller import Caller
from checkin_service.usecases.consent import forget_face
from checkin_service.usecases.evidence import drop_objects
from checkin_service.usecases.refusals import Refusal


async def erase_person(
    database: Database, keys: TemplateKeys, store: ObjectStore, caller: Caller, person_id: str
) -> None:
    """Erases references, evidence and content. Safe to repeat. Raises `Refusal` not_found for an unknown person.

    What stays: the bare fact of completed check-ins, and the processing record under a pseudonym.
    """
    async with database.transaction() as connection:
        if not await persons.person_exists(connection, person_id):
            raise Refusal("not_found")
        await persons.lock_person(connection, person_id)
        selfies = await carry_out_erasure(connection, keys, caller, person_id)
    await drop_objects(store, selfies)


async def carry_out_erasure(
    connection: Connection, keys: TemplateKeys, caller: Caller, person_id: str
) -> list[str]:
    """The person is locked. Returns the addresses of selfies, for `drop_objects` after the COMMIT."""
    await persons.delete_positions(connection, person_id)
    selfies = await forget_face(connection, keys, person_id, Deletion.ERASED)
    if await persons.withdraw_consent(connection, person_id):
        await persons.record_processing(connection, keys.pseudonym(person_id), "consent_withdrawn", {})
    pseudonym = keys.pseudonym(person_id)
    await persons.record_processing(connection, pseudonym, "erased", {})
    reviewed = await persons.erase_person(connection, person_id, pseudonym, caller.iss, caller.sub)
    await record_changes(connection, reviewed, "review_decided", await read_now(connection))
    return selfies
