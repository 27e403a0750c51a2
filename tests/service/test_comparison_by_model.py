"""A check-in is scored by one model of which both sides have a template: which, what it completes, and none."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from face import DLIB_RESNET_MODEL, FINGERPRINT, SFACE_MODEL, compare, operating_points
from tests.service.conftest import UNLIMITED
from tests.service.fixed_engine import MODELS, FixedEngine, vectors_of
from tests.service.rows import accepted_rows, store
from tests.service.stage import Reply, Stage, photo_of, running_service
from tests.service.window import NOON, PROVISIONAL_CLOSES_AT, PROVISIONAL_OPENS_AT, task_at_noon

DLIB_ALONE = (DLIB_RESNET_MODEL, FINGERPRINT)


@pytest.fixture
async def older_stage(database_url: str, stores: EmbeddedStores, tmp_path: Path) -> AsyncIterator[Stage]:
    """A service set to dlib alone, on the same stores and keys as those of `upgraded`."""
    async with _service(database_url, stores, tmp_path, DLIB_ALONE, CHECKIN_FACE_ENGINE="dlib") as stage:
        yield stage


@asynccontextmanager
async def _service(
    database_url: str, stores: EmbeddedStores, data_dir: Path, models: Sequence[str], **settings: str
) -> AsyncIterator[Stage]:
    engine = FixedEngine(models)
    async with running_service(
        database_url, stores.redis_url or "", data_dir, engine, **UNLIMITED, **settings
    ) as stage:
        yield stage


@asynccontextmanager
async def upgraded(older: Stage, models: Sequence[str] = MODELS) -> AsyncIterator[Stage]:
    """A service that decides by SFace, started on what the older one has stored."""
    redis_url, engine = "redis://127.0.0.1:1/0", FixedEngine(models)
    async with running_service(older.database_url, redis_url, older.settings.data_dir, engine) as stage:
        yield stage


async def attempt_of(stage: Stage, reply: Reply) -> Any:
    query = "SELECT * FROM attempt WHERE check_in_id = $1"
    return (await stage.sql(query, UUID(reply.body["check_in_id"])))[0]


async def templates(stage: Stage) -> list[tuple[int, str, Any]]:
    rows = await stage.sql("SELECT photo, model_id, completed_by FROM template ORDER BY photo, model_id")
    return [tuple(row) for row in rows]


async def relabel(stage: Stage, old: str, new: str) -> None:
    """As if templates of another model were stored; nothing opens them."""
    await stage.sql("UPDATE template SET model_id = replace(model_id, $1, $2)", old, new)


# --- Which model ---


async def test_a_check_in_is_scored_by_the_deciding_model(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    accepted = await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 3))
    attempt, point = await attempt_of(stage, accepted), operating_points(SFACE_MODEL)["lfw_ea_1e3"]
    assert (attempt["model_id"], attempt["operating_point"]) == (SFACE_MODEL, point.name)
    assert attempt["threshold"] == point.threshold
    assert attempt["score"] == pytest.approx(
        compare(vectors_of("p-1"), vectors_of("p-1", 3), SFACE_MODEL).value
    )


async def test_dlib_alone_decides_by_its_own_threshold(older_stage: Stage) -> None:
    await task_at_noon(older_stage, "T1")
    accepted = await older_stage.check_in("p-1", "T1", selfie=photo_of("p-1", 3))
    attempt = await attempt_of(older_stage, accepted)
    point = operating_points(DLIB_RESNET_MODEL)["lfw_ea_1e3"]
    assert accepted.body["outcome"] == "accepted"
    assert (attempt["model_id"], attempt["threshold"]) == (DLIB_RESNET_MODEL, point.threshold)
    assert attempt["score"] == pytest.approx(
        compare(vectors_of("p-1"), vectors_of("p-1", 3), DLIB_RESNET_MODEL).value
    )


async def test_another_operating_point_is_a_setting(stage: Stage) -> None:
    redis_url, data_dir = "redis://127.0.0.1:1/0", stage.settings.data_dir
    easy = {"CHECKIN_OPERATING_POINT": "lfw_ea_1e2"}
    async with running_service(stage.database_url, redis_url, data_dir, None, **easy) as other:
        await task_at_noon(other, "T1")
        attempt = await attempt_of(other, await other.check_in("p-1", "T1"))
    assert (attempt["operating_point"], attempt["threshold"]) == (
        "lfw_ea_1e2",
        operating_points(SFACE_MODEL)["lfw_ea_1e2"].threshold,
    )


async def test_a_reference_without_the_deciding_model_is_compared_by_the_next(older_stage: Stage) -> None:
    await task_at_noon(older_stage, "T1", "p-1", "p-2")
    async with upgraded(older_stage) as stage:
        refused = await stage.check_in("p-1", "T1", selfie=photo_of("p-2", 3))
        assert refused.reasons == ["non_match"]
        assert (await attempt_of(stage, refused))["model_id"] == DLIB_RESNET_MODEL
        accepted = await stage.check_in("p-1", "T1")
        assert accepted.body["outcome"] == "accepted"
        attempt = await attempt_of(stage, accepted)
        point = operating_points(DLIB_RESNET_MODEL)["lfw_ea_1e3"]
        assert (attempt["model_id"], attempt["threshold"]) == (DLIB_RESNET_MODEL, point.threshold)


async def test_the_best_of_several_photographs_counts(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.enrol("p-1", photo_of("p-1+p-9", 1), photo_of("p-1", 2), photo_of("p-1+p-8", 3))
    accepted = await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 4))
    best = compare(vectors_of("p-1", 2), vectors_of("p-1", 4), SFACE_MODEL).value
    assert (await attempt_of(stage, accepted))["score"] == pytest.approx(best)


async def test_a_face_described_by_no_model_that_the_reference_has_is_our_failure(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    stage.engine.models = ("another-model",)
    assert (await stage.check_in("p-1", "T1")).status == 500
    assert await stage.sql("SELECT FROM attempt") == []


# --- Completion ---


async def test_an_accepted_check_in_completes_what_the_reference_lacks(older_stage: Stage) -> None:
    await task_at_noon(older_stage, "T1", "p-1")
    await older_stage.enrol("p-1", photo_of("p-1"), photo_of("p-1", 1))
    await older_stage.register("T2", approved_at=NOON.isoformat())
    enrolled = [(photo, model_id, None) for photo in (0, 1) for model_id in sorted(DLIB_ALONE)]
    assert await templates(older_stage) == enrolled
    async with upgraded(older_stage) as stage:
        accepted = await stage.check_in("p-1", "T1", selfie=photo_of("p-1", 5))
        completed = [row for row in await templates(stage) if row[2] is not None]
        assert [(row[0], row[1], str(row[2])) for row in completed] == [
            (0, SFACE_MODEL, accepted.body["check_in_id"])
        ]
        assert [row for row in await templates(stage) if row[2] is None] == enrolled
        attempt = await attempt_of(stage, await stage.check_in("p-1", "T2", selfie=photo_of("p-1", 6)))
        assert attempt["model_id"] == SFACE_MODEL
        selfies = vectors_of("p-1", 5), vectors_of("p-1", 6)
        assert attempt["score"] == pytest.approx(compare(*selfies, SFACE_MODEL).value)
        assert len(await templates(stage)) == len(enrolled) + 1


async def test_a_selfies_fingerprint_never_stands_for_a_references(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.sql("DELETE FROM template WHERE model_id = $1", FINGERPRINT)
    assert (await stage.check_in("p-1", "T1")).body["outcome"] == "accepted"
    assert [row[1] for row in await templates(stage)] == [DLIB_RESNET_MODEL, SFACE_MODEL]


async def test_a_refused_check_in_completes_nothing(older_stage: Stage) -> None:
    await task_at_noon(older_stage, "T1", "p-1")
    before = await templates(older_stage)
    async with upgraded(older_stage) as stage:
        assert (await stage.check_in("p-1", "T1", selfie=photo_of("p-2"))).reasons == ["non_match"]
        assert await templates(stage) == before


async def test_a_held_check_in_completes_nothing(older_stage: Stage) -> None:
    await older_stage.set_clock(PROVISIONAL_OPENS_AT)
    await older_stage.ready_task("T1", approved_at=PROVISIONAL_OPENS_AT.isoformat())
    await older_stage.set_clock(PROVISIONAL_CLOSES_AT)
    before = await templates(older_stage)
    async with upgraded(older_stage) as stage:
        assert (await stage.check_in("p-1", "T1")).body["outcome"] == "review"
        assert await templates(stage) == before


async def test_only_an_accepted_check_in_can_complete_a_reference(stage: Stage) -> None:
    """Whatever a bug in Python does."""
    await task_at_noon(stage, "T1")
    rows = accepted_rows("T1")
    complete = "UPDATE template SET completed_by = $1"
    for table in ("receipt", "attempt"):
        await store(stage, {table: rows[table]})
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await stage.sql(complete, rows["receipt"]["check_in_id"])
    await store(stage, {"acceptance": rows["acceptance"]})
    await stage.sql(complete, rows["receipt"]["check_in_id"])


async def test_a_new_enrolment_replaces_what_was_completed(older_stage: Stage) -> None:
    await task_at_noon(older_stage, "T1", "p-1")
    async with upgraded(older_stage) as stage:
        await stage.check_in("p-1", "T1")
        await stage.enrol("p-1")
        assert await templates(stage) == [(0, model_id, None) for model_id in sorted(MODELS)]


async def test_an_erasure_deletes_what_was_completed(older_stage: Stage) -> None:
    await task_at_noon(older_stage, "T1", "p-1")
    async with upgraded(older_stage) as stage:
        await stage.check_in("p-1", "T1")
        assert (await stage.platform("DELETE", "/v1/persons/p-1")).status == 204
        assert await templates(stage) == []


# --- A reference that nothing here can compare with ---


async def test_templates_of_an_unknown_model_alone_are_no_reference(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await stage.sql("UPDATE template SET model_id = 'unknown-' || model_id")
    stage.engine.analysed.clear()
    refused = await stage.check_in("p-1", "T1")
    assert (refused.body["outcome"], refused.reasons) == ("rejected", ["not_enrolled"])
    assert refused.body["attempts_left"] == 10
    assert stage.engine.analysed == []


async def test_a_template_of_an_unknown_model_beside_known_ones_does_no_harm(stage: Stage) -> None:
    await task_at_noon(stage, "T1")
    await relabel(stage, DLIB_RESNET_MODEL, "unknown")
    assert (await stage.check_in("p-1", "T1")).body["outcome"] == "accepted"


async def shown(stage: Stage) -> tuple[str, str, str]:
    """State and reference in the status, and the feed's last word."""
    status = await stage.status("T1")
    changes = await stage.changes()
    assert status["rev"] == changes[-1]["rev"]
    return status["state"], status["members"][0]["reference"], changes[-1]["type"]


async def test_the_platform_is_told_at_a_start_that_a_reference_is_of_no_use_and_when_it_is_again(
    stage: Stage,
) -> None:
    await task_at_noon(stage, "T1")
    assert await shown(stage) == ("open", "ready", "material_ready")
    await stage.sql("UPDATE template SET model_id = 'unknown-' || model_id")
    async with upgraded(stage) as restarted:
        assert await shown(restarted) == ("pending_material", "missing", "material_missing")
        assert (await restarted.platform("GET", "/v1/persons/p-1/reference")).status == 404
        assert (await restarted.check_in("p-1", "T1")).reasons == ["not_enrolled"]
    changes = await stage.changes()
    async with upgraded(stage) as restarted:
        assert await restarted.changes() == changes
    [row] = await stage.sql("SELECT actor, details FROM audit WHERE action = 'settle_references'")
    assert (row["actor"], json.loads(row["details"])["persons"]) == ("system", 1)
    await relabel(stage, "unknown-", "")
    async with upgraded(stage) as restarted:
        assert await shown(restarted) == ("open", "ready", "material_ready")
        assert (await restarted.check_in("p-1", "T1")).body["outcome"] == "accepted"


async def test_a_useless_reference_is_replaced_by_an_enrolment_and_deleted_with_consent(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.sql("UPDATE template SET model_id = 'unknown-' || model_id")
    async with upgraded(stage) as restarted:
        await restarted.enrol("p-1")
        await restarted.person("p-2", "DELETE", "/v1/me/consent")
        assert [row[1] for row in await templates(restarted)] == sorted(MODELS)
        [reference] = await restarted.sql("SELECT reference_id, person_id FROM reference")
        assert reference["person_id"] == "p-1"
