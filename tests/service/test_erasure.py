"""Withdrawal and erasure reach every table and the object store, whatever is going on at the same time."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from checkin_service.adapters.object_store import EvidenceStore
from checkin_service.adapters.postgres.person_export import STORED
from checkin_service.ports import StoreUnavailable
from tests.service.stage import ALL_SCOPES, Json, Reply, Stage, photo_of
from tests.service.test_purge import ask_manually, much, objects, purged, put_at, reviewed
from tests.service.window import CLOSES_AT, NOON, task_at_noon

AT = (114.0600123, 22.5440123)
DEVICE = {"platform": "android", "model": "HUAWEI P60", "device_id": "d-1"}


async def stored(stage: Stage, person_id: str = "p-1") -> dict[str, list[Json]]:
    """What is left of a person, by table; tables without anything are not there."""
    reply = await stage.platform("GET", f"/v1/persons/{person_id}/export")
    assert reply.status == 200, reply.body
    return {table: rows for table, rows in reply.body["stored"].items() if rows}


async def withdraw(stage: Stage, person_id: str = "p-1") -> None:
    assert (await stage.person(person_id, "DELETE", "/v1/me/consent")).status == 204


async def erase(stage: Stage, person_id: str = "p-1") -> None:
    assert (await stage.platform("DELETE", f"/v1/persons/{person_id}")).status == 204


async def held(stage: Stage, **more: Any) -> Reply:
    """A check-in with a picture that was sent before, which is for a reviewer."""
    reply = await stage.check_in("p-1", "T1", at=AT, selfie=photo_of("p-1"), **more)
    assert reply.body["outcome"] == "review", reply.body
    return reply


BIOMETRIC = {"reference", "template", "kept_photograph", "burst_frame", "evidence"}
PLACED = {"last_position", "sent_fix"}


# --- Withdrawal ---


async def test_a_withdrawal_deletes_biometrics_selfies_and_coordinates(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.check_in("p-1", "T1", at=AT)
    assert (BIOMETRIC - {"burst_frame"}) | PLACED <= (await stored(stage)).keys()
    assert len(objects(stage)) == 1
    await withdraw(stage)
    left = await stored(stage)
    assert not (BIOMETRIC | PLACED) & left.keys()
    assert objects(stage) == []
    assert left["attempt"][0]["score"] >= left["attempt"][0]["threshold"]
    assert (await stage.status("T1"))["state"] == "completed"


@pytest.mark.parametrize("scope", ["face", "location"])
async def test_a_narrowed_consent_deletes_what_it_covers_no_more(stage: Stage, scope: str) -> None:
    await task_at_noon(stage, "T1")
    await held(stage)
    await stage.consent("p-1", [other for other in ALL_SCOPES if other != scope])
    left = await stored(stage)
    assert bool(BIOMETRIC & left.keys()) == (scope != "face")
    assert bool(PLACED & left.keys()) == (scope != "location")
    assert len(objects(stage)) == (scope != "face")
    assert [evidence["lon"] for evidence in left.get("evidence", [])] == [None] * (scope != "face")


async def test_a_withdrawal_takes_the_place_of_a_manual_request_and_leaves_the_request(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    fix = {"lon": AT[0], "lat": AT[1], "accuracy_m": 10, "at": NOON.isoformat()}
    body = {"task_id": "T1", "reason": "bandaged", "frame": "wgs84", "fixes": [fix]}
    asked = await stage.person("p-1", "POST", "/v1/manual-requests", body, headers={"Idempotency-Key": "k"})
    assert asked.status == 201
    assert (await stored(stage))["manual_request"][0]["position"]
    await withdraw(stage)
    [request] = (await stored(stage))["manual_request"]
    assert (request["reason"], request["position"]) == ("bandaged", None)
    assert (await stage.status("T1"))["members"][0]["state"] == "in_review"


async def test_a_withdrawal_leaves_a_review_open_without_its_picture(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await held(stage)
    await withdraw(stage)
    assert (await stored(stage))["review"][0]["state"] == "pending"
    assert objects(stage) == []
    await reviewed(stage, "p-1", "reject")


class Away:
    """Every deletion fails."""

    async def delete(self, _: str) -> None:
        raise StoreUnavailable


@pytest.mark.parametrize("way", [withdraw, erase])
async def test_the_store_away_stops_nobody_and_a_purge_does_the_rest(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, way: Any
) -> None:
    await task_at_noon(stage, "T1")
    await stage.check_in("p-1", "T1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EvidenceStore, "delete", Away.delete)
        await way(stage)
    assert "evidence" not in await stored(stage)
    assert len(objects(stage)) == 1
    put_at(stage, NOON)
    await stage.set_clock(NOON + timedelta(hours=2))
    await purged(stage)
    assert objects(stage) == []


# --- Erasure ---


async def test_an_erasure_leaves_the_bare_facts_and_nothing_else(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.check_in("p-1", "T1", at=AT, device=DEVICE)
    await erase(stage)
    left = await stored(stage)
    facts = {"person", "member", "task", "receipt", "attempt", "acceptance"}
    assert left.keys() == facts | {"processing_record", "audit"}
    assert [name for name, value in left["member"][0].items() if value == ""] == ["name"]
    assert objects(stage) == []


async def test_an_accepted_review_keeps_its_decision_and_none_of_its_words(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await held(stage)
    await reviewed(stage, "p-1", "accept")
    assert (await stage.status("T1"))["state"] == "completed"
    await erase(stage)
    left = await stored(stage)
    assert (await stage.status("T1"))["state"] == "completed"
    [decision] = left["review_decision"]
    assert (decision["decision"], decision["note"]) == ("accept", "")
    assert left["review"][0]["state"] == "accepted"


@pytest.mark.parametrize("kind", ["check_in", "manual"])
async def test_what_is_to_be_decided_ends_with_the_person(stage: Stage, kind: str) -> None:
    """The status does not hang in `expired_pending_review` for somebody who is no more."""
    await task_at_noon(stage, "T1")
    await (held(stage) if kind == "check_in" else ask_manually(stage, "p-1"))
    await stage.set_clock(CLOSES_AT)
    assert (await stage.status("T1"))["state"] == "expired_pending_review"
    await erase(stage)
    status = await stage.status("T1")
    assert (status["state"], status["members"][0]["state"]) == ("expired", "not_started")
    assert (await stage.changes())[-1]["type"] == "review_decided"
    assert not {"review", "manual_request", "review_decision"} & (await stored(stage)).keys()


async def test_what_was_decided_before_is_told_nothing_more_of(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await ask_manually(stage, "p-1")
    await reviewed(stage, "p-1", "reject")
    await withdraw(stage)
    changes = await stage.changes()
    await erase(stage)
    assert await stage.changes() == changes
    assert "review" not in await stored(stage)


async def test_nothing_that_was_sent_is_anywhere_in_the_database(stage: Stage) -> None:
    """Canaries in everything that a person sends, looked for in every row of every table."""
    await much(stage)
    await stage.check_in("p-2", "T1", at=AT, device={"model": "canary-model", "device_id": "canary-device"})
    canaries = ("canary", "bandaged", "old picture", "114.06001", "22.54401")
    rows = await everything(stage)
    assert [canary for canary in canaries if canary not in rows] == []
    for person_id in ("p-1", "p-2", "p-3"):
        await erase(stage, person_id)
    rows = await everything(stage)
    assert [canary for canary in canaries if canary in rows] == []


async def everything(stage: Stage) -> str:
    tables = await stage.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return "\n".join(
        [row[0] for (name,) in tables for row in await stage.sql(f"SELECT t::text FROM {name} t")]
    )


async def test_answers_kept_for_repeated_calls_go_as_well(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await ask_manually(stage, "p-1")
    assert await stage.sql("SELECT FROM idempotency_key WHERE sub = 'p-1'")
    await erase(stage)
    assert await stage.sql("SELECT FROM idempotency_key WHERE sub = 'p-1'") == []


async def test_an_erasure_under_a_key_answers_the_same_again(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    key = {"Idempotency-Key": "once"}
    for _ in range(2):
        assert (await stage.platform("DELETE", "/v1/persons/p-1", headers=key)).status == 204
    kinds = await stage.sql("SELECT kind FROM processing_record ORDER BY record_id")
    assert [row["kind"] for row in kinds].count("erased") == 1


async def test_what_is_erased_is_of_nobody_else(stage: Stage) -> None:
    await much(stage)
    before = {person_id: await stored(stage, person_id) for person_id in ("p-2", "p-3")}
    await erase(stage, "p-1")
    for person_id, rows in before.items():
        after = await stored(stage, person_id)
        for table in STORED.keys() - {"audit", "task"}:
            assert after.get(table) == rows.get(table), (person_id, table)


# --- Races ---


@pytest.mark.parametrize("way", [withdraw, erase])
async def test_a_check_in_in_flight_leaves_no_selfie_that_can_be_read(stage: Stage, way: Any) -> None:
    """It was sealed and put, and its verdict came too late."""
    await task_at_noon(stage, "T1")
    async with stage.while_analysing(stage.check_in("p-1", "T1")) as submitted:
        await way(stage)
    assert (await submitted).status in {403, 409}
    assert not BIOMETRIC & (await stored(stage)).keys()
    put_at(stage, NOON)
    await stage.set_clock(NOON + timedelta(hours=2))
    await purged(stage)
    assert objects(stage) == []


@pytest.mark.parametrize("way", [withdraw, erase])
async def test_beside_check_ins_it_is_one_of_the_two_orders(stage: Stage, way: Any) -> None:
    """Accepted before and then deleted, or never: no selfie of anybody who withdrew or was erased is left."""
    people = [f"p-{n}" for n in range(1, 9)]
    await task_at_noon(stage, "T1", *people)
    checked_in = [stage.check_in(person_id, "T1") for person_id in people]
    gone = [way(stage, person_id) for person_id in people]
    replies = await asyncio.gather(
        *(both for pair in zip(checked_in, gone, strict=True) for both in pair), return_exceptions=True
    )
    outcomes = [reply for reply in replies if isinstance(reply, Reply)]
    accepted = sum(reply.status == 201 and reply.body["outcome"] == "accepted" for reply in outcomes)
    assert (await stage.status("T1"))["progress"]["accepted"] == accepted
    for person_id in people:
        assert not BIOMETRIC & (await stored(stage, person_id)).keys(), person_id
    assert await stage.sql("SELECT FROM evidence") == []
