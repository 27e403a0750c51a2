"""One key, one submission: retries get the stored answer, go on where an owner died, and never count twice."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from face import ImageUnreadable, WorkerFailed
from tests.service.conftest import UNLIMITED
from tests.service.databases import Databases
from tests.service.situations import breakdown
from tests.service.stage import FAR, Json, Reply, Stage, check_in_fields, photo_of, running_service
from tests.service.window import CLOSES_AT, NOON, task_at_noon

SELFIE = photo_of("p-1", shot=1)


async def submission(stage: Stage, **changes: Any) -> Json:
    """The fields of one submission of p-1 on T1, to be sent as often as wanted."""
    return check_in_fields("T1", await stage.challenge("p-1", "T1"), **changes)


async def counts(stage: Stage) -> tuple[int, int]:
    """Receipts and attempts that are stored."""
    [row] = await stage.sql("SELECT (SELECT count(*) FROM receipt), (SELECT count(*) FROM attempt)")
    return row[0], row[1]


def in_progress(reply: Reply) -> bool:
    return (reply.status, reply.code) == (409, "idempotency_in_progress") and "Retry-After" in reply.headers


# --- The key ---


async def test_a_check_in_without_a_key_consumes_nothing(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    fields = await submission(stage)
    form = aiohttp.FormData(
        [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in fields.items()]
    )
    form.add_field("selfie", SELFIE, filename="selfie.jpg", content_type="image/jpeg")
    refused = await stage.person("p-1", "POST", "/v1/check-ins", data=form)
    assert (refused.status, refused.code) == (400, "idempotency_key_required")
    assert await counts(stage) == (0, 0)
    assert (await stage.submit("p-1", fields, SELFIE)).body["outcome"] == "accepted"


@pytest.mark.parametrize("key", ["two words", "ключ", "k" * 256])
async def test_a_key_of_another_form_is_refused(stage: Stage, key: str) -> None:
    await task_at_noon(stage, "T1")
    refused = await stage.submit("p-1", await submission(stage), SELFIE, key)
    assert (refused.status, refused.faults) == (422, {("Idempotency-Key", "bad_format")})
    assert await counts(stage) == (0, 0)


@pytest.mark.parametrize("key", ["!", "k" * 255, "~\"'%/\\"])
async def test_every_visible_ascii_key_serves(stage: Stage, key: str) -> None:
    await task_at_noon(stage, "T1")
    fields = await submission(stage)
    first = await stage.submit("p-1", fields, SELFIE, key)
    again = await stage.submit("p-1", fields, SELFIE, key)
    assert (again.status, again.body) == (201, first.body)


async def test_a_key_belongs_to_its_person(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    replies = [await stage.check_in(person_id, "T1", key="the-key") for person_id in ("p-1", "p-2")]
    assert [reply.reasons for reply in replies] == [[], []]
    assert replies[0].body["check_in_id"] != replies[1].body["check_in_id"]


async def test_a_key_belongs_to_its_operation(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    headers = {"Idempotency-Key": "the-key"}
    challenge = await stage.person("p-1", "POST", "/v1/challenges", {"task_id": "T1"}, headers=headers)
    fields = check_in_fields("T1", challenge.body["challenge_id"])
    assert (await stage.submit("p-1", fields, SELFIE, "the-key")).body["outcome"] == "accepted"


# --- The same body ---


async def test_a_retry_gets_the_stored_answer(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    fields = await submission(stage)
    first = await stage.submit("p-1", fields, SELFIE, "k")
    await stage.check_in("p-2", "T1")
    # even when task, window and consent are over
    await stage.set_clock(CLOSES_AT + timedelta(days=1))
    await stage.person("p-1", "DELETE", "/v1/me/consent")
    stage.engine.analysed.clear()
    again = await stage.submit("p-1", fields, SELFIE, "k")
    assert (again.status, again.body) == (201, first.body)
    assert stage.engine.analysed == []


async def test_a_refusal_is_stored_like_an_acceptance(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    fields = await submission(stage, at=FAR)
    first = await stage.submit("p-1", fields, SELFIE, "k")
    again = await stage.submit("p-1", fields, SELFIE, "k")
    assert (again.body, again.reasons) == (first.body, ["outside_geofence"])
    assert await counts(stage) == (1, 1)


async def test_a_repeats_answer_is_stored_too(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.check_in("p-1", "T1")
    fields = await submission(stage)
    first = await stage.submit("p-1", fields, SELFIE, "k")
    again = await stage.submit("p-1", fields, SELFIE, "k")
    assert (again.body, again.reasons) == (first.body, ["already_checked_in"])


async def test_the_stored_answer_is_told_in_the_language_of_the_retry(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    fields = await submission(stage, fixes=[])
    told = {
        language: (await stage.submit("p-1", fields, SELFIE, "k", language)).body["reasons"][0]
        for language in ("zh-CN", "zh-HK", "en")
    }
    assert {reason["code"] for reason in told.values()} == {"position_missing"}
    assert len({reason["message"] for reason in told.values()}) == 3
    assert told["en"]["advice"].isascii()


async def test_order_of_parts_boundary_and_file_names_do_not_count(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    fields = await submission(stage)
    first = await stage.submit("p-1", fields, SELFIE, "k")
    # the boundary is aiohttp's, new for every form
    form = aiohttp.FormData()
    form.add_field("selfie", SELFIE, filename="another name.jpg", content_type="image/jpeg")
    for name, value in reversed(fields.items()):
        form.add_field(name, value if isinstance(value, str) else json.dumps(value))
    again = await stage.person("p-1", "POST", "/v1/check-ins", data=form, headers={"Idempotency-Key": "k"})
    assert (again.status, again.body) == (201, first.body)
    assert await counts(stage) == (1, 1)


# --- Another body ---

OTHER_BODIES: dict[str, tuple[Json, bytes]] = {
    "another picture": ({}, photo_of("p-1", shot=2)),
    "another time": ({"captured_at": "2026-03-20T00:00:00Z"}, SELFIE),
    "other fixes": ({"fixes": []}, SELFIE),
    "another frame": ({"frame": "gcj02"}, SELFIE),
    "one field more": ({"device": {"platform": "ios"}}, SELFIE),
}


@pytest.mark.parametrize("other", OTHER_BODIES)
async def test_another_body_under_a_used_key_is_refused(stage: Stage, other: str) -> None:
    await task_at_noon(stage, "T1")
    fields = await submission(stage)
    first = await stage.submit("p-1", fields, SELFIE, "k")
    changes, selfie = OTHER_BODIES[other]
    refused = await stage.submit("p-1", fields | changes, selfie, "k")
    assert (refused.status, refused.code) == (422, "idempotency_key_reused")
    assert (await stage.submit("p-1", fields, SELFIE, "k")).body == first.body


async def test_another_challenge_under_a_used_key_is_refused_and_stays_usable(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.submit("p-1", await submission(stage, at=FAR), SELFIE, "k")
    fresh = await submission(stage)
    assert (await stage.submit("p-1", fresh, SELFIE, "k")).code == "idempotency_key_reused"
    assert (await stage.submit("p-1", fresh, SELFIE, "k2")).body["outcome"] == "accepted"


# --- Still running ---


async def test_a_retry_of_a_running_submission_is_told_to_come_back(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    fields = await submission(stage)
    async with stage.while_analysing(stage.submit("p-1", fields, SELFIE, "k")) as submitted:
        assert in_progress(await stage.submit("p-1", fields, SELFIE, "k"))
        other = await stage.submit("p-1", fields, photo_of("p-1", shot=2), "k")
        assert other.code == "idempotency_key_reused"
    first = await submitted
    again = await stage.submit("p-1", fields, SELFIE, "k")
    assert (first.status, again.status, again.body) == (201, 201, first.body)
    assert await counts(stage) == (1, 1)


async def test_a_key_whose_owner_died_is_taken_over_after_thirty_seconds(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    fields = await submission(stage)
    async with stage.while_analysing(stage.submit("p-1", fields, SELFIE, "k")) as stuck:
        await stage.set_clock(NOON + timedelta(seconds=29.9))
        assert in_progress(await stage.submit("p-1", fields, SELFIE, "k"))
        await stage.set_clock(NOON + timedelta(seconds=30))
        taken_over = await stage.submit("p-1", fields, SELFIE, "k")
        assert (taken_over.body["outcome"], taken_over.reasons) == ("accepted", [])
        assert taken_over.body["received_at"] == NOON.isoformat()
    # the old owner was not dead but slow: it answers what was decided meanwhile
    assert (await stuck).body == taken_over.body
    assert (await stage.submit("p-1", fields, SELFIE, "k")).body == taken_over.body
    assert await counts(stage) == (1, 1)


async def test_a_slow_owner_of_a_refused_submission_answers_what_was_decided_meanwhile(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    fields, stranger = await submission(stage), photo_of("p-2")
    async with stage.while_analysing(stage.submit("p-1", fields, stranger, "k")) as stuck:
        await stage.set_clock(NOON + timedelta(seconds=30))
        taken_over = await stage.submit("p-1", fields, stranger, "k")
        assert taken_over.reasons == ["non_match"]
    assert (await stuck).body == taken_over.body
    assert await counts(stage) == (1, 1)


# --- Pictures and failures that end without a verdict ---


async def test_an_unreadable_picture_stores_no_attempt_and_counts_nothing(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    for _ in range(11):
        broken = await stage.check_in("p-1", "T1", selfie=photo_of("broken"))
        assert (broken.status, broken.code) == (422, "image_unreadable")
    assert (await counts(stage))[1] == 0
    assert (await stage.check_in("p-1", "T1")).body["attempts_left"] == 10


async def test_an_unreadable_picture_does_not_hold_up_the_tasks_end(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.check_in("p-1", "T1", selfie=photo_of("broken"))
    await stage.set_clock(CLOSES_AT)
    assert (await stage.status("T1"))["state"] == "expired"


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (ImageUnreadable("truncated", "incomplete"), 422, "image_unreadable"),
        (WorkerFailed("it crashed"), 503, "unavailable"),
        (RuntimeError("a defect"), 500, "unavailable"),
    ],
)
async def test_a_key_without_a_verdict_is_judged_afresh_and_keeps_its_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, failure: Exception, status: int, code: str
) -> None:
    async def fail(_: bytes) -> None:
        raise failure

    await task_at_noon(stage, "T1")
    fields = await submission(stage)
    with monkeypatch.context() as broken:
        broken.setattr(stage.engine, "analyse", fail)
        refused = await stage.submit("p-1", fields, SELFIE, "k")
        assert (refused.status, refused.code) == (status, code)
    await stage.set_clock(NOON + timedelta(minutes=10))
    judged = await stage.submit("p-1", fields, SELFIE, "k")
    assert (judged.body["outcome"], judged.body["received_at"]) == ("accepted", NOON.isoformat())
    assert await counts(stage) == (1, 1)


# --- Consent ---


async def test_consent_withdrawn_before_the_check_in_stores_nothing_and_binds_the_challenge(
    stage: Stage,
) -> None:
    await task_at_noon(stage, "T1")
    fields = await submission(stage)
    await stage.person("p-1", "DELETE", "/v1/me/consent")
    for _ in range(2):
        refused = await stage.submit("p-1", fields, SELFIE, "k")
        assert (refused.status, refused.code) == (403, "consent_required")
    assert (await counts(stage))[1] == 0
    assert (await stage.submit("p-1", fields, SELFIE, "other")).code == "challenge_invalid"
    await stage.consent("p-1")
    await stage.enrol("p-1")
    await stage.set_clock(NOON + timedelta(hours=1))
    judged = await stage.submit("p-1", fields, SELFIE, "k")
    assert (judged.body["outcome"], judged.body["received_at"]) == ("accepted", NOON.isoformat())


async def test_a_retry_after_another_acceptance_ends_however_rows_are_read(
    databases: Databases, stores: EmbeddedStores, tmp_path: Path
) -> None:
    """In a new database first look and verdict read by other plans: the case must have the same stamp by both."""
    url = await databases.make()
    async with running_service(url, stores.redis_url or "", tmp_path, None, **UNLIMITED) as stage:
        await task_at_noon(stage, "T1")
        fields = await submission(stage)
        with breakdown(stage):
            assert (await stage.submit("p-1", fields, SELFIE, "k")).status == 503
        accepted = await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 2))
        again = await stage.submit("p-1", fields, SELFIE, "k")
        assert (again.status, again.reasons) == (201, ["already_checked_in"])
        assert again.body["check_in_id"] == accepted.body["check_in_id"]
