"""The audit: appended to by one function of the schema, read in order."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from checkin_service.adapters.postgres.database import Connection
from checkin_service.domain.audit import AuditRow

PAGE = 1000


@dataclass(frozen=True, slots=True)
class PresentHead:
    """`at` None: there is no row at all."""

    seq: int
    hash: bytes
    at: datetime | None


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
