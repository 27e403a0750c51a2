"""Turns of the head: asked for by the challenge, shown by frames, judged with the check-in. On the fixed engine."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.head_turns import HeadTurns
from checkin_service.adapters.postgres.database import open_database
from checkin_service.usecases.sweep import sweep
from face.liveness import Action, judge_turns
from tests.service.conftest import UNLIMITED
from tests.service.fixed_engine import landmarks_at
from tests.service.situations import breakdown
from tests.service.stage import Reply, Stage, check_in_fields, photo_of, running_service
from tests.service.window import NOON, task_at_noon

YAW_DEG = {"turn_left": 35, "turn_right": -35}


@pytest.fixture
async def watchful(database_url: str, stores: EmbeddedStores, tmp_path: Path) -> AsyncIterator[Stage]:
    """A service that asks for turns of the head."""
    assert stores.redis_url is not None
    async with running_service(
        database_url, stores.redis_url, tmp_path, None, CHECKIN_LIVENESS="on", **UNLIMITED
    ) as running:
        yield running


def frames_of(identity: str, actions: Sequence[str]) -> list[bytes]:
    """From the front to each turn and back."""
    yaws = [0, *(yaw for action in actions for yaw in (YAW_DEG[action], 0))]
    return [photo_of(identity, shot=100 + number, yaw_deg=yaw) for number, yaw in enumerate(yaws)]


async def challenge(stage: Stage, person_id: str) -> tuple[str, list[str]]:
    reply = await stage.person(person_id, "POST", "/v1/challenges", {"task_id": "T1"})
    assert reply.status == 201, reply.body
    return reply.body["challenge_id"], reply.body["actions"]


async def send(stage: Stage, person_id: str, challenge_id: str, frames: Sequence[bytes]) -> list[Reply]:
    headers = {"Content-Type": "image/jpeg"}
    path = f"/v1/challenges/{challenge_id}/burst"
    return [
        await stage.person(person_id, "PUT", f"{path}/{number}", data=frame, headers=headers)
        for number, frame in enumerate(frames)
    ]


async def check_in(stage: Stage, challenge_id: str, burst: Sequence[bytes] = ()) -> Reply:
    return await stage.submit("p-1", check_in_fields("T1", challenge_id), photo_of("p-1", 7), burst=burst)


async def failing_once(stage: Stage, challenge_id: str) -> Callable[[], Awaitable[Reply]]:
    """A submission that failed by our fault; it is sent again by its key."""
    sent = check_in_fields("T1", challenge_id), photo_of("p-1", 7), "k"
    with breakdown(stage):
        assert (await stage.submit("p-1", *sent)).status == 503
    return lambda: stage.submit("p-1", *sent)


async def kept(stage: Stage) -> int:
    return len(await stage.sql("SELECT * FROM burst_frame"))


async def test_turns_that_were_asked_for_let_a_person_in(watchful: Stage) -> None:
    await task_at_noon(watchful, "T1", "p-1")
    challenge_id, actions = await challenge(watchful, "p-1")
    assert len(actions) == 3
    replies = await send(watchful, "p-1", challenge_id, frames_of("p-1", actions))
    assert {reply.status for reply in replies} == {204}
    assert await kept(watchful) > 0
    reply = await check_in(watchful, challenge_id)
    assert (reply.body["outcome"], reply.reasons) == ("accepted", [])
    assert await kept(watchful) == 0
    [attempt] = await watchful.sql("SELECT liveness FROM attempt")
    assert attempt["liveness"] == "passed"


async def test_frames_may_come_with_the_check_in(watchful: Stage) -> None:
    await task_at_noon(watchful, "T1", "p-1")
    challenge_id, actions = await challenge(watchful, "p-1")
    reply = await check_in(watchful, challenge_id, frames_of("p-1", actions))
    assert (reply.body["outcome"], reply.reasons) == ("accepted", [])


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (lambda actions: [], "too_few_frames"),
        (lambda actions: frames_of("p-1", actions[:1] * 3), "wrong_turn"),
        (lambda actions: [photo_of("p-1", 100 + n, yaw_deg=0) for n in range(7)], "not_turned"),
        (lambda actions: [*frames_of("p-1", actions)[:-1], photo_of("p-2", 3, yaw_deg=0)], "other_face"),
    ],
    ids=["none", "others", "still", "of another person"],
)
async def test_what_was_not_shown_is_doubted(watchful: Stage, frames, code: str) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    await task_at_noon(watchful, "T1", "p-1", "p-2")
    challenge_id, actions = await challenge(watchful, "p-1")
    await send(watchful, "p-1", challenge_id, frames(actions))
    reply = await check_in(watchful, challenge_id)
    assert reply.reasons == ["presentation_attack"]
    [attempt] = await watchful.sql("SELECT liveness FROM attempt")
    assert attempt["liveness"] == code


async def test_a_frame_sent_again_takes_the_place_of_the_first(watchful: Stage) -> None:
    await task_at_noon(watchful, "T1", "p-1")
    challenge_id, actions = await challenge(watchful, "p-1")
    await send(watchful, "p-1", challenge_id, [photo_of("p-2", 1, yaw_deg=0)])
    await send(watchful, "p-1", challenge_id, frames_of("p-1", actions))
    assert (await check_in(watchful, challenge_id)).body["outcome"] == "accepted"


async def test_a_withdrawn_consent_takes_the_frames_along(watchful: Stage) -> None:
    await task_at_noon(watchful, "T1", "p-1")
    challenge_id, actions = await challenge(watchful, "p-1")
    await send(watchful, "p-1", challenge_id, frames_of("p-1", actions))
    assert (await watchful.person("p-1", "DELETE", "/v1/me/consent")).status < 300
    assert await kept(watchful) == 0


async def test_what_was_asked_for_stays_as_long_as_nothing_is_judged(watchful: Stage) -> None:
    """Our failure leaves the receipt open: a retry a day later is judged by the turns and frames of that day."""
    await task_at_noon(watchful, "T1", "p-1")
    challenge_id, actions = await challenge(watchful, "p-1")
    await send(watchful, "p-1", challenge_id, frames_of("p-1", actions))
    again = await failing_once(watchful, challenge_id)
    await watchful.set_clock(NOON + timedelta(days=2))
    async with open_database(watchful.service_url, 1) as database:
        await sweep(database)
    assert await kept(watchful) > 0
    assert (await again()).body["outcome"] == "accepted"


async def test_nobody_is_taken_for_alive_because_the_challenge_is_gone(watchful: Stage) -> None:
    await task_at_noon(watchful, "T1", "p-1")
    challenge_id, _ = await challenge(watchful, "p-1")
    again = await failing_once(watchful, challenge_id)
    await watchful.sql("DELETE FROM challenge")
    reply = await again()
    assert (reply.status, reply.code) == (409, "challenge_invalid")


async def test_an_unreadable_frame_closes_the_receipt(watchful: Stage) -> None:
    await task_at_noon(watchful, "T1", "p-1")
    challenge_id, _ = await challenge(watchful, "p-1")
    reply = await check_in(watchful, challenge_id, [photo_of("broken")])
    assert (reply.status, reply.code) == (422, "image_unreadable")
    assert [row["ended"] for row in await watchful.sql("SELECT ended FROM receipt")] == ["unreadable"]


async def test_without_liveness_nothing_is_asked_and_nothing_kept(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    challenge_id, actions = await challenge(stage, "p-1")
    assert actions == []
    await send(stage, "p-1", challenge_id, frames_of("p-1", ["turn_left"]))
    assert await kept(stage) == 0
    assert (await check_in(stage, challenge_id)).body["outcome"] == "accepted"


async def test_challenges_differ_and_ask_for_both_sides() -> None:
    asked = {tuple((await HeadTurns().ask(uuid4(), None)).actions) for _ in range(300)}
    assert len(asked) == 6
    assert all(set(actions) == set(Action) for actions in asked)


def test_the_landmarks_of_these_tests_are_a_heads() -> None:
    """The control: the judge of the face library takes them for turns, and flattened ones for none."""
    turns = [landmarks_at(yaw) for yaw in (0, 35, 0, -35, 0)]
    actions = [Action.TURN_LEFT, Action.TURN_RIGHT]
    assert judge_turns(turns, actions).code == "passed"
    flat = [np.array(turns[0]) * (np.cos(np.radians(yaw)), 1) for yaw in (0, 35, 0, -35, 0)]
    assert judge_turns(flat, actions).code != "passed"
