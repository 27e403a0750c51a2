"""Promise 15: rolling restarts lose nothing: a process that is told to stop answers whoever has come, sends whoever
comes elsewhere, and ends within 30 seconds."""

import asyncio
import os
import signal
import time
from asyncio import StreamReader, StreamWriter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.token_keys import development_token
from tests.faults.balancer import Balancer, balancing
from tests.faults.clients import Caller, Submission, calling
from tests.faults.engines import Engine
from tests.faults.processes import ServiceProcess, processes
from tests.faults.raw_connections import Heard, connected, hear
from tests.faults.record import Record
from tests.faults.storm import Storm, broken_promises, enrol_all
from tests.service.stage import FAR, Stage, until

DRAINED_S = 30
# long before it is over a balancer has asked, on a machine that is busy, too
GRACE_S = 2
# each is a challenge and a check-in
CHECK_INS_PER_S = 10

SHORT, FULL = Storm(persons=4, tasks=2, strikes=2), Storm(persons=32, tasks=16, strikes=20)
# it is over with the first reset, but the first restart may find nobody in the middle of a request
CONTROL = Storm(persons=8, tasks=8, strikes=40)


@dataclass(slots=True)
class Rolled:
    """`took_s`: how long each process took to its end."""

    caller: Caller | None = None
    took_s: list[float] = field(default_factory=list)

    @property
    def resets(self) -> int:
        return self.caller.unanswered if self.caller else 0


async def roll(
    rolled: Rolled,
    stage: Stage,
    stores: EmbeddedStores,
    folder: Path,
    storm: Storm,
    engine: Engine,
    *switches: str,
) -> None:
    """Restarts one process after the other, as often as the storm strikes, while check-ins come through a balancer."""
    await enrol_all(stage, storm)
    at = stage.database_url, stores.redis_url or "", stage.settings.data_dir
    grace = f"CHECKIN_DRAIN_GRACE_S={GRACE_S}"
    async with (
        processes(2, folder, *at, "--analyse-slowly", "--set", grace, *engine.switches, *switches) as pair,
        balancing(pair) as (base, balancer),
        calling([base], at[2], engine) as rolled.caller,
        asyncio.TaskGroup() as group,
    ):
        restarting = group.create_task(restart_by_turns(pair, balancer, storm.strikes, rolled.took_s))
        await come_evenly(group, rolled.caller, storm, restarting)


async def restart_by_turns(
    pair: list[ServiceProcess], balancer: Balancer, times: int, took_s: list[float]
) -> None:
    for number in range(times):
        process = pair[number % 2]
        took_s.append(await process.stop())
        process.start()
        await process.ready()
        await balancer.until_ready(process)


async def come_evenly(
    group: asyncio.TaskGroup, caller: Caller, storm: Storm, restarting: asyncio.Task[None]
) -> None:
    """However slowly they are answered: first all members from far away, then all from the place, and so on."""
    rounds = cycle(
        [*((member, True) for member in storm.members), *((member, False) for member in storm.members)]
    )
    come = 0
    while come < storm.submissions or not restarting.done():
        (person_id, task_id), far = next(rounds)
        group.create_task(caller.check_in(person_id, task_id, *[FAR] * far))
        come += 1
        await asyncio.sleep(1 / CHECK_INS_PER_S)


async def test_restarts_under_load_reset_nobody_and_lose_nothing(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path, engine: Engine, full: bool, record: Record
) -> None:
    storm, rolled = FULL if full else SHORT, Rolled()
    await roll(rolled, stage, stores, tmp_path, storm, engine)
    assert rolled.caller
    assert rolled.resets == 0
    assert await broken_promises(stage, rolled.caller, storm) == []
    assert max(rolled.took_s) < DRAINED_S
    record.kept(
        f"{storm.strikes} restarts under {2 * CHECK_INS_PER_S} requests/s, {rolled.caller.judged} verdicts, "
        f"0 resets, 0 lost, drained in at most {max(rolled.took_s):.1f} s"
    )


async def test_control_without_draining_connections_are_reset(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path, engine: Engine, record: Record
) -> None:
    rolled = Rolled()
    rolling = asyncio.create_task(roll(rolled, stage, stores, tmp_path, CONTROL, engine, "--do-not-drain"))
    await until(lambda: rolled.resets or rolling.done())
    rolling.cancel()
    await asyncio.wait([rolling])
    assert rolled.resets > 0
    record.control(
        f"without draining: {rolled.resets} requests reset within {len(rolled.took_s) + 1} restarts"
    )


# --- One process, and who has come to it ---

ALIVE = b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Left:
    """What they heard whose request had come in part or not been looked at, and what was stored of who hung up."""

    backlog: list[Heard]
    head: Heard
    body: Heard
    idle: bytes
    hung_up: int


def raw(data_dir: Path, submission: Submission) -> bytes:
    headers = {
        "Host": "test",
        "Authorization": f"Bearer {development_token(data_dir, submission.person_id, 'checkin', 15)}",
        "Content-Length": str(len(submission.body)),
        **submission.headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST /v1/check-ins HTTP/1.1\r\n{lines}\r\n".encode() + submission.body


async def refuses(port: int) -> None:
    """Returns when nobody gets in any more."""
    while True:
        try:
            async with connected(port):
                await asyncio.sleep(0.02)
        except ConnectionRefusedError:
            return


async def leave(
    stage: Stage,
    stores: EmbeddedStores,
    folder: Path,
    engine: Engine,
    *switches: str,
    finish: bool = True,
) -> Left:
    """A process is told to stop when all of these have begun; they go on once its listener has gone, if at all."""
    await stage.ready_task("T1", "p-0", "p-1")
    at = stage.database_url, stores.redis_url or "", stage.settings.data_dir
    async with (
        processes(1, folder, *at, "--analyse-slowly", *engine.switches, *switches) as [process],
        calling([process.base], at[2], engine) as caller,
        AsyncExitStack() as stack,
    ):

        async def connect(first: bytes) -> tuple[StreamReader, StreamWriter]:
            reader, writer = await stack.enter_async_context(connected(process.port))
            writer.write(first)
            return reader, writer

        sent, cut_off = [raw(at[2], await caller.submission(f"p-{n}", "T1")) for n in range(2)]
        await caller.session.close()
        idle, _ = await connect(ALIVE)
        await hear(idle, 0)
        head, body = await connect(ALIVE[:-2]), await connect(sent[:-1000])
        async with connected(process.port) as (_, hanging_up):
            hanging_up.write(cut_off)
            async with asyncio.timeout(10):
                while not await stage.sql("SELECT FROM receipt"):  # noqa: ASYNC110  in the database
                    await asyncio.sleep(0.01)
        os.kill(process.pid, signal.SIGSTOP)
        backlog = [await connect(ALIVE) for _ in range(20)]
        stopping = asyncio.create_task(process.stop())
        await asyncio.sleep(0)
        os.kill(process.pid, signal.SIGCONT)
        await refuses(process.port)
        if finish:
            head[1].write(ALIVE[-2:])
            body[1].write(sent[-1000:])
        since = time.monotonic()
        left = Left(
            [await hear(reader, since) for reader, _ in backlog],
            await hear(head[0], since),
            await hear(body[0], since),
            await idle.read(),
            0,
        )
        assert await stopping < DRAINED_S
    [row] = await stage.sql("SELECT count(*) FROM receipt WHERE person_id = 'p-1' AND answer IS NOT NULL")
    return replace(left, hung_up=row["count"])


async def test_whoever_has_come_is_answered(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path, engine: Engine
) -> None:
    left = await leave(stage, stores, tmp_path, engine)
    assert [heard.status for heard in left.backlog] == [200] * 20
    assert (left.head.status, left.body.status, left.idle) == (200, 201, b"")
    assert left.hung_up == 1


async def test_who_still_sends_at_the_end_is_sent_elsewhere(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path, engine: Engine
) -> None:
    left = await leave(stage, stores, tmp_path, engine, "--in-haste", finish=False)
    for heard in (left.head, left.body):
        assert (heard.status, heard.problem["code"]) == (503, "unavailable")


async def test_control_without_draining_who_still_sends_hears_nothing(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path, engine: Engine, record: Record
) -> None:
    left = await leave(stage, stores, tmp_path, engine, "--do-not-drain")
    assert (left.head.status, left.body.status) == (0, 0)
    record.control("without draining: a half-sent head and a half-sent check-in hear nothing")
