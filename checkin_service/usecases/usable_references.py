"""A reference is in force only while the engine can compare with it; the platform sees any other as missing.

Its templates may all be of models that this version or setting does not know: made by a newer version that was rolled
back, say. A check-in finds that out by itself and tells the person `not_enrolled`, for there is nothing to compare
with, and no photograph from which a template could be made. So that the platform learns of it while there is time,
each start looks, and tells it in the status (`missing`) and the feed (`material_missing`). Nothing is deleted: a start
with an engine that knows the model puts the reference in force again.
"""

from collections.abc import Sequence

from checkin_service.adapters.postgres import persons, tasks
from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Database
from checkin_service.adapters.postgres.feed import record_changes
from checkin_service.usecases.caller import SYSTEM


async def settle_references(database: Database, models: Sequence[str]) -> int:
    """For how many persons that changed. Safe to repeat, and beside check-ins."""
    async with database.connection() as connection:
        person_ids = await persons.persons_to_settle(connection, models)
    changed = sum([await _settle(database, person_id, models) for person_id in person_ids])
    if changed:
        details = {"persons": changed, "models": list(models)}
        async with database.transaction() as connection:
            await write_audit(connection, SYSTEM.iss, SYSTEM.sub, "settle_references", None, details)
    return changed


async def _settle(database: Database, person_id: str, models: Sequence[str]) -> bool:
    async with database.transaction() as connection:
        await persons.lock_person(connection, person_id)
        task_ids = await tasks.lock_tasks_of(connection, person_id)
        ready = await persons.settle_reference(connection, person_id, models)
        if ready is None:
            return False
        change = "material_ready" if ready else "material_missing"
        await record_changes(connection, task_ids, change, await tasks.read_now(connection))
        return True
