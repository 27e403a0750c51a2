"""Commands on one task: what the platform and the reviewing department may change of a registered round.

One mechanism serves them all: lock the task, compare `If-Match`, then carry the command out, audit it, and tell the
feed. Each command sees first whether the wanted effect is already there, then whether the task's state allows it
(`domain.task.ALLOWED_IN`), and says what the feed is told of it: nothing, when nothing changes.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from checkin_service.adapters.postgres import tasks
from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.postgres.feed import record_change
from checkin_service.adapters.postgres.tasks import TaskHead, TaskStatus
from checkin_service.domain.calendar import day_of
from checkin_service.domain.task import ALLOWED_IN, Flow, MemberState, TaskCommand, TaskState
from checkin_service.usecases.caller import Caller
from checkin_service.usecases.refusals import Refusal, invalid

IfMatch = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Void:
    reason: str
    superseded_by: str | None
    name = TaskCommand.VOID


@dataclass(frozen=True, slots=True)
class Extend:
    reason: str
    deadline_at: datetime
    document_no: str
    name = TaskCommand.EXTEND


@dataclass(frozen=True, slots=True)
class NewFence:
    """`effective_at` None: from now on."""

    reason: str
    place: dict[str, Any]
    effective_at: datetime | None
    name = TaskCommand.FENCE


@dataclass(frozen=True, slots=True)
class Suspend:
    reason: str
    name = TaskCommand.SUSPEND


@dataclass(frozen=True, slots=True)
class Resume:
    """`deadline_at` None: the end stays, which it can only while it is ahead."""

    reason: str
    deadline_at: datetime | None
    document_no: str | None
    name = TaskCommand.RESUME


@dataclass(frozen=True, slots=True)
class Revoke:
    reason: str
    person_id: str
    name = TaskCommand.REVOKE


@dataclass(frozen=True, slots=True)
class Close:
    reason: str
    name = TaskCommand.CLOSE


Command = TypeVar("Command", Void, Extend, NewFence, Suspend, Resume, Revoke, Close)
CarryOut = Callable[[Connection, TaskHead, Command], Awaitable[Sequence[str]]]


async def command_task(
    database: Database,
    caller: Caller,
    task_id: str,
    command: Command,
    carry_out: CarryOut[Command],
    matches: IfMatch,
    details: dict[str, Any],
) -> TaskStatus:
    """The status afterwards. Raises `Refusal`: not_found, stale_revision, state_conflict, and what `carry_out` does."""
    async with database.transaction() as connection:
        head = await _lock(connection, task_id)
        if not matches(head.etag):
            raise Refusal("stale_revision", etag=head.etag)
        if head.closed_at and command.name is not TaskCommand.CLOSE:
            raise Refusal("state_conflict", state=f"{head.state}, closed")
        changes = await carry_out(connection, head, command)
        if changes:
            await write_audit(connection, caller.iss, caller.sub, command.name, task_id, details)
        for change in changes:
            await record_change(connection, task_id, change, head.read_at)
        # before the commit: whoever is told of a failure has changed nothing, and may send the same `If-Match` again
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


def _conflict(head: TaskHead) -> Refusal:
    return Refusal("state_conflict", state=head.state)


def _need_allowed(head: TaskHead, command: TaskCommand) -> None:
    if head.state not in ALLOWED_IN[command]:
        raise _conflict(head)


# --- Void and close ---


async def void(connection: Connection, head: TaskHead, command: Void) -> Sequence[str]:
    if head.facts.voided and await tasks.superseded_by(connection, head.task_id) == command.superseded_by:
        return ()
    _need_allowed(head, command.name)
    await tasks.void_task(connection, head.task_id, command.superseded_by)
    return ("task_voided",)


async def close(connection: Connection, head: TaskHead, command: Close) -> Sequence[str]:
    if head.closed_at:
        return ()
    _need_allowed(head, command.name)
    await tasks.close_task(connection, head.task_id, head.read_at)
    return ("task_closed",)


# --- The end of the window ---


async def extend(connection: Connection, head: TaskHead, command: Extend) -> Sequence[str]:
    """Raises `Refusal` invalid for an end before the present one."""
    if command.deadline_at == head.facts.closes_at:
        return ()
    _need_allowed(head, command.name)
    return await _move_end(connection, head, command.deadline_at)


async def suspend(connection: Connection, head: TaskHead, command: Suspend) -> Sequence[str]:
    if head.facts.suspended:
        return ()
    _need_allowed(head, command.name)
    await tasks.suspend_task(connection, head.task_id, head.read_at)
    return ("task_suspended",)


async def resume(connection: Connection, head: TaskHead, command: Resume) -> Sequence[str]:
    """Tells also what the suspension hid. Raises `Refusal`: deadline_required after the end, and as `extend` does."""
    if await _is_resumed(connection, head, command):
        return ()
    _need_allowed(head, command.name)
    ordered = command.deadline_at is not None and command.document_no is not None
    if head.read_at >= head.facts.closes_at and not ordered:
        raise Refusal("deadline_required", closes_at=head.facts.closes_at)
    moved = await _move_end(connection, head, command.deadline_at or head.facts.closes_at)
    await tasks.resume_task(connection, head.task_id, head.read_at)
    after = await tasks.read_head(connection, head.task_id)
    completed = ("task_completed",) if after and after.state is TaskState.COMPLETED else ()
    return ("task_resumed", *moved, *completed)


async def _is_resumed(connection: Connection, head: TaskHead, command: Resume) -> bool:
    """Whether the task was suspended, is not any more, and ends as wanted."""
    ends_so = command.deadline_at in {None, head.facts.closes_at}
    return not head.facts.suspended and ends_so and await tasks.was_suspended(connection, head.task_id)


async def _move_end(connection: Connection, head: TaskHead, deadline_at: datetime) -> Sequence[str]:
    if deadline_at < head.facts.closes_at:
        raise invalid("/deadline_at", "deadline_too_early", closes_at=head.facts.closes_at)
    if deadline_at == head.facts.closes_at:
        return ()
    last_day = day_of(deadline_at) - timedelta(days=1)
    await tasks.extend_task(connection, head.task_id, deadline_at, last_day)
    return ("deadline_changed",)


# --- Members ---


async def revoke(connection: Connection, head: TaskHead, command: Revoke) -> Sequence[str]:
    """Raises `Refusal` not_found for a person who is not on the roster."""
    state = await tasks.read_member_state(connection, head.task_id, command.person_id)
    if state is None:
        raise Refusal("not_found")
    if state is MemberState.REVOKED:
        return ()
    _need_allowed(head, command.name)
    if state is not MemberState.ACCEPTED or head.flow is Flow.FIRST_APPLICATION:
        raise _conflict(head)
    await tasks.revoke_acceptance(connection, head.task_id, command.person_id, head.read_at)
    return ("member_revoked",)


# --- The fence ---


async def set_fence(connection: Connection, head: TaskHead, command: NewFence) -> Sequence[str]:
    """Raises `Refusal` invalid for a fence from the past on."""
    if await _is_in_place(connection, head, command):
        return ()
    _need_allowed(head, command.name)
    effective_at = command.effective_at or head.read_at
    ended = head.read_at >= head.facts.closes_at
    if ended or await tasks.read_fence_from(connection, head.task_id, effective_at):
        # no attempt to come, or another fence that takes force at this very instant
        raise _conflict(head)
    if effective_at < head.read_at:
        raise invalid("/effective_at", "effective_at_in_past")
    await tasks.add_fence(connection, head.task_id, command.place, effective_at)
    return ("fence_changed",)


async def _is_in_place(connection: Connection, head: TaskHead, command: NewFence) -> bool:
    """Whether this very fence is in force, or takes force at the wanted instant."""
    if command.effective_at is None:
        in_force = await tasks.read_fence_at(connection, head.task_id, head.read_at)
        return tasks.same_place(in_force, command.place)
    planned = await tasks.read_fence_from(connection, head.task_id, command.effective_at)
    return planned is not None and tasks.same_place(planned, command.place)
