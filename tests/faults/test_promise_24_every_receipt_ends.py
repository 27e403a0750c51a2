"""Promise 24: every receipt ends: however its owner died, a retry of the key takes it over within 30 seconds and is
never told for ever to come back; and whatever became of the process that took it to judge it later, it is judged."""

import asyncio
import math
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from checkin_service.adapters.embedded import EmbeddedStores
from tests.faults.arrivals import Call, Crowd, Heed, arrive, call_once, gather, insist, prepare
from tests.faults.clients import Caller, Submission, calling
from tests.faults.processes import processes
from tests.faults.record import Record
from tests.faults.storm import FASTER, run_faster
from tests.service.stage import Stage, photo_of, running_service, until

LEASE_S = 30
PATIENCE_S = 60.0


async def orphaned(stage: Stage, stores: EmbeddedStores, folder: Path, number: int) -> list[Submission]:
    """Submissions whose process was killed after their receipts and before their verdicts."""
    person_ids = [f"p-{n}" for n in range(number)]
    await stage.ready_task("T1", *person_ids)
    at = stage.database_url, stores.redis_url or "", stage.settings.data_dir
    async with (
        processes(1, folder, *at, "--never-analyse") as [process],
        calling([process.base], at[2]) as caller,
    ):
        submissions = [await caller.submission(person_id, "T1") for person_id in person_ids]
        sending = [asyncio.create_task(caller.send_once(submission)) for submission in submissions]
        async with asyncio.timeout(60):
            while (await stage.sql("SELECT count(*) FROM receipt"))[0][0] < number:  # noqa: ASYNC110  in the database
                await asyncio.sleep(0.01)
        process.kill()
        await asyncio.gather(*sending, return_exceptions=True)
    return submissions


async def seconds_until_judged(caller: Caller, submission: Submission) -> float:
    since = time.monotonic()
    answer = await caller.insist(submission)
    assert (answer.status, answer.body["outcome"], answer.reasons) == (201, "accepted", [])
    return time.monotonic() - since


async def test_a_dead_owners_receipt_is_taken_over(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path, full: bool, record: Record
) -> None:
    number, faster = (40, 1) if full else (5, FASTER)
    if not full:
        await run_faster(stage)
    submissions = await orphaned(stage, stores, tmp_path, number)
    base = str(stage.client.make_url("/")).rstrip("/")
    async with calling([base], stage.settings.data_dir) as caller:
        waited = await asyncio.gather(*(seconds_until_judged(caller, each) for each in submissions))
    [row] = await stage.sql("SELECT count(*) FROM acceptance")
    assert row["count"] == number
    assert await stage.sql("SELECT FROM receipt WHERE answer IS NULL") == []
    if full:
        assert max(waited) <= LEASE_S + 1
    record.kept(
        f"{number} receipts of a killed process: all judged after at most {max(waited) * faster:.1f} s"
    )


async def test_control_without_the_lease_a_retry_is_told_to_come_back_for_ever(
    stage: Stage, stores: EmbeddedStores, tmp_path: Path, record: Record
) -> None:
    [submission] = await orphaned(stage, stores, tmp_path, 1)
    await stage.sql("UPDATE receipt SET leased_until = 'infinity'")
    await stage.set_clock(datetime.now(UTC) + timedelta(days=1))
    base = str(stage.client.make_url("/")).rstrip("/")
    async with calling([base], stage.settings.data_dir) as caller:
        answer = await caller.send_once(submission)
    assert (answer.status, answer.code) == (409, "idempotency_in_progress")
    record.control("a lease without an end: still 409 after a day")


# --- Judged later ---

# So many are let in, and never come to a verdict there; who comes after them is told 202.
LET_IN = 2
OVERLOADED = ["--analysis-s=11", "--set=CHECKIN_FACE_WORKERS=1", f"--set=CHECKIN_FACE_QUEUE={LET_IN - 1}"]
# all at once would be sent away for want of connections, not of workers
TAKEN_PER_S = 50
UNJUDGED = "SELECT count(*) FROM receipt WHERE deferred AND answer IS NULL"


async def put_off(
    database_url: str, stores: EmbeddedStores, folder: Path, number: int
) -> tuple[Stage, list[Heed]]:
    """Submissions near their deadline that a process took to judge them later, and was killed; the first of all were
    let in there."""
    crowd, redis_url = Crowd(number, 1), stores.redis_url or ""
    async with running_service(database_url, redis_url, folder) as stage:
        await gather(stage, crowd)
    await stage.sql("UPDATE task SET closes_at = clock_timestamp() + interval '1 hour'")
    calls = await prepare(stage, crowd.members, photo_of)
    async with processes(1, folder, database_url, redis_url, folder, *OVERLOADED) as [process]:
        answered: list[Heed] = []

        async def send(call: Call) -> Heed:
            answered.append(await call_once(process.port, PATIENCE_S, call))
            return answered[-1]

        sending = asyncio.create_task(arrive(calls, TAKEN_PER_S, send))
        await until(lambda: len(answered) == number - LET_IN)
        process.kill()
        return stage, await sending


async def test_what_was_put_off_is_judged_when_its_process_is_dead(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, full: bool, record: Record
) -> None:
    number = 200 if full else 8
    stage, heard = await put_off(database_url, stores, tmp_path, number)
    assert Counter(heed.heard.status for heed in heard) == {202: number - LET_IN, 0: LET_IN}
    if not full:
        await run_faster(stage)
    async with processes(1, tmp_path, database_url, stores.redis_url or "", tmp_path) as [other]:
        async with asyncio.timeout(300):
            while (await stage.sql(UNJUDGED))[0][0]:  # noqa: ASYNC110  in the database
                await asyncio.sleep(0.05)
        async with calling([other.base], tmp_path) as caller:
            unanswered = [heed.call.submission for heed in heard if heed.heard.status == 0]
            await asyncio.gather(*map(caller.insist, unanswered))
    assert await stage.sql("SELECT FROM receipt WHERE answer IS NULL") == []
    assert (await stage.sql("SELECT count(*) FROM acceptance"))[0][0] == number
    record.kept(
        f"{number - LET_IN} taken to be judged later by a process that was killed: all judged by another"
    )


async def test_control_with_nobody_who_judges_later_they_wait_for_ever(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, record: Record
) -> None:
    number = 6
    stage, heard = await put_off(database_url, stores, tmp_path, number)
    await stage.set_clock(datetime.now(UTC) + timedelta(minutes=6))
    at = database_url, stores.redis_url or "", tmp_path
    async with processes(1, tmp_path, *at, "--judge-nothing-later") as [other]:
        # what was not put off, it does judge
        unanswered = [heed.call for heed in heard if heed.heard.status == 0]
        await asyncio.gather(*(insist(other.port, PATIENCE_S, math.inf, call) for call in unanswered))
    [row] = await stage.sql(UNJUDGED)
    assert row["count"] == number - LET_IN
    record.control(
        f"nobody judges later: {row['count']} of {row['count']} without a verdict after six minutes"
    )
