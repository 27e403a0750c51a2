"""Promise 16: a poller never misses a change, whatever commits at the same time."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

import asyncpg

from checkin_service.adapters.postgres.feed import record_change
from tests.faults.record import Record
from tests.service.stage import Json, Stage

WRITERS = 32
LONGEST_WAIT_S = 0.01
ROLLED_BACK = 0.2

# What the feed would be without its lock: seqs become visible in whatever order their transactions commit.
WITHOUT_LOCK = """
    CREATE OR REPLACE FUNCTION append_changes(feed_lock bigint, task_ids text[], change_type text, at timestamptz)
    RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        WITH bumped AS (
            UPDATE task SET rev = rev + 1 WHERE task_id = ANY(task_ids) RETURNING task_id, rev)
        INSERT INTO change (seq, task_id, rev, type, at)
        SELECT nextval('change_seq'), bumped.task_id, bumped.rev, change_type, append_changes.at FROM bumped;
    END
    $$
"""


async def write(url: str, task_id: str, rounds: int, random: Random) -> None:
    """One task's writer: every round a transaction that waits before and after its change, some rolled back."""
    connection = await asyncpg.connect(url)
    try:
        for _ in range(rounds):
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("SELECT FROM task WHERE task_id = $1 FOR NO KEY UPDATE", task_id)
            await asyncio.sleep(random.uniform(0, LONGEST_WAIT_S))
            await record_change(connection, task_id, "fence_changed", datetime.now(UTC))
            await asyncio.sleep(random.uniform(0, LONGEST_WAIT_S))
            await (transaction.rollback() if random.random() < ROLLED_BACK else transaction.commit())
    finally:
        await connection.close()


@dataclass(slots=True)
class Poller:
    """Keeps its cursor after a page is kept; one that is killed in between asks for the same page again."""

    stage: Stage
    random: Random
    killed: float
    longest_page: int
    cursor: str = ""
    killed_times: int = 0
    kept: list[Json] = field(default_factory=list)

    async def poll(self) -> bool:
        """Whether there was anything new."""
        query = {"after": self.cursor, "limit": str(self.random.randint(1, self.longest_page))}
        page = (await self.stage.platform("GET", "/v1/changes", params=query)).body
        if self.random.random() >= self.killed:
            self.kept += page["changes"]
            self.cursor = page["next"]
        else:
            self.killed_times += 1
        return bool(page["changes"])

    async def poll_until(self, written: asyncio.Event) -> None:
        """Polls while there are writers, then to the end of the feed."""
        while not written.is_set():
            await self.poll()
        while await self.poll():
            pass


async def polled(stage: Stage, rounds: int, longest_page: int = 40) -> list[Poller]:
    """What a steady and an often killed poller have kept while 32 writers wrote."""
    for n in range(WRITERS):
        assert (await stage.register(f"T{n}", "p-1")).status == 201
    random = Random(16)
    pollers = [Poller(stage, random, killed, longest_page) for killed in (0, 0.3)]
    written = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for poller in pollers:
            group.create_task(poller.poll_until(written))
        async with asyncio.TaskGroup() as writers:
            for n in range(WRITERS):
                writers.create_task(write(stage.database_url, f"T{n}", rounds, random))
        written.set()
    return pollers


async def table(stage: Stage) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await stage.sql("SELECT seq, task_id, rev, type FROM change ORDER BY seq")]


def told(poller: Poller) -> list[tuple[Any, ...]]:
    return [(c["seq"], c["task_id"], c["rev"], c["type"]) for c in poller.kept]


async def test_the_union_of_the_pages_is_the_table(stage: Stage, full: bool, record: Record) -> None:
    pollers = await polled(stage, rounds=120 if full else 10)
    changes = await table(stage)
    assert len(changes) > WRITERS
    for poller in pollers:
        assert told(poller) == changes
    killed = pollers[1].killed_times
    assert killed > 0
    record.kept(
        f"{len(changes)} changes by {WRITERS} writers, a poller killed {killed} times, 0 missed, 0 twice"
    )


async def test_every_revision_of_a_task_is_told_once_and_in_order(stage: Stage) -> None:
    [poller, _] = await polled(stage, rounds=4)
    for n in range(WRITERS):
        revisions = [change["rev"] for change in poller.kept if change["task_id"] == f"T{n}"]
        assert revisions == list(range(1, len(revisions) + 1))
        assert (await stage.status(f"T{n}"))["rev"] == len(revisions)


async def test_control_without_the_lock_changes_are_missed(stage: Stage, record: Record) -> None:
    await stage.sql(WITHOUT_LOCK)
    # in long pages, for who lags behind the writers reads only what was committed long ago
    pollers = await polled(stage, rounds=20, longest_page=500)
    changes = await table(stage)
    missed = {row[0] for row in changes} - {row[0] for row in told(pollers[0])}
    assert missed
    record.control(f"without the lock, by id > cursor: missed {len(missed)} of {len(changes)}")
