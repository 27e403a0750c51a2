"""Promise 6: whatever the service's own clock says, no verdict differs. A token may be refused, and then nothing is
stored; readiness turns red two seconds away from the database's clock."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import jwt
import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres import check_ins
from checkin_service.adapters.postgres.database import Connection
from tests.faults.record import Record
from tests.service.conftest import UNLIMITED
from tests.service.stage import FAR, Reply, Stage, photo_of, running_service
from tests.service.window import CLOSES_AT, OPENS_AT

# An hour before one window ends, and an hour after another began: a day either way would be in neither.
INSTANT = CLOSES_AT - timedelta(hours=1)
OPENED_AT = INSTANT - timedelta(hours=1)
HOUR_S, DAY_S = 3600.0, 86400.0
JUMPS_S = (-DAY_S, -HOUR_S, -2.5, 2.5, HOUR_S, DAY_S)
# A new token is taken under a clock that is so far away, and under no other.
SERVES_S = (-60.0, 959.0)


@dataclass(slots=True)
class JumpingClock:
    """Stands at the instant of the database, but for its jump."""

    jump_s: float = 0.0

    def __call__(self) -> float:
        return INSTANT.timestamp() + self.jump_s


class Clocked(Stage):
    """Its tokens are of an issuer whose clock is so far from the database's; ids are new with every trace."""

    issuer_s = 0.0
    clock: JumpingClock
    traces = count()

    def token(self, sub: str, scope: str) -> str:
        token = super().token(sub, scope)
        claims = jwt.decode(token, options={"verify_signature": False})
        issued_at = INSTANT.timestamp() + self.issuer_s
        times = {"iat": issued_at, "exp": issued_at + 900}
        key = (self.settings.data_dir / "keys" / "development-key.pem").read_text()
        return jwt.encode({**claims, **times}, key, "ES256", jwt.get_unverified_header(token))


@pytest.fixture
async def clocked(database_url: str, stores: EmbeddedStores, tmp_path: Path) -> AsyncIterator[Clocked]:
    clock = JumpingClock()
    at = database_url, stores.redis_url or "", tmp_path
    async with running_service(*at, None, clock, **UNLIMITED) as stage:
        running = Clocked(stage.client, stage.settings, stage.database_url, stage.engine)
        running.clock = clock
        await running.set_clock(INSTANT)
        yield running


async def prepared(stage: Clocked) -> tuple[str, str]:
    """A task that ends within the hour and one that began within it; p and q of this trace are on both."""
    number = next(stage.traces)
    task_ids = f"ends-{number}", f"began-{number}"
    persons = f"p-{number}", f"q-{number}"
    for task_id, approved_at in zip(task_ids, (OPENS_AT, OPENED_AT), strict=True):
        await stage.ready_task(task_id, *persons, approved_at=approved_at.isoformat())
    return task_ids


async def verdicts(stage: Clocked, ends: str, began: str) -> list[Any]:
    """What the same day of two people is judged, as codes."""
    p, q = (f"{letter}-{ends.rpartition('-')[2]}" for letter in "pq")
    used, left = await stage.challenge(p, ends), await stage.challenge(q, ends)
    replies = [
        await stage.check_in(p, ends, FAR),
        await stage.check_in(p, ends, selfie=photo_of(q)),
        await stage.check_in(p, ends, challenge_id=used),
        await stage.check_in(p, ends, challenge_id=used),
        await stage.check_in(p, ends),
        await stage.check_in(q, began),
        await stage.check_in(p, began, fixes=[]),
    ]
    await stage.set_clock(INSTANT + timedelta(seconds=180))
    replies.append(await stage.check_in(q, ends, challenge_id=left))
    await stage.set_clock(INSTANT)
    return [_codes(reply) for reply in replies]


def _codes(reply: Reply) -> Any:
    if reply.status != 201:
        return reply.status, reply.code
    body = reply.body
    return body["outcome"], reply.reasons, body["received_at"], body["attempts_left"], body["task"]["state"]


async def stored(stage: Stage) -> list[int]:
    [row] = await stage.sql(
        "SELECT (SELECT count(*) FROM receipt), (SELECT count(*) FROM attempt), (SELECT count(*) FROM acceptance)"
    )
    return list(row)


async def judged_under(stage: Clocked, jump_s: float) -> list[Any]:
    """The verdicts while clock and issuer are both so far away, so that tokens serve."""
    task_ids = await prepared(stage)
    stage.clock.jump_s = stage.issuer_s = jump_s
    try:
        return await verdicts(stage, *task_ids)
    finally:
        stage.clock.jump_s = stage.issuer_s = 0.0


def jumps(full: bool) -> list[float]:
    more = Random(6).sample(range(-int(DAY_S), int(DAY_S)), 60) if full else []
    return [*JUMPS_S, *map(float, more)]


async def test_verdicts_are_the_same_under_every_clock(clocked: Clocked, full: bool, record: Record) -> None:
    expected = await judged_under(clocked, 0.0)
    assert [codes[0] for codes in expected] == [
        *["rejected"] * 2,
        "accepted",
        409,
        *["accepted"] * 2,
        "rejected",
        409,
    ]
    for jump_s in jumps(full):
        assert await judged_under(clocked, jump_s) == expected, jump_s
    submissions = len(expected) * len(jumps(full))
    record.kept(f"{submissions} submissions under {len(jumps(full))} jumps of up to a day, 0 verdicts differ")


async def test_where_the_token_is_refused_nothing_is_stored(clocked: Clocked, full: bool) -> None:
    """The issuer's clock is right; the service's is not."""
    expected = await judged_under(clocked, 0.0)
    for jump_s in (*SERVES_S, *jumps(full)):
        ends, began = await prepared(clocked)
        person_id, before = ends.replace("ends", "p"), await stored(clocked)
        challenge_id = await clocked.challenge(person_id, ends)
        clocked.clock.jump_s = jump_s
        if SERVES_S[0] <= jump_s <= SERVES_S[1]:
            assert await verdicts(clocked, ends, began) == expected, jump_s
        else:
            refused = await clocked.check_in(person_id, ends, challenge_id=challenge_id)
            assert (refused.status, refused.code) == (401, "unauthenticated")
            assert await stored(clocked) == before
        clocked.clock.jump_s = 0.0


@pytest.mark.parametrize("jump_s", [-DAY_S, DAY_S])
async def test_a_jump_while_the_face_is_looked_at_changes_nothing(clocked: Clocked, jump_s: float) -> None:
    ends, _ = await prepared(clocked)
    person_id = ends.replace("ends", "p")
    async with clocked.while_analysing(clocked.check_in(person_id, ends)) as submitted:
        clocked.clock.jump_s = jump_s
    accepted = await submitted
    assert (accepted.body["outcome"], accepted.body["received_at"]) == ("accepted", INSTANT.isoformat())


@pytest.mark.parametrize(
    ("skew_s", "status"), [(0.0, 200), (1.999, 200), (2.0, 503), (HOUR_S, 503), (DAY_S, 503)]
)
@pytest.mark.parametrize("sign", [-1, 1])
async def test_readiness_turns_red_at_two_seconds(
    clocked: Clocked, skew_s: float, status: int, sign: int
) -> None:
    clocked.clock.jump_s = sign * skew_s
    async with clocked.client.get("/readyz") as readiness, clocked.client.get("/livez") as liveness:
        assert (readiness.status, liveness.status) == (status, 200)
        assert ((await readiness.json())["checks"]["database"] == "ok") == (status == 200)


async def test_control_judged_by_the_service_s_clock_verdicts_differ(
    clocked: Clocked, record: Record
) -> None:
    insert_receipt = check_ins.insert_receipt

    async def by_our_clock(connection: Connection, submission: check_ins.Submission) -> Any:
        await clocked.set_clock(datetime.fromtimestamp(clocked.clock(), UTC))
        return await insert_receipt(connection, submission)

    expected = await judged_under(clocked, 0.0)
    with patch.object(check_ins, "insert_receipt", by_our_clock):
        differing = [jump_s for jump_s in (-DAY_S, DAY_S) if await judged_under(clocked, jump_s) != expected]
    assert differing == [-DAY_S, DAY_S]
    record.control("verdicts by the service's clock differ under 2 of 2 jumps of a day")
