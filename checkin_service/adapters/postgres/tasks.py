"""Verification tasks: registration, status, commands."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from typing import Any

from checkin_service.adapters.postgres.database import Connection
from checkin_service.domain.task import Flow, MemberState, MemberStatus, TaskFacts, TaskState, state_at

_FACTS = tuple(field.name for field in fields(TaskFacts))


@dataclass(frozen=True, slots=True)
class TaskHead:
    """What an ETag and a command need: the revision, and the state at the instant of reading."""

    task_id: str
    rev: int
    flow: Flow
    closed_at: datetime | None
    state: TaskState
    facts: TaskFacts
    read_at: datetime
    restored: str

    @property
    def etag(self) -> str:
        """The state is part of it, because it moves with time alone; so is the restore that the revision followed."""
        return f'"{"-".join(filter(None, (self.task_id, str(self.rev), self.state, self.restored)))}"'


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task as the platform sees it. All of it is of one snapshot."""

    head: TaskHead
    case_id: str
    round: int
    registered_at: datetime
    opens_at: datetime
    window_basis: str
    start_day: date
    nominal_day: date
    last_day: date
    rolled_over: Sequence[date]
    calendar_version: str
    fence_version: int
    members: tuple[MemberStatus, ...]


@dataclass(frozen=True, slots=True)
class Round:
    """A task as a round of its case."""

    head: TaskHead
    round: int
    rectifies: str | None
    opens_at: datetime


@dataclass(frozen=True, slots=True)
class FenceVersion:
    version: int
    effective_at: datetime
    registered_address: str
    frame: str
    fence: dict[str, Any]
    buffer_m: float


# Of each member, in the roster's order. An array of records takes PostgreSQL several times as long to send.
_MEMBER_COLUMNS = (
    "person_ids",
    "states",
    "with_reference",
    "accepted_ats",
    "check_in_ids",
    "methods",
    "decided_ats",
)

_HEAD = """
    SELECT f.*, checkin_now() AS read_at, (SELECT restored_mark()) AS restored
    FROM task_facts f WHERE f.task_id = $1
"""

_STATUS = """
    SELECT f.*, checkin_now() AS read_at, (SELECT restored_mark()) AS restored,
           t.case_id, t.round, t.registered_at, t.opens_at, t.window_basis, t.start_day, t.nominal_day,
           t.last_day, t.rolled_over, t.calendar_version,
           (SELECT max(version) FROM fence_version v WHERE v.task_id = t.task_id) AS fence_version,
           m.*
    FROM task t JOIN task_facts f USING (task_id)
    CROSS JOIN LATERAL (
        SELECT array_agg(person_id) AS person_ids, array_agg(state) AS states,
               array_agg(has_reference) AS with_reference, array_agg(accepted_at) AS accepted_ats,
               array_agg(check_in_id::text) AS check_in_ids, array_agg(method) AS methods,
               array_agg(decided_at) AS decided_ats
        FROM (SELECT * FROM member_status s WHERE s.task_id = t.task_id ORDER BY s.position) members) m
    WHERE t.task_id = ANY($1::text[])
"""


async def read_head(connection: Connection, task_id: str) -> TaskHead | None:
    row = await connection.fetchrow(_HEAD, task_id)
    return row and _head(row)


async def read_heads(connection: Connection, task_ids: Sequence[str]) -> dict[str, TaskHead]:
    """Heads by task_id, all of one snapshot; an unknown id has none."""
    rows = await connection.fetch(
        """
        SELECT f.*, checkin_now() AS read_at, (SELECT restored_mark()) AS restored
        FROM task_facts f WHERE f.task_id = ANY($1::text[])
        """,
        task_ids,
    )
    return {row["task_id"]: _head(row) for row in rows}


async def read_statuses(connection: Connection, task_ids: Sequence[str]) -> dict[str, TaskStatus]:
    """Statuses by task_id, all of one snapshot; an unknown id has none."""
    return {row["task_id"]: _status(row) for row in await connection.fetch(_STATUS, task_ids)}


async def read_status(connection: Connection, task_id: str) -> TaskStatus | None:
    return (await read_statuses(connection, [task_id])).get(task_id)


async def read_case(connection: Connection, case_id: str) -> list[Round]:
    """Every round of a case in order, voided ones before what took their place; none when there is no such case."""
    rows = await connection.fetch(
        """
        SELECT f.*, checkin_now() AS read_at, (SELECT restored_mark()) AS restored, t.round, t.rectifies, t.opens_at
        FROM task t JOIN task_facts f USING (task_id)
        WHERE t.case_id = $1 ORDER BY t.round, t.voided_at NULLS LAST, t.task_id
        """,
        case_id,
    )
    return [Round(_head(row), row["round"], row["rectifies"], row["opens_at"]) for row in rows]


async def lock_task(connection: Connection, task_id: str) -> bool:
    """Orders everything that judges or changes one task; False when there is no such task."""
    return (
        await connection.fetchval("SELECT true FROM task WHERE task_id = $1 FOR NO KEY UPDATE", task_id)
        or False
    )


async def lock_tasks_of(connection: Connection, person_id: str) -> list[str]:
    """Locks every task whose roster names the person, in the one order that all lockers keep."""
    rows = await connection.fetch(
        """
        SELECT task_id FROM task WHERE task_id IN (SELECT task_id FROM member WHERE person_id = $1)
        ORDER BY task_id FOR NO KEY UPDATE
        """,
        person_id,
    )
    return [row["task_id"] for row in rows]


async def read_now(connection: Connection) -> datetime:
    """The instant that judges: the database's clock."""
    now: datetime = await connection.fetchval("SELECT checkin_now()")
    return now


async def registration_digest(connection: Connection, task_id: str) -> bytes | None:
    digest: bytes | None = await connection.fetchval(
        "SELECT registration_digest FROM task WHERE task_id = $1", task_id
    )
    return digest


async def insert_row(connection: Connection, table: str, row: dict[str, Any]) -> bool:
    """Inserts one row; False when its key is taken. Table and columns are names of ours, never input."""
    columns = ", ".join(row)
    places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    query = f"INSERT INTO {table} ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING RETURNING true"  # noqa: S608
    return await connection.fetchval(query, *row.values()) or False


async def hold_persons(connection: Connection, person_ids: Sequence[str]) -> None:
    """A row for everyone who has none yet, and all of them locked against an enrolment that would not see the task
    being registered. In one order, so that two never deadlock."""
    await connection.execute(
        "INSERT INTO person (person_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", sorted(person_ids)
    )
    await connection.execute(
        "SELECT FROM person WHERE person_id = ANY($1::text[]) ORDER BY person_id FOR SHARE", person_ids
    )


async def add_members(connection: Connection, task_id: str, members: Sequence[dict[str, Any]]) -> None:
    """The roster; its persons are held."""
    await connection.executemany(
        """
        INSERT INTO member (task_id, person_id, position, name, categories, technical_lead)
        VALUES ($1, $2, $3, $4, $5, $6)
        """,
        [
            (task_id, m["person_id"], position, m["name"], m["categories"], m["technical_lead"])
            for position, m in enumerate(members)
        ],
    )


async def read_registered(connection: Connection, task_id: str) -> dict[str, Any] | None:
    """What a rectification is checked against: case_id, round, flow, uscc and the present state."""
    head = await read_head(connection, task_id)
    row = await connection.fetchrow("SELECT case_id, round, flow, uscc FROM task WHERE task_id = $1", task_id)
    return {**row, "state": head.state} if head else None


async def read_member_state(connection: Connection, task_id: str, person_id: str) -> MemberState | None:
    """None when the person is not on the roster."""
    state = await connection.fetchval(
        "SELECT state FROM member_status WHERE task_id = $1 AND person_id = $2", task_id, person_id
    )
    return state and MemberState(state)


async def void_task(connection: Connection, task_id: str, superseded_by: str | None) -> None:
    await connection.execute(
        "UPDATE task SET voided_at = checkin_now(), superseded_by = $2 WHERE task_id = $1",
        task_id,
        superseded_by,
    )


async def suspend_task(connection: Connection, task_id: str, at: datetime) -> None:
    await connection.execute("INSERT INTO suspension (task_id, suspended_at) VALUES ($1, $2)", task_id, at)


async def resume_task(connection: Connection, task_id: str, at: datetime) -> None:
    await connection.execute(
        "UPDATE suspension SET resumed_at = $2 WHERE task_id = $1 AND resumed_at IS NULL", task_id, at
    )


async def was_suspended(connection: Connection, task_id: str) -> bool:
    """Whether the task is suspended or ever was."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM suspension WHERE task_id = $1)", task_id
    )
    return found


async def revoke_acceptance(connection: Connection, task_id: str, person_id: str, at: datetime) -> None:
    """The member's live acceptance stays as a revoked one. A task that ended complete ends anew without it."""
    await connection.execute(
        "UPDATE acceptance SET revoked_at = $3 WHERE task_id = $1 AND person_id = $2 AND revoked_at IS NULL",
        task_id,
        person_id,
        at,
    )
    await connection.execute(
        "UPDATE task SET announced_end = NULL WHERE task_id = $1 AND announced_end = 'completed'", task_id
    )


async def close_task(connection: Connection, task_id: str, at: datetime) -> None:
    await connection.execute("UPDATE task SET closed_at = $2 WHERE task_id = $1", task_id, at)


async def superseded_by(connection: Connection, task_id: str) -> str | None:
    task: str | None = await connection.fetchval("SELECT superseded_by FROM task WHERE task_id = $1", task_id)
    return task


async def extend_task(connection: Connection, task_id: str, closes_at: datetime, last_day: date) -> None:
    """Moves the end of the window by an order. Its expiry, if announced, will be announced anew."""
    await connection.execute(
        """
        UPDATE task SET closes_at = $2, last_day = $3, window_basis = 'order', rolled_over = '{}',
                        announced_end = NULL
        WHERE task_id = $1
        """,
        task_id,
        closes_at,
        last_day,
    )


async def read_fence_at(connection: Connection, task_id: str, at: datetime) -> FenceVersion:
    """The fence in force at an instant; every task has one from its registration on."""
    row = await connection.fetchrow(
        """
        SELECT version, effective_at, registered_address, frame, fence, buffer_m FROM fence_version
        WHERE task_id = $1 AND (effective_at <= $2 OR version = 1) ORDER BY effective_at DESC, version DESC LIMIT 1
        """,
        task_id,
        at,
    )
    return FenceVersion(**row)


async def read_fence_from(
    connection: Connection, task_id: str, effective_at: datetime
) -> FenceVersion | None:
    """The version that takes force at exactly that instant."""
    row = await connection.fetchrow(
        """
        SELECT version, effective_at, registered_address, frame, fence, buffer_m FROM fence_version
        WHERE task_id = $1 AND effective_at = $2
        """,
        task_id,
        effective_at,
    )
    return row and FenceVersion(**row)


def same_place(version: FenceVersion, place: dict[str, Any]) -> bool:
    return all(getattr(version, column) == place[column] for column in place)


async def add_fence(
    connection: Connection, task_id: str, place: dict[str, Any], effective_at: datetime
) -> None:
    """The next version of the fence; `place` has the columns registered_address, frame, fence, buffer_m."""
    await connection.execute(
        """
        INSERT INTO fence_version (task_id, version, effective_at, registered_address, frame, fence, buffer_m)
        SELECT $1, coalesce(max(version), 0) + 1, $2, $3, $4, $5, $6 FROM fence_version WHERE task_id = $1
        """,
        task_id,
        effective_at,
        place["registered_address"],
        place["frame"],
        place["fence"],
        place["buffer_m"],
    )


async def due_tasks(
    connection: Connection, settled_in: timedelta, after: tuple[datetime, str] | None, limit: int
) -> list[TaskHead]:
    """Tasks that long past their window whose end is not finally written, locked, a page at a time; another sweeper's
    are skipped."""
    rows = await connection.fetch(
        """
        SELECT task_id FROM task
        WHERE closes_at <= checkin_now() - $4::interval AND voided_at IS NULL
          AND (announced_end IS NULL OR announced_end = 'pending_review')
          AND ($1::timestamptz IS NULL OR (closes_at, task_id) > ($1, $2))
        ORDER BY closes_at, task_id LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED
        """,
        *(after or (None, None)),
        limit,
        settled_in,
    )
    heads = [await read_head(connection, row["task_id"]) for row in rows]
    return [head for head in heads if head]


async def mark_end(connection: Connection, task_id: str, announced: str) -> bool:
    """False when this end was written already."""
    return (
        await connection.fetchval(
            """
        UPDATE task SET announced_end = $2
        WHERE task_id = $1 AND announced_end IS DISTINCT FROM $2 RETURNING true
        """,
            task_id,
            announced,
        )
        or False
    )


def _head(row: Any) -> TaskHead:
    facts = TaskFacts(**{name: row[name] for name in _FACTS})
    return TaskHead(
        task_id=row["task_id"],
        rev=row["rev"],
        flow=Flow(row["flow"]),
        closed_at=row["closed_at"],
        state=state_at(facts, row["read_at"]),
        facts=facts,
        read_at=row["read_at"],
        restored=row["restored"],
    )


def _status(row: Any) -> TaskStatus:
    static = {
        field.name: row[field.name] for field in fields(TaskStatus) if field.name not in {"head", "members"}
    }
    members = tuple(map(_member, *(row[name] for name in _MEMBER_COLUMNS)))
    return TaskStatus(head=_head(row), members=members, **static)


def _member(person_id: str, state: str, has_reference: bool, *accepted: Any) -> MemberStatus:
    return MemberStatus(person_id, MemberState(state), has_reference, *accepted)
