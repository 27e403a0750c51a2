"""Carries out what the erasure log knows and the main database does not: what a crash cut off between the two stores,
and what was deleted after the state that a backup has brought back.

A person's data key has another number after each deletion, so whoever still has that of a deleted one is meant.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from checkin_service.adapters.postgres import persons
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.postgres.key_store import Deleted, Deletion
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.ports import ObjectStore
from checkin_service.usecases.caller import SYSTEM
from checkin_service.usecases.consent import carry_out_withdrawal, forget_face
from checkin_service.usecases.erase_person import carry_out_erasure
from checkin_service.usecases.evidence import drop_objects

BATCH = 500


async def finish_deletions(
    database: Database, keys: TemplateKeys, store: ObjectStore, since: timedelta | None
) -> int:
    """For how many persons there was something to carry out, of deletions of so long or, with None, of all time. Safe
    in several processes at once and at any time."""
    finished = 0
    async for page in _pages(keys, since):
        async with database.connection() as connection:
            owners = await persons.read_key_owners(connection, [deleted.key_id for deleted in page])
        for deleted in page:
            if person_id := owners.get(deleted.key_id):
                finished += await _finish(database, keys, store, deleted, person_id)
    return finished


async def _pages(keys: TemplateKeys, since: timedelta | None) -> AsyncIterator[Sequence[Deleted]]:
    page: Sequence[Deleted] = ()
    while page := await keys.deletions(since, page[-1] if page else None, BATCH):
        yield page


async def _finish(
    database: Database, keys: TemplateKeys, store: ObjectStore, deleted: Deleted, person_id: str
) -> bool:
    async with database.transaction() as connection:
        if await persons.lock_person(connection, person_id) != deleted.key_id:
            # whoever was at it has finished meanwhile
            return False
        selfies = await _carry_out(connection, keys, deleted.deletion, person_id)
    await drop_objects(store, selfies)
    return True


async def _carry_out(
    connection: Connection, keys: TemplateKeys, deletion: Deletion, person_id: str
) -> list[str]:
    match deletion:
        case Deletion.ERASED:
            return await carry_out_erasure(connection, keys, SYSTEM, person_id)
        case Deletion.WITHDRAWN:
            return await carry_out_withdrawal(connection, keys, SYSTEM.iss, person_id)
        case Deletion.FORGOTTEN:
            return await forget_face(connection, keys, person_id, deletion)
