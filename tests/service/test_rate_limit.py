"""One person's rate is bounded while Redis is there; no verdict needs Redis."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from tests.service.databases import Databases
from tests.service.stage import FAR, Reply, Stage, photo_of, running_service
from tests.service.window import task_at_noon

GONE = "redis://127.0.0.1:1/0"
A_MINUTE_S = 60


@pytest.fixture
async def strict(database_url: str, stores: EmbeddedStores, tmp_path: Path) -> AsyncIterator[Stage]:
    """A service that gives a person one challenge a minute."""
    assert stores.redis_url is not None
    limit = {"CHECKIN_PERSON_CHALLENGES_PER_MINUTE": "1"}
    async with running_service(database_url, stores.redis_url, tmp_path, None, **limit) as running:
        yield running


@pytest.fixture
async def without_redis(databases: Databases, tmp_path: Path) -> AsyncIterator[Stage]:
    limit = {"CHECKIN_PERSON_CHALLENGES_PER_MINUTE": "1"}
    async with running_service(await databases.make(), GONE, tmp_path, None, **limit) as running:
        yield running


async def challenges(stage: Stage, person_id: str, times: int) -> list[Reply]:
    body = {"task_id": "T1"}
    return [await stage.person(person_id, "POST", "/v1/challenges", body) for _ in range(times)]


def is_limited(reply: Reply) -> bool:
    return reply.status == 429 and reply.code == "rate_limited"


# A minute may end between two requests, but not between every two of three.


async def test_who_asks_too_often_is_told_when_to_come_back(strict: Stage) -> None:
    person_id = f"p-{uuid4().hex}"
    await task_at_noon(strict, "T1", person_id)
    refused = [reply for reply in await challenges(strict, person_id, 3) if reply.status != 201]
    assert refused
    assert all(is_limited(reply) for reply in refused)
    assert all(1 <= int(reply.headers["Retry-After"]) <= A_MINUTE_S + 1 for reply in refused)


async def test_a_check_in_with_a_challenge_is_taken_whatever_the_rate(strict: Stage) -> None:
    person_id = f"p-{uuid4().hex}"
    await task_at_noon(strict, "T1", person_id)
    challenge_id = await strict.challenge(person_id, "T1")
    assert any(is_limited(reply) for reply in await challenges(strict, person_id, 3))
    reply = await strict.check_in(person_id, "T1", challenge_id=challenge_id)
    assert (reply.status, reply.body["outcome"]) == (201, "accepted")


async def test_one_persons_rate_is_nobody_elses(strict: Stage) -> None:
    busy, other = f"p-{uuid4().hex}", f"p-{uuid4().hex}"
    await task_at_noon(strict, "T1", busy, other)
    assert any(is_limited(reply) for reply in await challenges(strict, busy, 3))
    [first] = await challenges(strict, other, 1)
    assert first.status == 201


async def test_what_a_person_only_reads_is_not_limited(strict: Stage) -> None:
    person_id = f"p-{uuid4().hex}"
    await task_at_noon(strict, "T1", person_id)
    replies = [await strict.person(person_id, "GET", "/v1/me") for _ in range(3)]
    assert {reply.status for reply in replies} == {200}


async def verdicts(stage: Stage) -> list[Any]:
    """The same trace of a member's day, as codes."""
    await task_at_noon(stage, "T1", "p-1", "p-2")
    key = uuid4().hex
    challenge_id = await stage.challenge("p-1", "T1")
    replies = [
        await stage.check_in("p-1", "T1", at=FAR),
        await stage.check_in("p-1", "T1", selfie=photo_of("p-2")),
        await stage.check_in("p-1", "T1", fixes=[]),
        await stage.check_in("p-1", "T1", key=key, challenge_id=challenge_id),
        await stage.check_in("p-1", "T1", challenge_id=challenge_id),
        await stage.check_in("p-1", "T1"),
        await stage.check_in("p-2", "T1"),
    ]
    judged = [
        (r.body["outcome"], r.reasons, r.body["attempts_left"]) if r.status == 201 else r.code
        for r in replies
    ]
    status = await stage.status("T1")
    return [*judged, status["state"], [member["state"] for member in status["members"]]]


async def test_verdicts_are_the_same_with_and_without_redis(stage: Stage, without_redis: Stage) -> None:
    expected = await verdicts(stage)
    assert expected[0] == ("rejected", ["outside_geofence"], 9)
    assert await verdicts(without_redis) == expected


async def test_without_redis_nobody_is_limited_and_readiness_says_so(without_redis: Stage) -> None:
    await task_at_noon(without_redis, "T1")
    assert {reply.status for reply in await challenges(without_redis, "p-1", 5)} == {201}
    async with without_redis.client.get("/readyz") as readiness:
        checks = (await readiness.json())["checks"]
    assert checks["redis"] != "ok"
    async with without_redis.client.get("/metrics") as metrics:
        lines = (await metrics.text()).splitlines()
    failures = next(line for line in lines if line.startswith("checkin_redis_failures_total "))
    assert float(failures.partition(" ")[2]) > 0
