"""Promise 1: every accepted answer that a caller has seen is in the database exactly once.

Retrying clients submit to two processes on one database while these are killed, one or both, in the middle of it.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from checkin_service.adapters.embedded import EmbeddedStores
from tests.faults.clients import Caller, calling
from tests.faults.processes import ServiceProcess, processes
from tests.service.stage import FAR, Stage, members_digest, until

# So fast runs the judging clock, for a dead owner's lease of 30 s not to be waited for.
FASTER = 20


@dataclass(frozen=True, slots=True)
class Storm:
    """Every person checks in to every task, after a refused attempt each; `kills` fall evenly on the work."""

    persons: int
    tasks: int
    kills: int

    @property
    def members(self) -> list[tuple[str, str]]:
        """Person and task of every member, every person's first tasks first."""
        task_ids = [f"T{n}" for n in range(self.tasks)]
        person_ids = [f"p-{n}" for n in range(self.persons)]
        return [(person_id, task_id) for task_id, person_id in product(task_ids, person_ids)]


SHORT, FULL = Storm(persons=16, tasks=4, kills=3), Storm(persons=64, tasks=78, kills=50)


async def set_up(stage: Stage, storm: Storm) -> None:
    person_ids = [f"p-{n}" for n in range(storm.persons)]
    for n in range(storm.tasks):
        await stage.register(f"T{n}", *person_ids)
    for person_id in person_ids:
        await stage.enrol(person_id)
        await stage.consent(person_id)
    [row] = await stage.sql("SELECT clock_timestamp()::text AS start")
    start = f"timestamptz '{row['start']}'"
    await stage.sql(
        f"""
        CREATE OR REPLACE FUNCTION checkin_now() RETURNS timestamptz LANGUAGE sql VOLATILE
        AS $$ SELECT {start} + (clock_timestamp() - {start}) * {FASTER} $$
        """
    )


async def submit_all(caller: Caller, storm: Storm) -> None:
    async def one_person(person_id: str) -> None:
        for task_id in (task_id for member, task_id in storm.members if member == person_id):
            await caller.check_in(person_id, task_id, FAR)
            await caller.check_in(person_id, task_id)

    async with asyncio.TaskGroup() as group:
        for n in range(storm.persons):
            group.create_task(one_person(f"p-{n}"))


async def kill_all_along(running: list[ServiceProcess], caller: Caller, storm: Storm) -> None:
    """Kills when a share of the answers has come: one process or the other, and every third time both."""
    answers = 2 * len(storm.members)
    for kill in range(storm.kills):
        await until(partial(_has_answers, caller, (kill + 1) * answers // (storm.kills + 1)))
        victims = running if kill % 3 == 2 else [running[kill % len(running)]]
        for victim in victims:
            victim.kill()
        for victim in victims:
            victim.start()
        for victim in victims:
            await victim.ready()


def _has_answers(caller: Caller, number: int) -> bool:
    return len(caller.acknowledged) >= number


async def weather(stage: Stage, redis_url: str, folder: Path, storm: Storm) -> Caller:
    """Lets the storm pass; what the callers have seen of it."""
    await set_up(stage, storm)
    at = stage.database_url, redis_url, stage.settings.data_dir
    async with (
        processes(2, folder, *at) as running,
        calling([process.base for process in running], stage.settings.data_dir) as caller,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(submit_all(caller, storm))
        group.create_task(kill_all_along(running, caller, storm))
    return caller


async def broken_promises(stage: Stage, caller: Caller, storm: Storm) -> list[str]:
    return [
        *[f"lost: {lost}" for lost in await lost_answers(stage, caller)],
        *[f"two answers to one key: {key}" for key in keys_with_two_answers(caller)],
        *[f"not once: {member}" for member in await not_accepted_once(stage, storm)],
        *[f"contradicts itself: {task_id}" for task_id in await contradictory_statuses(stage, storm)],
        *[f"the feed: {told}" for told in await wrongly_told(stage, storm)],
    ]


async def lost_answers(stage: Stage, caller: Caller) -> set[tuple[str, str]]:
    """Check-ins that callers were told of and that are not stored with the outcome they were told."""
    stored = await stage.sql("SELECT check_in_id::text, outcome FROM attempt WHERE outcome <> 'accepted'")
    accepted = await stage.sql("SELECT check_in_id::text, outcome FROM acceptance")
    told = {(body["check_in_id"], body["outcome"]) for _, body in caller.acknowledged}
    return told - {(row["check_in_id"], row["outcome"]) for row in [*stored, *accepted]}


def keys_with_two_answers(caller: Caller) -> Iterator[str]:
    answers: dict[str, dict[str, object]] = {}
    for submission, body in caller.acknowledged:
        if answers.setdefault(submission.key, body) != body:
            yield submission.key


async def not_accepted_once(stage: Stage, storm: Storm) -> list[tuple[str, str]]:
    rows = await stage.sql("SELECT person_id, task_id FROM acceptance WHERE revoked_at IS NULL")
    times = Counter((row["person_id"], row["task_id"]) for row in rows)
    return [member for member in storm.members if times[member] != 1]


async def contradictory_statuses(stage: Stage, storm: Storm) -> list[str]:
    statuses = [await stage.status(f"T{n}") for n in range(storm.tasks)]
    return [
        status["task_id"]
        for status in statuses
        if status["state"] != "completed"
        or status["progress"]["accepted"] != len(status["members"])
        or status["members_digest"] != members_digest(status)
    ]


async def wrongly_told(stage: Stage, storm: Storm) -> list[str]:
    rows = await stage.sql("SELECT type, count(*) FROM change GROUP BY type")
    told = {row["type"]: row["count"] for row in rows}
    expected = {"member_accepted": len(storm.members), "task_completed": storm.tasks}
    return [name for name, times in expected.items() if told.get(name) != times]


async def test_what_callers_were_told_survives_sigkill(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path, full: bool
) -> None:
    storm = FULL if full else SHORT
    caller = await weather(stage, stores.redis_url or "", tmp_path, storm)
    assert caller.retries > 0, "no client met a kill"
    async with calling([str(stage.client.make_url("/")).rstrip("/")], stage.settings.data_dir) as again:
        for submission, body in caller.acknowledged[::5]:
            assert (await again.insist(submission)).body == body
    assert await broken_promises(stage, caller, storm) == []


async def test_control_answering_before_commit_loses_what_callers_were_told(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path
) -> None:
    await set_up(stage, SHORT)
    at = stage.database_url, stores.redis_url or "", stage.settings.data_dir
    async with (
        processes(1, tmp_path, *at, "--answer-early") as [process],
        calling([process.base], stage.settings.data_dir) as caller,
    ):
        submitting = asyncio.create_task(submit_all(caller, SHORT))
        await until(partial(_has_answers, caller, 10))
        process.kill()
        submitting.cancel()
        await asyncio.wait([submitting])
    assert await lost_answers(stage, caller)
