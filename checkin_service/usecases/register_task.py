"""The platform registers one round of verification."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from checkin_service.adapters.postgres import calendars, tasks
from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.postgres.feed import record_change
from checkin_service.adapters.postgres.tasks import TaskStatus
from checkin_service.domain.calendar import Calendar, day_of
from checkin_service.domain.task import Flow, TaskState
from checkin_service.domain.window import Window, one_month_window, order_window
from checkin_service.usecases.caller import Caller
from checkin_service.usecases.refusals import FieldFault, Refusal

# The platform's clock may run ahead of ours by so much.
CLOCK_TOLERANCE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class TaskRegistration:
    """A registration whose shape and static rules hold. `digest` is over its canonical form."""

    task_id: str
    case_id: str
    round: int
    flow: Flow
    rectifies: str | None
    uscc: str
    enterprise_name: str
    approved_at: datetime
    deadline_at: datetime | None
    place: dict[str, Any]
    requirement: dict[str, Any] | None
    roster: Sequence[dict[str, Any]]
    digest: bytes


@dataclass(frozen=True, slots=True)
class RefusedRegistration:
    """A registration with faults: with what can be read of it, those that only clock and other tasks show are found."""

    faults: Sequence[FieldFault]
    approved_at: datetime | None
    rectifies: str | None
    case_id: str | None
    round: int | None
    uscc: str | None


async def every_fault(database: Database, refused: RefusedRegistration) -> list[FieldFault]:
    """Its faults and those of the circumstances."""
    async with database.connection() as connection:
        now = await tasks.read_now(connection)
        return [*refused.faults, *await _circumstantial_faults(connection, refused, now)]


async def register_task(
    database: Database, caller: Caller, registration: TaskRegistration
) -> tuple[bool, TaskStatus]:
    """Whether the task is new, and its status. The same registration again changes nothing.

    Raises `Refusal`: task_conflict, round_exists, invalid (approved_at, rectifies).
    """
    async with database.transaction() as connection:
        new = await _register(connection, caller, registration)
    async with database.connection() as connection:
        status = await tasks.read_status(connection, registration.task_id)
    if status is None:
        raise RuntimeError("a registered task has no status")
    return new, status


async def _register(connection: Connection, caller: Caller, registration: TaskRegistration) -> bool:
    if await _is_known(connection, registration):
        return False
    now = await tasks.read_now(connection)
    if faults := await _circumstantial_faults(connection, registration, now):
        raise Refusal("invalid", faults)
    await tasks.hold_persons(connection, [member["person_id"] for member in registration.roster])
    # read here and not kept: another process may have imported another one
    calendar = await calendars.read_calendar(connection, day_of(registration.approved_at).year)
    if not await tasks.insert_row(connection, "task", _task_row(registration, calendar, now)):
        # somebody else was quicker with this task_id, or with this round of the case
        if await _is_known(connection, registration):
            return False
        raise Refusal("round_exists", case_id=registration.case_id, round=registration.round)
    await tasks.add_fence(connection, registration.task_id, registration.place, now)
    await tasks.add_members(connection, registration.task_id, registration.roster)
    await write_audit(connection, caller.iss, caller.sub, "register", registration.task_id, {})
    await record_change(connection, registration.task_id, "task_registered", now)
    return True


async def _is_known(connection: Connection, registration: TaskRegistration) -> bool:
    digest = await tasks.registration_digest(connection, registration.task_id)
    if digest is not None and digest != registration.digest:
        raise Refusal("task_conflict", task_id=registration.task_id)
    return digest is not None


async def _circumstantial_faults(
    connection: Connection, registration: TaskRegistration | RefusedRegistration, now: datetime
) -> list[FieldFault]:
    approved_at = registration.approved_at
    if approved_at is not None and approved_at > now + CLOCK_TOLERANCE:
        ahead = [FieldFault("/approved_at", "approved_at_in_future")]
    else:
        ahead = []
    return ahead + await _rectification_faults(connection, registration)


async def _rectification_faults(
    connection: Connection, registration: TaskRegistration | RefusedRegistration
) -> list[FieldFault]:
    """A rectification follows an expired or invalidated round of the same case and enterprise."""
    if registration.rectifies is None:
        return []
    earlier = await tasks.read_registered(connection, registration.rectifies)
    if earlier is None or registration.case_id not in {None, earlier["case_id"]}:
        return [FieldFault("/rectifies", "rectifies_unknown")]
    faults = {
        "rectifies_wrong_enterprise": registration.uscc not in {None, earlier["uscc"]},
        "rectifies_wrong_state": earlier["flow"] == Flow.FIRST_APPLICATION
        or earlier["state"] not in {TaskState.EXPIRED, TaskState.INVALIDATED},
        "rectifies_wrong_round": registration.round not in {None, earlier["round"] + 1},
    }
    figures = {"state": earlier["state"], "round": earlier["round"]}
    return [FieldFault("/rectifies", code, figures) for code, holds in faults.items() if holds]


def _window(registration: TaskRegistration, calendar: Calendar) -> Window:
    if registration.deadline_at is None:
        return one_month_window(registration.approved_at, calendar)
    return order_window(registration.approved_at, registration.deadline_at, calendar)


def _task_row(registration: TaskRegistration, calendar: Calendar, now: datetime) -> dict[str, Any]:
    window = _window(registration, calendar)
    return {
        "task_id": registration.task_id,
        "case_id": registration.case_id,
        "round": registration.round,
        "flow": registration.flow,
        "rectifies": registration.rectifies,
        "uscc": registration.uscc,
        "enterprise_name": registration.enterprise_name,
        "requirement": registration.requirement,
        "registration_digest": registration.digest,
        "registered_at": now,
        "opens_at": window.opens_at,
        "closes_at": window.closes_at,
        "window_basis": window.basis,
        "start_day": window.start_day,
        "nominal_day": window.nominal_day,
        "last_day": window.last_day,
        "rolled_over": list(window.rolled_over),
        "provisional": window.provisional,
        "calendar_version": window.calendar_version,
    }
