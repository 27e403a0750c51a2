"""`python -m checkin_service coverage`: how many references have which model, and whom the deciding one misses."""

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta

import pytest

from checkin_service.adapters.postgres.database import open_database
from checkin_service.usecases import coverage as coverages
from checkin_service.usecases.coverage import Coverage
from face import DLIB_RESNET_MODEL, FINGERPRINT, SFACE_MODEL
from tests.service.fixed_engine import MODELS
from tests.service.stage import Stage, photo_of


async def coverage(stage: Stage, **settings: str) -> list[str]:
    """The lines that the command prints."""
    environment = {**os.environ, "DATABASE_URL": stage.service_url, **settings}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "checkin_service", "coverage"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().splitlines()


async def enrol_by(stage: Stage, models: tuple[str, ...], *person_ids: str) -> None:
    stage.engine.models = models
    for person_id in person_ids:
        assert (await stage.enrol(person_id)).status == 201


async def test_nobody(stage: Stage) -> None:
    assert await coverage(stage) == [
        "dlib-resnet-v1: 0 references have it, 0 lack it",
        "fingerprint-1: 0 references have it, 0 lack it",
        "sface-2021dec: 0 references have it, 0 lack it",
        "persons on live tasks: 0, without sface-2021dec: 0",
    ]


async def test_references_by_model_and_persons_on_live_tasks(stage: Stage) -> None:
    now = datetime.now(UTC)
    await enrol_by(stage, MODELS, "p-1", "p-elsewhere")
    await enrol_by(stage, (DLIB_RESNET_MODEL, FINGERPRINT), "p-2", "p-late")
    await enrol_by(stage, (DLIB_RESNET_MODEL,), "p-3")
    await enrol_by(stage, ("older-model", SFACE_MODEL), "p-4")
    await stage.register("T1", "p-1", "p-2", "p-4", "p-never")
    await stage.register("T2", "p-1", "p-2", "p-3")
    await stage.register("T-over", "p-late", approved_at=(now - timedelta(days=90)).isoformat())
    await stage.register("T-void", "p-void")
    await stage.platform("POST", "/v1/tasks/T-void/void", {"reason": "x"})
    counts = [
        "dlib-resnet-v1: 5 references have it, 1 lack it",
        "fingerprint-1: 4 references have it, 2 lack it",
        "older-model: 1 references have it, 5 lack it",
        "sface-2021dec: 3 references have it, 3 lack it",
    ]
    # of p-1, p-2, p-3, p-4 and p-never
    assert await coverage(stage) == [*counts, "persons on live tasks: 5, without sface-2021dec: 3"]
    alone = await coverage(stage, CHECKIN_FACE_ENGINE="dlib")
    assert alone == [*counts, "persons on live tasks: 5, without dlib-resnet-v1: 2"]


async def test_a_reference_of_several_photographs_counts_once(stage: Stage) -> None:
    await stage.enrol("p-1", *(photo_of("p-1", shot) for shot in range(3)))
    assert "sface-2021dec: 1 references have it, 0 lack it" in await coverage(stage)


async def test_however_many_there_are_a_page_at_a_time_is_looked_at(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await enrol_by(stage, MODELS, "p-1", "p-2", "p-3", "p-elsewhere")
    await enrol_by(stage, (DLIB_RESNET_MODEL,), "p-4", "p-5")
    await stage.register("T1", *(f"p-{number}" for number in range(1, 7)))
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(coverages, "PAGE", 2)
    async with open_database(stage.service_url, 1) as database:
        found = await coverages.measure_coverage(
            database, SFACE_MODEL, lambda done, total: told.append((done, total))
        )
    assert told == [(done, 13) for done in (2, 4, 6, 8, 10, 12, 13)]
    having = {SFACE_MODEL: 4, DLIB_RESNET_MODEL: 6, FINGERPRINT: 4}
    assert found == Coverage(references=6, having=having, persons=6, lacking=3)
