"""Promise 30: an erasure, a withdrawal or a revocation beside a check-in in flight: what comes out is one of the two
orders, and never an acceptance against what is erased or withdrawn."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count
from random import Random
from typing import Any

import pytest

from checkin_service.adapters.object_store import EvidenceStore
from checkin_service.adapters.postgres import check_ins
from tests.faults.record import Record
from tests.service.stage import Json, Reply, Stage, check_in_fields, photo_of
from tests.service.test_erasure import BIOMETRIC, stored
from tests.service.window import NOON, OPENS_AT

Way = Callable[[Stage, str], Awaitable[Reply]]
numbers = count()


@pytest.fixture(autouse=True)
async def at_noon(stage: Stage) -> None:
    await stage.set_clock(NOON)


async def erase(stage: Stage, person_id: str) -> Reply:
    return await stage.platform("DELETE", f"/v1/persons/{person_id}")


async def withdraw(stage: Stage, person_id: str) -> Reply:
    return await stage.person(person_id, "DELETE", "/v1/me/consent")


async def narrow(stage: Stage, person_id: str) -> Reply:
    return await stage.consent(person_id, ["location", "face_transfer"])


async def revoke(stage: Stage, person_id: str) -> Reply:
    path = f"/v1/tasks/{task_of(person_id)}/members/{person_id}/revoke"
    return await stage.platform("POST", path, {"reason": "for the test"})


# What a check-in is told that comes after it.
REFUSED: dict[Way, tuple[int, str]] = {
    erase: (409, "challenge_invalid"),
    withdraw: (403, "consent_required"),
    narrow: (403, "consent_required"),
}


def task_of(person_id: str) -> str:
    return person_id.replace("p-", "T-")


async def ready(stage: Stage) -> tuple[str, Callable[[], Coroutine[Any, Any, Reply]]]:
    """A person with a task of their own, and their check-in, which waits to be sent."""
    person_id = f"p-{next(numbers)}"
    await stage.ready_task(task_of(person_id), person_id, flow="routine", approved_at=OPENS_AT.isoformat())
    fields = check_in_fields(task_of(person_id), await stage.challenge(person_id, task_of(person_id)))
    return person_id, lambda: insisted(stage, person_id, fields)


async def insisted(stage: Stage, person_id: str, fields: Json) -> Reply:
    """Sent again as a phone does: who comes while the keys are being deleted is told to come back."""
    async with asyncio.timeout(60):
        while True:
            reply = await stage.submit(
                person_id, fields, photo_of(person_id, shot=1), key=fields["challenge_id"]
            )
            if reply.status != 503:
                return reply


async def state_of(stage: Stage, person_id: str) -> str:
    [member] = (await stage.status(task_of(person_id)))["members"]
    return str(member["state"])


async def order_of(stage: Stage, way: Way, person_id: str, reply: Reply) -> str:
    """Which of the two came first; an error when it was neither."""
    if reply.status == 201 and (reply.body["outcome"], reply.reasons) == ("accepted", []):
        order, state = "check-in", "accepted"
    else:
        assert (reply.status, reply.code) == REFUSED[way]
        order, state = way.__name__, "not_started"
    assert await state_of(stage, person_id) == state
    assert not BIOMETRIC & (await stored(stage, person_id)).keys()
    return order


# --- At every point of the way ---


class Held:
    """Stops a check-in at one point of its way until something has happened meanwhile."""

    def __init__(self, meanwhile: Callable[[], Awaitable[Any]]) -> None:
        self._meanwhile = meanwhile
        self.passed = False

    def at(self, patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        function = getattr(owner, name)

        async def held(*arguments: Any, **named: Any) -> Any:
            if not self.passed:
                self.passed = True
                await self._meanwhile()
            return await function(*arguments, **named)

        patch.setattr(owner, name, held)


POINTS = {
    "before its receipt": (check_ins, "insert_receipt"),
    "before its evidence is put": (EvidenceStore, "put"),
    "after its evidence was put, before its verdict": (check_ins, "settle"),
}


@pytest.mark.parametrize("way", REFUSED)
@pytest.mark.parametrize("point", POINTS)
async def test_what_happens_before_the_verdict_is_seen_by_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, way: Way, point: str
) -> None:
    person_id, check_in = await ready(stage)
    held = Held(lambda: way(stage, person_id))
    held.at(monkeypatch, *POINTS[point])
    reply = await check_in()
    assert held.passed
    assert await order_of(stage, way, person_id, reply) == way.__name__


# --- At the same time ---


async def a_little_later(chance: Random, way: Way, stage: Stage, person_id: str) -> Reply:
    # a repeat is over sooner than a verdict
    await asyncio.sleep(chance.uniform(0, 0.01 if way is revoke else 0.1))
    return await way(stage, person_id)


async def raced(stage: Stage, way: Way, chance: Random) -> str:
    person_id, check_in = await ready(stage)
    reply, done = await asyncio.gather(check_in(), a_little_later(chance, way, stage, person_id))
    assert done.status < 300
    return await order_of(stage, way, person_id, reply)


async def test_at_the_same_time_it_is_one_of_the_two_orders(stage: Stage, full: bool, record: Record) -> None:
    chance, orders, each = Random(30), Counter[str](), 200 if full else 8
    for way in REFUSED:
        for _ in range(each // 4):
            orders.update(await asyncio.gather(*(raced(stage, way, chance) for _ in range(4))))
    record.kept(
        f"{orders.total()} races with erasure, withdrawal and narrowed consent: the check-in first in "
        f"{orders['check-in']}, after it in the others, 0 accepted against them"
    )


# --- Revocation ---


async def test_a_repeat_beside_a_revocation_is_one_of_the_two_orders(
    stage: Stage, full: bool, record: Record
) -> None:
    """Told that it is accepted already and then revoked; or judged anew after it."""
    chance, orders, races = Random(31), Counter[str](), 100 if full else 10
    for _ in range(races):
        person_id, check_in = await ready(stage)
        first = (await check_in()).body["check_in_id"]
        challenge_id = await stage.challenge(person_id, task_of(person_id))
        selfie = photo_of(person_id, shot=2)
        again = stage.check_in(person_id, task_of(person_id), selfie=selfie, challenge_id=challenge_id)
        reply, revoked = await asyncio.gather(again, a_little_later(chance, revoke, stage, person_id))
        assert (reply.status, reply.body["outcome"], revoked.status) == (201, "accepted", 200)
        [member] = (await stage.status(task_of(person_id)))["members"]
        if reply.reasons == ["already_checked_in"]:
            assert (reply.body["check_in_id"], member["state"]) == (first, "revoked")
        else:
            assert (reply.body["check_in_id"], member["state"]) == (member["check_in_id"], "accepted")
            assert reply.body["check_in_id"] != first
        orders[member["state"]] += 1
    record.kept(f"{races} races with a revocation: {orders['accepted']} after it, the others before it")


async def test_a_revocation_while_the_face_is_looked_at_finds_nobody_to_revoke(stage: Stage) -> None:
    person_id, check_in = await ready(stage)
    async with stage.while_analysing(check_in()) as submitted:
        assert (await revoke(stage, person_id)).status == 409
    assert (await submitted).body["outcome"] == "accepted"
    assert await state_of(stage, person_id) == "accepted"


# --- Control ---


async def test_control_a_verdict_on_what_was_seen_before_is_neither_order(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, record: Record
) -> None:
    settle, broken = check_ins.settle, []

    async def settle_as_seen(connection: Any, *, check_in_id: Any, seen: str, **verdict: Any) -> Any:
        case = await check_ins.load_case(connection, check_in_id)
        return await settle(connection, check_in_id=check_in_id, seen=case.stamp if case else seen, **verdict)

    monkeypatch.setattr(check_ins, "settle", settle_as_seen)
    for way in (withdraw, narrow):
        person_id, check_in = await ready(stage)
        async with stage.while_analysing(check_in()) as submitted:
            await way(stage, person_id)
        try:
            await order_of(stage, way, person_id, await submitted)
        except AssertionError:
            broken.append(way.__name__)
    assert broken == ["withdraw", "narrow"]
    record.control(f"verdicts on what was seen before: {' and '.join(broken)} broken")
