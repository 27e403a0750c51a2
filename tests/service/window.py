"""A task whose window lies wholly in a published year, whatever today is, and instants in and around it."""

from datetime import datetime, timedelta
from typing import Any

from tests.service.stage import Stage

OPENS_AT = datetime.fromisoformat("2026-03-02T10:00:00+08:00")
NOON = datetime.fromisoformat("2026-03-20T12:00:00+08:00")
CLOSES_AT = datetime.fromisoformat("2026-04-03T00:00:00+08:00")
MICROSECOND = timedelta(microseconds=1)

# One whose end depends on the calendar of 2027, which is not published.
PROVISIONAL_OPENS_AT = datetime.fromisoformat("2026-12-10T10:00:00+08:00")
PROVISIONAL_CLOSES_AT = datetime.fromisoformat("2027-01-12T00:00:00+08:00")


async def task_at_noon(stage: Stage, task_id: str, *person_ids: str, **changes: Any) -> None:
    """A ready task in the middle of its window, where the judging clock stands still."""
    await stage.set_clock(NOON)
    await stage.ready_task(task_id, *person_ids, **{"approved_at": OPENS_AT.isoformat(), **changes})
