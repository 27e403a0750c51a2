"""Promise 1: every accepted answer that a caller has seen is in the database exactly once.

Retrying clients submit to two processes on one database while these are killed, one or both, in the middle of it.
"""

import asyncio
from pathlib import Path

from checkin_service.adapters.embedded import EmbeddedStores
from tests.faults.clients import calling
from tests.faults.engines import Engine
from tests.faults.processes import processes
from tests.faults.record import Record
from tests.faults.storm import (
    Storm,
    Weather,
    ask_again,
    broken_promises,
    lost_answers,
    pass_over,
    set_up,
    submit_all,
)
from tests.service.stage import Stage, until

SHORT, FULL = Storm(persons=16, tasks=4, strikes=3), Storm(persons=64, tasks=79, strikes=50)


async def kill_by_turns(weather: Weather, number: int) -> None:
    """One process or the other, and every third time both."""
    running = weather.running
    victims = running if number % 3 == 2 else [running[number % len(running)]]
    for victim in victims:
        victim.kill()
    for victim in victims:
        victim.start()
    for victim in victims:
        await victim.ready()


async def test_what_callers_were_told_survives_sigkill(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path, engine: Engine, full: bool, record: Record
) -> None:
    storm = FULL if full else SHORT
    caller = await pass_over(stage, stores.redis_url or "", tmp_path, storm, kill_by_turns, engine)
    assert caller.retries > 0, "no client met a kill"
    await ask_again(stage, caller, every=5)
    assert await broken_promises(stage, caller, storm) == []
    kills = storm.strikes + storm.strikes // 3
    record.kept(f"{storm.submissions} submissions, {kills} kills, {caller.retries} retries, 0 lost, 0 twice")


async def test_control_answering_before_commit_loses_what_callers_were_told(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path, engine: Engine, record: Record
) -> None:
    await set_up(stage, SHORT)
    at = stage.database_url, stores.redis_url or "", stage.settings.data_dir
    async with (
        processes(1, tmp_path, *at, *engine.switches, "--answer-early") as [process],
        calling([process.base], stage.settings.data_dir, engine) as caller,
    ):
        submitting = asyncio.create_task(submit_all(caller, SHORT))
        await until(lambda: caller.judged >= 10)
        process.kill()
        submitting.cancel()
        await asyncio.wait([submitting])
    lost = await lost_answers(stage, caller)
    assert lost
    record.control(f"lost {len(lost)} of {caller.judged} answers given 200 ms before COMMIT")
