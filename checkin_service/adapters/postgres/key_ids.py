"""Which secret keys this database was used with, by their ids: replicas with different key files must not all start."""

from collections.abc import Collection
from typing import Literal

from checkin_service.adapters.postgres.database import Connection

KEY_LOCK = 0x6B6579


async def adopt_key(
    connection: Connection, kind: Literal["wrapping_key", "receipt_key"], current: str, known: Collection[str]
) -> list[str]:
    """Notes the key that is used from now on, unless the database was used with keys that are not `known`; those.

    The caller's transaction: one process at a time, so that two fresh replicas can't each bring a key of their own.
    """
    await connection.execute("SELECT pg_advisory_xact_lock($1)", KEY_LOCK)
    rows = await connection.fetch(f"SELECT {kind}_id AS key_id FROM {kind} ORDER BY first_seen_at")  # noqa: S608
    unknown = [row["key_id"] for row in rows if row["key_id"] not in known]
    if not unknown:
        insert = f"INSERT INTO {kind} ({kind}_id) VALUES ($1) ON CONFLICT DO NOTHING"  # noqa: S608
        await connection.execute(insert, current)
    return unknown
