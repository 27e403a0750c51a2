"""Signals are stored with the attempt and change nothing: whatever is raised, the outcome is the honest one's."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID

from tests.service.stage import INSIDE, Reply, Stage
from tests.service.window import NOON, task_at_noon

TAKEN_AT = NOON.isoformat()


def cached(count: int, lon: float, lat: float) -> list[dict[str, Any]]:
    """One exact place over and over, three seconds apart."""
    times = [(NOON - timedelta(seconds=3 * n)).isoformat() for n in range(count)]
    return [{"lon": lon, "lat": lat, "accuracy_m": 7, "at": at} for at in times]


async def found(stage: Stage, judged: Reply) -> set[str]:
    query = "SELECT signals FROM attempt WHERE check_in_id = $1"
    [row] = await stage.sql(query, UUID(judged.body["check_in_id"]))
    return {signal["code"] for signal in json.loads(row["signals"])}


async def test_whatever_is_raised_the_outcome_is_the_same(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2", "p-3", "p-4")
    lon, lat = INSIDE[0] + 0.000123, INSIDE[1] + 0.000123
    device = {"platform": "android", "device_id": "one-phone"}
    for person_id in ("p-1", "p-2", "p-3"):
        accepted = await stage.check_in(
            person_id, "T1", fixes=cached(6, lon, lat), device=device, captured_at=TAKEN_AT
        )
        assert (accepted.body["outcome"], accepted.reasons) == ("accepted", [])
    honest = await stage.check_in("p-4", "T1")
    assert (honest.body["outcome"], honest.reasons) == ("accepted", [])
    raised = {"zero_variance", "shared_fix", "shared_device"}
    assert raised <= await found(stage, accepted)
    assert not raised & await found(stage, honest)


async def test_a_place_far_from_the_one_before_is_a_signal_and_no_reason(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    away = cached(1, INSIDE[0] + 0.5, INSIDE[1] + 0.2)
    refused = await stage.check_in("p-1", "T1", fixes=away, captured_at=TAKEN_AT)
    assert refused.reasons == ["outside_geofence"]
    accepted = await stage.check_in("p-1", "T1")
    assert accepted.body["outcome"] == "accepted"
    assert "impossible_speed" not in await found(stage, refused)
    assert "impossible_speed" in await found(stage, accepted)
    [position] = await stage.sql("SELECT person_id FROM last_position")
    assert position["person_id"] == "p-1"


async def test_raw_fixes_are_not_stored(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.check_in("p-1", "T1", fixes=cached(6, INSIDE[0] + 0.000123, INSIDE[1]), captured_at=TAKEN_AT)
    [row] = await stage.sql("SELECT to_jsonb(a)::text AS attempt FROM attempt a")
    assert "114.06" not in row["attempt"]
    [digest] = await stage.sql("SELECT length(fix_digest) AS bytes FROM sent_fix")
    assert digest["bytes"] == 32
