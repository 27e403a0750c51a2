"""A service on a port of its own, in a thread of its own, for clients that block."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from checkin_service.adapters.postgres.key_store import migrate_key_store_at
from checkin_service.adapters.postgres.migrate import migrate_at
from face import Analysis, check_header
from tests.embedded.temporary import temporary_data_dir, temporary_stores
from tests.service.fixed_engine import FixedEngine
from tests.service.stage import Stage, photo_of, running_service

Result = TypeVar("Result")
PATIENCE_S = 60


class ForgivingEngine(FixedEngine):
    """Takes also pictures that nobody made for it: refused by their header as by any engine, or of a stranger."""

    async def analyse(self, photo: bytes) -> Analysis:
        check_header(photo)
        try:
            return await super().analyse(photo)
        except (KeyError, OSError):
            return await super().analyse(photo_of("stranger"))


@dataclass(frozen=True, slots=True)
class LiveService:
    """A running service with real PostgreSQL and Valkey, and the loop in which it runs."""

    stage: Stage
    loop: asyncio.AbstractEventLoop

    @property
    def base_url(self) -> str:
        return str(self.stage.client.make_url("/")).rstrip("/")

    def do(self, step: Coroutine[Any, Any, Result]) -> Result:
        """Takes a step of the stage and waits for it."""
        return _wait_for(self.loop, step)


@contextmanager
def live_service() -> Iterator[LiveService]:
    with (
        temporary_stores(in_memory=True) as stores,
        temporary_data_dir() as data_dir,
        _running_loop() as loop,
    ):
        assert stores.database_url is not None
        assert stores.redis_url is not None
        service = running_service(
            stores.database_url,
            stores.redis_url,
            data_dir,
            ForgivingEngine(),
            CHECKIN_PERSON_CHALLENGES_PER_MINUTE="1000000",
        )
        _wait_for(loop, migrate_at(stores.database_url))
        _wait_for(loop, migrate_key_store_at(stores.database_url))
        stack = AsyncExitStack()
        try:
            yield LiveService(_wait_for(loop, stack.enter_async_context(service)), loop)
        finally:
            _wait_for(loop, stack.aclose())


@contextmanager
def _running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _wait_for(loop: asyncio.AbstractEventLoop, step: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run_coroutine_threadsafe(step, loop).result(PATIENCE_S)
