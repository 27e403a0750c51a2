"""What is stored of a person, for them to read and to take elsewhere (个人信息保护法 art. 45)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from checkin_service.adapters.postgres import persons
from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.postgres.person_export import read_stored
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.usecases.caller import Caller
from checkin_service.usecases.refusals import Refusal


@dataclass(frozen=True, slots=True)
class PersonExport:
    """`stored`: rows by table, without vectors and keys."""

    person_id: str
    exported_at: datetime
    stored: dict[str, list[dict[str, Any]]]


async def export_own(database: Database, keys: TemplateKeys, caller: Caller) -> PersonExport:
    """For the person themselves, whom the audit names by pseudonym, so that an erasure need not touch it."""
    async with database.transaction() as connection:
        await persons.ensure_person(connection, caller.sub)
        return await _export(connection, keys, caller.iss, keys.pseudonym(caller.sub).hex(), caller.sub)


async def export_person(
    database: Database, keys: TemplateKeys, caller: Caller, person_id: str
) -> PersonExport:
    """For the platform. Raises `Refusal` not_found for an unknown person."""
    async with database.transaction() as connection:
        if not await persons.person_exists(connection, person_id):
            raise Refusal("not_found")
        return await _export(connection, keys, caller.iss, caller.sub, person_id)


async def _export(
    connection: Connection, keys: TemplateKeys, iss: str, actor: str, person_id: str
) -> PersonExport:
    pseudonym = keys.pseudonym(person_id)
    exported_at, stored = await read_stored(connection, person_id, pseudonym)
    await write_audit(connection, iss, actor, "export", None, {"pseudonym": pseudonym.hex()})
    return PersonExport(person_id, exported_at, stored)
