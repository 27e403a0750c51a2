"""Who is missing, why, and what to do: every code, and what keeps it from being another one."""

from datetime import timedelta
from typing import Any

import pytest

from tests.service.situations import accept, ordered
from tests.service.stage import FAR, Json, Stage, photo_of
from tests.service.window import CLOSES_AT, NOON, OPENS_AT, task_at_noon

ROUTINE: Json = {"flow": "routine"}


async def why_not(stage: Stage, task_id: str = "T1", language: str = "zh-CN") -> Json:
    path, headers = f"/v1/tasks/{task_id}/why-not", {"Accept-Language": language}
    reply = await stage.platform("GET", path, headers=headers)
    assert reply.status == 200, reply.body
    body: Json = reply.body
    return body


async def missing(stage: Stage, task_id: str = "T1") -> dict[str, tuple[str, str]]:
    """What is missing and the next step, by person."""
    members = (await why_not(stage, task_id))["members"]
    return {m["person_id"]: (m["missing"], m["next_step"]) for m in members}


async def enrolled_only(stage: Stage, *person_ids: str, **changes: Any) -> None:
    await stage.set_clock(NOON)
    await stage.register("T1", *person_ids, approved_at=OPENS_AT.isoformat(), **changes)
    for person_id in person_ids:
        await stage.enrol(person_id)


async def test_whoever_has_done_nothing_is_to_check_in(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await accept(stage, "T1", "p-1")
    told = await why_not(stage)
    assert (told["task_id"], told["state"], told["closes_at"]) == ("T1", "open", CLOSES_AT.isoformat())
    [member] = told["members"]
    assert member.keys() == {
        "person_id",
        "missing",
        "attempts_left_today",
        "next_step",
        "message",
        "advice",
    }
    assert (member["person_id"], member["missing"], member["next_step"]) == (
        "p-2",
        "not_started",
        "check_in",
    )
    assert member["attempts_left_today"] == 10


async def test_nobody_is_missing_from_a_completed_task(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    await accept(stage, "T1", "p-1")
    told = await why_not(stage)
    assert (told["state"], told["members"]) == ("completed", [])


async def test_without_a_reference_that_is_what_is_missing_whatever_else_is(stage: Stage) -> None:
    await stage.set_clock(NOON)
    await stage.register("T1", "p-1", "p-2", approved_at=OPENS_AT.isoformat())
    await stage.consent("p-2")
    assert await missing(stage) == {
        "p-1": ("reference_missing", "give_consent"),
        "p-2": ("reference_missing", "wait_for_reference"),
    }


async def test_consent_is_missing_until_given_and_once_withdrawn_since_then(stage: Stage) -> None:
    await enrolled_only(stage, "p-1", "p-2", "p-3")
    await stage.consent("p-2", ["face", "location"])
    await stage.consent("p-3")
    await stage.person("p-3", "DELETE", "/v1/me/consent")
    await stage.enrol("p-3")
    members = (await why_not(stage))["members"]
    assert [(m["missing"], m["next_step"]) for m in members] == [("consent_missing", "give_consent")] * 3
    assert [m.get("since") for m in members] == [None, None, NOON.isoformat()]


async def test_the_last_refusal_is_told_and_what_is_left_of_the_day(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    await stage.check_in("p-1", "T1", at=FAR)
    await stage.set_clock(NOON + timedelta(minutes=5))
    await stage.check_in("p-1", "T1", selfie=photo_of("nobody"))
    [member] = (await why_not(stage))["members"]
    later = (NOON + timedelta(minutes=5)).isoformat()
    assert (member["missing"], member["since"]) == ("refused_so_far", later)
    assert member["last_refusal"] == {"at": later, "reasons": ["no_face"]}
    assert (member["attempts_left_today"], member["next_step"]) == (9, "check_in")


async def test_with_no_attempts_left_the_manual_way_is_next_until_tomorrow(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    for _ in range(10):
        await stage.check_in("p-1", "T1", at=FAR)
    assert await missing(stage) == {"p-1": ("refused_so_far", "ask_manually")}
    await stage.set_clock(NOON + timedelta(hours=12))
    assert await missing(stage) == {"p-1": ("refused_so_far", "check_in")}


async def test_what_waits_for_a_decision_is_in_review_since_it_was_received(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    await stage.check_in("p-1", "T1", at=FAR)
    photo = photo_of("p-1")  # the reference's own
    assert (await stage.check_in("p-1", "T1", selfie=photo)).body["outcome"] == "review"
    [member] = (await why_not(stage))["members"]
    assert (member["missing"], member["next_step"]) == ("in_review", "nothing")
    assert member["since"] == NOON.isoformat()
    assert member["last_refusal"]["reasons"] == ["outside_geofence"]


async def test_a_revoked_member_is_to_check_in_again(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", **ROUTINE)
    await accept(stage, "T1", "p-1")
    await ordered(stage, "T1", "members/p-1/revoke")
    [member] = (await why_not(stage))["members"]
    assert (member["missing"], member["next_step"]) == ("revoked", "check_in")
    assert member["since"] == NOON.isoformat()


@pytest.mark.parametrize("command", ["suspend", "void"])
async def test_while_the_task_takes_nothing_nobody_has_anything_to_do(stage: Stage, command: str) -> None:
    await task_at_noon(stage, "T1", "p-1")
    await ordered(stage, "T1", command)
    assert await missing(stage) == {"p-1": ("not_started", "nothing")}


async def test_after_the_end_it_still_says_who_was_missing(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    await stage.set_clock(CLOSES_AT)
    assert (await why_not(stage))["state"] == "expired"
    assert await missing(stage) == {"p-1": ("not_started", "nothing")}


async def test_before_the_window_opens_it_is_to_be_waited_for(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    await stage.set_clock(OPENS_AT - timedelta(minutes=1))
    assert await missing(stage) == {"p-1": ("not_started", "wait_for_opening")}


async def test_attempts_on_another_task_say_nothing_about_this_one(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    await stage.register("T2", "p-1", approved_at=OPENS_AT.isoformat())
    await stage.check_in("p-1", "T2", at=FAR)
    assert await missing(stage) == {"p-1": ("not_started", "check_in")}


async def test_the_next_step_is_the_one_that_the_person_is_told(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    [task] = (await stage.person("p-1", "GET", "/v1/me")).body["tasks"]
    assert (await missing(stage))["p-1"][1] == task["next"]


async def test_texts_are_in_the_language_asked_for_and_codes_are_not(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    told = [(await why_not(stage, language=language))["members"][0] for language in ("zh-CN", "zh-HK", "en")]
    assert len({member["message"] for member in told}) == len({member["advice"] for member in told}) == 3
    assert {member["missing"] for member in told} == {"not_started"}


async def test_no_score_no_place_no_name_is_told(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    await stage.check_in("p-1", "T1", selfie=photo_of("somebody-else"))
    told = str(await why_not(stage))
    assert not any(secret in told for secret in ("114.0", "22.5", "score", "张*", "model"))


async def test_an_unknown_task_is_not_found(stage: Stage) -> None:
    assert (await stage.platform("GET", "/v1/tasks/T9/why-not")).status == 404


async def test_asking_changes_nothing(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    before = await stage.status("T1")
    await why_not(stage)
    assert await stage.status("T1") == before
