"""Promise 25: PostgreSQL's or the object store's disk full: 503, nothing half written, and it recovers by itself."""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from checkin_service.adapters import object_store
from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.object_store import EvidenceStore
from tests.faults import nemesis
from tests.faults.nemesis import OwnStores
from tests.faults.record import Record
from tests.service.conftest import UNLIMITED
from tests.service.stage import Json, Reply, Stage, check_in_fields, photo_of, running_service

DATABASE_MB, EVIDENCE_MB = 224, 1
PERSONS = [f"p-{n}" for n in range(8)]


@dataclass(frozen=True, slots=True)
class Disk:
    """A small one. What fills it is a file, which is taken away again."""

    path: Path

    def fill(self) -> None:
        """Not one block is left."""
        with suppress(OSError), (self.path / "ballast").open("ab", buffering=0) as ballast:
            for size in (2**20, 2**12):
                with suppress(OSError):
                    while ballast.write(bytes(size)):
                        pass

    def empty(self) -> None:
        (self.path / "ballast").unlink()

    @property
    def free(self) -> int:
        return os.statvfs(self.path).f_bavail


@contextmanager
def small_disk(megabytes: int) -> Iterator[Disk]:
    """Skips where this user may not mount one."""
    with tempfile.TemporaryDirectory(prefix="disk-") as folder:
        Path(folder).chmod(0o755)
        options = ["-o", f"size={megabytes}m,mode=1777"]
        if subprocess.run(
            ["mount", "-t", "tmpfs", *options, "tmpfs", folder], capture_output=True
        ).returncode:
            pytest.skip("a small disk is a file system of its own, which this user may not mount")
        try:
            yield Disk(Path(folder))
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


async def prepared(stage: Stage) -> list[tuple[str, Json]]:
    """A task, and everybody's check-in, which waits to be sent."""
    await stage.ready_task("T1", *PERSONS)
    return [(p, check_in_fields("T1", await stage.challenge(p, "T1"))) for p in PERSONS]


async def sent(stage: Stage, waiting: list[tuple[str, Json]]) -> list[Reply]:
    """All at once, each under its own key, which is the same whenever it is sent."""
    return await asyncio.gather(
        *(stage.submit(p, fields, photo_of(p, shot=1), key=fields["challenge_id"]) for p, fields in waiting)
    )


async def insisted(stage: Stage, waiting: list[tuple[str, Json]]) -> list[Reply]:
    """Until everybody is judged."""
    async with asyncio.timeout(120):
        while True:
            replies = await sent(stage, waiting)
            if all(reply.status == 201 for reply in replies):
                return replies
            assert {reply.status for reply in replies} <= {201, 409, 503}
            await asyncio.sleep(0.2)


async def contradictions(stage: Stage) -> list[Any]:
    """What is only half there."""
    return await stage.sql(
        """
        SELECT check_in_id FROM receipt r
        WHERE answer IS NOT NULL AND NOT EXISTS (SELECT FROM attempt a WHERE a.check_in_id = r.check_in_id)
        UNION ALL SELECT check_in_id FROM attempt a WHERE outcome = 'accepted' AND NOT EXISTS
            (SELECT FROM acceptance JOIN evidence USING (check_in_id) WHERE check_in_id = a.check_in_id)
        UNION ALL SELECT check_in_id FROM acceptance a WHERE NOT EXISTS
            (SELECT FROM receipt r WHERE r.check_in_id = a.check_in_id AND answer IS NOT NULL)
        """
    )


async def accepted(stage: Stage) -> set[str]:
    return {row["person_id"] for row in await stage.sql("SELECT person_id FROM acceptance")}


async def is_ready(stage: Stage) -> bool:
    async with stage.client.get("/readyz") as answer, stage.client.get("/livez") as liveness:
        assert liveness.status == 200
        return answer.status == 200


# --- The database's disk ---


@pytest.fixture
def database_disk() -> Iterator[Disk]:
    with small_disk(DATABASE_MB) as disk:
        yield disk


@pytest.fixture
def cramped(database_disk: Disk, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnStores]:
    """Servers on that disk, whose log of changes is soon full and not kept."""
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(database_disk.path))
        with nemesis.own_stores({"min_wal_size": "32MB", "max_wal_size": "32MB"}) as stores:
            patch.undo()
            yield stores


async def use_up(url: str) -> None:
    """What room the database has within its own files."""
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        connection = await asyncpg.connect(url, timeout=10)
        try:
            await connection.execute("CREATE TABLE IF NOT EXISTS ballast (filling text)")
            while True:
                await connection.execute(
                    "INSERT INTO ballast SELECT repeat(md5(random()::text), 60) FROM generate_series(1, 500)"
                )
        finally:
            connection.terminate()


async def test_the_database_s_disk(
    cramped: OwnStores, database_disk: Disk, tmp_path: Path, record: Record
) -> None:
    url = await cramped.databases.make()
    async with running_service(url, cramped.redis_url, tmp_path, None, **UNLIMITED) as stage:
        waiting = await prepared(stage)
        database_disk.fill()
        await use_up(url)
        database_disk.fill()
        assert database_disk.free == 0
        replies = await sent(stage, waiting)
        assert {reply.status for reply in replies} <= {201, 503}
        refused = sum(reply.status == 503 for reply in replies)
        assert refused, "there was room for all of it"
        assert (await stage.client.get("/livez")).status == 200
        database_disk.empty()
        if cramped.postgres._server.process.poll() is not None:
            await cramped.postgres.restart()  # as whatever supervises it does
        told = {p for (p, _), reply in zip(waiting, replies, strict=True) if reply.status == 201}
        await insisted(stage, waiting)
        assert await contradictions(stage) == []
        assert await accepted(stage) == set(PERSONS) >= told
        assert (await stage.status("T1"))["state"] == "completed"
    record.kept(
        f"the database's disk full: {refused} of {len(PERSONS)} refused, all accepted once there was room"
    )


# --- The evidence's disk ---


@pytest.fixture
async def crowded(
    database_url: str, stores: EmbeddedStores, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Stage, Disk]]:
    """A service whose evidence lies on a small disk."""
    monkeypatch.setattr(object_store, "TRIAL_INTERVAL_S", 0)
    with small_disk(EVIDENCE_MB) as disk:
        at = database_url, stores.redis_url or "", disk.path / "data"
        async with running_service(*at, None, **UNLIMITED) as stage:
            yield stage, disk


async def test_the_evidence_s_disk(crowded: tuple[Stage, Disk], record: Record) -> None:
    stage, disk = crowded
    waiting = await prepared(stage)
    assert await is_ready(stage)
    disk.fill()
    assert {(reply.status, reply.code) for reply in await sent(stage, waiting)} == {(503, "unavailable")}
    assert not await is_ready(stage)
    assert await accepted(stage) == set()
    assert list((disk.path / "data" / "evidence").iterdir()) == []
    disk.empty()
    assert await is_ready(stage)
    assert {reply.body["outcome"] for reply in await insisted(stage, waiting)} == {"accepted"}
    assert await contradictions(stage) == []
    assert len(list((disk.path / "data" / "evidence").iterdir())) == len(PERSONS)
    record.kept(
        f"the evidence's disk full: {len(PERSONS)} of {len(PERSONS)} refused, all accepted once there was room"
    )


async def test_control_where_a_failed_write_is_overlooked_a_verdict_has_no_evidence(
    crowded: tuple[Stage, Disk], monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    put = EvidenceStore.put

    async def put_somehow(store: EvidenceStore, *what: Any) -> None:
        with suppress(Exception):
            await put(store, *what)

    stage, disk = crowded
    waiting = await prepared(stage)
    monkeypatch.setattr(EvidenceStore, "put", put_somehow)
    disk.fill()
    assert {reply.status for reply in await sent(stage, waiting)} == {201}
    assert list((disk.path / "data" / "evidence").iterdir()) == []
    record.control(f"failed writes overlooked, {len(await accepted(stage))} accepted without their evidence")
