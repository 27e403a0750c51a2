"""The faults that other tests rest on do happen, and nothing more."""

import asyncio

import asyncpg
import pytest
import redis.asyncio as redis

from tests.faults.nemesis import OwnStores, wire_to_database, wire_to_redis

COUNT = "SELECT count(*) FROM kept"


async def test_a_killed_postgres_is_gone_at_once_and_back_at_its_address_with_what_was_committed(
    own_stores: OwnStores,
) -> None:
    url = await own_stores.databases.make()
    before = await asyncpg.connect(url)
    await before.execute("CREATE TABLE kept AS SELECT 1")
    own_stores.postgres.kill()
    with pytest.raises((asyncpg.PostgresConnectionError, ConnectionError, asyncpg.InterfaceError)):
        await before.execute(COUNT)
    with pytest.raises(ConnectionError):
        await asyncpg.connect(url)
    await own_stores.postgres.restart()
    after = await asyncpg.connect(url)
    assert await after.fetchval(COUNT) == 1
    await after.close()


async def test_a_frozen_postgres_keeps_its_connections_and_answers_when_it_thaws(
    own_stores: OwnStores,
) -> None:
    connection = await asyncpg.connect(own_stores.postgres.url)
    with own_stores.postgres.frozen():
        asked = asyncio.create_task(connection.fetchval("SELECT 1"))
        assert not (await asyncio.wait([asked], timeout=0.2))[0]
    assert await asked == 1
    await connection.close()


async def test_valkey_flushed_and_restarted_forgets_at_the_same_address(own_stores: OwnStores) -> None:
    url = own_stores.redis_url
    async with redis.from_url(url) as client:
        for forget in (asyncio.to_thread(own_stores.flush), own_stores.valkey.restart()):
            await client.set("known", 1)
            await forget
            assert await client.get("known") is None
    assert own_stores.redis_url == url


async def test_a_wire_cuts_one_answer_after_so_many_bytes_when_the_work_is_done(
    own_stores: OwnStores,
) -> None:
    async with wire_to_database(await own_stores.databases.make()) as wire:
        cut = await asyncpg.connect(wire.url)
        await cut.execute("CREATE TABLE kept AS SELECT 1 WHERE false")
        wire.cut(after=3, mark=b"INSERT")
        assert await cut.fetchval(COUNT) == 0
        with pytest.raises(asyncpg.PostgresConnectionError):
            await cut.execute("INSERT INTO kept VALUES (1)")
        again = await asyncpg.connect(wire.url)
        assert await again.fetchval(COUNT) == 1
        await again.close()
    assert wire.cuts == 1


async def test_a_held_wire_passes_nothing_until_it_is_released(own_stores: OwnStores) -> None:
    async with wire_to_redis(own_stores.redis_url) as wire, redis.from_url(wire.url) as client:
        await client.ping()
        wire.hold()
        asked = asyncio.ensure_future(client.ping())
        assert not (await asyncio.wait([asked], timeout=0.2))[0]
        wire.release()
        assert await asked
