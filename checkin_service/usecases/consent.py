"""The person's consent: given by scope and notice version, withdrawn at any time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from checkin_service.adapters.postgres import deferred, persons
from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.postgres.feed import record_changes
from checkin_service.adapters.postgres.key_store import Deletion
from checkin_service.adapters.postgres.persons import Consent
from checkin_service.adapters.postgres.tasks import lock_tasks_of, read_now
from checkin_service.adapters.template_keys import ErasureLog, TemplateKeys
from checkin_service.ports import ObjectStore
from checkin_service.usecases.evidence import drop_objects


@dataclass(frozen=True, slots=True)
class GiveConsent:
    iss: str
    person_id: str
    notice_version: str
    scopes: Sequence[str]


async def give_consent(
    database: Database, keys: TemplateKeys, store: ObjectStore, give: GiveConsent
) -> Consent:
    """Records the consent. The same again keeps the first instant; what it covers no more is deleted: biometrics
    without `face`, positions without `location`."""
    selfies: list[str] = []
    async with database.transaction() as connection:
        # what a withdrawal has begun must not end the consent that comes after it
        await keys.refuse_deleted(await persons.ensure_locked(connection, give.person_id))
        present = await persons.read_consent(connection, give.person_id)
        if present and present.live and _same(present, give):
            return present
        consent = await _record(connection, keys, give)
        if "location" not in give.scopes:
            await persons.delete_positions(connection, give.person_id)
        if "face" not in give.scopes:
            selfies = await forget_face(connection, keys, give.person_id, Deletion.WITHDRAWN)
        if not consent.covers_check_in:
            await deferred.end_persons_deferred(connection, give.person_id)
        told = {"notice_version": consent.notice_version, "scopes": consent.scopes}
        await _audit(connection, keys, give.iss, give.person_id, "consent_given", told)
    await drop_objects(store, selfies)
    return consent


def _same(present: Consent, give: GiveConsent) -> bool:
    return (present.notice_version, set(present.scopes)) == (give.notice_version, set(give.scopes))


async def _record(connection: Connection, keys: TemplateKeys, give: GiveConsent) -> Consent:
    scopes = sorted(give.scopes)
    consent = await persons.give_consent(connection, give.person_id, give.notice_version, scopes)
    details = {"notice_version": give.notice_version, "scopes": scopes}
    await persons.record_processing(connection, keys.pseudonym(give.person_id), "consent_given", details)
    return consent


async def withdraw_consent(
    database: Database, keys: TemplateKeys, store: ObjectStore, iss: str, person_id: str
) -> None:
    """Stops processing and deletes biometrics and positions; completed check-ins stay, and so does what is to be
    decided, without its picture (docs/decisions/0008-what-is-kept.md). Safe to repeat."""
    async with database.transaction() as connection:
        await persons.ensure_locked(connection, person_id)
        consent = await persons.read_consent(connection, person_id)
        if not (consent and consent.live) and not await persons.has_reference(connection, person_id):
            return
        selfies = await carry_out_withdrawal(connection, keys, iss, person_id)
    await drop_objects(store, selfies)


async def carry_out_withdrawal(
    connection: Connection, keys: TemplateKeys, iss: str, person_id: str
) -> list[str]:
    """The person is locked. Returns the addresses of selfies, for `drop_objects` after the COMMIT."""
    withdrawn = await persons.withdraw_consent(connection, person_id)
    if withdrawn:
        await persons.record_processing(connection, keys.pseudonym(person_id), "consent_withdrawn", {})
    await persons.delete_positions(connection, person_id)
    selfies = await forget_face(connection, keys, person_id, Deletion.WITHDRAWN)
    if withdrawn:
        await _audit(connection, keys, iss, person_id, "consent_withdrawn", {})
    return selfies


async def _audit(
    connection: Connection, keys: TemplateKeys, iss: str, person_id: str, action: str, told: dict[str, Any]
) -> None:
    """The actor is the person, named by pseudonym alone, which an erasure need not touch."""
    pseudonym = keys.pseudonym(person_id).hex()
    await write_audit(connection, iss, pseudonym, action, None, {"pseudonym": pseudonym, **told})


async def forget_face(connection: Connection, log: ErasureLog, person_id: str, why: Deletion) -> list[str]:
    """Deletes the person's data key, then their biometrics and what is still to be judged under it, and tells every
    task that shows them as present. The person is locked.

    Returns the addresses of selfies, for `drop_objects` after the COMMIT.
    """
    task_ids = await lock_tasks_of(connection, person_id)
    if key_id := await persons.lock_person(connection, person_id):
        # every lock is held. From here on there is no way back: if anything fails now, `finish_deletions` goes on
        await log.delete(key_id, why)
    had_reference, selfies = await persons.delete_biometrics(connection, person_id)
    await deferred.end_persons_deferred(connection, person_id)
    if had_reference:
        await record_changes(connection, task_ids, "material_missing", await read_now(connection))
    return selfies
