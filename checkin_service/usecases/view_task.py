"""Who is on a task's roster and how they tried, shown to a reviewer. Who looks is written down before it is shown."""

from datetime import datetime
from uuid import UUID

from checkin_service.adapters.postgres import desk
from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Database
from checkin_service.adapters.postgres.tasks import registration_digest
from checkin_service.usecases.caller import Caller
from checkin_service.usecases.refusals import Refusal


async def view_registration(database: Database, caller: Caller, task_id: str) -> desk.Registered:
    """Raises `Refusal` not_found."""
    async with database.transaction() as connection:
        found = await desk.read_registered(connection, task_id)
        if found is None:
            raise Refusal("not_found")
        await write_audit(connection, caller.iss, caller.sub, "view_registration", task_id, {})
        return found


async def view_attempts(
    database: Database,
    caller: Caller,
    task_id: str,
    person_id: str | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[desk.Attempt]:
    """A page, the latest first. Raises `Refusal` not_found."""
    async with database.transaction() as connection:
        if await registration_digest(connection, task_id) is None:
            raise Refusal("not_found")
        found = await desk.list_attempts(connection, task_id, person_id, after, limit)
        of_whom = {"person_id": person_id} if person_id else {}
        details = {**of_whom, "attempts": len(found)}
        await write_audit(connection, caller.iss, caller.sub, "view_attempts", task_id, details)
        return found
