"""Promise 4: a retry is safe at every point: whatever of an answer was lost, the retry gets it whole, and the
submission counts once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres import check_ins
from tests.faults.clients import Answer, Caller, Submission, calling
from tests.faults.engines import Engine
from tests.faults.nemesis import Wire, wire_to_database, wire_to_service
from tests.faults.record import Record
from tests.faults.storm import run_faster
from tests.service.stage import Stage

# so many that the full form has a photograph for each of their tasks
PERSONS = 16
# What only the one statement has among its values that receives a submission, and only the one that settles it.
RECEIVING, SETTLING = b"the-key", b'"attempts_left"'


def base_of(stage: Stage) -> str:
    return str(stage.client.make_url("/")).rstrip("/")


async def submissions(stage: Stage, caller: Caller, number: int) -> AsyncIterator[Submission]:
    """So many that will be accepted, of few persons on many tasks."""
    person_ids = [f"p-{n}" for n in range(PERSONS)]
    for n in range(number):
        task_id = f"T{n // PERSONS}"
        if n == 0:
            await stage.ready_task(task_id, *person_ids)
        elif n % PERSONS == 0:
            await stage.register(task_id, *person_ids)
        yield await caller.submission(person_ids[n % PERSONS], task_id)


async def length_of_answer(stage: Stage, direct: Caller, caller: Caller, wire: Wire) -> int:
    """Bytes of an accepted check-in's answer, head and body, but for the last few: the time in it may be shorter."""
    await stage.ready_task("T", "p-0")
    submission = await direct.submission("p-0", "T")
    before = wire.answered
    assert (await caller.send_once(submission)).status == 201
    return wire.answered - before - 16


async def cut_and_retried(
    caller: Caller, wire: Wire, submission: Submission, after: int
) -> tuple[bool, Answer]:
    """Whether the first answer was lost, and what the retry was told."""
    cuts = wire.cuts
    wire.cut(after)
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await caller.send_once(submission)
    return wire.cuts == cuts + 1, await caller.insist(submission)


async def counted(stage: Stage) -> list[int]:
    tables = ("receipt", "attempt", "acceptance")
    return [(await stage.sql(f"SELECT count(*) FROM {table}"))[0][0] for table in tables]


async def test_an_answer_cut_after_any_byte_is_given_again(
    stage: Stage, engine: Engine, full: bool, record: Record
) -> None:
    step = 1 if full else 37
    async with (
        wire_to_service(base_of(stage)) as wire,
        calling([wire.url], stage.settings.data_dir, engine) as caller,
        calling([base_of(stage)], stage.settings.data_dir, engine) as direct,
    ):
        points = range(0, await length_of_answer(stage, direct, caller, wire), step)
        cut = [
            await cut_and_retried(caller, wire, submission, points[n])
            async for n, submission in numbered(submissions(stage, direct, len(points)))
        ]
    assert all(lost for lost, _ in cut)
    assert {(answer.status, answer.body["outcome"], *answer.reasons) for _, answer in cut} == {
        (201, "accepted")
    }
    assert await counted(stage) == [len(points) + 1] * 3
    record.kept(
        f"answer cut at {len(points)} points, every {step} bytes: every retry the same acceptance, 0 twice"
    )


async def numbered(source: AsyncIterator[Submission]) -> AsyncIterator[tuple[int, Submission]]:
    n = 0
    async for item in source:
        yield n, item
        n += 1


@asynccontextmanager
async def behind_a_wire(
    database_url: str, stores: EmbeddedStores, folder: Path, engine: Engine
) -> AsyncIterator[tuple[Stage, Wire, Caller]]:
    """A service whose database lies behind a wire, and its callers."""
    async with (
        wire_to_database(database_url) as wire,
        engine.stage(wire.url, stores.redis_url or "", folder) as stage,
        calling([base_of(stage)], folder, engine) as caller,
    ):
        yield stage, wire, caller


@pytest.mark.parametrize("mark", [RECEIVING, SETTLING], ids=["the receipt", "the verdict"])
async def test_what_is_committed_and_not_reported_is_read_back(
    database_url: str,
    stores: EmbeddedStores,
    tmp_path: Path,
    engine: Engine,
    mark: bytes,
    full: bool,
    record: Record,
) -> None:
    # a lost receipt is waited for until its lease is over
    number = {(True, RECEIVING): 40, (True, SETTLING): 200}.get((full, mark), 2)
    async with behind_a_wire(database_url, stores, tmp_path, engine) as (stage, wire, caller):
        await stage.ready_task("T-clock")
        await run_faster(stage)
        async for submission in submissions(stage, caller, number):
            wire.cut(0, submission.key.encode() if mark == RECEIVING else mark)
            assert (await caller.send_once(submission)).status == 503
            answer = await caller.insist(submission)
            assert (answer.status, answer.body["outcome"], answer.reasons) == (201, "accepted", [])
        assert (wire.cuts, await counted(stage)) == (number, [number] * 3)
    what = "receipt" if mark == RECEIVING else "verdict"
    record.kept(f"{number} replies lost after COMMIT of the {what}: all answered from what was stored")


async def test_control_without_the_stored_answer_a_retry_gets_none(
    stage: Stage, engine: Engine, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    async def forget(*_: object) -> None: ...

    monkeypatch.setattr(check_ins, "lock_receipt_by_key", forget)
    async with (
        wire_to_service(base_of(stage)) as wire,
        calling([wire.url], stage.settings.data_dir, engine) as caller,
        calling([base_of(stage)], stage.settings.data_dir, engine) as direct,
    ):
        async for submission in submissions(stage, direct, 1):
            _, answer = await cut_and_retried(caller, wire, submission, 0)
    assert (answer.status, answer.code) == (409, "challenge_invalid")
    record.control("stored answers not read: the retry is refused, 409 challenge_invalid")
