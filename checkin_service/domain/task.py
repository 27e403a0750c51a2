"""A verification task's state, computed from facts at an instant; never stored."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Flow(StrEnum):
    FIRST_APPLICATION = "first_application"
    ROUTINE = "routine"
    RECTIFICATION = "rectification"


class TaskState(StrEnum):
    VOIDED = "voided"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    PENDING_MATERIAL = "pending_material"
    OPEN = "open"
    EXPIRED_PENDING_REVIEW = "expired_pending_review"
    INVALIDATED = "invalidated"
    EXPIRED = "expired"


class TaskCommand(StrEnum):
    VOID = "void"
    EXTEND = "extend"
    FENCE = "fence"
    SUSPEND = "suspend"
    RESUME = "resume"
    REVOKE = "revoke"
    CLOSE = "close"


_NOT_VOIDED = frozenset(TaskState) - {TaskState.VOIDED}

ALLOWED_IN: Mapping[TaskCommand, frozenset[TaskState]] = {
    TaskCommand.VOID: _NOT_VOIDED,
    TaskCommand.EXTEND: _NOT_VOIDED - {TaskState.COMPLETED},
    TaskCommand.FENCE: frozenset(
        {TaskState.PENDING_MATERIAL, TaskState.OPEN, TaskState.SUSPENDED, TaskState.COMPLETED}
    ),
    TaskCommand.SUSPEND: frozenset(
        {TaskState.PENDING_MATERIAL, TaskState.OPEN, TaskState.EXPIRED_PENDING_REVIEW}
    ),
    TaskCommand.RESUME: frozenset({TaskState.SUSPENDED}),
    TaskCommand.REVOKE: _NOT_VOIDED,
    TaskCommand.CLOSE: frozenset(
        {TaskState.COMPLETED, TaskState.EXPIRED, TaskState.INVALIDATED, TaskState.VOIDED}
    ),
}
"""In which states a task that is not closed takes each command (`docs/task-life.md`). A fence also needs an end that is
ahead, a revocation an accepted member of a flow that knows revocations."""


class MemberState(StrEnum):
    NOT_STARTED = "not_started"
    IN_REVIEW = "in_review"
    ACCEPTED = "accepted"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What the state is computed from. Counts are of roster members; `unjudged` is of receipts in time."""

    voided: bool
    suspended: bool
    closes_at: datetime
    provisional: bool
    total: int
    accepted: int
    in_review: int
    lacking_material: int
    revoked: int
    unjudged: int


def state_at(facts: TaskFacts, now: datetime) -> TaskState:
    """The first state of the contract's list that holds at `now`.

    The window is half-open: at `closes_at` itself the task is no longer open.
    """
    if facts.voided:
        return TaskState.VOIDED
    if facts.suspended:
        return TaskState.SUSPENDED
    if facts.accepted == facts.total:
        return TaskState.COMPLETED
    if now < facts.closes_at:
        return TaskState.PENDING_MATERIAL if facts.lacking_material else TaskState.OPEN
    if facts.in_review or facts.unjudged or facts.provisional:
        return TaskState.EXPIRED_PENDING_REVIEW
    return TaskState.INVALIDATED if facts.revoked else TaskState.EXPIRED


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One roster member as the platform sees them; `accepted_at`, `check_in_id` and `method` only when accepted,
    `decided_at` when people did."""

    person_id: str
    state: MemberState
    has_reference: bool
    accepted_at: datetime | None = None
    check_in_id: str | None = None
    method: str | None = None
    decided_at: datetime | None = None


def members_digest(members: Sequence[MemberStatus]) -> str:
    """SHA-256 over `person_id TAB state TAB check_in_id-or-empty LF`, lines sorted bytewise.

    >>> one = MemberStatus("p-1", MemberState.NOT_STARTED, has_reference=False)
    >>> members_digest([one]) == "sha256:" + hashlib.sha256(b"p-1\\tnot_started\\t\\n").hexdigest()
    True
    """
    lines = sorted(f"{m.person_id}\t{m.state}\t{m.check_in_id or ''}\n".encode() for m in members)
    return "sha256:" + hashlib.sha256(b"".join(lines)).hexdigest()
