"""Promise 2: what a caller has seen is stored exactly once also when PostgreSQL dies by kill -9, all of it at once.

The service's processes live on through it and find the database again by themselves.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from checkin_service.adapters.postgres.database import SESSION_SETTINGS, DatabaseSetupError, open_database
from tests.faults.clients import Caller, calling
from tests.faults.engines import Engine
from tests.faults.nemesis import OwnStores, own_stores
from tests.faults.processes import ServiceProcess, processes
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

SHORT, FULL = Storm(persons=12, tasks=2, strikes=2), Storm(persons=64, tasks=32, strikes=20)


@asynccontextmanager
async def stage_on(stores: OwnStores, folder: Path, engine: Engine) -> AsyncIterator[Stage]:
    url = await stores.databases.make()
    async with engine.stage(url, stores.redis_url, folder) as stage:
        yield stage


async def test_what_callers_were_told_survives_the_death_of_postgres(
    own_stores: OwnStores, tmp_path: Path, engine: Engine, full: bool, record: Record
) -> None:
    async def kill_postgres(weather: Weather, _: int) -> None:
        met = weather.caller.retries
        own_stores.postgres.kill()
        await until(lambda: weather.caller.retries > met)
        await own_stores.postgres.restart()

    storm = FULL if full else SHORT
    async with stage_on(own_stores, tmp_path, engine) as stage:
        caller = await pass_over(stage, own_stores.redis_url, tmp_path, storm, kill_postgres, engine)
        await ask_again(stage, caller, every=5)
        assert await broken_promises(stage, caller, storm) == []
    record.kept(
        f"{storm.submissions} submissions, {storm.strikes} kills of PostgreSQL, {caller.retries} retries, "
        "0 lost, 0 twice"
    )


async def test_control_commits_that_are_not_waited_for_are_lost(
    tmp_path: Path, engine: Engine, record: Record
) -> None:
    with own_stores({"wal_writer_delay": "10s"}) as stores:
        async with stage_on(stores, tmp_path, engine) as stage:
            await set_up(stage, SHORT)
            at = stage.database_url, stores.redis_url, stage.settings.data_dir
            async with processes(1, tmp_path, *at, *engine.switches, "--commit-asynchronously") as [process]:
                caller = await killed_half_way(stores, process, tmp_path, engine)
            await stores.postgres.restart()
            lost = len(await lost_answers(stage, caller))
    assert lost > 0
    record.control(f"synchronous_commit=off, one kill: lost {lost} of {caller.judged}")


async def killed_half_way(stores: OwnStores, process: ServiceProcess, folder: Path, engine: Engine) -> Caller:
    async with calling([process.base], folder, engine) as caller:
        submitting = asyncio.create_task(submit_all(caller, SHORT))
        await until(lambda: caller.judged >= SHORT.submissions // 2)
        stores.postgres.kill()
        submitting.cancel()
        await asyncio.wait([submitting])
    return caller


async def test_a_database_that_does_not_wait_for_its_disk_is_not_served(
    own_stores: OwnStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SESSION_SETTINGS, "synchronous_commit", "off")
    with pytest.raises(DatabaseSetupError, match="synchronous_commit"):
        async with open_database(own_stores.postgres.url, max_connections=1):
            pass
