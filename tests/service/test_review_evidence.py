"""What a reviewer is shown of a review, to whom that is written down, and what is no more once it is removed."""

import json
from typing import Any
from uuid import uuid4

import pytest

from checkin_service.ports import StoreUnavailable
from tests.service.reviewing import REVIEWER, SECOND, asked, decide, doubtful, review
from tests.service.situations import assert_conflict
from tests.service.stage import FENCE, INSIDE, NEAR, Json, Stage, photo_of, place
from tests.service.window import NOON, task_at_noon


async def evidence(stage: Stage, review_id: str, language: str = "en") -> Json:
    reply = await review(stage, f"/{review_id}", headers={"Accept-Language": language})
    assert reply.status == 200
    body: Json = reply.body
    return body


async def viewings(stage: Stage) -> list[tuple[str, str, str, str]]:
    rows = await stage.sql(
        "SELECT action, actor, task_id, details FROM audit WHERE action IN ('view_review', 'view_selfie') ORDER BY seq"
    )
    return [(r["action"], r["actor"], r["task_id"], json.loads(r["details"])["review_id"]) for r in rows]


async def selfie_of(stage: Stage, review_id: str) -> tuple[int, str, str | None, bytes]:
    headers = {"Authorization": f"Bearer {stage.token(REVIEWER, 'review')}"}
    async with stage.client.get(f"/v1/reviews/{review_id}/selfie", headers=headers) as reply:
        return reply.status, reply.content_type, reply.headers.get("Cache-Control"), await reply.read()


# --- What is shown ---


async def test_the_evidence_of_a_doubtful_check_in(stage: Stage) -> None:
    await task_at_noon(stage, "T1", place=place(frame="gcj02", fence=FENCE))
    fix = {"lon": INSIDE[0], "lat": INSIDE[1], "accuracy_m": 20, "at": "2026-03-20T12:00:00+08:00"}
    submitted = await stage.check_in(
        "p-1",
        "T1",
        selfie=photo_of("p-1", 90, live=0.1),
        frame="gcj02",
        fixes=[fix],
        captured_at="2026-03-20T11:59:59+08:00",
        device={"platform": "android", "model": "Mate 60", "device_id": "secret-device"},
    )
    review_id = submitted.body["check_in_id"]
    shown = await evidence(stage, review_id)
    assert (shown["kind"], shown["state"], shown["person_id"]) == ("check_in", "pending", "p-1")
    assert [reason["code"] for reason in shown["reasons"]] == ["presentation_attack"]
    assert shown["person"] == {"name": "张*", "categories": ["registered"], "technical_lead": True}
    assert shown["place"]["fence"] == FENCE
    assert (shown["place"]["frame"], shown["place"]["fence_version"]) == ("gcj02", 1)
    located = shown["location"]
    assert located["zone"] == "inside"
    assert located["distance_m"] < -150
    assert located["r95_m"] == 32.4
    assert (located["lon"], located["lat"]) == pytest.approx(INSIDE, abs=1e-8)
    face = shown["face"]
    assert (face["likeness"], face["operating_point"]) == ("clearly_same", "lfw_ea_1e3")
    assert face["score"] > face["threshold"] == 0.41
    assert (face["live"], face["liveness"]) == (0.1, None)
    assert shown["device"] == {"platform": "android", "model": "Mate 60"}
    assert "secret-device" not in json.dumps(shown)
    assert shown["reference"]["photos"] == 1
    [measured] = shown["reference"]["quality"]
    assert measured["eye_distance_px"] > 0
    assert (shown["request_reason"], shown["decisions"]) == (None, [])
    assert shown["selfie"] == f"/v1/reviews/{review_id}/selfie"


async def test_a_third_attempt_at_the_edge_shows_where_it_was(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    *_, third = [await stage.check_in("p-1", "T1", at=NEAR, **uncertain()) for _ in range(3)]
    shown = await evidence(stage, third.body["check_in_id"])
    assert (third.body["outcome"], shown["location"]["zone"]) == ("review", "possible")
    assert shown["location"]["distance_m"] > 0
    assert (shown["location"]["lon"], shown["location"]["lat"]) == pytest.approx(NEAR, abs=1e-8)


def uncertain() -> Json:
    """A fix whose claim reaches back into the fence."""
    fix = {"lon": NEAR[0], "lat": NEAR[1], "accuracy_m": 90, "at": NOON.isoformat()}
    return {"fixes": [fix], "captured_at": NOON.isoformat()}


async def test_a_position_is_kept_for_nothing_but_a_review(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.check_in("p-1", "T1")
    await doubtful(stage, "p-2", "T1")
    rows = await stage.sql("SELECT lon FROM evidence ORDER BY lon NULLS FIRST")
    assert [row["lon"] is None for row in rows] == [True, False]


async def test_signals_in_words_and_figures(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2", "p-3")
    for person_id in ("p-1", "p-2"):
        await stage.check_in(person_id, "T1", device={"device_id": "one"})
    submitted = await stage.check_in(
        "p-3", "T1", selfie=photo_of("p-3", 90, live=0.1), device={"device_id": "one"}
    )
    shown = {
        language: {
            s["code"]: s for s in (await evidence(stage, submitted.body["check_in_id"], language))["signals"]
        }
        for language in ("zh-CN", "en")
    }
    assert shown["en"]["shared_device"]["figures"] == {"persons": 3}
    assert shown["en"]["shared_device"]["message"] != shown["zh-CN"]["shared_device"]["message"]


async def test_the_evidence_of_a_manual_request(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    fix = {"lon": INSIDE[0], "lat": INSIDE[1], "accuracy_m": 20, "at": NOON.isoformat()}
    request_id = await asked(stage, "p-1", "T1", fixes=[fix], frame="wgs84")
    await decide(stage, request_id)
    shown = await evidence(stage, request_id)
    assert (shown["kind"], shown["state"], shown["reasons"]) == ("manual", "pending_second", [])
    assert (shown["request_reason"], shown["location"]["zone"]) == ("我不想用人脸识别", "inside")
    assert (shown["location"]["lon"], shown["location"]["lat"]) == pytest.approx(INSIDE, abs=1e-8)
    assert (shown["face"], shown["device"], shown["selfie"], shown["signals"]) == (None, None, None, [])
    assert shown["decisions"] == [
        {
            "review_id": request_id,
            "actor": REVIEWER,
            "decision": "accept",
            "note": "与证件照片相符",
            "decided_at": NOON.isoformat(),
        }
    ]
    assert (await selfie_of(stage, request_id))[0] == 404


async def test_earlier_decisions_on_the_member_are_shown(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    first = await doubtful(stage, "p-1", "T1")
    await decide(stage, first, "reject")
    await decide(stage, await asked(stage, "p-2", "T1"), "reject")
    again = await doubtful(stage, "p-1", "T1", shot=91)
    assert [d["review_id"] for d in (await evidence(stage, again))["decisions"]] == [first]


# --- The selfie ---


async def test_the_selfie_is_the_photograph_that_was_sent(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    sent = photo_of("p-1", 90, live=0.1)
    assert await selfie_of(stage, review_id) == (200, "image/jpeg", "no-store", sent)


async def test_a_selfie_whose_key_is_gone(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    await stage.sql("DELETE FROM evidence")
    assert (await selfie_of(stage, review_id))[0] == 404
    shown = await evidence(stage, review_id)
    assert shown["selfie"] is None
    assert (shown["location"]["zone"], shown["location"]["lon"]) == ("inside", None)


async def test_a_selfie_that_is_gone_from_the_store(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    for path in (stage.settings.data_dir / "evidence").iterdir():
        path.unlink()
    assert (await selfie_of(stage, review_id))[0] == 404


async def test_the_store_is_away(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def be_away(*_: object) -> bytes:
        raise StoreUnavailable

    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    monkeypatch.setattr("checkin_service.adapters.object_store.EvidenceStore.get", be_away)
    reply = await review(stage, f"/{review_id}/selfie")
    assert (reply.status, reply.code) == (503, "unavailable")
    assert await viewings(stage) == []


async def test_only_a_check_ins_own_selfie_opens(stage: Stage) -> None:
    """Negative: the row of another check-in's object, which nobody's key opens, is no picture to be shown."""
    await task_at_noon(stage, "T1", "p-1", "p-2")
    one, other = await doubtful(stage, "p-1", "T1"), await doubtful(stage, "p-2", "T1")
    await stage.sql(
        "UPDATE evidence SET address = o.address FROM evidence o"
        " WHERE evidence.check_in_id = $1 AND o.check_in_id = $2",
        one,
        other,
    )
    assert (await review(stage, f"/{one}/selfie")).status == 500
    assert await viewings(stage) == []


# --- Who has looked ---


async def test_each_viewing_is_written_down(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    await review(stage)
    await evidence(stage, review_id)
    await selfie_of(stage, review_id)
    await review(stage, f"/{review_id}", reviewer=SECOND)
    await review(stage, f"/{uuid4()}")
    assert await viewings(stage) == [
        ("view_review", REVIEWER, "T1", review_id),
        ("view_selfie", REVIEWER, "T1", review_id),
        ("view_review", SECOND, "T1", review_id),
    ]


# --- What the person sees ---


async def test_the_check_in_shows_the_review_and_then_the_receipt(stage: Stage) -> None:
    async def seen() -> Any:
        return (await stage.person("p-1", "GET", f"/v1/check-ins/{review_id}")).body

    await task_at_noon(stage, "T1")
    reply = await stage.check_in(
        "p-1", "T1", selfie=photo_of("p-1", 90, live=0.1), key="k", challenge_id=None
    )
    review_id = reply.body["check_in_id"]
    waiting = await seen()
    assert waiting == reply.body | {"review": {"state": "pending", "decided_at": None}}
    await decide(stage, review_id)
    decided = await seen()
    receipt = decided.pop("receipt")
    assert decided == reply.body | {"review": {"state": "accepted", "decided_at": NOON.isoformat()}}
    assert receipt == (await seen())["receipt"]


async def test_no_receipt_of_what_is_rejected(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    review_id = await doubtful(stage, "p-1", "T1")
    await decide(stage, review_id, "reject")
    shown = await stage.person("p-1", "GET", f"/v1/check-ins/{review_id}")
    assert (shown.body["review"]["state"], "receipt" in shown.body) == ("rejected", False)


# --- What must be there to accept a face ---


async def test_no_face_is_accepted_without_consent_or_without_its_picture(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2", "p-3")
    reviews = {person_id: await doubtful(stage, person_id, "T1") for person_id in ("p-1", "p-2", "p-3")}
    await stage.person("p-1", "DELETE", "/v1/me/consent")
    await stage.consent("p-2", ["face", "location"])
    await stage.sql("DELETE FROM evidence WHERE check_in_id = $1", reviews["p-3"])
    states = ("consent_withdrawn", "consent_withdrawn", "evidence_removed")
    for review_id, state in zip(reviews.values(), states, strict=True):
        assert_conflict(await decide(stage, review_id), state)
        assert (await decide(stage, review_id, "reject")).status == 200
    assert await stage.sql("SELECT FROM acceptance") == []


async def test_the_figures_of_a_model_that_is_known_no_longer_are_shown_without_a_word(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    review_id = await doubtful(stage, "p-1", "T1")
    await stage.sql("UPDATE attempt SET model_id = 'retired-v0'")
    reply = await review(stage, f"/{review_id}")
    assert (reply.status, reply.body["face"]["model_id"]) == (200, "retired-v0")
    assert (reply.body["face"]["likeness"], reply.body["face"]["likeness_text"]) == (None, None)
