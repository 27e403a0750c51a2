"""Commands of the platform on one task: void, extend, a new fence.

One mechanism serves them all: lock the task, compare `If-Match`, see whether the wanted effect is already there,
whether the state allows it, then apply, audit, and tell the feed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from checkin_service.adapters.postgres import tasks
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.postgres.feed import record_change
from checkin_service.adapters.postgres.tasks import TaskHead, TaskStatus
from checkin_service.domain.calendar import day_of
from checkin_service.domain.task import TaskState
from checkin_service.usecases.caller import Caller
from checkin_service.usecases.refusals import Refusal, invalid

IfMatch = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Void:
    reason: str
    superseded_by: str | None
    name = "void"
    change = "task_voided"


@dataclass(frozen=True, slots=True)
class Extend:
    reason: str
    deadline_at: datetime
    document_no: str
    name = "extend"
    change = "deadline_changed"


@dataclass(frozen=True, slots=True)
class NewFence:
    """`effective_at` None: from now on."""

    reason: str
    place: dict[str, Any]
    effective_at: datetime | None
    name = "fence"
    change = "fence_changed"


Command = Void | Extend | NewFence


async def command_task(
    database: Database,
    caller: Caller,
    task_id: str,
    command: Command,
    matches: IfMatch,
    details: dict[str, Any],
) -> TaskStatus:
    """The status afterwards. Raises `Refusal`: not_found, stale_revision, state_conflict, invalid."""
    async with database.transaction() as connection:
        head = await _lock(connection, task_id)
        if not matches(head.etag):
            raise Refusal("stale_revision", etag=head.etag)
        if await _apply(connection, head, command):
            await tasks.write_audit(connection, caller.iss, caller.sub, command.name, task_id, details)
            await record_change(connection, task_id, command.change, head.read_at)
    async with database.connection() as connection:
        status = await tasks.read_status(connection, task_id)
    if status is None:
        raise RuntimeError("a commanded task has no status")
    return status


async def _lock(connection: Connection, task_id: str) -> TaskHead:
    found = await tasks.lock_task(connection, task_id)
    head = await tasks.read_head(connection, task_id) if found else None
    if head is None:
        raise Refusal("not_found")
    return head


async def _apply(connection: Connection, head: TaskHead, command: Command) -> bool:
    """Whether anything changed: the wanted effect may be there already."""
    match command:
        case Void():
            return await _void(connection, head, command)
        case Extend():
            return await _extend(connection, head, command)
        case NewFence():
            return await _set_fence(connection, head, command)


async def _void(connection: Connection, head: TaskHead, command: Void) -> bool:
    if head.facts.voided:
        if await tasks.superseded_by(connection, head.task_id) == command.superseded_by:
            return False
        raise _conflict(head)
    await tasks.void_task(connection, head.task_id, command.superseded_by)
    return True


async def _extend(connection: Connection, head: TaskHead, command: Extend) -> bool:
    if command.deadline_at == head.facts.closes_at:
        return False
    if head.state in {TaskState.COMPLETED, TaskState.VOIDED}:
        raise _conflict(head)
    if command.deadline_at < head.facts.closes_at:
        raise invalid("/deadline_at", "deadline_too_early", closes_at=head.facts.closes_at)
    last_day = day_of(command.deadline_at) - timedelta(days=1)
    await tasks.extend_task(connection, head.task_id, command.deadline_at, last_day)
    return True


async def _set_fence(connection: Connection, head: TaskHead, command: NewFence) -> bool:
    if await _is_in_place(connection, head, command):
        return False
    if head.facts.voided or head.read_at >= head.facts.closes_at:
        raise _conflict(head)
    effective_at = command.effective_at or head.read_at
    if await tasks.read_fence_from(connection, head.task_id, effective_at):
        # another fence takes force at this very instant
        raise _conflict(head)
    if effective_at < head.read_at:
        raise invalid("/effective_at", "effective_at_in_past")
    await tasks.add_fence(connection, head.task_id, command.place, effective_at)
    return True


async def _is_in_place(connection: Connection, head: TaskHead, command: NewFence) -> bool:
    """Whether this very fence is in force, or takes force at the wanted instant."""
    if command.effective_at is None:
        in_force = await tasks.read_fence_at(connection, head.task_id, head.read_at)
        return tasks.same_place(in_force, command.place)
    planned = await tasks.read_fence_from(connection, head.task_id, command.effective_at)
    return planned is not None and tasks.same_place(planned, command.place)


def _conflict(head: TaskHead) -> Refusal:
    return Refusal("state_conflict", state=head.state)
