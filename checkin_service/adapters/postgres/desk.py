"""What a reviewing officer finds their work by: tasks by deadline and risk, what was registered, how attempts went."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from checkin_service.adapters.postgres.database import Connection
from checkin_service.adapters.postgres.tasks import FenceVersion, TaskHead, read_heads


class Window(StrEnum):
    """Which tasks: whose window has not closed; whose window has, with something left to decide; every one."""

    RUNNING = "running"
    WAITING = "waiting"
    ALL = "all"


class Order(StrEnum):
    """The first end first, or who needs the most check-ins a day."""

    DEADLINE = "deadline"
    RISK = "risk"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page of tasks ends: thousandths of check-ins needed a day (0 by deadline), `closes_at`, and the task."""

    rank: int
    closes_at: datetime
    task_id: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """`within_days`: the last day is no further off; `q`: an id, or part of an enterprise's name; empty for all."""

    window: Window
    order: Order
    in_review: bool
    within_days: int | None
    q: str


@dataclass(frozen=True, slots=True)
class Listed:
    """`days_left`: days after today, up to the last day; negative afterwards."""

    head: TaskHead
    case_id: str
    round: int
    uscc: str
    enterprise_name: str
    opens_at: datetime
    days_left: int
    place: Place


@dataclass(frozen=True, slots=True)
class RosterMember:
    person_id: str
    name: str
    categories: Sequence[str]
    technical_lead: bool
    attempts: int
    last_attempt_at: datetime | None


@dataclass(frozen=True, slots=True)
class Registered:
    """What was registered of a task. `fences`: every version, the first first."""

    case_id: str
    uscc: str
    enterprise_name: str
    fences: Sequence[FenceVersion]
    members: Sequence[RosterMember]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A judged check-in. `reasons`: codes and figures, without figures once they are gone. `lon`, `lat`: in WGS-84,
    kept only of what people were to decide on; `frame`: the fence's. `review`: its review's state, if there is one."""

    check_in_id: UUID
    person_id: str
    received_at: datetime
    outcome: str
    counted: bool
    reasons: Sequence[dict[str, Any]]
    fence_version: int | None
    frame: str | None
    zone: str | None
    distance_m: float | None
    r95_m: float | None
    lon: float | None
    lat: float | None
    platform: str | None
    model: str | None
    review: str | None


# --- Tasks ---

_OPEN_REVIEW = """EXISTS (SELECT FROM review v
              WHERE v.task_id = t.task_id AND v.state IN ('pending', 'pending_second'))"""
_WINDOWS = {
    Window.RUNNING: "t.closes_at > $1 AND t.voided_at IS NULL AND t.closed_at IS NULL",
    Window.WAITING: f"t.closes_at <= $1 AND t.voided_at IS NULL AND t.closed_at IS NULL AND {_OPEN_REVIEW}",
    Window.ALL: "$1::timestamptz IS NOT NULL",
}
# What is missing is counted in index entries alone: of every task that is asked for.
_RANKS = {
    Order.DEADLINE: "0::bigint",
    Order.RISK: """((SELECT count(*) FROM member m WHERE m.task_id = t.task_id)
         - (SELECT count(*) FROM acceptance c WHERE c.task_id = t.task_id AND c.revoked_at IS NULL))
        * 1000 / greatest(t.last_day - $2::date + 1, 1)""",
}
_LIST = """
    SELECT * FROM (
        SELECT t.task_id, t.case_id, t.round, t.uscc, t.enterprise_name, t.opens_at, t.closes_at,
               t.last_day - $2::date AS days_left, {rank} AS rank
        FROM task t
        WHERE {window} AND (NOT $3 OR {open_review}) AND ($4::integer IS NULL OR t.last_day - $2::date <= $4)
          AND ($5 = '' OR $5 IN (t.task_id, t.case_id, t.uscc) OR position(lower($5) IN lower(t.enterprise_name)) > 0)
        ) s
    WHERE $6::bigint IS NULL OR (-rank, closes_at, task_id) > (-$6, $7, $8)
    ORDER BY -rank, closes_at, task_id LIMIT $9
"""
_LISTS = {
    (window, order): _LIST.format(rank=rank, window=condition, open_review=_OPEN_REVIEW)
    for window, condition in _WINDOWS.items()
    for order, rank in _RANKS.items()
}


async def list_tasks(
    connection: Connection, wanted: Wanted, at: datetime, today: date, after: Place | None, limit: int
) -> list[Listed]:
    """A page of tasks as of an instant and its day in Shanghai."""
    rows = await connection.fetch(
        _LISTS[wanted.window, wanted.order],
        at,
        today,
        wanted.in_review,
        wanted.within_days,
        wanted.q,
        *((after.rank, after.closes_at, after.task_id) if after else (None, None, None)),
        limit,
    )
    heads = await read_heads(connection, [row["task_id"] for row in rows])
    return [_listed(row, heads[row["task_id"]]) for row in rows]


def _listed(row: Any, head: TaskHead) -> Listed:
    names = ("case_id", "round", "uscc", "enterprise_name", "opens_at", "days_left")
    place = Place(row["rank"], row["closes_at"], row["task_id"])
    return Listed(head=head, place=place, **{name: row[name] for name in names})


# --- One task ---


async def read_registered(connection: Connection, task_id: str) -> Registered | None:
    """All of one snapshot, where the connection is in one."""
    task = await connection.fetchrow(
        "SELECT case_id, uscc, enterprise_name FROM task WHERE task_id = $1", task_id
    )
    if task is None:
        return None
    fences = await connection.fetch(
        """
        SELECT version, effective_at, registered_address, frame, fence, buffer_m FROM fence_version
        WHERE task_id = $1 ORDER BY version
        """,
        task_id,
    )
    members = await connection.fetch(
        """
        SELECT m.person_id, m.name, m.categories, m.technical_lead, count(a.check_in_id) AS attempts,
               max(a.received_at) AS last_attempt_at
        FROM member m LEFT JOIN attempt a USING (task_id, person_id)
        WHERE m.task_id = $1 GROUP BY m.task_id, m.person_id ORDER BY m.position
        """,
        task_id,
    )
    return Registered(
        **task,
        fences=[FenceVersion(**row) for row in fences],
        members=[RosterMember(**row) for row in members],
    )


async def list_attempts(
    connection: Connection,
    task_id: str,
    person_id: str | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Attempt]:
    """The task's judged check-ins, or one member's, the latest first."""
    rows = await connection.fetch(
        """
        SELECT a.check_in_id, a.person_id, a.received_at, a.outcome, a.counted, a.reasons AS codes,
               r.answer->'reasons' AS told, a.fence_version, f.frame, a.zone, a.distance_m, a.r95_m, e.lon, e.lat,
               a.device->>'platform' AS platform, a.device->>'model' AS model, v.state AS review
        FROM (
            SELECT * FROM attempt
            WHERE task_id = $1 AND ($2::text IS NULL OR person_id = $2)
              AND ($3::timestamptz IS NULL OR (received_at, check_in_id) < ($3, $4))
            ORDER BY received_at DESC, check_in_id DESC LIMIT $5) a
        JOIN receipt r USING (check_in_id)
        LEFT JOIN fence_version f ON f.task_id = a.task_id AND f.version = a.fence_version
        LEFT JOIN evidence e USING (check_in_id)
        LEFT JOIN review v ON v.review_id = a.check_in_id
        ORDER BY a.received_at DESC, a.check_in_id DESC
        """,
        task_id,
        person_id,
        *(after or (None, None)),
        limit,
    )
    return [_attempt(dict(row)) for row in rows]


def _attempt(row: dict[str, Any]) -> Attempt:
    codes, told = row.pop("codes"), row.pop("told")
    return Attempt(**row, reasons=told or [{"code": code, "figures": {}} for code in codes])
