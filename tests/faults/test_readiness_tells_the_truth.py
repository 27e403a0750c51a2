"""Readiness names whatever is away, red where check-ins can't be judged; liveness stays green, and all answer soon.

The database and its clock, and the object store: test_database_gone.py, promise 6, test_object_store_gone.py.
"""

import asyncio
from dataclasses import replace

import pytest

from checkin_service.adapters.rate_limit import RateLimit
from checkin_service.web import operations
from tests.service.stage import Json, Stage

NEEDED = {"database", "key_store", "face_workers", "object_store", "process"}


async def readiness(stage: Stage) -> tuple[int, Json]:
    """The status, and what is not well."""
    async with stage.client.get("/readyz") as answer, stage.client.get("/livez") as liveness:
        assert liveness.status == 200
        checks = (await answer.json())["checks"]
        assert checks.keys() == NEEDED | {"redis"}
        return answer.status, {name: told for name, told in checks.items() if told != "ok"}


async def test_all_is_well(stage: Stage) -> None:
    assert await readiness(stage) == (200, {})


async def test_without_a_face_worker(stage: Stage) -> None:
    stage.engine.stats = replace(stage.engine.stats, ready=0, start_fault="the worker ended (SIGSEGV)")
    assert await readiness(stage) == (503, {"face_workers": "the worker ended (SIGSEGV)"})


@pytest.mark.parametrize("name", ["_database", "_key_store", "_object_store"])
async def test_whatever_is_needed_is_red_by_itself(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(operations, name, lambda _: asyncio.sleep(0, "away: OSError"))
    assert await readiness(stage) == (503, {name.removeprefix("_"): "away: OSError"})


async def test_redis_is_told_and_not_needed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RateLimit, "alive", lambda _: asyncio.sleep(0, False))
    status, away = await readiness(stage)
    assert (status, set(away)) == (200, {"redis"})
