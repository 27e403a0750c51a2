"""Databases at this version's schema, used again and again: making one writes hundreds of files."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from checkin_service.adapters.embedded import as_role
from checkin_service.adapters.postgres.key_store import migrate_key_store_at
from checkin_service.adapters.postgres.migrate import migrate

TEMPLATE = "migrated"
SERVICE = "checkin_service"
_CLOCK = """
    CREATE OR REPLACE FUNCTION checkin_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()'
"""
# Foreign keys are looked away from: in the end everything is gone.
_EMPTY = """
    DO $$
    DECLARE name text;
    BEGIN
        SET LOCAL lock_timeout = '2s';
        SET LOCAL session_replication_role = replica;
        FOR name IN SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
                    WHERE schemaname IN ('public', 'key_store') AND tablename <> 'migration' LOOP
            EXECUTE 'DELETE FROM ' || name;
        END LOOP;
        INSERT INTO feed_epoch DEFAULT VALUES;
    END $$
"""
_SCHEMA = """
    SELECT md5(string_agg(definition, ';' ORDER BY definition)) FROM (
        SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL
        SELECT conrelid::regclass || conname || pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace
        UNION ALL
        SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL
        SELECT attrelid::regclass || attname || attnotnull || format_type(atttypid, atttypmod)
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE relnamespace::regnamespace::text IN ('public', 'key_store') AND attnum > 0
        UNION ALL
        SELECT viewname || definition FROM pg_views WHERE schemaname = 'public'
        UNION ALL
        SELECT tgrelid::regclass || pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL
        SELECT setconfig::text FROM pg_db_role_setting JOIN pg_database ON pg_database.oid = setdatabase
        WHERE datname = current_database()
    ) AS definitions (definition)
"""


def service_url(url: str) -> str:
    """The same database with the service's rights; the URLs of `Databases` are the owner's."""
    return as_role(url, SERVICE)


@dataclass(slots=True)
class Databases:
    """Those of one server. A database whose schema a test has changed is not used again."""

    server_url: str
    _schema: str | None = None
    _idle: list[str] = field(default_factory=list)

    async def take(self) -> str:
        """The URL of an empty one."""
        return self._idle.pop() if self._idle else await self.make()

    async def make(self) -> str:
        """The URL of a new one."""
        server = await asyncpg.connect(self.server_url)
        try:
            if self._schema is None:
                await self._make_template(server)
            name = f"test_{uuid4().hex}"
            await server.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        finally:
            await server.close()
        return self._named(name)

    async def give_back(self, url: str) -> None:
        """Empties it and sets its clock going, if its schema is still the one it was made with."""
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(_CLOCK)
            if await connection.fetchval(_SCHEMA) == self._schema:
                await connection.execute(_EMPTY)
                self._idle.append(url)
        finally:
            await connection.close()

    async def _make_template(self, server: asyncpg.Connection) -> None:
        await server.execute(f"CREATE DATABASE {TEMPLATE}")
        template = await asyncpg.connect(self._named(TEMPLATE))
        try:
            await migrate(template)
            await migrate_key_store_at(self._named(TEMPLATE))
            await template.execute(_CLOCK)
            self._schema = await template.fetchval(_SCHEMA)
        finally:
            await template.close()

    def _named(self, name: str) -> str:
        return urlunsplit(urlsplit(self.server_url)._replace(path=f"/{name}"))
