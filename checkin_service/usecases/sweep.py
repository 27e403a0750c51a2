"""Writes down what time alone has changed: windows that ended, receipts that nobody judged, keys that ran out.

Also what a newer calendar changes of windows, should whoever imported it have been interrupted."""

from datetime import datetime

from checkin_service.adapters.postgres import check_ins, tasks
from checkin_service.adapters.postgres.audit import SETTLED_IN
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.postgres.feed import record_change
from checkin_service.adapters.postgres.tasks import TaskHead
from checkin_service.domain.task import TaskState
from checkin_service.usecases.purge import clear_in_passing
from checkin_service.usecases.recompute_windows import recompute_windows

BATCH = 50

ANNOUNCED_IN = SETTLED_IN
"""How long after a window what was received in it may still be on its way into the database. Only then its end is told:
what the feed calls expired, an order alone takes back."""

# How the end of a window is announced in the feed, by the state the task has then. Completed is no news. A suspended
# task is not over, however late it is: its end is announced once it is resumed.
_ANNOUNCED = {
    TaskState.COMPLETED: ("completed", None),
    TaskState.EXPIRED: ("expired", "task_expired"),
    TaskState.INVALIDATED: ("expired", "task_expired"),
    TaskState.EXPIRED_PENDING_REVIEW: ("pending_review", "task_expired_pending_review"),
}


async def sweep(database: Database) -> int:
    """Number of windows whose end was announced. Safe in several processes at once and at any time."""
    # first, lest a window be announced as over that the calendar has moved
    await recompute_windows(database)
    announced = 0
    after: tuple[datetime, str] | None = None
    while True:
        async with database.transaction() as connection:
            due = await tasks.due_tasks(connection, ANNOUNCED_IN, after, BATCH)
            announced += sum([await _announce(connection, head) for head in due])
        if len(due) < BATCH:
            break
        after = due[-1].facts.closes_at, due[-1].task_id
    await clear_in_passing(database)
    return announced


async def _announce(connection: Connection, head: TaskHead) -> bool:
    if head.state not in _ANNOUNCED:
        return False
    if head.facts.unjudged:
        await check_ins.abandon_receipts(connection, head.task_id)
        head = await tasks.read_head(connection, head.task_id) or head
    announced, change = _ANNOUNCED[head.state]
    news = await tasks.mark_end(connection, head.task_id, announced)
    if news and change:
        await record_change(connection, head.task_id, change, head.facts.closes_at)
    return news and change is not None
