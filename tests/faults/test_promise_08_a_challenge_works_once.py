"""Promise 8: a challenge works once, for one person, one task and 180 seconds, whatever else is lost."""

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
import redis.asyncio as redis

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres.database import open_database
from checkin_service.usecases import open_challenge
from checkin_service.usecases.sweep import sweep
from tests.faults.record import Record
from tests.service.stage import FAR, Json, Reply, Stage, check_in_fields, photo_of, running_service
from tests.service.window import MICROSECOND, NOON, task_at_noon

LIFETIME = timedelta(seconds=180)
SELFIE = photo_of("p-1", shot=1)


async def fresh(stage: Stage, person_id: str = "p-1", task_id: str = "T1") -> str:
    """A challenge of noon."""
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.register("T2", "p-1", approved_at=NOON.isoformat())
    return await stage.challenge(person_id, task_id)


def fields_of(challenge_id: str, task_id: str = "T1") -> Json:
    return check_in_fields(task_id, challenge_id, at=FAR)


async def use(stage: Stage, challenge_id: str, key: str | None = None, person_id: str = "p-1") -> Reply:
    return await stage.submit(person_id, fields_of(challenge_id), SELFIE, key)


def is_refused(reply: Reply) -> bool:
    return reply.status == 409 and reply.code == "challenge_invalid"


async def receipts(stage: Stage) -> int:
    [row] = await stage.sql("SELECT count(*) FROM receipt")
    return int(row["count"])


# --- Once ---


async def test_a_used_challenge_is_refused_under_another_key(stage: Stage) -> None:
    challenge_id = await fresh(stage)
    assert (await use(stage, challenge_id)).status == 201
    assert is_refused(await use(stage, challenge_id))


async def test_the_key_that_used_it_gets_its_answer_again(stage: Stage) -> None:
    challenge_id = await fresh(stage)
    fields = fields_of(challenge_id)
    first = await stage.submit("p-1", fields, SELFIE, "k")
    await stage.set_clock(NOON + LIFETIME)
    again = await stage.submit("p-1", fields, SELFIE, "k")
    assert (again.status, again.body) == (201, first.body)


async def in_parallel(stage: Stage) -> Counter[int]:
    """How one challenge fares under twenty keys at once, by status."""
    challenge_id = await fresh(stage)
    replies = await asyncio.gather(*(use(stage, challenge_id) for _ in range(20)))
    assert all(reply.status == 201 or is_refused(reply) for reply in replies)
    return Counter(reply.status for reply in replies)


async def test_used_in_parallel_it_works_once(stage: Stage, record: Record) -> None:
    assert await in_parallel(stage) == {201: 1, 409: 19}
    assert await receipts(stage) == 1
    record.kept("used under 20 keys at once: 1 receipt, 19 refused")


async def test_control_without_its_constraint_it_works_more_than_once(stage: Stage, record: Record) -> None:
    await stage.sql("ALTER TABLE receipt DROP CONSTRAINT receipt_challenge_id_key")
    used = (await in_parallel(stage))[201]
    assert used > 1
    record.control(f"without the constraint: used {used} times")


async def test_a_new_challenge_does_not_cancel_an_earlier_one(stage: Stage) -> None:
    earlier = await fresh(stage)
    later = await stage.challenge("p-1", "T1")
    assert [(await use(stage, challenge_id)).status for challenge_id in (earlier, later)] == [201, 201]


@pytest.mark.parametrize(
    ("selfie", "status"),
    [(b"GIF89a", 415), (b"", 422), (b"\xff\xd8\xff\xd9", 422)],
    ids=["gif", "empty", "bare"],
)
async def test_what_is_refused_before_the_receipt_uses_nothing_up(
    stage: Stage, selfie: bytes, status: int
) -> None:
    challenge_id = await fresh(stage)
    refused = await stage.submit("p-1", fields_of(challenge_id), selfie, "k")
    assert refused.status == status
    assert await receipts(stage) == 0
    assert (await use(stage, challenge_id, "k")).status == 201


# --- One person, one task ---


async def test_anothers_challenge_is_refused_and_stays_usable_for_its_owner(stage: Stage) -> None:
    challenge_id = await fresh(stage)
    assert is_refused(await use(stage, challenge_id, person_id="p-2"))
    assert (await use(stage, challenge_id)).status == 201


async def test_another_tasks_challenge_is_refused_and_stays_usable_for_its_own(stage: Stage) -> None:
    challenge_id = await fresh(stage)
    assert is_refused(await stage.submit("p-1", fields_of(challenge_id, "T2"), SELFIE))
    assert (await use(stage, challenge_id)).status == 201


@pytest.mark.parametrize("challenge_id", ["00000000-0000-4000-8000-000000000000", "no-uuid", "'"])
async def test_a_challenge_that_was_never_given_is_refused(stage: Stage, challenge_id: str) -> None:
    await fresh(stage)
    assert is_refused(await use(stage, challenge_id))


# --- 180 seconds ---


async def test_it_works_up_to_180_seconds_and_no_longer(stage: Stage, record: Record) -> None:
    challenges = [await fresh(stage), await stage.challenge("p-1", "T1")]
    await stage.set_clock(NOON + LIFETIME - MICROSECOND)
    assert (await use(stage, challenges[0])).status == 201
    await stage.set_clock(NOON + LIFETIME)
    assert is_refused(await use(stage, challenges[1]))
    record.kept("taken 1 µs before its 180 s are over, refused then")


async def test_control_a_challenge_that_lives_longer_works_longer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_challenge, "LIFETIME", LIFETIME + MICROSECOND)
    challenge_id = await fresh(stage)
    await stage.set_clock(NOON + LIFETIME)
    assert (await use(stage, challenge_id)).status == 201


async def test_it_expires_by_the_time_of_the_receipt_and_not_of_the_verdict(stage: Stage) -> None:
    challenge_id = await fresh(stage)
    fields = check_in_fields("T1", challenge_id)
    async with stage.while_analysing(stage.submit("p-1", fields, SELFIE, "k")) as submitted:
        await stage.set_clock(NOON + LIFETIME)
    assert (await submitted).body["outcome"] == "accepted"


async def test_it_stays_used_when_it_is_tidied_away(stage: Stage) -> None:
    challenge_id = await fresh(stage)
    fields = fields_of(challenge_id)
    first = await stage.submit("p-1", fields, SELFIE, "k")
    await stage.set_clock(NOON + timedelta(days=2))
    async with open_database(stage.service_url, max_connections=1) as database:
        await sweep(database)
    assert await stage.sql("SELECT * FROM challenge") == []
    assert is_refused(await use(stage, challenge_id))
    assert (await stage.submit("p-1", fields, SELFIE, "k")).body == first.body


# --- Whatever else is lost ---


async def test_it_survives_a_flushed_redis_used_and_unused(stage: Stage, stores: EmbeddedStores) -> None:
    used = await fresh(stage)
    unused = await stage.challenge("p-1", "T1")
    await use(stage, used)
    async with redis.from_url(stores.redis_url or "") as client:
        await client.flushall()
    assert is_refused(await use(stage, used))
    assert (await use(stage, unused)).status == 201


async def test_it_survives_a_restart_used_and_unused(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, record: Record
) -> None:
    redis_url = stores.redis_url or ""
    async with running_service(database_url, redis_url, tmp_path) as before:
        used = await fresh(before)
        unused = await before.challenge("p-1", "T1")
        await use(before, used)
    async with running_service(database_url, redis_url, tmp_path) as after:
        assert is_refused(await use(after, used))
        assert (await use(after, unused)).status == 201
    record.kept("after a flushed Redis and after a restart: the used one refused, the unused one taken")
