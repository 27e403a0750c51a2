"""The key store of another installation, or an empty one: nothing starts on it, and nothing is written to it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from checkin_service import app
from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres.database import Database, DatabaseSetupError
from checkin_service.adapters.postgres.key_store import migrate_key_store_at
from tests.faults.test_promise_19_deleted_is_deleted import Site, new_database
from tests.service.databases import Databases, service_url
from tests.service.stage import Stage

MakeSite = Callable[[], Awaitable[Site]]


@pytest.fixture
def make_site(stores: EmbeddedStores, databases: Databases, tmp_path: Path) -> MakeSite:
    """Another installation each time, all with the same key files: by these no two can be told apart."""

    async def make() -> Site:
        return Site(stores, await databases.make(), await empty_key_store(stores), tmp_path)

    return make


async def empty_key_store(stores: EmbeddedStores) -> str:
    url = await new_database(stores)
    await migrate_key_store_at(url)
    return url


async def in_use(make_site: MakeSite) -> Site:
    site = await make_site()
    async with site.served() as stage:
        await stage.ready_task("T1", "p-1", "p-2")
    return site


async def rows(url: str) -> list[int]:
    """Of each table of the key store."""
    connection = await asyncpg.connect(url)
    tables = ("data_key", "wrapping_key", "installation")
    found = [await connection.fetchval(f"SELECT count(*) FROM key_store.{table}") for table in tables]
    await connection.close()
    return found


async def refused(site: Site, said: str) -> None:
    with pytest.raises(DatabaseSetupError, match=said):
        async with site.served():
            pytest.fail("it started")


async def test_with_swapped_key_stores_neither_starts(make_site: MakeSite) -> None:
    first, second = await in_use(make_site), await in_use(make_site)
    before = await rows(first.key_store_url), await rows(second.key_store_url)
    await refused(replace(first, key_store_url=second.key_store_url), "another installation")
    await refused(replace(second, key_store_url=first.key_store_url), "another installation")
    assert (await rows(first.key_store_url), await rows(second.key_store_url)) == before
    for site in (first, second):
        async with site.served() as stage:
            assert (await stage.check_in("p-1", "T1")).body["outcome"] == "accepted"


async def test_a_new_database_takes_no_key_store_that_is_in_use(make_site: MakeSite) -> None:
    used, fresh = await in_use(make_site), await make_site()
    await refused(replace(fresh, key_store_url=used.key_store_url), "another installation")


async def test_an_empty_key_store_is_taken_on_purpose_alone(make_site: MakeSite) -> None:
    site = await in_use(make_site)
    lost = replace(site, key_store_url=await empty_key_store(site.stores))
    await refused(lost, "adopt-key-store")
    assert await rows(lost.key_store_url) == [0, 0, 0]
    assert (await command(lost, "adopt-key-store")).returncode == 0
    async with lost.served() as stage:
        assert (await stage.check_in("p-1", "T1")).status == 503
        assert (await stage.enrol("p-1")).status == 201
        assert (await stage.check_in("p-1", "T1")).body["outcome"] == "accepted"
        [row] = await stage.sql("SELECT actor FROM audit WHERE action = 'adopt_key_store'")
        assert row["actor"] == "operator"
    # and the one before is no more its own than any other
    assert (
        await command(replace(lost, url=(await in_use(make_site)).url), "adopt-key-store")
    ).returncode == 1


async def test_no_command_works_on_it_either(make_site: MakeSite) -> None:
    site = await in_use(make_site)
    wrong = replace(site, key_store_url=(await in_use(make_site)).key_store_url)
    done = await asyncio.gather(*(command(wrong, name) for name in ("purge", "after-restore", "rekey")))
    assert [(run.returncode, "CHECKIN_KEY_STORE_URL" in run.stderr) for run in done] == [(1, True)] * 3


async def command(site: Site, name: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "DATABASE_URL": service_url(site.url),
        "CHECKIN_KEY_STORE_URL": service_url(site.key_store_url),
        "CHECKIN_DATA_DIR": str(site.data_dir),
    }
    run = (sys.executable, "-m", "checkin_service", name)
    return await asyncio.to_thread(subprocess.run, run, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("change", ["SET installation_id = gen_random_uuid()", None])
async def test_readiness_sees_another_one_in_its_place(make_site: MakeSite, change: str | None) -> None:
    async with (site := await make_site()).served() as stage:
        assert await key_store_check(stage) == "ok"
        connection = await asyncpg.connect(site.key_store_url)
        await connection.execute(
            f"UPDATE key_store.installation {change}" if change else "DROP TABLE key_store.installation"
        )
        await connection.close()
        assert await key_store_check(stage) != "ok"


async def key_store_check(stage: Stage) -> str:
    async with stage.client.get("/readyz") as answer:
        told = (await answer.json())["checks"]["key_store"]
        assert (answer.status == 200) == (told == "ok")
        return str(told)


async def test_control_unpaired_a_key_is_written_where_nobody_looks(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await in_use(make_site), await in_use(make_site)
    before = await rows(second.key_store_url)

    async def unpaired(_: Database, __: Database, **___: bool) -> None: ...

    monkeypatch.setattr(app, "pair_key_store", unpaired)
    async with replace(first, key_store_url=second.key_store_url).served() as stage:
        assert (await stage.check_in("p-1", "T1")).status == 503
        assert (await stage.enrol("p-1")).status == 201
    assert await rows(second.key_store_url) == [before[0] + 1, *before[1:]]
