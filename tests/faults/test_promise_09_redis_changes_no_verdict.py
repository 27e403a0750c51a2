"""Promise 9: Redis gone, frozen or emptied changes no verdict, and costs no more than a moment."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from checkin_service.adapters import rate_limit
from checkin_service.adapters.rate_limit import PAUSE_S, TIMEOUT_S, RateLimit
from tests.faults.nemesis import OwnStores
from tests.faults.record import Record
from tests.service.conftest import UNLIMITED
from tests.service.stage import FAR, Reply, Stage, check_in_fields, photo_of, running_service
from tests.service.window import NOON, OPENS_AT

pytestmark = pytest.mark.asyncio(loop_scope="module")

numbers = count()
Weather = Callable[[], object]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def database_url(own_stores: OwnStores) -> str:
    return await own_stores.databases.make()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(
    own_stores: OwnStores, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    at = database_url, own_stores.redis_url, tmp_path_factory.mktemp("data")
    async with running_service(*at, None, **UNLIMITED) as stage:
        await stage.set_clock(NOON)
        yield stage


@pytest.fixture(autouse=True)
def asked_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause after a failure: every step of a trace meets Redis as it is then."""
    monkeypatch.setattr(rate_limit, "PAUSE_S", 0)


async def verdicts(stage: Stage, weather: Weather) -> list[Any]:
    """The same day of two members, as codes; before every step the weather changes."""
    task_id, p, q = (f"{letter}-{next(numbers)}" for letter in "tpq")
    await stage.ready_task(task_id, p, q, approved_at=OPENS_AT.isoformat())

    async def challenge(person_id: str) -> str:
        weather()
        reply = await stage.person(person_id, "POST", "/v1/challenges", {"task_id": task_id})
        return str(reply.body.get("challenge_id", reply.body.get("code")))

    async def sent(person_id: str, challenge_id: str, shot: int, **form: Any) -> Reply:
        weather()
        fields = check_in_fields(task_id, challenge_id) | form
        return await stage.submit(person_id, fields, photo_of(person_id, shot), f"{challenge_id}-{shot}")

    used = await challenge(p)
    far = {"fixes": check_in_fields(task_id, used, FAR)["fixes"]}
    replies = [
        await sent(p, await challenge(p), 1, **far),
        await sent(p, await challenge(p), 2, fixes=[]),
        await sent(p, used, 3),
        await sent(p, used, 3),
        await sent(p, used, 4),
        await sent(p, await challenge(p), 5),
        await sent(q, await challenge(q), 6, fixes=[]),
    ]
    weather()
    status = await stage.status(task_id)
    return [*map(_codes, replies), status["state"], [member["state"] for member in status["members"]]]


def _codes(reply: Reply) -> Any:
    return (
        (reply.body["outcome"], reply.reasons, reply.body["attempts_left"])
        if reply.status == 201
        else reply.code
    )


class Fickle:
    """Redis answers, hangs or is emptied, by chance."""

    def __init__(self, stores: OwnStores, seed: int) -> None:
        self._stores, self._random = stores, Random(seed)
        self._frozen = False
        self.changes = 0

    def __call__(self) -> None:
        self.changes += 1
        change = self._random.choice([self.hang, self.answer, self._flush])
        change()

    def hang(self) -> None:
        if not self._frozen:
            self._stores.valkey.freeze()
            self._frozen = True

    def answer(self) -> None:
        if self._frozen:
            self._stores.valkey.thaw()
            self._frozen = False

    def _flush(self) -> None:
        self.answer()
        self._stores.flush()


@contextmanager
def fickle(stores: OwnStores, seed: int) -> Iterator[Fickle]:
    weather = Fickle(stores, seed)
    try:
        yield weather
    finally:
        weather.answer()


def calm() -> None: ...


async def test_verdicts_are_the_same_on_flushed_hanging_killed_and_away(
    service: Stage, own_stores: OwnStores, full: bool, record: Record
) -> None:
    expected = await verdicts(service, calm)
    assert expected[0] == ("rejected", ["outside_geofence"], 9)
    assert expected[-2:] == ["open", ["accepted", "not_started"]]
    faults, traces = 0, 30 if full else 3
    for seed in range(traces):
        with fickle(own_stores, seed) as weather:
            assert await verdicts(service, weather) == expected, seed
        faults += weather.changes
    assert await verdicts(service, own_stores.flush) == expected
    with own_stores.valkey.frozen():
        assert await verdicts(service, calm) == expected
    own_stores.valkey.kill()
    assert await verdicts(service, calm) == expected
    await own_stores.valkey.restart()
    assert await verdicts(service, calm) == expected
    record.kept(f"{traces + 5} traces, {faults} random changes of Redis, 0 verdicts differ")


async def test_a_service_that_never_saw_redis_judges_the_same(service: Stage, database_url: str) -> None:
    data_dir = service.settings.data_dir
    async with running_service(database_url, "redis://127.0.0.1:1/0", data_dir) as without:
        assert await verdicts(without, calm) == await verdicts(service, calm)


async def test_it_is_given_up_in_time(service: Stage, own_stores: OwnStores, full: bool) -> None:
    task_id, person_id = f"t-{next(numbers)}", f"p-{next(numbers)}"
    await service.ready_task(task_id, person_id, approved_at=OPENS_AT.isoformat())
    with own_stores.valkey.frozen():
        since = time.monotonic()
        await service.challenge(person_id, task_id)
        assert time.monotonic() - since < (TIMEOUT_S + 0.3 if full else 5)


async def test_a_hanging_redis_costs_one_moment_and_then_nothing(
    service: Stage, own_stores: OwnStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limit, "PAUSE_S", PAUSE_S)
    task_id, person_id = f"t-{next(numbers)}", f"p-{next(numbers)}"
    await service.ready_task(task_id, person_id, approved_at=OPENS_AT.isoformat())
    before, since = await failures(service), time.monotonic()
    with own_stores.valkey.frozen():
        for _ in range(20):
            await service.challenge(person_id, task_id)
        elapsed_s = time.monotonic() - since
    assert await failures(service) - before <= 1 + elapsed_s // PAUSE_S


async def failures(stage: Stage) -> float:
    async with stage.client.get("/metrics") as metrics:
        lines = (await metrics.text()).splitlines()
    return float(next(line for line in lines if line.startswith("checkin_redis_failures_total ")).split()[1])


async def test_an_answer_that_comes_late_is_nobody_elses(
    service: Stage, own_stores: OwnStores, database_url: str
) -> None:
    """What a frozen Redis answers after all is not read as the answer to a later question."""
    task_id, busy, other = (f"{letter}-{next(numbers)}" for letter in "tpq")
    await service.ready_task(task_id, busy, other, approved_at=OPENS_AT.isoformat())
    at, minute = (database_url, own_stores.redis_url, service.settings.data_dir), time.time()
    limit = {"CHECKIN_PERSON_CHALLENGES_PER_MINUTE": "3"}
    async with running_service(*at, None, lambda: minute, **limit) as strict:
        for _ in range(2):
            await strict.challenge(busy, task_id)
        with own_stores.valkey.frozen():
            await strict.challenge(busy, task_id)
        body = {"task_id": task_id}
        asked = [await strict.person(other, "POST", "/v1/challenges", body) for _ in range(4)]
    assert [reply.status for reply in asked] == [201, 201, 201, 429]


async def test_control_a_rate_limit_that_fails_closed_changes_verdicts(
    service: Stage, own_stores: OwnStores, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    retry_after_s = RateLimit.retry_after_s

    async def closed(limit: RateLimit, key: str) -> int | None:
        return await retry_after_s(limit, key) if await limit.alive() else 1

    expected = await verdicts(service, calm)
    monkeypatch.setattr(RateLimit, "retry_after_s", closed)
    with own_stores.valkey.frozen():
        seen = await verdicts(service, calm)
    differing = sum(one != other for one, other in zip(expected, seen, strict=True))
    assert differing
    record.control(f"closed without Redis, {differing} of {len(expected)} answers differ")
