"""PostgreSQL gone: 503 within a second on every route, liveness green, and all is well again without a restart."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from datetime import datetime
from uuid import uuid4

import pytest
import pytest_asyncio

from checkin_service.adapters.postgres.database import ACQUIRE_TIMEOUT_S
from checkin_service.adapters.postgres.pulse import Pulse
from tests.faults.every_route import WITHOUT_DATABASE, every_call
from tests.faults.nemesis import OwnStores
from tests.service.conftest import UNLIMITED
from tests.service.stage import Reply, Stage, check_in_fields, photo_of, running_service

pytestmark = pytest.mark.asyncio(loop_scope="module")

# A second is promised; asserted in the full form, for the machine is shared.
PROMISED_S, AT_MOST_S = 1.0, 5.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(own_stores: OwnStores, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    url = await own_stores.databases.make()
    at = url, own_stores.redis_url, tmp_path_factory.mktemp("data")
    async with running_service(*at, None, **UNLIMITED) as stage:
        await stage.ready_task("T1", "p-1")
        yield stage


@pytest.fixture
def limit_s(full: bool) -> float:
    return PROMISED_S if full else AT_MOST_S


async def timed(call: Awaitable[Reply]) -> tuple[Reply, float]:
    since = time.perf_counter()
    return await call, time.perf_counter() - since


async def assert_all_say_so(stage: Stage, limit_s: float) -> None:
    """Every route, each as it answers while the database is gone."""
    calls = every_call()
    answers = await asyncio.gather(*(timed(call.send(stage)) for call in calls.values()))
    for (name, call), (reply, seconds) in zip(calls.items(), answers, strict=True):
        assert seconds < limit_s, (name, seconds)
        if call.path == "/readyz":
            assert (reply.status, reply.body["checks"]["database"] == "ok") == (503, False)
        elif call.path in WITHOUT_DATABASE:
            assert reply.status == 200, name
        else:
            assert (reply.status, reply.code) == (503, "unavailable"), (name, reply)
            assert int(reply.headers["Retry-After"]) >= 1


async def until_ready(stage: Stage) -> None:
    async with asyncio.timeout(60):
        while (await every_call()["GET /readyz"].send(stage)).status != 200:  # noqa: ASYNC110  it is in the service
            await asyncio.sleep(0.02)


async def assert_well(stage: Stage) -> None:
    await until_ready(stage)
    task_id, person_id = f"T-{uuid4().hex}", f"p-{uuid4().hex}"
    await stage.ready_task(task_id, person_id)
    assert (await stage.check_in(person_id, task_id)).body["outcome"] == "accepted"


async def test_killed_every_route_says_so_and_serves_again(
    service: Stage, own_stores: OwnStores, limit_s: float
) -> None:
    own_stores.postgres.kill()
    await assert_all_say_so(service, limit_s)
    own_stores.postgres.start()
    await until_ready(service)
    for name, call in every_call().items():
        # on a busy machine one more may be told to come again
        async with asyncio.timeout(30):
            while (reply := await call.send(service)).status == 503:  # noqa: ASYNC110  see above
                await asyncio.sleep(0.1)
        assert reply.status < 500, (name, reply)


async def test_frozen_every_route_says_so(service: Stage, own_stores: OwnStores, limit_s: float) -> None:
    """More calls than there are connections, the first of them in the middle of a statement."""
    with own_stores.postgres.frozen():
        await assert_all_say_so(service, limit_s)
    await assert_well(service)


async def test_known_to_be_frozen_nobody_waits(service: Stage, own_stores: OwnStores) -> None:
    with own_stores.postgres.frozen():
        assert (await service.person("p-1", "GET", "/v1/me")).status == 503
        reply, seconds = await timed(service.person("p-1", "GET", "/v1/me"))
    assert (reply.status, seconds < ACQUIRE_TIMEOUT_S) == (503, True)
    await assert_well(service)


async def test_frozen_in_the_middle_of_a_check_in_it_goes_on_with_the_same_key(
    service: Stage, own_stores: OwnStores, limit_s: float
) -> None:
    await service.ready_task("T2", "p-2")
    challenge_id, selfie = await service.challenge("p-2", "T2"), photo_of("p-2", shot=7)
    fields = check_in_fields("T2", challenge_id)
    async with service.while_analysing(service.submit("p-2", fields, selfie, "k")) as submitted:
        own_stores.postgres.freeze()
    reply, seconds = await timed(submitted)
    assert (reply.status, seconds < limit_s) == (503, True)
    own_stores.postgres.thaw()
    await until_ready(service)
    [receipt] = await service.sql("SELECT * FROM receipt WHERE task_id = 'T2'")
    await service.sql("UPDATE receipt SET leased_until = NULL")  # what a dead owner's lease of 30 s ends as
    again = await service.submit("p-2", fields, selfie, "k")
    assert (again.status, again.body["outcome"]) == (201, "accepted")
    assert datetime.fromisoformat(again.body["received_at"]) == receipt["received_at"]


async def test_restarted_between_two_calls_it_serves_again(service: Stage, own_stores: OwnStores) -> None:
    await own_stores.postgres.restart()
    # on a busy machine the pulse finds its connection gone only now, and whoever calls then is told to come again
    async with asyncio.timeout(30):
        while not await _is_well(service):  # noqa: ASYNC110  no event tells when the pulse has found its connection gone
            await asyncio.sleep(0.1)


async def _is_well(stage: Stage) -> bool:
    try:
        await assert_well(stage)
    except AssertionError:
        return False
    return True


async def test_control_without_the_pulse_a_frozen_database_is_waited_for(
    service: Stage, own_stores: OwnStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pulse, "_answered", lambda _: asyncio.sleep(0, True))
    with own_stores.postgres.frozen():
        waiting = asyncio.create_task(service.person("p-1", "GET", "/v1/me"))
        done, _ = await asyncio.wait({waiting}, timeout=2 * PROMISED_S)
        assert not done
    assert (await waiting).status == 200
