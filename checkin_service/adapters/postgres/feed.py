"""Revisions and the change feed."""

from dataclasses import dataclass
from datetime import datetime

from checkin_service.adapters.postgres.database import Connection

# Held from the drawing of a seq to its commit: seqs become visible in their order, so `seq > cursor` misses none.
FEED_LOCK = 0x66656564


@dataclass(frozen=True, slots=True)
class Change:
    seq: int
    task_id: str
    rev: int
    type: str
    at: datetime


async def record_change(connection: Connection, task_id: str, change_type: str, at: datetime) -> None:
    """rev + 1 and one feed entry. The last thing a transaction does, because the lock orders all writers."""
    await record_changes(connection, [task_id], change_type, at)


async def record_changes(connection: Connection, task_ids: list[str], change_type: str, at: datetime) -> None:
    """`record_change` for several tasks, whose rows the caller has locked."""
    if task_ids:
        await connection.execute(
            "SELECT append_changes($1, $2, $3, $4)", FEED_LOCK, task_ids, change_type, at
        )


async def feed_epoch(connection: Connection) -> str:
    """Another one after every restore, at once; see `present_epoch` of the schema."""
    epoch: str = await connection.fetchval("SELECT present_epoch()")
    return epoch


async def lock_restored(connection: Connection) -> bool:
    """Whether this is another life of the data than the one that was settled last. Orders those who settle it."""
    row = await connection.fetchrow("SELECT FROM feed_epoch WHERE life <> database_life() FOR UPDATE")
    return row is not None


async def renew_epoch(connection: Connection) -> str:
    """The new one, of the present life of the data."""
    epoch: str = await connection.fetchval(
        """
        UPDATE feed_epoch SET epoch = DEFAULT, life = DEFAULT, restores = restores + 1 RETURNING epoch
        """
    )
    return epoch


async def changes_after(connection: Connection, seq: int, limit: int) -> list[Change]:
    """At most `limit` changes, oldest first. Walks the primary key: its cost knows nothing of the tasks."""
    rows = await connection.fetch(
        "SELECT seq, task_id, rev, type, at FROM change WHERE seq > $1 ORDER BY seq LIMIT $2", seq, limit
    )
    return [Change(**row) for row in rows]
