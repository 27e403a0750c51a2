"""Least rights: what the service's role can't do, how a database is set up, and what a start says without them."""

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from checkin_service.adapters.embedded import EmbeddedStores, as_role
from checkin_service.adapters.postgres.database import DatabaseSetupError
from checkin_service.adapters.postgres.migrate import migrate_at
from tests.service.rows import accepted_rows, store
from tests.service.stage import Stage, running_service
from tests.service.window import CLOSES_AT, task_at_noon

README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
FORBIDDEN = [
    "UPDATE attempt SET outcome = 'accepted'",
    "DELETE FROM attempt",
    "DELETE FROM acceptance",
    "UPDATE acceptance SET accepted_at = now()",
    "UPDATE receipt SET received_at = now()",
    "UPDATE review SET received_at = now()",
    "UPDATE task SET opens_at = now()",
    "DELETE FROM task",
    "INSERT INTO audit DEFAULT VALUES",
    "UPDATE change SET type = 'x'",
    "DELETE FROM change",
    "DELETE FROM member",
    "UPDATE member SET person_id = 'x'",
    "UPDATE fence_version SET buffer_m = 500",
    "UPDATE template SET sealed = ''",
    "UPDATE calendar_year SET days_off = '{}'",
    "ALTER TABLE acceptance DROP CONSTRAINT accepted_in_window",
    "CREATE TABLE mine (a integer)",
    "CREATE OR REPLACE FUNCTION checkin_now() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
    "ALTER ROLE checkin_service SUPERUSER",
    "SET session_replication_role = replica",
]


@pytest.fixture
async def service(database_url: str) -> asyncpg.Connection:
    return await asyncpg.connect(as_role(database_url, "checkin_service"))


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_the_services_role_may_not(service: asyncpg.Connection, statement: str) -> None:
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.execute(statement)
    finally:
        await service.close()


async def test_no_table_may_be_emptied_at_once(database_url: str, service: asyncpg.Connection) -> None:
    try:
        tables = await service.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert len(tables) > 20
        for (table,) in tables:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await service.execute(f"TRUNCATE {table} CASCADE")
    finally:
        await service.close()


async def test_attempts_of_an_open_task_outlast_every_purge(stage: Stage) -> None:
    """However early the service says that what is to go began."""
    await task_at_noon(stage, "T1")
    await store(stage, accepted_rows("T1"))
    connection = await asyncpg.connect(stage.service_url)
    try:
        await stage.set_clock(CLOSES_AT)
        for function in ("purge_refused_attempts", "purge_attempt_figures"):
            assert await connection.fetchval(f"SELECT {function}('infinity', '{{T1}}', 1000)") == 0
        assert await connection.fetchval("SELECT purge_audit('infinity', 1000)") == 0
    finally:
        await connection.close()


async def test_what_an_erasure_takes_is_in_the_audit_whoever_asks(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await store(stage, accepted_rows("T1"))
    connection = await asyncpg.connect(stage.service_url)
    try:
        await connection.execute("SELECT erase_judged('p-1', 'i', 'somebody', 'pseudonym')")
    finally:
        await connection.close()
    [row] = await stage.sql("SELECT actor FROM audit WHERE action = 'erase'")
    assert row["actor"] == "somebody"


# --- Setting up ---


async def test_the_readme_sets_up_a_database_of_three_roles(stores: EmbeddedStores, tmp_path: Path) -> None:
    """Its statements as they stand, but for names that the tests' server has already; `migrate` as the owner does the
    rest, and the service's role serves."""
    name, owner = f"three_{uuid4().hex[:8]}", f"owner_{uuid4().hex[:8]}"
    server = await asyncpg.connect(stores.database_url)
    try:
        for statement in _statements():
            ours = statement.replace("checkin_owner", owner).replace("DATABASE checkin", f"DATABASE {name}")
            if re.search(r"ROLE checkin_(service|auditor)", ours):
                role = re.findall(r"ROLE (\w+)", ours)[0]
                if await server.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role):
                    continue
            await server.execute(ours)
    finally:
        await server.close()
    url = urlsplit(stores.database_url or "")._replace(path=f"/{name}").geturl()
    service, migration = as_role(url, "checkin_service"), as_role(url, owner)
    environment = {"DATABASE_URL": service, "CHECKIN_DATA_DIR": str(tmp_path)}
    refused = await _run("sweep", environment)
    assert refused[0] == 1
    assert await _run("migrate", {**environment, "CHECKIN_MIGRATION_DATABASE_URL": migration}) == (
        0,
        "applied 0001_main_job.sql\napplied 0002_rights.sql\napplied key_store_0001.sql\n",
    )
    async with running_service(migration, stores.redis_url or "", tmp_path) as stage:
        assert (await stage.register("T1", "p-1")).status == 201
        head = (await stage.platform("GET", "/v1/audit/head")).body
    told = f"{head['seq']}:{head['hash']}"
    auditor = {**environment, "CHECKIN_AUDIT_DATABASE_URL": as_role(url, "checkin_auditor")}
    assert await _run("audit-verify", auditor, "--head", told) == (
        0,
        f"1 rows, 0 without their details, head {told}\n",
    )
    connection = await asyncpg.connect(migration)
    await connection.execute("UPDATE audit SET actor = 'x'")
    await connection.close()
    ended, printed = await _run("audit-verify", auditor)
    assert (ended, printed.splitlines()[0]) == (1, "row 1: changed")
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE audit SET actor = 'platform'")
    await connection.execute(AN_ATTEMPT)
    await connection.close()
    ended, printed = await _run("audit-verify", auditor)
    assert (ended, printed.splitlines()[0].rpartition(": ")[2]) == (1, "not what the audit tells")


# past the service, and past the foreign keys
AN_ATTEMPT = """
    SET session_replication_role = replica;
    INSERT INTO attempt (check_in_id, task_id, person_id, received_at, shanghai_day, outcome, reasons, counted)
    VALUES (gen_random_uuid(), 'T1', 'p-1', now(), '2026-11-20', 'rejected', '{}', true)
"""


def _statements() -> list[str]:
    block = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)[0]
    return [statement.strip() for statement in block.split(";") if statement.strip()]


async def _run(command: str, environment: Mapping[str, str], *options: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "checkin_service", command, *options),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode()


async def test_a_start_that_may_not_migrate_says_who_has_to(stores: EmbeddedStores, tmp_path: Path) -> None:
    name = f"empty_{uuid4().hex[:8]}"
    server = await asyncpg.connect(stores.database_url)
    try:
        if not await server.fetchval("SELECT true FROM pg_roles WHERE rolname = 'checkin_service'"):
            await server.execute("CREATE ROLE checkin_service LOGIN")
        await server.execute(f"CREATE DATABASE {name}")
    finally:
        await server.close()
    url = urlsplit(stores.database_url or "")._replace(path=f"/{name}").geturl()
    with pytest.raises(DatabaseSetupError, match="CHECKIN_MIGRATION_DATABASE_URL"):
        async with running_service(url, stores.redis_url or "", tmp_path):
            pytest.fail("it started on an empty database")
    with pytest.raises(DatabaseSetupError, match="CHECKIN_MIGRATION_DATABASE_URL"):
        await migrate_at(as_role(url, "checkin_service"))


async def test_a_database_of_an_unpublished_version_is_refused_in_a_sentence(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("ALTER TABLE migration DROP COLUMN digest")
    finally:
        await connection.close()
    with pytest.raises(DatabaseSetupError, match="unpublished version"):
        await migrate_at(database_url)
