"""What changes while a face is analysed is seen by the verdict: the outcome is one of the two orders."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from checkin_service.adapters.postgres import check_ins
from tests.service.stage import ALL_SCOPES, FAR, Reply, Stage, photo_of, place
from tests.service.window import CLOSES_AT, NOON, OPENS_AT, task_at_noon

SECOND = timedelta(seconds=1)
FAR_FENCE = {"type": "Circle", "coordinates": list(FAR), "radius_m": 50}


async def raced(stage: Stage, change: Callable[[], Awaitable[Any]], **submission: Any) -> Reply:
    """A check-in of p-1 on T1 during whose analysis something changes, a second after its receipt."""
    async with stage.while_analysing(stage.check_in("p-1", "T1", **submission)) as submitted:
        await stage.set_clock(NOON + SECOND)
        await change()
    return await submitted


async def stored(stage: Stage, table: str) -> list[Any]:
    return await stage.sql(f"SELECT * FROM {table}")


async def withdraw(stage: Stage) -> None:
    assert (await stage.person("p-1", "DELETE", "/v1/me/consent")).status == 204


async def command(stage: Stage, name: str, **body: Any) -> Reply:
    reply = await stage.platform("POST", f"/v1/tasks/T1/{name}", {"reason": "for the test", **body})
    assert reply.status == 200, reply.body
    return reply


# --- Consent, erasure, reference ---


async def test_consent_withdrawn_meanwhile(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    refused = await raced(stage, lambda: withdraw(stage))
    assert (refused.status, refused.code) == (403, "consent_required")
    assert await stored(stage, "attempt") == await stored(stage, "acceptance") == []


@pytest.mark.parametrize("missing", ["face_transfer", "location"])
async def test_consent_narrowed_meanwhile(stage: Stage, missing: str) -> None:
    await task_at_noon(stage, "T1")
    left = [scope for scope in ALL_SCOPES if scope != missing]
    refused = await raced(stage, lambda: stage.consent("p-1", left))
    assert (refused.status, refused.code) == (403, "consent_required")
    assert await stored(stage, "attempt") == []


async def test_consent_withdrawn_and_given_again_meanwhile_leaves_no_reference(stage: Stage) -> None:
    async def withdraw_and_give() -> None:
        await withdraw(stage)
        await stage.consent("p-1")

    await task_at_noon(stage, "T1")
    refused = await raced(stage, withdraw_and_give)
    assert (refused.body["outcome"], refused.reasons) == ("rejected", ["not_enrolled"])
    [attempt] = await stored(stage, "attempt")
    assert (attempt["score"], attempt["model_id"]) == (None, None)


async def test_a_person_erased_meanwhile(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    refused = await raced(stage, lambda: stage.platform("DELETE", "/v1/persons/p-1"))
    assert (refused.status, refused.code) == (409, "challenge_invalid")
    for table in ("receipt", "attempt", "acceptance", "template", "consent"):
        assert await stored(stage, table) == []


async def test_a_reference_replaced_by_anothers_meanwhile(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    refused = await raced(stage, lambda: stage.enrol("p-1", photo_of("p-2")))
    assert (refused.body["outcome"], refused.reasons) == ("rejected", ["non_match"])


async def test_a_reference_replaced_by_the_right_one_meanwhile(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.enrol("p-1", photo_of("p-2"))
    accepted = await raced(stage, lambda: stage.enrol("p-1", photo_of("p-1", shot=3)))
    assert accepted.body["outcome"] == "accepted"


async def test_a_reference_that_comes_meanwhile_is_compared_with(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first look there is nothing to compare with; the verdict sees the reference and asks for the face."""
    settle, enrolled = check_ins.settle, asyncio.Event()

    async def enrol_first(*where: Any, **verdict: Any) -> Any:
        if not enrolled.is_set():
            enrolled.set()
            await stage.enrol("p-1")
        return await settle(*where, **verdict)

    await stage.set_clock(NOON)
    await stage.register("T1", approved_at=OPENS_AT.isoformat())
    await stage.consent("p-1")
    monkeypatch.setattr(check_ins, "settle", enrol_first)
    accepted = await stage.check_in("p-1", "T1")
    assert accepted.body["outcome"] == "accepted"


# --- Task, window, fence ---


async def test_a_task_voided_meanwhile(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    refused = await raced(stage, lambda: command(stage, "void"))
    assert (refused.body["outcome"], refused.reasons) == ("rejected", ["task_not_open"])
    assert await stored(stage, "acceptance") == []


async def test_a_task_whose_window_ends_meanwhile(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    accepted = await raced(stage, lambda: stage.set_clock(CLOSES_AT))
    assert (accepted.body["outcome"], accepted.body["received_at"]) == ("accepted", NOON.isoformat())
    assert accepted.body["task"]["state"] == "completed"


async def test_a_fence_moved_away_meanwhile_is_not_for_what_was_received_before(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    moved = place(fence=FAR_FENCE, buffer_m=0)
    accepted = await raced(stage, lambda: command(stage, "fence", place=moved))
    assert accepted.body["outcome"] == "accepted"
    [attempt] = await stored(stage, "attempt")
    assert attempt["fence_version"] == 1
    assert (await stage.check_in("p-2", "T1")).reasons == ["outside_geofence"]
    assert (await stage.check_in("p-2", "T1", at=FAR)).body["outcome"] == "accepted"


async def test_a_fence_from_before_the_receipt_that_is_committed_meanwhile_is_judged_by(stage: Stage) -> None:
    """A fence command reads its instant before it commits, and a receipt can come in between."""
    await task_at_noon(stage, "T1")
    await stage.set_clock(NOON + 2 * SECOND)
    async with stage.while_analysing(stage.check_in("p-1", "T1")) as submitted:
        await stage.sql(
            """
            INSERT INTO fence_version (task_id, version, effective_at, registered_address, frame, fence, buffer_m)
            SELECT task_id, 2, $1, registered_address, frame, $2, 0 FROM fence_version
            """,
            NOON + SECOND,
            json.dumps(FAR_FENCE),
        )
    assert (await submitted).reasons == ["outside_geofence"]
    [attempt] = await stored(stage, "attempt")
    assert attempt["fence_version"] == 2


# --- Other submissions of the same person ---


async def test_two_submissions_analysed_side_by_side_are_one_acceptance(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    async with (
        stage.while_analysing(stage.check_in("p-1", "T1")) as first,
        stage.while_analysing(stage.check_in("p-1", "T1")) as second,
    ):
        assert await stored(stage, "attempt") == []
    replies = [await first, await second]
    assert sorted(reply.reasons for reply in replies) == [[], ["already_checked_in"]]
    assert len({reply.body["check_in_id"] for reply in replies}) == 1
    assert len(await stored(stage, "attempt")) == len(await stored(stage, "acceptance")) == 1


async def test_the_last_attempt_used_up_meanwhile(stage: Stage) -> None:
    async def use_the_last() -> None:
        assert (await stage.check_in("p-1", "T1", at=FAR)).body["attempts_left"] == 0

    await task_at_noon(stage, "T1")
    for _ in range(9):
        await stage.check_in("p-1", "T1", at=FAR)
    refused = await raced(stage, use_the_last)
    assert refused.reasons == ["too_many_attempts"]


async def test_a_person_accepted_meanwhile(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    quick: list[Reply] = []

    async def be_quicker() -> None:
        quick.append(await stage.check_in("p-1", "T1"))

    slow = await raced(stage, be_quicker)
    assert (quick[0].reasons, slow.reasons) == ([], ["already_checked_in"])
    assert slow.body["check_in_id"] == quick[0].body["check_in_id"]
