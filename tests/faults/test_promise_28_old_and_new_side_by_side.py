"""Promise 28: old and new version run side by side: while the database is migrated both serve, and both are right.

The new version is this one with made-up migrations added, in a folder of the test's own.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres import migrate
from checkin_service.adapters.postgres.database import DatabaseSetupError
from checkin_service.adapters.postgres.key_store import migrate_key_store_at
from tests.faults.clients import Caller, calling
from tests.faults.processes import processes
from tests.faults.record import Record
from tests.faults.served import know_also
from tests.faults.storm import Storm, broken_promises, enrol_all
from tests.faults.test_promise_17_a_poll_is_consistent import Poller, polling
from tests.service.stage import FAR, Stage, running_service, until

SHORT, FULL = Storm(persons=12, tasks=3, strikes=0), Storm(persons=64, tasks=20, strikes=0)

# What the old version reads and writes, with more to it.
COMPATIBLE = {
    "0098_more_of_an_attempt.sql": """-- runs-beside: 0002_rights.sql
        ALTER TABLE attempt ADD COLUMN weather text;
        ALTER TABLE receipt ADD COLUMN weather text;
        ALTER TABLE member ADD COLUMN nickname text;
    """,
    "0099_more_of_a_case.sql": """-- runs-beside: 0002_rights.sql
        CREATE TABLE weather (task_id text PRIMARY KEY REFERENCES task, told text NOT NULL);
        GRANT SELECT, INSERT, UPDATE, DELETE ON weather TO checkin_service;
        CREATE INDEX attempt_weather ON attempt (weather) WHERE weather IS NOT NULL;
    """,
    "key_store_0099_more_of_a_key.sql": """-- runs-beside: key_store_0001.sql
        ALTER TABLE data_key ADD COLUMN made_by text;
    """,
}
RENAMED = {"0099_another_name.sql": "ALTER TABLE attempt RENAME COLUMN outcome TO result"}
RENAMED_KEY = {"key_store_0099_another_name.sql": "ALTER TABLE data_key RENAME COLUMN wrapped_key TO wrapped"}


Newer = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Newer:
    """Makes a folder of what the newer version has more, which `migrate_at` takes for its own from then on."""

    def make(scripts: Mapping[str, str]) -> Path:
        (folder := tmp_path / "migrations").mkdir()
        for name, text in scripts.items():
            (folder / name).write_text(text, "utf-8")
        monkeypatch.setattr(migrate, "migration_scripts", migrate.migration_scripts)
        know_also(folder)
        return folder

    return make


async def upgrade(url: str) -> list[str]:
    return [*await migrate.migrate_at(url), *await migrate_key_store_at(url)]


async def submit(caller: Caller, storm: Storm, person_ids: list[str]) -> None:
    async def one_person(person_id: str) -> None:
        for task_id in storm.task_ids:
            await caller.check_in(person_id, task_id, FAR)
            await caller.check_in(person_id, task_id)

    async with asyncio.TaskGroup() as group:
        for person_id in person_ids:
            group.create_task(one_person(person_id))


async def test_both_serve_while_the_database_is_migrated(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path, newer: Newer, full: bool, record: Record
) -> None:
    storm = FULL if full else SHORT
    await enrol_all(stage, storm)
    at = stage.database_url, stores.redis_url or "", stage.settings.data_dir
    folder, poller = newer(COMPATIBLE), Poller(stage, [str(stage.client.make_url("/")).rstrip("/")])
    before, beside, again = (storm.person_ids[part::3] for part in range(3))
    async with (
        processes(1, tmp_path, *at, "--analyse-slowly") as [old],
        calling([old.base], at[2]) as caller,
        polling(poller, storm),
        asyncio.TaskGroup() as group,
    ):
        group.create_task(submit(caller, storm, before))
        await until(lambda: caller.judged > 0)
        assert await upgrade(at[0]) == list(COMPATIBLE)
        during = caller.judged
        async with processes(1, folder, *at, "--migrations", str(folder)) as [new]:
            poller.bases = caller.bases = [old.base, new.base]
            await submit(caller, storm, beside)
            submitting = group.create_task(submit(caller, storm, again))
            # the old one again, on the new schema
            await old.stop()
            old.start()
            await old.ready()
            await submitting
    assert await broken_promises(stage, caller, storm) == []
    assert poller.wrong == []
    assert during < 2 * len(before) * storm.tasks
    record.kept(
        f"{storm.submissions} submissions and {poller.read} polls, migrated after {during}: both versions right, "
        "the old one started again beside the new one"
    )


async def test_nothing_is_applied_beside_which_the_old_version_breaks(
    stage: Stage, newer: Newer, tmp_path: Path
) -> None:
    newer(RENAMED)
    with pytest.raises(DatabaseSetupError, match="0099_another_name"):
        await upgrade(stage.database_url)
    await stage.ready_task("T1", "p-1")
    assert (await stage.check_in("p-1", "T1")).body["outcome"] == "accepted"


async def test_control_an_old_version_breaks_beside_another_name(
    stage: Stage, newer: Newer, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    newer(RENAMED)
    monkeypatch.setattr(migrate, "_refuse_beside_others", lambda *_: asyncio.sleep(0))
    await stage.ready_task("T1", "p-1")
    await upgrade(stage.database_url)
    assert (await stage.check_in("p-1", "T1")).status == 500
    record.control("a column renamed while the old version runs: a check-in is a 500")


@pytest.mark.parametrize("scripts", [RENAMED, RENAMED_KEY])
async def test_an_old_version_does_not_start_where_it_would_break(
    database_url: str,
    stores: EmbeddedStores,
    newer: Newer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    scripts: Mapping[str, str],
) -> None:
    newer(scripts)
    await upgrade(database_url)
    monkeypatch.undo()
    with pytest.raises(DatabaseSetupError, match="newer version"):
        async with running_service(database_url, stores.redis_url or "", tmp_path):
            pytest.fail("it started where nothing fits")


async def waited(stage: Stage) -> float:
    """How long a check-in takes while a migration waits for a table that somebody reads all along."""
    await stage.ready_task("T1", "p-1")
    async with stage.holding("LOCK TABLE attempt IN ACCESS SHARE MODE"):
        upgrading = asyncio.create_task(upgrade(stage.database_url))
        await stage.until_waiting(1)
        since = time.monotonic()
        reply = await stage.check_in("p-1", "T1")
        took_s = time.monotonic() - since
        assert not upgrading.done()
    await upgrading
    return took_s if reply.status == 201 else math.inf


async def test_a_migration_that_waits_lets_check_ins_pass(stage: Stage, newer: Newer, record: Record) -> None:
    newer(COMPATIBLE)
    took_s = await waited(stage)
    assert took_s < math.inf
    record.kept(f"a check-in while a migration waits for its table: {took_s:.1f} s")


async def test_control_without_a_limit_check_ins_wait_with_the_migration(
    stage: Stage, newer: Newer, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    newer(COMPATIBLE)
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT", "0")
    assert await waited(stage) == math.inf
    record.control("a migration that waits without a limit: a check-in is a 503")
