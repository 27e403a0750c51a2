"""Promise 26: while slow queries hold every connection, others are told so within a second; none is ever leaked."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from random import Random

import aiohttp
import pytest

from checkin_service.adapters.postgres import database as database_module
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.web.context import SERVICES
from tests.faults.every_route import WITHOUT_DATABASE, every_call
from tests.faults.record import Record
from tests.service.stage import Reply, Stage, until

# A second is promised; asserted in the full form, for the machine is shared.
PROMISED_S, AT_MOST_S = 1.0, 4.0
SLOW = "LOCK TABLE task IN ACCESS EXCLUSIVE MODE"


def database_of(stage: Stage) -> Database:
    app = stage.client.server.app  # type: ignore[attr-defined]
    database: Database = app[SERVICES].database
    return database


def lent(stage: Stage) -> int:
    """Connections that somebody has."""
    pool = database_of(stage)._pool
    return int(pool.get_size() - pool.get_idle_size())


@asynccontextmanager
async def every_connection_held(stage: Stage) -> AsyncIterator[list[asyncio.Task[Reply]]]:
    """By as many calls, whose statements wait for as long as the block lasts."""
    number = stage.settings.database_connections
    async with stage.holding(SLOW):
        slow = [asyncio.create_task(stage.platform("GET", "/v1/tasks/T1")) for _ in range(number)]
        await stage.until_waiting(number)
        yield slow
    assert {(await call).status for call in slow} == {200}


async def timed(call: Awaitable[Reply]) -> tuple[Reply, float]:
    since = time.perf_counter()
    return await call, time.perf_counter() - since


async def test_others_are_told_within_a_second_and_liveness_stays_green(
    stage: Stage, full: bool, record: Record
) -> None:
    await stage.ready_task("T1", "p-1")
    calls = {name: call for name, call in every_call().items() if call.path not in WITHOUT_DATABASE}
    async with every_connection_held(stage):
        answers = await asyncio.gather(*(timed(call.send(stage)) for call in calls.values()))
        longest_s = max(seconds for _, seconds in answers)
        assert longest_s < (PROMISED_S if full else AT_MOST_S)
        assert {reply.status for reply, _ in answers} == {503}
        async with stage.client.get("/livez") as liveness:
            assert liveness.status == 200
    await until(lambda: lent(stage) == 0)
    assert (await stage.check_in("p-1", "T1")).body["outcome"] == "accepted"
    record.kept(f"every connection held: {len(calls)} routes refused in {longest_s:.2f} s at most")


async def hang_up(stage: Stage, session: aiohttp.ClientSession, after_s: float) -> None:
    """Asks and does not wait for the answer."""
    headers = {"Authorization": f"Bearer {stage.token('p-1', 'checkin')}"}
    with suppress(TimeoutError):
        async with (
            asyncio.timeout(after_s),
            session.get(stage.client.make_url("/v1/me"), headers=headers) as answer,
        ):
            await answer.read()


async def give_up(database: Database, after_s: float, busy_s: float = 0.01) -> None:
    """What is cancelled anywhere: waiting for a connection, in a statement, giving it back."""
    with suppress(TimeoutError):
        async with asyncio.timeout(after_s), database.transaction() as connection:
            await connection.execute("SELECT pg_sleep($1)", busy_s)


async def test_cancelled_requests_leak_no_connection(stage: Stage, full: bool, record: Record) -> None:
    number, chance = 1000 if full else 200, Random(26)
    await stage.ready_task("T1", "p-1")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100, force_close=True)) as session:
        for _ in range(number // 50):
            waits = [chance.uniform(0, 0.05) for _ in range(50)]
            await asyncio.gather(*(hang_up(stage, session, wait_s) for wait_s in waits))
            await asyncio.gather(*(give_up(database_of(stage), wait_s) for wait_s in waits))
    await until(lambda: lent(stage) == 0)
    assert await left_open(stage) == 0
    assert (await stage.check_in("p-1", "T1")).body["outcome"] == "accepted"
    record.kept(f"{2 * number} cancelled requests, 0 connections leaked")


async def left_open(stage: Stage) -> int:
    """Transactions that nobody goes on with."""
    [row] = await stage.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    )
    return int(row["count"])


async def test_control_without_a_limit_of_waiting_others_starve(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    await stage.ready_task("T1", "p-1")
    monkeypatch.setattr(database_module, "ACQUIRE_TIMEOUT_S", None)
    async with every_connection_held(stage):
        starving = asyncio.create_task(stage.person("p-1", "GET", "/v1/me"))
        done, _ = await asyncio.wait({starving}, timeout=2 * PROMISED_S)
        assert not done
    assert (await starving).status == 200
    record.control(f"without a limit somebody waited for more than {2 * PROMISED_S:.0f} s")


async def test_control_a_connection_that_is_given_back_on_success_only_is_leaked(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    database, taken = database_of(stage), set()

    @asynccontextmanager
    async def forgetful(self: Database) -> AsyncIterator[Connection]:
        connection = await self._take()
        taken.add(connection)
        yield connection
        taken.discard(connection)
        await self._pool.release(connection)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "connection", forgetful)
        await asyncio.gather(*(give_up(database, 0.1, busy_s=1) for _ in range(20)))
    assert taken
    record.control(f"given back on success only, {len(taken)} connections leaked")
    for connection in list(taken):
        await database._pool.release(connection)
