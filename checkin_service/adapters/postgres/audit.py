"""The audit: appended to by one function of the schema, read in order."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from checkin_service.adapters.postgres.database import Connection
from checkin_service.domain.audit import AuditRow

PAGE = 1000

# The longest from a verdict's or a decision's own instant to its row in the audit: a transaction's last statement may
# wait as long as a statement may take.
SETTLED_IN = timedelta(seconds=15)

# An attempt stands for the acceptance that it led to at once: a foreign key binds the two. Rows whose details an
# erasure has taken out are known by task and instant alone. What was received before the oldest row that a purge has
# left is not compared.
_FACTS = """
    WITH entry AS (
        SELECT seq, action, task_id, at, details->>'person_id' AS person_id,
               coalesce(details->>'check_in_id', details->>'review_id')::uuid AS check_in_id,
               coalesce(details->>'outcome', details->>'state') AS told,
               (details->>'received_at')::timestamptz AS received_at, details IS NULL AS emptied
        FROM audit WHERE action IN ('judge', 'decide_review')
    ), fact AS (
        SELECT 'judge' AS action, check_in_id, task_id, person_id, outcome AS told, received_at, judged_at AS settled_at
        FROM attempt
        UNION ALL
        SELECT 'decide_review', check_in_id, task_id, person_id, 'accepted', accepted_at, decided_at
        FROM acceptance WHERE decided_at IS NOT NULL
    ), purged AS (
        SELECT CASE WHEN min(seq) > 1 THEN min(at) ELSE '-infinity' END AS until FROM audit
    )
    SELECT f.check_in_id, f.task_id, NULL AS seq
    FROM fact f CROSS JOIN purged
    WHERE f.received_at >= purged.until
      AND NOT EXISTS (
        SELECT FROM entry e
        WHERE (e.check_in_id, e.action, e.task_id, e.person_id, e.told, e.received_at)
            = (f.check_in_id, f.action, f.task_id, f.person_id, f.told, f.received_at))
      AND NOT EXISTS (
        SELECT FROM entry e WHERE e.emptied AND e.action = f.action AND e.task_id = f.task_id
            AND e.at BETWEEN f.settled_at AND f.settled_at + $1::interval)
    UNION ALL
    SELECT e.check_in_id, e.task_id, e.seq
    FROM entry e
    WHERE e.told = 'accepted' AND NOT EXISTS (
        SELECT FROM acceptance a
        WHERE (a.check_in_id, a.task_id, a.person_id, a.accepted_at)
            = (e.check_in_id, e.task_id, e.person_id, e.received_at))
    ORDER BY check_in_id, seq NULLS FIRST
"""


@dataclass(frozen=True, slots=True)
class PresentHead:
    """`at` None: there is no row at all."""

    seq: int
    hash: bytes
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A verdict or decision that the audit does not tell of, or tells otherwise; with `seq`, an acceptance that this
    row tells of and that is not there, or not so."""

    check_in_id: UUID
    task_id: str
    seq: int | None


async def write_audit(
    connection: Connection, iss: str, actor: str, action: str, task_id: str | None, details: dict[str, Any]
) -> None:
    """A row of the audit; as the last thing a transaction does, but for the feed."""
    await connection.execute("SELECT append_audit($1, $2, $3, $4, $5)", iss, actor, action, task_id, details)


async def read_head(connection: Connection) -> PresentHead:
    row = await connection.fetchrow("SELECT seq, hash, at FROM audit ORDER BY seq DESC LIMIT 1")
    return PresentHead(**row) if row else PresentHead(0, bytes(32), None)


async def read_rows(connection: Connection, first: int) -> AsyncIterator[AuditRow]:
    """All rows from that one on, in their order and of one snapshot. On a connection of its own."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        rows = connection.cursor(
            """
            SELECT seq, at, iss, actor, action, task_id, details::text AS details, salt, details_digest, prev, hash
            FROM audit WHERE seq >= $1 ORDER BY seq
            """,
            first,
            prefetch=PAGE,
        )
        async for row in rows:
            yield AuditRow(**row)


async def read_contradictions(connection: Connection) -> Sequence[Contradiction]:
    """Between the audit and the facts that are to follow from it, in one snapshot."""
    return [Contradiction(**row) for row in await connection.fetch(_FACTS, SETTLED_IN)]
