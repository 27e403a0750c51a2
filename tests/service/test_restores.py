"""What the service does about a restore that nobody told of; tests/faults/test_promise_27_*.py restores in earnest."""

import asyncio
import json

from checkin_service.adapters.postgres.database import open_database
from checkin_service.usecases.after_restore import after_restore, notice_restore
from tests.service.stage import Stage

AS_IF_RESTORED = "UPDATE feed_epoch SET life = 'of the server that was backed up'"


async def epoch(stage: Stage) -> str:
    return str((await stage.platform("GET", "/v1/changes")).body["feed_epoch"])


async def etag(stage: Stage) -> str:
    return str((await stage.platform("GET", "/v1/tasks/T1")).headers["ETag"])


async def test_epoch_and_tags_are_others_before_anybody_notices(stage: Stage) -> None:
    await stage.register("T1", "p-1")
    before = await epoch(stage), await etag(stage)
    await stage.sql(AS_IF_RESTORED)
    after = await epoch(stage), await etag(stage)
    assert before[0] != after[0] == await epoch(stage)
    assert before[1] != after[1] == await etag(stage)
    assert before[1] == '"T1-1-pending_material"'


async def test_a_restore_is_settled_once_by_whoever_notices(stage: Stage) -> None:
    await stage.register("T1", "p-1")
    await stage.sql(AS_IF_RESTORED)
    unsettled = await epoch(stage), await etag(stage)
    async with open_database(stage.database_url, 3) as database:
        noticed = await asyncio.gather(*(notice_restore(database) for _ in range(3)))
        assert sorted(noticed) == [False, False, True]
        assert not await notice_restore(database)
    assert (await epoch(stage), await etag(stage)) != unsettled
    [row] = await stage.sql("SELECT actor, details FROM audit WHERE action = 'restored'")
    assert (row["actor"], json.loads(row["details"])) == ("system", {"feed_epoch": await epoch(stage)})


async def test_the_command_settles_what_the_database_cannot_tell(stage: Stage) -> None:
    await stage.register("T1", "p-1")
    before = await epoch(stage), await etag(stage)
    async with open_database(stage.database_url, 1) as database:
        assert await after_restore(database, "operator") == await epoch(stage)
    after = await epoch(stage), await etag(stage)
    assert before[0] != after[0]
    assert before[1] != after[1]
    page = await stage.platform("GET", "/v1/changes", params={"after": f"{before[0]}.1"})
    assert (page.status, page.code) == (410, "feed_epoch_changed")
