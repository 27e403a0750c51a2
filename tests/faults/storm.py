"""A storm of submissions with something done to the service or its stores all along, and the checker that compares
what the callers have logged with what is stored."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from tests.faults.clients import Caller, Told, calling
from tests.faults.engines import Engine
from tests.faults.processes import ServiceProcess, processes
from tests.service.stage import FAR, Stage, members_digest, until

# So fast runs the judging clock, for a dead owner's lease of 30 s not to be waited for.
FASTER = 20


@dataclass(frozen=True, slots=True)
class Storm:
    """Every person checks in to every task, after a refused attempt each; `strikes` fall evenly on the work."""

    persons: int
    tasks: int
    strikes: int

    @property
    def person_ids(self) -> list[str]:
        return [f"p-{n}" for n in range(self.persons)]

    @property
    def task_ids(self) -> list[str]:
        return [f"T{n}" for n in range(self.tasks)]

    @property
    def members(self) -> list[tuple[str, str]]:
        """Person and task of every member."""
        return list(product(self.person_ids, self.task_ids))

    @property
    def submissions(self) -> int:
        return 2 * len(self.members)


@dataclass(frozen=True, slots=True)
class Weather:
    """What a strike can reach: the processes and the callers."""

    running: list[ServiceProcess]
    caller: Caller


Strike = Callable[[Weather, int], Awaitable[None]]


async def set_up(stage: Stage, storm: Storm) -> None:
    await enrol_all(stage, storm)
    await run_faster(stage)


async def enrol_all(stage: Stage, storm: Storm) -> None:
    for task_id in storm.task_ids:
        await stage.register(task_id, *storm.person_ids)
    for person_id in storm.person_ids:
        assert (await stage.enrol(person_id)).status == 201
        await stage.consent(person_id)


async def run_faster(stage: Stage) -> None:
    """Lets the judging clock run `FASTER` times as fast from now on."""
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
        for task_id in storm.task_ids:
            await caller.check_in(person_id, task_id, FAR)
            await caller.check_in(person_id, task_id)

    async with asyncio.TaskGroup() as group:
        for person_id in storm.person_ids:
            group.create_task(one_person(person_id))


async def strike_all_along(weather: Weather, storm: Storm, strike: Strike) -> None:
    """Strikes, with the strike's number, whenever a share of the answers has come; fails when none comes."""
    caller = weather.caller
    for number in range(storm.strikes):
        share = (number + 1) * storm.submissions // (storm.strikes + 1)
        while caller.judged < share:
            await until(lambda before=caller.judged: caller.judged > before)  # type: ignore[misc]
        await strike(weather, number)


async def pass_over(
    stage: Stage, redis_url: str, folder: Path, storm: Storm, strike: Strike, engine: Engine
) -> Caller:
    """Lets the storm pass over two processes on the stage's database; the callers with what they have seen of it."""
    await set_up(stage, storm)
    at = stage.database_url, redis_url, stage.settings.data_dir
    async with (
        processes(2, folder, *at, *engine.switches) as running,
        calling([process.base for process in running], stage.settings.data_dir, engine) as caller,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(submit_all(caller, storm))
        group.create_task(strike_all_along(Weather(running, caller), storm, strike))
    return caller


# --- The checker ---


async def broken_promises(stage: Stage, caller: Caller, storm: Storm) -> list[str]:
    told = caller.log.judged()
    return [
        *[f"lost: {lost}" for lost in await lost_answers(stage, caller)],
        *[f"two answers to one key: {key}" for key in keys_with_two_answers(told)],
        *[f"not once: {member}" for member in await not_accepted_once(stage, storm)],
        *[f"contradicts itself: {task_id}" for task_id in await contradictory_statuses(stage, storm)],
        *[f"the feed: {kind}" for kind in await wrongly_told(stage, storm)],
    ]


async def lost_answers(stage: Stage, caller: Caller) -> set[tuple[str, str]]:
    """Check-ins that callers were told of and that are not stored with the outcome they were told."""
    stored = await stage.sql("SELECT check_in_id::text, outcome FROM attempt WHERE outcome <> 'accepted'")
    accepted = await stage.sql("SELECT check_in_id::text, outcome FROM acceptance")
    told = {(answer.body["check_in_id"], answer.body["outcome"]) for answer in caller.log.judged()}
    return told - {(row["check_in_id"], row["outcome"]) for row in [*stored, *accepted]}


def keys_with_two_answers(told: list[Told]) -> Iterator[str]:
    answers: dict[str, dict[str, object]] = {}
    for answer in told:
        if answers.setdefault(answer.key, answer.body) != answer.body:
            yield answer.key


async def not_accepted_once(stage: Stage, storm: Storm) -> list[tuple[str, str]]:
    rows = await stage.sql("SELECT person_id, task_id FROM acceptance WHERE revoked_at IS NULL")
    times = Counter((row["person_id"], row["task_id"]) for row in rows)
    return [member for member in storm.members if times[member] != 1]


async def contradictory_statuses(stage: Stage, storm: Storm) -> list[str]:
    statuses = [await stage.status(task_id) for task_id in storm.task_ids]
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


async def ask_again(stage: Stage, caller: Caller, every: int) -> None:
    """Some of the submissions once more: each gets the answer it got."""
    told = caller.log.judged()[::every]
    async with calling([str(stage.client.make_url("/")).rstrip("/")], stage.settings.data_dir) as again:
        for answer in told:
            assert (await again.insist(caller.sent[answer.key])).body == answer.body
