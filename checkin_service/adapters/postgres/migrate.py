"""Plain SQL migrations, forward only, applied once each in the order of their names."""

import hashlib
from collections.abc import Collection, Mapping
from fnmatch import fnmatch
from importlib import resources

import asyncpg

from checkin_service.adapters.postgres.database import Connection, DatabaseSetupError

# One migrator at a time, whichever process it runs in.
MIGRATION_LOCK = 0x636869

# The files of the main database, and of the key store.
MAIN, KEY_STORE = "[0-9]*.sql", "key_store_[0-9]*.sql"

HOW_TO_MIGRATE = (
    "run `python -m checkin_service migrate` with CHECKIN_MIGRATION_DATABASE_URL of the tables' owner"
)


async def migrate(connection: Connection, series: str = MAIN) -> list[str]:
    """Applies what is missing, all or nothing, and returns the names applied. Safe to run at any time.

    Raises `DatabaseSetupError` for a database of a newer version or an unpublished one, or a role without the rights.
    """
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
            if missing := await missing_migrations(connection, series):
                await _apply(connection, missing)
            return list(missing)
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseSetupError(f"this role can't migrate ({error}): {HOW_TO_MIGRATE}") from error


async def migrate_at(url: str) -> list[str]:
    """`migrate` with the rights that the URL gives."""
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

    Raises `DatabaseSetupError` for a database of a newer version or an unpublished one.
    """
    scripts = migration_scripts(series)
    applied = await _applied(connection)
    _refuse_newer(applied.keys() - scripts.keys())
    _refuse_other({name for name, digest in applied.items() if digest != _digest(scripts[name])})
    return {name: text for name, text in scripts.items() if name not in applied}


async def _applied(connection: Connection) -> dict[str, str | None]:
    """Digest by name. None where the table knows none."""
    if await connection.fetchval("SELECT to_regclass('migration') IS NULL"):
        return {}
    rows = await connection.fetch("SELECT name, to_jsonb(m)->>'digest' AS digest FROM migration m")
    return {row["name"]: row["digest"] for row in rows}


async def _apply(connection: Connection, missing: Mapping[str, str]) -> None:
    await connection.execute(
        """
        CREATE TABLE IF NOT EXISTS migration (
            name text PRIMARY KEY, digest text NOT NULL, at timestamptz NOT NULL DEFAULT now())
        """
    )
    for name, text in missing.items():
        await connection.execute(text)
        await connection.execute("INSERT INTO migration (name, digest) VALUES ($1, $2)", name, _digest(text))


def migration_scripts(series: str = MAIN) -> dict[str, str]:
    """Name and text of every migration of this version, in order."""
    files = resources.files("checkin_service.migrations").iterdir()
    return {
        f.name: f.read_text("utf-8") for f in sorted(files, key=lambda f: f.name) if fnmatch(f.name, series)
    }


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
