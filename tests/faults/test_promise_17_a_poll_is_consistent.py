"""Promise 17: the answer to a poll is consistent while everything is written and processes are killed: `accepted` is
the length of the list and what the digest says, and there is no 304 after a change."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from checkin_service.adapters.embedded import EmbeddedStores
from tests.faults.engines import Engine
from tests.faults.record import Record
from tests.faults.storm import Storm, Weather, pass_over
from tests.service.stage import Json, Stage, members_digest

SHORT, FULL = Storm(persons=16, tasks=3, strikes=2), Storm(persons=64, tasks=20, strikes=12)

# Writes are not told: what a poll is answered by does not move.
WITHOUT_REVISIONS = """
    CREATE OR REPLACE FUNCTION append_changes(feed_lock bigint, task_ids text[], change_type text, at timestamptz)
    RETURNS void LANGUAGE sql AS ''
"""


@dataclass(slots=True)
class Poller:
    """Polls every task by turns with its last ETag. `wrong`: what contradicted itself or what was committed before."""

    stage: Stage
    bases: list[str]
    wrong: list[str] = field(default_factory=list)
    read: int = 0
    unchanged: int = 0
    _turn: int = 0
    _known: dict[str, tuple[str, Json]] = field(default_factory=dict)

    async def poll(self, session: aiohttp.ClientSession, task_id: str) -> None:
        [row] = await self.stage.sql("SELECT count(*) FROM acceptance WHERE task_id = $1", task_id)
        etag, body = self._known.get(task_id, ("", {}))
        headers = {
            "Authorization": f"Bearer {self.stage.token('platform', 'tasks')}",
            "If-None-Match": etag or '"-"',
        }
        self._turn += 1
        base = self.bases[self._turn % len(self.bases)]
        async with session.get(f"{base}/v1/tasks/{task_id}", headers=headers) as answer:
            if answer.status == 200:
                self.read += 1
                body = await answer.json()
                self._known[task_id] = answer.headers["ETag"], body
                self.wrong += contradictions(body)
            self.unchanged += answer.status == 304
            if answer.status in {200, 304} and body["progress"]["accepted"] < row["count"]:
                self.wrong.append(f"{answer.status} without what was committed before, {task_id}")


def contradictions(status: Json) -> list[str]:
    accepted = [member for member in status["members"] if member["state"] == "accepted"]
    wrong = []
    if status["progress"]["accepted"] != len(accepted):
        wrong.append(f"count and list differ, {status['task_id']}")
    if status["members_digest"] != members_digest(status):
        wrong.append(f"list and digest differ, {status['task_id']}")
    if (status["state"] == "completed") != (len(accepted) == len(status["members"])):
        wrong.append(f"state and list differ, {status['task_id']}")
    return wrong


@asynccontextmanager
async def polling(poller: Poller, storm: Storm) -> AsyncIterator[None]:
    """As long as the block lasts; what a killed process owes is asked for again."""

    async def go_on() -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                for task_id in storm.task_ids:
                    try:
                        await poller.poll(session, task_id)
                    except (aiohttp.ClientError, ConnectionError):
                        await asyncio.sleep(0.02)

    polls = asyncio.create_task(go_on())
    try:
        yield
    finally:
        assert not polls.done(), polls.exception()
        polls.cancel()
        await asyncio.wait([polls])


async def polled(stage: Stage, redis_url: str, folder: Path, storm: Storm, engine: Engine) -> Poller:
    poller = Poller(stage, [str(stage.client.make_url("/")).rstrip("/")])

    async def kill_one(weather: Weather, number: int) -> None:
        victim = weather.running[number % 2]
        poller.bases = [process.base for process in weather.running]
        victim.kill()
        victim.start()
        await victim.ready()

    async with polling(poller, storm):
        await pass_over(stage, redis_url, folder, storm, kill_one, engine)
    return poller


async def test_every_poll_is_one_reading_and_no_change_is_called_none(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path, engine: Engine, full: bool, record: Record
) -> None:
    storm = FULL if full else SHORT
    poller = await polled(stage, stores.redis_url or "", tmp_path, storm, engine)
    assert poller.wrong == []
    assert min(poller.read, poller.unchanged) > 0
    record.kept(
        f"{poller.read} statuses read, {poller.unchanged} times 304, in {storm.submissions} submissions: all true"
    )


async def test_control_without_revisions_a_change_is_called_none(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path, engine: Engine, record: Record
) -> None:
    await stage.sql(WITHOUT_REVISIONS)
    poller = await polled(
        stage, stores.redis_url or "", tmp_path, Storm(persons=16, tasks=1, strikes=0), engine
    )
    stale = [wrong for wrong in poller.wrong if wrong.startswith("304")]
    assert stale
    record.control(f"without revisions: {len(stale)} times 304 after a change")
