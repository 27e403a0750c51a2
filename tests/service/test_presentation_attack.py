"""A selfie that the passive model takes for a picture of a picture; only where such a model is configured."""

from typing import Any
from uuid import UUID

import pytest

from tests.service.stage import Reply, Stage, photo_of
from tests.service.window import OPENS_AT, task_at_noon


async def stored(stage: Stage, reply: Reply) -> Any:
    query = "SELECT live, reasons, outcome FROM attempt WHERE check_in_id = $1"
    return (await stage.sql(query, UUID(reply.body["check_in_id"])))[0]


@pytest.mark.parametrize("live", [0.0, 0.4999])
async def test_a_selfie_that_does_not_look_live_is_doubted_and_counts(stage: Stage, live: float) -> None:
    await task_at_noon(stage, "T1")
    doubted = await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 1, live=live))
    assert (doubted.body["outcome"], doubted.reasons) == ("review", ["presentation_attack"])
    assert doubted.body["attempts_left"] == 9
    assert tuple(await stored(stage, doubted)) == (live, ["presentation_attack"], "review")


@pytest.mark.parametrize("live", [None, 0.5, 1.0])
async def test_a_selfie_that_looks_live_or_of_which_nobody_can_tell_is_accepted(
    stage: Stage, live: float | None
) -> None:
    await task_at_noon(stage, "T1")
    accepted = await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 1, live=live))
    assert accepted.body["outcome"] == "accepted"
    assert (await stored(stage, accepted))["live"] == live


async def test_all_that_is_against_a_face_is_told_together_in_order(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.register("T2", "p-1", "p-2", approved_at=OPENS_AT.isoformat())
    stranger = await stage.check_in("p-1", "T1", selfie=photo_of("p-9", 1, live=0.1))
    assert stranger.reasons == ["non_match", "presentation_attack"]
    await stage.enrol("p-1", photo_of("p-1+p-2"))
    held_up = await stage.check_in("p-1", "T2", selfie=photo_of("p-1+p-2", copy="altered", live=0.1))
    assert held_up.reasons == ["presentation_attack", "duplicate_photo"]
    await stage.enrol("p-1", photo_of("p-1+p-2"), photo_of("p-1", 3))
    await stage.enrol("p-2", photo_of("p-1+p-2", 4))
    everything = await stage.check_in("p-1", "T2", selfie=photo_of("p-1+p-2", copy="altered", live=0.1))
    assert everything.reasons == ["presentation_attack", "duplicate_photo", "look_alike"]


async def test_a_picture_that_is_no_good_says_nothing_of_attacks(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    dark = await stage.check_in("p-1", "T1", selfie=photo_of("dark", 1, live=0.0))
    assert dark.reasons == ["poor_quality"]
    assert (await stored(stage, dark))["live"] is None


async def test_what_was_doubted_is_told_when_it_is_sent_again(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    for again in ([], ["duplicate_photo"]):
        doubted = await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 1, live=0.1))
        assert doubted.reasons == ["presentation_attack", *again]
