"""Plain SQL migrations, forward only, applied once each in the order of their names, each in a transaction of its own.

A migration is applied while the version before it serves. Its header may name the last migration of the oldest version
that can go on beside it: `-- runs-beside: 0002_rights.sql`. That is kept in the database, where an older version reads
it. How to write one: docs/operations.md, "Upgrade".
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from fnmatch import fnmatch
from importlib import resources
from typing import Any

import asyncpg

from checkin_service.adapters.postgres.database import (
    SESSION_SETTINGS,
    Connection,
    DatabaseSetupError,
    reaching,
)

# One migrator at a time, whichever process it runs in.
MIGRATION_LOCK = 0x636869

# The files of the main database, and of the key store.
MAIN, KEY_STORE = "[0-9]*.sql", "key_store_[0-9]*.sql"

LOCK_TIMEOUT = "300ms"
"""So long a migration waits for a table, and whoever comes after it to that table with it."""
LOCK_PAUSE_S = 1.0
"""For whom it has kept waiting, before it tries again."""
LOCK_TRIES = 60

HOW_TO_MIGRATE = (
    "run `python -m checkin_service migrate` with CHECKIN_MIGRATION_DATABASE_URL of the tables' owner"
)

_RUNS_BESIDE = re.compile(r"^-- runs-beside: (\S+)$", re.MULTILINE)


async def migrate(connection: Connection, series: str = MAIN) -> list[str]:
    """Applies what is missing and returns the names applied. Safe to run at any time: one that waits too long for a
    lock lets the traffic pass and tries again.

    Raises `DatabaseSetupError` for a database of a newer version or an unpublished one, a role without the rights, a
    migration beside which the processes that run can't go on, and locks that somebody holds for good.
    """
    try:
        async with _alone(connection):
            missing = await missing_migrations(connection, series)
            await _refuse_beside_others(connection, missing)
            for name, text in missing.items():
                await _apply_patiently(connection, name, text)
            return list(missing)
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseSetupError(f"this role can't migrate ({error}): {HOW_TO_MIGRATE}") from error


@asynccontextmanager
async def _alone(connection: Connection) -> AsyncIterator[None]:
    """The only migrator of this database."""
    await connection.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)
    try:
        yield
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", MIGRATION_LOCK)


async def migrate_at(url: str) -> list[str]:
    """`migrate` with the rights that the URL gives."""
    with reaching(url):
        connection = await asyncpg.connect(url)
    try:
        return await migrate(connection)
    finally:
        await connection.close()


async def migrate_where_allowed(connection: Connection) -> None:
    """For who starts: raises `DatabaseSetupError` when something is missing and this role may not migrate."""
    missing = await missing_migrations(connection)
    if not missing:
        return
    if not await connection.fetchval("SELECT has_schema_privilege('public', 'CREATE')"):
        raise DatabaseSetupError(f"the database lacks {', '.join(missing)}: {HOW_TO_MIGRATE}")
    await migrate(connection)


async def may_rewrite(connection: Connection) -> bool:
    """Whether this role has rights that no service needs: to change attempts or the audit."""
    found: bool = await connection.fetchval(
        """
        SELECT bool_or(has_table_privilege(name, 'UPDATE, DELETE, TRUNCATE'))
        FROM unnest(ARRAY['attempt', 'audit']) AS name
        """
    )
    return found


async def missing_migrations(connection: Connection, series: str = MAIN) -> Mapping[str, str]:
    """Name and text of what was not applied yet, in order; only looks.

    Raises `DatabaseSetupError` for a database of an unpublished version, or of a newer one beside which this can't run.
    """
    scripts = migration_scripts(series)
    applied = await _applied(connection)
    newer = {name: row["runs_beside"] for name, row in applied.items() if name not in scripts}
    _refuse_newer({name for name, runs_beside in newer.items() if runs_beside not in scripts})
    _refuse_other(
        {name for name, row in applied.items() if name in scripts and row["digest"] != _digest(scripts[name])}
    )
    return {name: text for name, text in scripts.items() if name not in applied}


async def _applied(connection: Connection) -> dict[str, Any]:
    """Digest and `runs_beside` by name; None where the table knows none."""
    if await connection.fetchval("SELECT to_regclass('migration') IS NULL"):
        return {}
    rows = await connection.fetch(
        """
        SELECT name, to_jsonb(m)->>'digest' AS digest, to_jsonb(m)->>'runs_beside' AS runs_beside FROM migration m
        """
    )
    return {row["name"]: row for row in rows}


async def _refuse_beside_others(connection: Connection, missing: Mapping[str, str]) -> None:
    """A migration that says nothing is for nobody to run beside. An empty database serves nobody."""
    applied = await _applied(connection)
    breaking = [name for name, text in missing.items() if _runs_beside(text) not in applied]
    if not applied or not breaking:
        return
    serving = await connection.fetchval(
        """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = $1 AND pid <> pg_backend_pid()
        """,
        SESSION_SETTINGS["application_name"],
    )
    if serving:
        raise DatabaseSetupError(
            f"no older version can run beside {', '.join(breaking)}, and {serving} connections are served by one: "
            "stop every process of the service, then " + HOW_TO_MIGRATE
        )


async def _apply_patiently(connection: Connection, name: str, text: str) -> None:
    for _ in range(LOCK_TRIES):
        try:
            await _apply(connection, name, text)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            await asyncio.sleep(LOCK_PAUSE_S)
        else:
            return
    raise DatabaseSetupError(
        f"{name} can't be applied: somebody holds a table that it needs; find who that is in pg_locks, and try again"
    )


async def _apply(connection: Connection, name: str, text: str) -> None:
    async with connection.transaction():
        await connection.execute(
            f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; SET LOCAL statement_timeout = 0"
        )
        await connection.execute(
            """
            CREATE TABLE IF NOT EXISTS migration (
                name text PRIMARY KEY, digest text NOT NULL, runs_beside text, at timestamptz NOT NULL DEFAULT now())
            """
        )
        await connection.execute(text)
        await connection.execute(
            "INSERT INTO migration (name, digest, runs_beside) VALUES ($1, $2, $3)",
            name,
            _digest(text),
            _runs_beside(text),
        )


def migration_scripts(series: str = MAIN) -> dict[str, str]:
    """Name and text of every migration of this version, in order."""
    files = resources.files("checkin_service.migrations").iterdir()
    return {
        f.name: f.read_text("utf-8") for f in sorted(files, key=lambda f: f.name) if fnmatch(f.name, series)
    }


def _runs_beside(text: str) -> str | None:
    found = _RUNS_BESIDE.search(text)
    return found[1] if found else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _refuse_newer(unknown: Collection[str]) -> None:
    if unknown:
        raise DatabaseSetupError(
            f"the database was migrated by a newer version ({', '.join(sorted(unknown))}); "
            "start that version, or restore a backup from before it"
        )


def _refuse_other(changed: Collection[str]) -> None:
    if changed:
        raise DatabaseSetupError(
            f"the database was made by an unpublished version, whose {', '.join(sorted(changed))} was another: "
            "start with an empty database, or set CHECKIN_DATA_DIR to a new directory"
        )
