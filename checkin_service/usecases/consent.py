"""The person's consent: given by scope and notice version, withdrawn at any time."""

from collections.abc import Sequence

from checkin_service.adapters.postgres import persons
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.postgres.feed import record_changes
from checkin_service.adapters.postgres.persons import Consent
from checkin_service.adapters.postgres.tasks import lock_tasks_of, read_now
from checkin_service.adapters.template_keys import TemplateKeys


async def give_consent(
    database: Database, keys: TemplateKeys, person_id: str, notice_version: str, scopes: Sequence[str]
) -> Consent:
    """Records the consent. The same again keeps the first instant; scopes without `face` delete biometrics."""
    async with database.transaction() as connection:
        await persons.ensure_person(connection, person_id)
        await persons.lock_person(connection, person_id)
        present = await persons.read_consent(connection, person_id)
        if (
            present
            and present.live
            and (present.notice_version, set(present.scopes)) == (notice_version, set(scopes))
        ):
            return present
        consent = await persons.give_consent(connection, person_id, notice_version, sorted(scopes))
        details = {"notice_version": notice_version, "scopes": sorted(scopes)}
        await persons.record_processing(connection, keys.pseudonym(person_id), "consent_given", details)
        if "face" not in scopes:
            await forget_face(connection, person_id)
        return consent


async def withdraw_consent(database: Database, keys: TemplateKeys, person_id: str) -> None:
    """Stops processing and deletes biometrics; completed check-ins stay. Safe to repeat."""
    async with database.transaction() as connection:
        await persons.ensure_person(connection, person_id)
        await persons.lock_person(connection, person_id)
        if await persons.withdraw_consent(connection, person_id):
            await persons.record_processing(connection, keys.pseudonym(person_id), "consent_withdrawn", {})
        await forget_face(connection, person_id)


async def forget_face(connection: Connection, person_id: str) -> None:
    """Deletes the person's biometrics and tells every task that shows them as present. The person is locked."""
    task_ids = await lock_tasks_of(connection, person_id)
    if await persons.delete_biometrics(connection, person_id):
        await record_changes(connection, task_ids, "material_missing", await read_now(connection))
