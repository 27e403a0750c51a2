"""Promise 3: simultaneous duplicates count once, whichever of two processes they reach."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from tests.faults.clients import Answer, Caller, Submission, calling
from tests.faults.engines import Engine
from tests.faults.processes import processes
from tests.faults.record import Record
from tests.service.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

IDENTICAL = 200


async def new_task(stage: Stage, persons: int) -> tuple[str, list[str]]:
    task_id, person_ids = f"T-{uuid4().hex}", [f"p-{uuid4().hex}" for _ in range(persons)]
    await stage.ready_task(task_id, *person_ids)
    return task_id, person_ids


async def together(caller: Caller, submissions: Sequence[Submission], *, insist: bool = True) -> list[Answer]:
    """The answers to all of them, released at one instant; insisted on until they are judged."""
    released, send = asyncio.Event(), caller.insist if insist else caller.send_once

    async def wait_and_send(submission: Submission) -> Answer:
        await released.wait()
        return await send(submission)

    sending = [asyncio.create_task(wait_and_send(submission)) for submission in submissions]
    released.set()
    return await asyncio.gather(*sending)


async def stored(stage: Stage, task_id: str) -> tuple[int, int, int]:
    """How many receipts, attempts and acceptances the task has."""
    [row] = await stage.sql(
        """
        SELECT (SELECT count(*) FROM receipt WHERE task_id = $1),
               (SELECT count(*) FROM attempt WHERE task_id = $1),
               (SELECT count(*) FROM acceptance WHERE task_id = $1)
        """,
        task_id,
    )
    return row[0], row[1], row[2]


async def test_two_hundred_identical_requests_are_one_submission(
    shared_stage: Stage, pair_caller: Caller, record: Record
) -> None:
    task_id, [person_id] = await new_task(shared_stage, 1)
    submission = await pair_caller.submission(person_id, task_id)
    answers = await together(pair_caller, [submission] * IDENTICAL, insist=False)
    final = await pair_caller.insist(submission)
    assert (final.status, final.body["outcome"], final.reasons) == (201, "accepted", [])
    others = {(answer.status, answer.code) for answer in answers if answer.body != final.body}
    assert others <= {(409, "idempotency_in_progress"), (503, "unavailable")}
    assert await stored(shared_stage, task_id) == (1, 1, 1)
    record.kept(
        f"{IDENTICAL} identical requests at once over 2 processes: 1 receipt, 1 attempt, 1 acceptance"
    )


async def many_keys(caller: Caller, task_id: str, person_id: str, number: int) -> list[Answer]:
    shots = range(1, number + 1)
    submissions = await asyncio.gather(*(caller.submission(person_id, task_id, shot=shot) for shot in shots))
    return await together(caller, submissions)


async def test_many_keys_of_one_person_are_one_acceptance(
    shared_stage: Stage, pair_caller: Caller, full: bool, record: Record
) -> None:
    task_id, [person_id] = await new_task(shared_stage, 1)
    number = IDENTICAL if full else 60
    answers = await many_keys(pair_caller, task_id, person_id, number)
    assert {(answer.status, answer.body["outcome"]) for answer in answers} == {(201, "accepted")}
    assert len({answer.body["check_in_id"] for answer in answers}) == 1
    assert sorted(answer.reasons for answer in answers) == [[]] + [["already_checked_in"]] * (number - 1)
    assert await stored(shared_stage, task_id) == (number, 1, 1)
    status = await shared_stage.status(task_id)
    assert (status["progress"]["total"], status["progress"]["accepted"]) == (1, 1)
    record.kept(f"{number} keys of one person at once: 1 acceptance")


async def test_two_challenges_of_each_person_are_one_acceptance_each(
    shared_stage: Stage, pair_caller: Caller, full: bool
) -> None:
    persons = 100 if full else 20
    task_id, person_ids = await new_task(shared_stage, persons)
    submissions = [
        await pair_caller.submission(person_id, task_id, shot=shot)
        for shot in (1, 2)
        for person_id in person_ids
    ]
    answers = await together(pair_caller, submissions)
    assert {answer.body["outcome"] for answer in answers} == {"accepted"}
    assert await stored(shared_stage, task_id) == (2 * persons, persons, persons)
    changes = await shared_stage.sql("SELECT type FROM change WHERE task_id = $1", task_id)
    types = [row["type"] for row in changes]
    assert (types.count("member_accepted"), types.count("task_completed")) == (persons, 1)


WITHOUT_LOCKS = "CREATE OR REPLACE FUNCTION lock_check_in(wanted uuid) RETURNS void LANGUAGE sql AS ''"
# Time for another to come in between, as on a slow disk; in every one of the cases.
SLOW_COMMIT = (
    """
    CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END $$
    """,
    """
    CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON acceptance DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION be_slow()
    """,
)
WITHOUT_CONSTRAINT = "DROP INDEX accepted_once"


@pytest.mark.parametrize(
    ("switched_off", "counts_once"),
    [([WITHOUT_LOCKS], True), ([WITHOUT_CONSTRAINT], True), ([WITHOUT_LOCKS, WITHOUT_CONSTRAINT], False)],
    ids=["the constraint alone", "the locks alone", "neither"],
)
@pytest.mark.asyncio(loop_scope="function")
async def test_control_constraint_and_locks_each_suffice_and_without_both_one_person_counts_twice(
    stage: Stage,
    stores: EmbeddedStores,
    tmp_path: Path,
    engine: Engine,
    switched_off: list[str],
    counts_once: bool,
    record: Record,
) -> None:
    task_id, [person_id] = await new_task(stage, 1)
    for change in (*SLOW_COMMIT, *switched_off):
        await stage.sql(change)
    at = stage.database_url, stores.redis_url or "", stage.settings.data_dir
    async with (
        processes(1, tmp_path, *at, *engine.switches) as [beside],
        calling([beside.base], at[2], engine) as caller,
    ):
        caller.bases = [beside.base, str(stage.client.make_url("/")).rstrip("/")]
        await many_keys(caller, task_id, person_id, 60)
    _, _, acceptances = await stored(stage, task_id)
    assert (acceptances == 1) == counts_once
    if not counts_once:
        record.control(f"without constraint and lock: one person accepted {acceptances} times")
