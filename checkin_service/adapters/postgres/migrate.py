"""Plain SQL migrations, forward only, applied once each in the order of their names."""

from importlib import resources

from checkin_service.adapters.postgres.database import Connection, DatabaseSetupError

# One migrator at a time, whichever process it runs in.
MIGRATION_LOCK = 0x636869


async def migrate(connection: Connection) -> list[str]:
    """Applies what is missing, all or nothing, and returns the names applied. Safe to run at any time."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migration (name text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"
        )
        applied = {row["name"] for row in await connection.fetch("SELECT name FROM migration")}
        scripts = migration_scripts()
        _refuse_newer(applied - scripts.keys())
        missing = [name for name in scripts if name not in applied]
        for name in missing:
            await connection.execute(scripts[name])
            await connection.execute("INSERT INTO migration (name) VALUES ($1)", name)
        return missing


def migration_scripts() -> dict[str, str]:
    """Name and text of every migration of this version, in order."""
    files = resources.files("checkin_service.migrations").iterdir()
    return {
        f.name: f.read_text("utf-8") for f in sorted(files, key=lambda f: f.name) if f.name.endswith(".sql")
    }


def _refuse_newer(unknown: set[str]) -> None:
    if unknown:
        raise DatabaseSetupError(
            f"the database was migrated by a newer version ({', '.join(sorted(unknown))}); "
            "start that version, or restore a backup from before it"
        )
