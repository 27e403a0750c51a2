"""What is found before the first day: references, consents, fences, members who look alike."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres import persons
from checkin_service.adapters.postgres.database import open_database
from checkin_service.usecases import readiness as usecase
from face import SFACE_MODEL
from tests.service.fixed_engine import FixedEngine
from tests.service.stage import Json, Stage, photo_of, place, running_service
from tests.service.window import NOON, OPENS_AT, task_at_noon

TWO_SHOTS = (1, 2)


async def readiness(stage: Stage, task_id: str = "T1", **options: Any) -> Json:
    reply = await stage.platform("GET", f"/v1/tasks/{task_id}/readiness", **options)
    assert reply.status == 200, reply.body
    body: Json = reply.body
    return body


async def enrol_well(stage: Stage, person_id: str) -> None:
    await stage.enrol(person_id, *(photo_of(person_id, shot) for shot in TWO_SHOTS))


async def well_prepared(stage: Stage, *person_ids: str, **changes: Any) -> None:
    await task_at_noon(stage, "T1", *person_ids, **changes)
    for person_id in person_ids:
        await enrol_well(stage, person_id)


async def doubts(stage: Stage, **changes: Any) -> list[str]:
    """About the one fence of a new task of an enterprise without others."""
    await stage.register("T1", place=place(**changes))
    [fence] = (await readiness(stage))["fences"]
    return [doubt["code"] for doubt in fence["doubts"]]


def circle(radius_m: float, lon: float = 114.06, lat: float = 22.544) -> Json:
    return {"type": "Circle", "coordinates": [lon, lat], "radius_m": radius_m}


def square(lon: float, lat: float, side_deg: float = 0.002) -> list[Any]:
    ends = (
        (lon, lat),
        (lon + side_deg, lat),
        (lon + side_deg, lat + side_deg),
        (lon, lat + side_deg),
        (lon, lat),
    )
    return [[list(end) for end in ends]]


# --- Nothing to find ---


async def test_a_well_prepared_task_gives_no_reason_to_look_again(stage: Stage) -> None:
    await well_prepared(stage, "p-1", "p-2")
    assert await readiness(stage) == {
        "task_id": "T1",
        "state": "open",
        "members": 2,
        "references": [],
        "consents_missing": 0,
        "fences": [
            {
                "version": 1,
                "effective_at": NOON.isoformat(),
                "area_m2": 45564,
                "buffer_m": 100.0,
                "doubts": [],
            }
        ],
        "look_alikes": {
            "pairs": [],
            "found": 0,
            "compared": 2,
            "left_out": {"consent": 0, "template": 0, "seal": 0},
        },
    }


async def test_an_unknown_task_is_not_found(stage: Stage) -> None:
    assert (await stage.platform("GET", "/v1/tasks/T9/readiness")).status == 404


# --- References and consents ---


async def test_references_missing_or_of_one_photograph_are_told_in_the_rosters_order(stage: Stage) -> None:
    await stage.register("T1", "p-3", "p-1", "p-2")
    await enrol_well(stage, "p-1")
    await stage.enrol("p-2")
    found = await readiness(stage)
    told = [(doubted["person_id"], doubted["code"]) for doubted in found["references"]]
    assert told == [("p-3", "reference_missing"), ("p-2", "single_photograph")]
    assert found["state"] == "pending_material"


async def test_a_reference_that_no_model_knows_is_unusable(stage: Stage) -> None:
    await stage.register("T1", "p-1")
    await enrol_well(stage, "p-1")
    await stage.sql("UPDATE person SET reference_id = NULL")
    [doubted] = (await readiness(stage))["references"]
    assert doubted["code"] == "reference_unusable"


async def test_a_reference_without_the_deciding_model_is_told(stage: Stage) -> None:
    await stage.register("T1", "p-1")
    await enrol_well(stage, "p-1")
    await stage.sql("DELETE FROM template WHERE model_id = $1", SFACE_MODEL)
    found = await readiness(stage)
    assert [doubted["code"] for doubted in found["references"]] == ["reference_of_another_model"]


async def test_missing_consents_are_counted_and_not_named(stage: Stage) -> None:
    await stage.register("T1", "p-1", "p-2", "p-3", "p-4")
    await stage.consent("p-1")
    await stage.consent("p-2", ["face", "location"])
    await stage.consent("p-3")
    await stage.person("p-3", "DELETE", "/v1/me/consent")
    assert (await readiness(stage))["consents_missing"] == 3


# --- Fences ---


@pytest.mark.parametrize(
    ("fence", "buffer_m", "expected"),
    [
        (circle(150), 100, []),
        (circle(30), 5, ["fence_narrow"]),
        (circle(30), 20, []),
        (circle(300), 0, ["fence_wide"]),
        (circle(150), 200, ["fence_buffer_wide"]),
        (
            {"type": "MultiPolygon", "coordinates": [square(114.06, 22.54), square(114.07, 22.54)]},
            100,
            ["fence_scattered"],
        ),
        ({"type": "MultiPolygon", "coordinates": [square(114.06, 22.54)]}, 100, []),
    ],
)
async def test_doubts_about_a_fence(stage: Stage, fence: Json, buffer_m: float, expected: list[str]) -> None:
    assert await doubts(stage, fence=fence, buffer_m=buffer_m) == expected


async def test_a_wrong_frame_shows_beside_the_enterprises_other_task(stage: Stage) -> None:
    await stage.register("T0", place=place(frame="gcj02"))
    assert await doubts(stage, frame="wgs84") == ["fence_elsewhere"]


async def test_the_same_place_in_another_frame_is_the_same_place(stage: Stage) -> None:
    await stage.register("T0", place=place(frame="wgs84"))
    assert await doubts(stage, frame="cgcs2000") == []


async def test_a_fence_is_held_against_the_latest_tasks_that_count_of_its_own_enterprise(
    stage: Stage,
) -> None:
    other = {"uscc": "91350100M000100Y43", "name": "别的公司"}
    far = {"place": place(fence=circle(150, lon=114.10))}
    await stage.register("T0", **far, enterprise=other)
    await stage.register("T-void", **far)
    await stage.platform("POST", "/v1/tasks/T-void/void", {"reason": "x"})
    assert await doubts(stage) == []


async def test_versions_in_force_and_to_come_are_looked_at_and_no_past_one(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    await stage.set_clock(NOON + timedelta(minutes=1))
    for days, fence in ((0, circle(30)), (3, circle(150, lon=114.10))):
        body = {"reason": "moved", "place": place(fence=fence, buffer_m=0)}
        if days:
            body["effective_at"] = (NOON + timedelta(days=days)).isoformat()
        assert (await stage.platform("POST", "/v1/tasks/T1/fence", body)).status == 200
    told = [(f["version"], [d["code"] for d in f["doubts"]]) for f in (await readiness(stage))["fences"]]
    assert told == [(2, ["fence_narrow", "fence_elsewhere"]), (3, ["fence_elsewhere"])]


# --- Look-alikes ---


async def pairs(stage: Stage) -> list[tuple[str, ...]]:
    found = (await readiness(stage))["look_alikes"]
    assert found["found"] == len(found["pairs"])
    return [(*sorted(pair["person_ids"]), pair["code"]) for pair in found["pairs"]]


async def test_one_photograph_enrolled_for_two_is_told_from_two_who_look_alike(stage: Stage) -> None:
    await well_prepared(stage, "p-1", "p-2", "p-3", "p-4")
    await stage.enrol("p-2", photo_of("p-2", 3), photo_of("p-1", 1, "altered"))
    await stage.enrol("p-4", photo_of("p-3", 8), photo_of("p-3", 9))
    assert sorted(await pairs(stage)) == [("p-1", "p-2", "same_photograph"), ("p-3", "p-4", "alike")]


async def test_the_nearest_pair_comes_first_and_those_beyond_the_limit_are_counted(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await well_prepared(stage, "p-1", "p-2", "p-3")
    await stage.enrol("p-3", photo_of("p-3+p-3+p-2"))
    await stage.enrol("p-2", photo_of("p-1+p-2+p-2+p-2+p-2"))
    await stage.enrol("p-1", photo_of("p-1", 1), photo_of("p-1+p-2+p-2+p-2+p-2", 9))
    assert (await pairs(stage))[0][:2] == ("p-1", "p-2")
    monkeypatch.setattr(usecase, "MOST_PAIRS", 1)
    found = (await readiness(stage))["look_alikes"]
    assert (len(found["pairs"]), found["found"]) == (1, 3)


async def test_two_photographs_of_one_person_are_no_pair(stage: Stage) -> None:
    await well_prepared(stage, "p-1")
    assert await pairs(stage) == []


async def test_without_consent_to_face_nothing_sealed_is_read_nor_compared(stage: Stage) -> None:
    await well_prepared(stage, "p-1", "p-2", "p-3", "p-4")
    await stage.enrol("p-2", photo_of("p-1", 1))
    await stage.consent("p-2", ["face_transfer", "location"])
    of_one = "WHERE reference_id = (SELECT reference_id FROM person WHERE person_id = $1)"
    await stage.sql(f"DELETE FROM template {of_one}", "p-3")
    await stage.sql(f"UPDATE template SET sealed = 'x' {of_one}", "p-4")
    found = (await readiness(stage))["look_alikes"]
    assert found["pairs"] == []
    assert (found["compared"], found["left_out"]) == (1, {"consent": 1, "template": 1, "seal": 1})


async def test_photographs_are_told_again_only_with_consent_still_there(stage: Stage) -> None:
    await well_prepared(stage, "p-1", "p-2")
    await stage.consent("p-2", ["face_transfer", "location"])
    async with open_database(stage.service_url, 1) as database, database.connection() as connection:
        found = await persons.read_sealed(connection, ("p-1", "p-2"), (SFACE_MODEL,))
    assert {person_id: len(sealed) for person_id, (_, sealed) in found.items()} == {"p-1": len(TWO_SHOTS)}


async def test_where_dlib_decides_nobody_is_looked_for(
    database_url: str, stores: EmbeddedStores, tmp_path: Path
) -> None:
    engine = FixedEngine(("dlib-resnet-v1", "fingerprint-1"))
    assert stores.redis_url is not None
    async with running_service(
        database_url, stores.redis_url, tmp_path, engine, CHECKIN_FACE_ENGINE="dlib"
    ) as stage:
        await stage.ready_task("T1", "p-1", "p-2")
        assert (await readiness(stage))["look_alikes"] is None


async def test_no_score_and_no_coordinate_is_told(stage: Stage) -> None:
    await well_prepared(stage, "p-1", "p-2")
    await stage.enrol("p-2", photo_of("p-1", 1))
    await stage.register("T0", place=place(frame="gcj02"), approved_at=OPENS_AT.isoformat())
    told = str(await readiness(stage))
    assert "fence_elsewhere" in told
    assert "same_photograph" in told
    assert not any(secret in told for secret in ("114.0", "22.5", "score", "张*", SFACE_MODEL))


async def test_texts_are_in_the_language_asked_for(stage: Stage) -> None:
    await stage.register("T1", "p-1")
    told = [
        (await readiness(stage, headers={"Accept-Language": language}))["references"][0]
        for language in ("zh-CN", "zh-HK", "en")
    ]
    assert len({doubted["message"] for doubted in told}) == len({doubted["advice"] for doubted in told}) == 3


async def test_asking_changes_nothing(stage: Stage) -> None:
    await well_prepared(stage, "p-1")
    before = await stage.status("T1")
    await readiness(stage)
    assert await stage.status("T1") == before
