"""What is older than domain/retention.py allows: counted, or removed a batch at a time; receipts of purges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from checkin_service.adapters.postgres.database import Connection
from checkin_service.domain.retention import Kind


@dataclass(frozen=True, slots=True)
class PurgeReceipt:
    """`counts`: rows or objects removed, by kind. `unfinished`: kinds of which something had to stay."""

    purge_id: int
    policy_version: str
    started_at: datetime
    finished_at: datetime | None
    counts: Mapping[str, int]
    unfinished: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Removal:
    """Which rows x of a table are `due` when the kind's period began at $1 or earlier, and what becomes of them.

    `effect`: the head of a statement on these rows; or, `by_owner`, the function that does what this role may not.
    """

    table: str
    due: str
    effect: str
    by_owner: bool = False

    @property
    def of_tasks(self) -> bool:
        """Whether they are found by their tasks, $2."""
        return "$2" in self.due


def _deletion(table: str, due: str) -> _Removal:
    return _Removal(table, due, f"DELETE FROM {table}")  # noqa: S608  names of ours


def _update(table: str, due: str, changes: str) -> _Removal:
    return _Removal(table, due, f"UPDATE {table} SET {changes}")  # noqa: S608  names of ours


def _by_owner(function: str, table: str, due: str) -> _Removal:
    return _Removal(table, due, function, by_owner=True)


# Rows are reached by index from a few tasks at a time: to ask of each of millions whether its task is over takes longer
# than a statement may.
_OVER = "task_id = ANY($2::text[]) AND over_at <= $1"
_TASK_OVER = f"x.task_id IN (SELECT task_id FROM task_end WHERE {_OVER})"  # noqa: S608  a constant
_MEMBER_OF_TASK_OVER = f"""
    (x.person_id, x.task_id) IN (SELECT m.person_id, task_id FROM member m JOIN task_end USING (task_id) WHERE {_OVER})
"""  # noqa: S608  a constant
_REVIEWED_TASK_OVER = f"(SELECT review_id FROM review JOIN task_end USING (task_id) WHERE {_OVER})"  # noqa: S608  a constant

# A submission may be judged long after it was sent, if that is our fault: until then what it needs stays. Without the
# challenge nobody would know what it asked for.
_AWAITED = """
    EXISTS (SELECT FROM receipt r WHERE r.challenge_id = x.challenge_id
            AND r.answer IS NULL AND r.ended IS NULL)
"""

_REMOVALS: Mapping[Kind, _Removal] = {
    Kind.DEFERRED_SUBMISSION: _deletion(
        "deferred_submission",
        """
        x.received_at <= $1 AND EXISTS (SELECT FROM receipt r WHERE r.check_in_id = x.check_in_id
                                        AND (r.answer IS NOT NULL OR r.ended IS NOT NULL))
        """,
    ),
    Kind.BURST_FRAME: _deletion(
        "burst_frame",
        f"x.challenge_id IN (SELECT challenge_id FROM challenge WHERE expires_at <= $1) AND NOT {_AWAITED}",  # noqa: S608  a constant
    ),
    Kind.CHALLENGE: _deletion("challenge", f"x.expires_at <= $1 AND NOT {_AWAITED}"),
    Kind.IDEMPOTENCY_KEY: _deletion("idempotency_key", "x.claimed_at <= $1"),
    Kind.LAST_POSITION: _deletion("last_position", "x.received_at <= $1"),
    Kind.SENT_FIX: _deletion("sent_fix", "x.last_sent_at <= $1"),
    Kind.EVIDENCE: _deletion(
        "evidence",
        # an array, lest the planner walk both tables in the order of their ids
        f"x.check_in_id = ANY(ARRAY(SELECT check_in_id FROM attempt JOIN task_end USING (task_id) WHERE {_OVER}))",  # noqa: S608
    ),
    Kind.KEPT_PHOTOGRAPH: _deletion("kept_photograph", _MEMBER_OF_TASK_OVER),
    Kind.MANUAL_REQUEST: _update(
        "manual_request",
        f"(x.reason <> '' OR x.position IS NOT NULL) AND x.manual_request_id IN {_REVIEWED_TASK_OVER}",
        "reason = '', position = NULL",
    ),
    Kind.REVIEW_NOTE: _update(
        "review_decision", f"x.note <> '' AND x.review_id IN {_REVIEWED_TASK_OVER}", "note = ''"
    ),
    Kind.REFUSED_ATTEMPT: _by_owner(
        "purge_refused_attempts", "attempt", f"x.outcome = 'rejected' AND {_TASK_OVER}"
    ),
    Kind.ATTEMPT_FIGURES: _by_owner(
        "purge_attempt_figures",
        "attempt",
        f"x.outcome <> 'rejected' AND x.erased_at IS NULL AND {_TASK_OVER}",
    ),
    Kind.ANSWER: _update(
        "receipt",
        f"x.answer->>'location' IS NOT NULL AND {_MEMBER_OF_TASK_OVER}",
        """answer = (answer::jsonb || '{"location": null}')::json""",
    ),
    Kind.RECEIPT: _deletion(
        "receipt",
        f"NOT EXISTS (SELECT FROM attempt a WHERE a.check_in_id = x.check_in_id) AND {_MEMBER_OF_TASK_OVER}",
    ),
    Kind.MEMBER_NAME: _update("member", f"x.name <> '' AND {_TASK_OVER}", "name = ''"),
    Kind.CONSENT: _deletion("consent", "x.withdrawn_at <= $1"),
    Kind.PROCESSING_RECORD: _deletion("processing_record", "x.at <= $1"),
    Kind.AUDIT: _by_owner("purge_audit", "audit", "x.at <= $1"),
}

# That a person, `{0}`, has a reference, enrolled before $1, and is named by no task but such as were over by then.
_DONE_WITH = """
    EXISTS (SELECT FROM reference r WHERE r.person_id = {0})
    AND NOT EXISTS (SELECT FROM reference r WHERE r.person_id = {0} AND r.created_at > $1)
    AND NOT EXISTS (SELECT FROM member m JOIN task_end e USING (task_id)
                    WHERE m.person_id = {0} AND (e.over_at <= $1) IS NOT TRUE)
"""


def is_of_tasks(kind: Kind) -> bool:
    """Whether its rows are looked for task by task."""
    return kind in _REMOVALS and _REMOVALS[kind].of_tasks


async def tasks_ended_by(connection: Connection, before: datetime, after: str, limit: int) -> list[str]:
    """A page of all tasks that may have been over at that instant, in order."""
    rows = await connection.fetch(
        """
        SELECT task_id FROM task
        WHERE task_id > $2 AND least(voided_at, closed_at, closes_at) <= $1 ORDER BY task_id LIMIT $3
        """,
        before,
        after,
        limit,
    )
    return [row["task_id"] for row in rows]


async def remove(
    connection: Connection, kind: Kind, before: datetime, task_ids: Sequence[str], limit: int
) -> int:
    """Removes at most so many rows of the kind, of these tasks if it is of tasks, whose period began at `before` or
    earlier; how many. Rows that another purge holds are left to it."""
    removal = _REMOVALS[kind]
    given = (before, task_ids, limit) if removal.of_tasks else (before, limit)
    if removal.by_owner:
        places = ", ".join(f"${n}" for n in range(1, len(given) + 1))
        removed: int = await connection.fetchval(f"SELECT {removal.effect}({places})", *given)
        return removed
    due = (
        f"SELECT x.ctid FROM {removal.table} x WHERE {removal.due} LIMIT ${len(given)} FOR UPDATE SKIP LOCKED"  # noqa: S608
    )
    tag: str = await connection.execute(f"{removal.effect} WHERE ctid = ANY(ARRAY({due}))", *given)
    return int(tag.rpartition(" ")[2])


async def count_due(connection: Connection, kind: Kind, before: datetime, task_ids: Sequence[str]) -> int:
    """How many rows of the kind, of these tasks if it is of tasks, are there though their period began at `before` or
    earlier."""
    removal = _REMOVALS[kind]
    given = (before, task_ids) if removal.of_tasks else (before,)
    found: int = await connection.fetchval(
        f"SELECT count(*) FROM {removal.table} x WHERE {removal.due}",  # noqa: S608  names of ours
        *given,
    )
    return found


async def enrolled_persons(connection: Connection, after: str, limit: int) -> list[str]:
    """A page of all who have a reference, in order."""
    rows = await connection.fetch(
        "SELECT DISTINCT person_id FROM reference WHERE person_id > $1 ORDER BY person_id LIMIT $2",
        after,
        limit,
    )
    return [row["person_id"] for row in rows]


async def persons_due(connection: Connection, before: datetime, person_ids: Sequence[str]) -> list[str]:
    """Those of them whose reference is to go."""
    rows = await connection.fetch(
        f"SELECT p.person_id FROM unnest($2::text[]) AS p (person_id) WHERE {_DONE_WITH.format('p.person_id')}",  # noqa: S608
        before,
        person_ids,
    )
    return [row["person_id"] for row in rows]


async def person_is_due(connection: Connection, before: datetime, person_id: str) -> bool:
    """Whether that still holds; for good once the person and their tasks are locked."""
    found: bool = await connection.fetchval("SELECT " + _DONE_WITH.format("$2::text"), before, person_id)
    return found


async def unnamed_objects(connection: Connection, addresses: Sequence[str]) -> list[str]:
    """Those of the addresses that no row of evidence names."""
    rows = await connection.fetch(
        """
        SELECT address FROM unnest($1::text[]) AS address
        WHERE NOT EXISTS (SELECT FROM evidence e WHERE e.address = address.address)
        """,
        addresses,
    )
    return [row["address"] for row in rows]


async def begin_receipt(connection: Connection, policy_version: str) -> PurgeReceipt:
    row = await connection.fetchrow(
        "INSERT INTO purge_receipt (policy_version, started_at) VALUES ($1, checkin_now()) RETURNING *",
        policy_version,
    )
    return PurgeReceipt(**row)


async def add_to_receipt(connection: Connection, purge_id: int, kind: Kind, number: int) -> None:
    """In the transaction that removes them, so that the receipt is true whenever it ends."""
    await connection.execute(
        """
        UPDATE purge_receipt
        SET counts = counts || jsonb_build_object($2::text, coalesce((counts->>$2)::integer, 0) + $3::integer)
        WHERE purge_id = $1
        """,
        purge_id,
        kind,
        number,
    )


async def finish_receipt(connection: Connection, purge_id: int, unfinished: Sequence[Kind]) -> PurgeReceipt:
    row = await connection.fetchrow(
        "UPDATE purge_receipt SET finished_at = checkin_now(), unfinished = $2 WHERE purge_id = $1 RETURNING *",
        purge_id,
        unfinished,
    )
    return PurgeReceipt(**row)
