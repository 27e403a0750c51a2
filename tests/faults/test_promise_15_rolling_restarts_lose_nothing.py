"""Promise 15: rolling restarts lose nothing: a process that is told to stop answers whoever has come, sends whoever
comes elsewhere, and ends within 30 seconds."""

import asyncio
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from checkin_service.adapters.embedded import EmbeddedStores
from tests.faults.balancer import Balancer, balancing
from tests.faults.clients import Caller, calling
from tests.faults.processes import ServiceProcess, processes
from tests.faults.record import Record
from tests.faults.storm import Storm, broken_promises, enrol_all
from tests.service.stage import FAR, Stage, until

DRAINED_S = 30
# long before it is over a balancer has asked, on a machine that is busy, too
GRACE_S = 2
# each is a challenge and a check-in
CHECK_INS_PER_S = 10

SHORT, FULL = Storm(persons=4, tasks=2, strikes=2), Storm(persons=32, tasks=16, strikes=20)


@dataclass(slots=True)
class Rolled:
    """`took_s`: how long each process took to its end."""

    caller: Caller | None = None
    took_s: list[float] = field(default_factory=list)

    @property
    def resets(self) -> int:
        return self.caller.unanswered if self.caller else 0


async def roll(
    rolled: Rolled, stage: Stage, stores: EmbeddedStores, folder: Path, storm: Storm, *switches: str
) -> None:
    """Restarts one process after the other, as often as the storm strikes, while check-ins come through a balancer."""
    await enrol_all(stage, storm)
    at = stage.database_url, stores.redis_url or "", stage.settings.data_dir
    grace = f"CHECKIN_DRAIN_GRACE_S={GRACE_S}"
    async with (
        processes(2, folder, *at, "--analyse-slowly", "--set", grace, *switches) as pair,
        balancing(pair) as (base, balancer),
        calling([base], at[2]) as rolled.caller,
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
    stage: Stage, stores: EmbeddedStores, tmp_path: Path, full: bool, record: Record
) -> None:
    storm, rolled = FULL if full else SHORT, Rolled()
    await roll(rolled, stage, stores, tmp_path, storm)
    assert rolled.caller
    assert rolled.resets == 0
    assert await broken_promises(stage, rolled.caller, storm) == []
    assert max(rolled.took_s) < DRAINED_S
    record.kept(
        f"{storm.strikes} restarts under {2 * CHECK_INS_PER_S} requests/s, {rolled.caller.judged} verdicts, "
        f"0 resets, 0 lost, drained in at most {max(rolled.took_s):.1f} s"
    )


async def test_control_without_draining_connections_are_reset(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path, record: Record
) -> None:
    rolled = Rolled()
    rolling = asyncio.create_task(roll(rolled, stage, stores, tmp_path, SHORT, "--do-not-drain"))
    await until(lambda: rolled.resets or rolling.done())
    rolling.cancel()
    await asyncio.wait([rolling])
    assert rolled.resets > 0
    record.control(f"without draining: {rolled.resets} requests reset by the first restart")
