"""The object store gone or frozen: 503 before the verdict and never after, and readiness says so."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from checkin_service.adapters import object_store
from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.object_store import EvidenceStore
from tests.service.conftest import UNLIMITED
from tests.service.stage import FAR, Json, Reply, Stage, check_in_fields, photo_of, running_service
from tests.service.test_object_store import Bucket, bucket_server

DEADLINE_S = 0.5


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store is given up sooner, and tried whenever somebody asks."""
    monkeypatch.setattr(object_store, "DEADLINE_S", DEADLINE_S)
    monkeypatch.setattr(object_store, "TRIAL_INTERVAL_S", 0)


@pytest.fixture
async def bucket(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bucket]:
    async with bucket_server(monkeypatch) as serving:
        yield serving


@pytest.fixture
async def in_bucket(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, bucket: Bucket
) -> AsyncIterator[Stage]:
    """A service whose evidence lies in a bucket."""
    settings = {**UNLIMITED, "CHECKIN_EVIDENCE_URL": "s3://evidence"}
    async with running_service(database_url, stores.redis_url or "", tmp_path, None, **settings) as stage:
        yield stage


@contextmanager
def away(folder: Path) -> Iterator[None]:
    """The directory's disk is not mounted."""
    elsewhere = folder.with_name("elsewhere")
    folder.rename(elsewhere)
    folder.write_bytes(b"")
    try:
        yield
    finally:
        folder.unlink()
        elsewhere.rename(folder)


async def readiness(stage: Stage) -> tuple[int, bool]:
    """The status, and whether the store is told to be well."""
    async with stage.client.get("/readyz") as answer, stage.client.get("/livez") as liveness:
        assert liveness.status == 200
        return answer.status, (await answer.json())["checks"]["object_store"] == "ok"


async def stored(stage: Stage) -> list[int]:
    """Attempts, acceptances and evidence."""
    [row] = await stage.sql(
        "SELECT (SELECT count(*) FROM attempt), (SELECT count(*) FROM acceptance), (SELECT count(*) FROM evidence)"
    )
    return list(row)


async def submission(stage: Stage) -> Json:
    await stage.ready_task("T1", "p-1", "p-2")
    return check_in_fields("T1", await stage.challenge("p-1", "T1"))


async def submitted(stage: Stage, fields: Json) -> Reply:
    return await stage.submit("p-1", fields, photo_of("p-1", shot=3), "k")


async def assert_nothing_is_judged(stage: Stage, fields: Json) -> None:
    refused = await submitted(stage, fields)
    assert (refused.status, refused.code) == (503, "unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    assert await stored(stage) == [0, 0, 0]
    assert await readiness(stage) == (503, False)
    # what needs no evidence goes on
    assert (await stage.check_in("p-2", "T1", at=FAR)).reasons == ["outside_geofence"]
    assert (await stage.status("T1"))["state"] == "open"


async def assert_goes_on(stage: Stage, fields: Json) -> None:
    """The same key is judged as of its first arrival."""
    [receipt] = await stage.sql("SELECT received_at FROM receipt WHERE person_id = 'p-1'")
    accepted = await submitted(stage, fields)
    assert (accepted.status, accepted.body["outcome"]) == (201, "accepted")
    assert datetime.fromisoformat(accepted.body["received_at"]) == receipt["received_at"]
    assert await stored(stage) == [2, 1, 1]
    assert await readiness(stage) == (200, True)


async def test_the_directory_gone(stage: Stage) -> None:
    fields = await submission(stage)
    with away(stage.settings.data_dir / "evidence"):
        await assert_nothing_is_judged(stage, fields)
    assert list((stage.settings.data_dir / "evidence").iterdir()) == []
    await assert_goes_on(stage, fields)


async def test_the_bucket_frozen(in_bucket: Stage, bucket: Bucket) -> None:
    fields = await submission(in_bucket)
    bucket.frozen.clear()
    await assert_nothing_is_judged(in_bucket, fields)
    bucket.frozen.set()
    await assert_goes_on(in_bucket, fields)


async def test_control_with_a_failure_that_is_not_waited_for_a_verdict_has_no_evidence(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def put_some_time(*_: Any) -> None: ...

    fields = await submission(stage)
    monkeypatch.setattr(EvidenceStore, "put", put_some_time)
    with away(stage.settings.data_dir / "evidence"):
        assert (await submitted(stage, fields)).status == 201
    assert await stored(stage) == [1, 1, 1]
    assert list((stage.settings.data_dir / "evidence").iterdir()) == []
