"""What runs beside the requests of a process: it sees how much there is to do, and judges what was put off."""

import asyncio
import math
import time
from contextlib import AsyncExitStack, suppress
from datetime import timedelta

import structlog

from checkin_service.adapters.postgres import deferred
from checkin_service.adapters.postgres.database import Database
from checkin_service.metrics import Metrics
from checkin_service.usecases.judge_deferred import judge_next
from checkin_service.usecases.refusals import Refusal
from checkin_service.usecases.submit_check_in import Judge
from checkin_service.web.admission import Admission
from checkin_service.web.problems import OUR_FAILURES, place_of

TICK_S = 0.1
WATCH_INTERVAL_S = 1.0
# Between looks at who is near a deadline, in intervals.
_LOOKS = 5
# People are promised a verdict within this time: what waits longer, somebody has to see to.
PROMISED_S = 300
_NEWEST_SHARE = 0.3

# `judge_next` refuses for what is to be tried again, too
UNAVAILABLE: tuple[type[BaseException], ...] = (*OUR_FAILURES, Refusal)
log = structlog.get_logger("checkin_service.overload")


def run_beside(stack: AsyncExitStack, judge: Judge, admission: Admission) -> None:
    """Starts it all; the stack ends it."""
    judges = [_judge_for_ever(judge, admission) for _ in range(admission.settings.face_workers)]
    for work in (_watch_event_loop(admission), _watch_backlog(admission), *judges):
        stack.push_async_callback(end_task, asyncio.create_task(work))


async def end_task(task: asyncio.Task[None]) -> None:
    """Cancels it and waits for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _watch_event_loop(admission: Admission) -> None:
    loop, before = asyncio.get_running_loop(), 0.0
    while True:
        due = loop.time() + TICK_S
        await asyncio.sleep(TICK_S)
        late = max(0.0, loop.time() - due)
        # one long step by itself is no overload
        admission.lag_s += _NEWEST_SHARE * (min(late, before) - admission.lag_s)
        before = late
        admission.metrics.event_loop_lag.set(admission.lag_s)


async def _watch_backlog(admission: Admission) -> None:
    look = 0
    while True:
        try:
            await look_at_backlog(admission.database, admission, admission.metrics)
            if look % _LOOKS == 0:
                await look_for_deadlines(admission.database, admission)
            look += 1
        except OUR_FAILURES as error:
            log.warning("watch_failed", error=type(error).__name__)
        except Exception as error:  # noqa: BLE001  a defect of ours must not end the watching
            log.critical("defect", error=type(error).__name__, at=place_of(error))
        await asyncio.sleep(WATCH_INTERVAL_S)


async def look_at_backlog(database: Database, admission: Admission, metrics: Metrics) -> None:
    async with database.connection() as connection:
        backlog = await deferred.read_backlog(connection)
    admission.backlog, admission.oldest_s = backlog.waiting, backlog.oldest_s
    metrics.observe_backlog(backlog.waiting, backlog.oldest_s)
    if backlog.oldest_s > PROMISED_S:
        log.warning("deferred_overdue", waiting=backlog.waiting, oldest_s=round(backlog.oldest_s))


async def look_for_deadlines(database: Database, admission: Admission) -> None:
    within = timedelta(hours=admission.settings.receipt_first_hours)
    if not within:
        return
    async with database.connection() as connection:
        left_s = await deferred.tasks_near_a_deadline(connection, within)
        admission.next_end = time.monotonic() + min(left_s.values(), default=math.inf)
        # rosters never change, and on a last evening they are long
        if left_s.keys() != admission.closing_tasks:
            admission.closing = await deferred.members_of(connection, left_s.keys())
            admission.closing_tasks = frozenset(left_s)


async def _judge_for_ever(judge: Judge, admission: Admission) -> None:
    while True:
        idle = not admission.backlog or admission.is_taking
        if idle or not await _judge_one(judge, admission):
            await asyncio.sleep(WATCH_INTERVAL_S)


async def _judge_one(judge: Judge, admission: Admission) -> bool:
    """Whether there may be more to do at once."""
    try:
        found, answer = await judge_next(judge)
    except UNAVAILABLE as error:
        log.warning("deferred_unavailable", error=type(error).__name__)
        return False
    except Exception as error:  # noqa: BLE001  a defect of ours must not end the judging
        log.critical("defect", error=type(error).__name__, at=place_of(error))
        return False
    if found:
        admission.backlog = max(0, admission.backlog - 1)
    if answer:
        admission.metrics.count_check_in(answer)
    return found
