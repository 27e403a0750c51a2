"""The key store's rows: wrapped data keys by random ids, and what became of those that were deleted.

Connections are to the key store and not to the main database; names are found in its schema, `SCHEMA`.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

import asyncpg

from checkin_service.adapters.postgres.database import Connection, DatabaseSetupError, reaching
from checkin_service.adapters.postgres.migrate import (
    HOW_TO_MIGRATE,
    KEY_STORE,
    MIGRATION_LOCK,
    migrate,
    missing_migrations,
)
from checkin_service.ports import WrappedKey

SCHEMA = "key_store"


class Deletion(StrEnum):
    """Why a data key was deleted; see the type of that name."""

    FORGOTTEN = "forgotten"
    WITHDRAWN = "withdrawn"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Deleted:
    """An entry of the erasure log."""

    key_id: UUID
    deleted_at: datetime
    deletion: Deletion


async def migrate_key_store_at(url: str) -> list[str]:
    """Brings it to this version's schema with the rights that the URL gives; the names applied. Safe to run at any
    time. Raises `DatabaseSetupError` for a role without the rights."""
    with reaching(url):
        connection = await asyncpg.connect(url, server_settings={"search_path": SCHEMA})
    try:
        return await _migrate(connection)
    finally:
        await connection.close()


async def migrate_key_store_where_allowed(connection: Connection) -> None:
    """For who starts: raises `DatabaseSetupError` when something is missing and this role may not migrate."""
    if await missing_migrations(connection, KEY_STORE):
        await _migrate(connection)


async def _migrate(connection: Connection) -> list[str]:
    try:
        async with connection.transaction():
            # several could not make it at once
            await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        return await migrate(connection, KEY_STORE)
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseSetupError(f"this role can't make the key store ({error}): {HOW_TO_MIGRATE}") from error


async def read_keys(connection: Connection, key_ids: Collection[UUID]) -> Mapping[UUID, WrappedKey]:
    """Those that there are."""
    rows = await connection.fetch(
        """
        SELECT key_id, wrapping_key_id, wrapped_key FROM data_key
        WHERE key_id = ANY($1::uuid[]) AND wrapped_key IS NOT NULL
        """,
        list(key_ids),
    )
    return {row["key_id"]: WrappedKey(row["wrapping_key_id"], row["wrapped_key"]) for row in rows}


async def count_wrapped_by_others(connection: Connection, current: str) -> int:
    """How many keys another key than the current one wraps."""
    number: int = await connection.fetchval(
        "SELECT count(*) FROM data_key WHERE wrapping_key_id <> $1 AND wrapped_key IS NOT NULL", current
    )
    return number


async def read_wrapped_by_others(
    connection: Connection, current: str, after: UUID, limit: int
) -> Mapping[UUID, WrappedKey]:
    """A page of these in the order of their ids."""
    rows = await connection.fetch(
        """
        SELECT key_id, wrapping_key_id, wrapped_key FROM data_key
        WHERE wrapping_key_id <> $1 AND wrapped_key IS NOT NULL AND key_id > $2 ORDER BY key_id LIMIT $3
        """,
        current,
        after,
        limit,
    )
    return {row["key_id"]: WrappedKey(row["wrapping_key_id"], row["wrapped_key"]) for row in rows}


async def replace_keys(
    connection: Connection, old: Mapping[UUID, WrappedKey], new: Mapping[UUID, WrappedKey]
) -> None:
    """The same data keys, wrapped anew; what was deleted or wrapped anew meanwhile stays as it is."""
    await connection.executemany(
        """
        UPDATE data_key SET wrapping_key_id = $3, wrapped_key = $4 WHERE key_id = $1 AND wrapped_key = $2
        """,
        [(key_id, old[key_id].wrapped, key.wrapping_key_id, key.wrapped) for key_id, key in new.items()],
    )


async def retire_wrapping_keys(
    connection: Connection, current: str
) -> tuple[Sequence[str], Mapping[str, int]]:
    """Forgets the keys of before the current one that wrap nothing any more; their ids, and what others still wrap."""
    retired = await connection.fetch(
        """
        DELETE FROM wrapping_key w USING wrapping_key c
        WHERE c.wrapping_key_id = $1 AND w.first_seen_at < c.first_seen_at
          AND NOT EXISTS (SELECT FROM data_key k WHERE k.wrapping_key_id = w.wrapping_key_id)
        RETURNING w.wrapping_key_id
        """,
        current,
    )
    needed = await connection.fetch(
        """
        SELECT wrapping_key_id, count(*) AS number FROM data_key
        WHERE wrapping_key_id <> $1 GROUP BY wrapping_key_id ORDER BY wrapping_key_id
        """,
        current,
    )
    return [row["wrapping_key_id"] for row in retired], {
        row["wrapping_key_id"]: row["number"] for row in needed
    }


async def add_key(connection: Connection, key_id: UUID, key: WrappedKey) -> bool:
    """False when the id has a key or had one, or the key that wraps it has been retired here."""
    with suppress(asyncpg.ForeignKeyViolationError):
        added: bool | None = await connection.fetchval(
            """
            INSERT INTO data_key (key_id, wrapping_key_id, wrapped_key) VALUES ($1, $2, $3)
            ON CONFLICT DO NOTHING RETURNING true
            """,
            key_id,
            key.wrapping_key_id,
            key.wrapped,
        )
        return added or False
    return False


async def delete_key(connection: Connection, key_id: UUID, why: Deletion) -> None:
    """Also of an id that has no key: what else is of that person is to be deleted as well."""
    await connection.execute(
        """
        INSERT INTO data_key AS k (key_id, deleted_at, deletion) VALUES ($1, clock_timestamp(), $2::text::deletion)
        ON CONFLICT (key_id) DO UPDATE
            SET wrapped_key = NULL, wrapping_key_id = NULL, deleted_at = clock_timestamp(),
                deletion = greatest(k.deletion, excluded.deletion)
        """,
        key_id,
        why,
    )


async def is_deleted(connection: Connection, key_id: UUID) -> bool:
    found: bool | None = await connection.fetchval(
        "SELECT deleted_at IS NOT NULL FROM data_key WHERE key_id = $1", key_id
    )
    return found or False


async def read_deletions(
    connection: Connection, since: timedelta | None, after: Deleted | None, limit: int
) -> Sequence[Deleted]:
    """A page of the erasure log in the order of time, of so long or, with None, of all time."""
    rows = await connection.fetch(
        """
        SELECT key_id, deleted_at, deletion::text FROM data_key
        WHERE deleted_at > coalesce(clock_timestamp() - $1::interval, '-infinity')
          AND (deleted_at, key_id) > (coalesce($2::timestamptz, '-infinity'), $3::uuid)
        ORDER BY deleted_at, key_id LIMIT $4
        """,
        since,
        after.deleted_at if after else None,
        after.key_id if after else UUID(int=0),
        limit,
    )
    return [Deleted(row["key_id"], row["deleted_at"], Deletion(row["deletion"])) for row in rows]
