"""The key store out of reach: 503 before a verdict, nothing deleted by halves, and everything again once it is back."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres.key_store import migrate_key_store_at
from tests.faults.nemesis import wire_to_database
from tests.faults.test_promise_19_deleted_is_deleted import Site, new_database
from tests.service.databases import Databases
from tests.service.stage import Stage, check_in_fields, photo_of


@pytest.fixture
async def apart(stores: EmbeddedStores, databases: Databases, tmp_path: Path) -> Site:
    url, key_store_url = await databases.make(), await new_database(stores)
    await migrate_key_store_at(key_store_url)
    return Site(stores, url, key_store_url, tmp_path)


async def readiness(stage: Stage) -> tuple[int, bool]:
    async with stage.client.get("/readyz") as answer:
        return answer.status, (await answer.json())["checks"]["key_store"] == "ok"


async def test_without_the_key_store_there_is_no_verdict_and_no_half_deletion(apart: Site) -> None:
    async with (
        wire_to_database(apart.key_store_url) as wire,
        replace(apart, key_store_url=wire.url).served() as stage,
    ):
        await stage.ready_task("T1", "p-1")
        await stage.ready_task("T2", "p-2")
        fields, selfie = check_in_fields("T1", await stage.challenge("p-1", "T1")), photo_of("p-1", 1)
        wire.hold()
        wire.drop()
        refused = await asyncio.gather(
            stage.submit("p-1", fields, selfie, "k"),
            stage.platform("DELETE", "/v1/persons/p-2"),
            stage.person("p-2", "DELETE", "/v1/me/consent"),
            stage.enrol("p-1"),
        )
        assert [reply.status for reply in refused] == [503] * len(refused)
        assert await readiness(stage) == (503, False)
        async with stage.client.get("/livez") as answer:
            assert answer.status == 200
        assert (await stage.sql("SELECT count(*) FROM attempt"))[0][0] == 0
        wire.release()
        async with asyncio.timeout(30):
            while await readiness(stage) != (200, True):  # noqa: ASYNC110  the service finds out by itself
                await asyncio.sleep(0.05)
        assert (await stage.submit("p-1", fields, selfie, "k")).body["outcome"] == "accepted"
        assert (await stage.check_in("p-2", "T2")).body["outcome"] == "accepted"
        assert (await stage.platform("DELETE", "/v1/persons/p-2")).status == 204
