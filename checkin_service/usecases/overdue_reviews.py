"""Reviews that nobody has decided although their window has been over for five working days."""

from datetime import datetime

from checkin_service.adapters.postgres import calendars, reviews, tasks
from checkin_service.adapters.postgres.database import Connection
from checkin_service.domain.review import overdue_until


async def read_overdue_until(connection: Connection) -> datetime:
    """Reviews of windows that closed at this instant or before are overdue now."""
    now = await tasks.read_now(connection)
    return overdue_until(now, await calendars.read_calendar(connection, now.year - 1))


async def count_overdue(connection: Connection) -> int:
    return await reviews.count_overdue(connection, await read_overdue_until(connection))
