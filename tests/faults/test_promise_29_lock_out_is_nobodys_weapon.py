"""Promise 29: who knows all of a person's ids, but is not that person, uses up nothing of theirs: attempts, challenges,
rate limit, idempotency keys, the slot of the manual request, reviews."""

import io
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from checkin_service.adapters import rate_limit
from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres.idempotency import KeyOwner
from checkin_service.adapters.rate_limit import RateLimit
from checkin_service.web import idempotency
from tests.faults.record import Record
from tests.service.reviewing import ask, decide, doubtful, queue
from tests.service.stage import FAR, Json, Reply, Stage, check_in_fields, photo_of, running_service
from tests.service.window import task_at_noon

# What the victim needs is less; what an attacker asks for is more.
CHALLENGES_PER_MINUTE = 20
ATTEMPTS_PER_DAY = 10


@dataclass(frozen=True, slots=True)
class Ids:
    """All that an attacker knows of the victim. Rates are counted in the Valkey that all tests share, so every test has
    persons of its own."""

    victim: str
    attacker: str
    outsider: str
    challenge_id: str = ""
    check_in_id: str = ""
    key: str = "the-victims-key"
    device_id: str = "the-victims-phone"


@pytest.fixture
async def strict(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    """Rates are counted by the day here: no minute ends between an attack and what it leaves."""
    monkeypatch.setattr(rate_limit, "WINDOW_S", 86_400)
    assert stores.redis_url is not None
    limits = {
        "CHECKIN_PERSON_CHALLENGES_PER_MINUTE": str(CHALLENGES_PER_MINUTE),
        "CHECKIN_ATTEMPTS_PER_DAY": str(ATTEMPTS_PER_DAY),
    }
    async with running_service(database_url, stores.redis_url, tmp_path, None, **limits) as running:
        yield running


async def prepared(stage: Stage) -> Ids:
    """Victim and attacker on one roster; the victim has a review in another task, and a challenge in this one."""
    victim, attacker, outsider = (f"{who}-{uuid4().hex[:8]}" for who in ("victim", "attacker", "outsider"))
    await task_at_noon(stage, "T1", victim, attacker)
    await task_at_noon(stage, "T2", victim, attacker)
    await task_at_noon(stage, "T3", outsider)
    check_in_id = await doubtful(stage, victim, "T2")
    return Ids(victim, attacker, outsider, await stage.challenge(victim, "T1"), check_in_id)


# --- The attack ---


async def attacked(stage: Stage, ids: Ids, times: int) -> Counter[tuple[int, str]]:
    """Everything that others can send, so many times; what it was answered."""
    answers: Counter[tuple[int, str]] = Counter()
    for number in range(times):
        replies = [await _failing(stage, ids, number)]
        for sub in (ids.attacker, ids.outsider):
            replies += await _with_everything_known(stage, ids, sub, number)
        replies += await _with_tokens_of_no_use(stage, ids)
        answers.update((reply.status, reply.body.get("code", "")) for reply in replies)
    assert not [answer for answer in answers if answer[0] >= 500]
    return answers


async def _failing(stage: Stage, ids: Ids, shot: int) -> Reply:
    """The attacker's own attempt, with the victim's face and phone."""
    asked = await stage.person(ids.attacker, "POST", "/v1/challenges", {"task_id": "T1"})
    if asked.status != 201:
        return asked
    device = {"device_id": ids.device_id}
    return await stage.check_in(
        ids.attacker,
        "T1",
        selfie=photo_of(ids.victim, 200 + shot),
        challenge_id=asked.body["challenge_id"],
        device=device,
    )


async def _with_everything_known(stage: Stage, ids: Ids, sub: str, shot: int) -> list[Reply]:
    known = {"headers": {"Idempotency-Key": ids.key}}
    fields = check_in_fields("T1", ids.challenge_id, device={"device_id": ids.device_id})
    picture = {"data": photo_of(ids.attacker, shot), "headers": {"Content-Type": "image/jpeg"}}
    return [
        await stage.person(sub, "POST", "/v1/challenges", {"task_id": "T1"}, **known),
        await stage.person(sub, "POST", "/v1/challenges", {"task_id": "T1"}),
        await stage.submit(sub, fields, photo_of(ids.victim, 100 + shot), ids.key),
        await stage.submit(sub, fields, photo_of(sub, 100 + shot)),
        await stage.person(sub, "PUT", f"/v1/challenges/{ids.challenge_id}/burst/0", **picture),
        await stage.person(sub, "GET", f"/v1/check-ins/{ids.check_in_id}"),
        await stage.person(sub, "GET", f"/v1/manual-requests/{ids.check_in_id}"),
        await ask(stage, sub, "T1", ids.key),
    ]


async def _with_tokens_of_no_use(stage: Stage, ids: Ids) -> list[Reply]:
    """In the victim's name: signed by nobody, long over, or for something else."""
    now = int(jwt.decode(stage.token(ids.victim, "checkin"), options={"verify_signature": False})["iat"])
    claims = {"iss": "checkin-development", "aud": "checkin", "sub": ids.victim, "scope": "checkin"}
    forged = jwt.encode(
        {**claims, "iat": now, "exp": now + 600}, ec.generate_private_key(ec.SECP256R1()), "ES256"
    )
    return [
        await _submit_by(stage, ids, forged),
        await _submit_by(stage, ids, stage.token(ids.victim, "tasks review operate")),
        await stage.call("POST", "/v1/challenges", ids.victim, "tasks", json={"task_id": "T1"}),
        await stage.call(
            "POST",
            f"/v1/reviews/{ids.check_in_id}/decision",
            ids.attacker,
            "checkin",
            json={"decision": "reject", "note": "x"},
            headers={"Idempotency-Key": ids.key},
        ),
    ]


async def _submit_by(stage: Stage, ids: Ids, token: str) -> Reply:
    form = aiohttp.FormData(check_in_fields("T1", ids.challenge_id, fixes="[]"))
    form.add_field("selfie", io.BytesIO(photo_of(ids.attacker)), filename="a.jpg")
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": ids.key}
    async with stage.client.post("/v1/check-ins", data=form, headers=headers) as response:
        return Reply(response.status, await response.json(), response.headers)


# --- What is left to the victim ---

UNHARMED: Json = {
    "rate": 201,
    "challenge with the attackers' key": 201,
    "attempts left after a failing one": ATTEMPTS_PER_DAY - 1,
    "outcome under its own key": "rejected",
    "manual request of": "the victim",
    "review": "pending",
    "the right face": "accepted",
}


async def what_is_left(stage: Stage, ids: Ids) -> Json:
    asked = {"task_id": "T1"}
    known = {"headers": {"Idempotency-Key": ids.key}}
    rate = await stage.person(ids.victim, "POST", "/v1/challenges", asked)
    keyed = await stage.person(ids.victim, "POST", "/v1/challenges", asked, **known)
    device = {"device_id": ids.device_id}
    fields = check_in_fields("T1", ids.challenge_id, FAR, device=device)
    failing = await stage.submit(ids.victim, fields, photo_of(ids.victim, 1), ids.key)
    manual = await ask(stage, ids.victim, "T1", ids.key)
    reviews = {review["review_id"]: review for review in await queue(stage)}
    right = await stage.check_in(
        ids.victim, "T1", challenge_id=rate.body.get("challenge_id", str(uuid4())), device=device
    )
    return {
        "rate": rate.status,
        "challenge with the attackers' key": keyed.status,
        "attempts left after a failing one": failing.body.get("attempts_left"),
        "outcome under its own key": failing.body.get("outcome"),
        "manual request of": "the victim"
        if reviews[manual.body["manual_request_id"]]["person_id"] == ids.victim
        else "another",
        "review": reviews[ids.check_in_id]["state"],
        "the right face": right.body.get("outcome"),
    }


async def test_nobody_uses_up_what_is_another_persons(strict: Stage, full: bool, record: Record) -> None:
    ids = await prepared(strict)
    answers = await attacked(strict, ids, times=200 if full else ATTEMPTS_PER_DAY + 2)
    assert answers[429, "rate_limited"], "the attacker's own rate"
    assert answers[409, "challenge_invalid"]
    assert answers[401, "unauthenticated"]
    assert await what_is_left(strict, ids) == UNHARMED
    record.kept(f"{answers.total()} calls by others who know every id, 0 of {len(UNHARMED)} things used up")


async def test_the_attacker_is_at_its_own_end(strict: Stage) -> None:
    """Else nothing would have been used up at all."""
    ids = await prepared(strict)
    for shot in range(ATTEMPTS_PER_DAY):
        assert (await _failing(strict, ids, shot)).body["outcome"] == "rejected"
    assert (await _failing(strict, ids, ATTEMPTS_PER_DAY)).reasons == ["too_many_attempts"]


async def test_a_review_is_decided_by_nobody_on_the_roster(strict: Stage) -> None:
    """Neither by a reviewer who is a member of the same task, nor twice by one who is none."""
    ids = await prepared(strict)
    request = await ask(strict, ids.victim, "T1")
    request_id = request.body["manual_request_id"]
    by_member = await decide(strict, request_id, "reject", reviewer=ids.attacker)
    assert by_member.status in {403, 409}
    assert [r["state"] for r in await queue(strict) if r["review_id"] == request_id] == ["pending"]


# --- The controls: one owner less, and the victim pays ---


async def count_attempts_of_everybody(stage: Stage, _: pytest.MonkeyPatch) -> None:
    [[definition]] = await stage.sql("SELECT pg_get_viewdef('check_in_case')")
    counting, owner = "AND x.counted", "(x.person_id = r.person_id) "
    assert owner + counting in definition
    changed = definition.replace(owner + counting, counting.removeprefix("AND "))
    await stage.sql(f"CREATE OR REPLACE VIEW check_in_case AS {changed}")


async def limit_everybody_together(_: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    by_person = RateLimit.retry_after_s

    async def together(limit: RateLimit, _: str) -> int | None:
        return await by_person(limit, f"everybody-{id(limit)}")

    monkeypatch.setattr(RateLimit, "retry_after_s", together)


async def keys_are_everybodys(_: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def anybody(iss: str, _: str, *rest: str) -> KeyOwner:
        return KeyOwner(iss, "anybody", *rest)

    monkeypatch.setattr(idempotency, "KeyOwner", anybody)


@pytest.mark.parametrize(
    ("switch_off", "harmed", "times"),
    [
        (count_attempts_of_everybody, "attempts left after a failing one", 2),
        (limit_everybody_together, "rate", 5),
        (keys_are_everybodys, "manual request of", 1),
    ],
)
async def test_with_one_owner_less_the_victim_pays(
    strict: Stage,
    monkeypatch: pytest.MonkeyPatch,
    switch_off: Callable[..., Any],
    harmed: str,
    times: int,
    record: Record,
) -> None:
    ids = await prepared(strict)
    await switch_off(strict, monkeypatch)
    await attacked(strict, ids, times)
    left = await what_is_left(strict, ids)
    assert left[harmed] != UNHARMED[harmed], left
    record.control(f"{harmed}: {left[harmed]} instead of {UNHARMED[harmed]}")
