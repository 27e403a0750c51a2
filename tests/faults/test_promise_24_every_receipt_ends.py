"""Promise 24: every receipt ends: however its owner died, a retry of the key takes it over within 30 seconds and is
never told for ever to come back."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from checkin_service.adapters.embedded import EmbeddedStores
from tests.faults.clients import Caller, Submission, calling
from tests.faults.processes import processes
from tests.faults.record import Record
from tests.faults.storm import FASTER, run_faster
from tests.service.stage import Stage

LEASE_S = 30


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
