"""Whether the database answers at all, asked all the time on a connection that is for nothing else.

A statement may take long for good reasons: it waits for a lock, or reads much. A server that answers nobody any more,
because it is frozen or the network swallows everything, looks the same to who waits for it; this tells them apart.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg

PULSE_S = 0.2
# Patience is counted in turns of our own event loop: where that stood still, the answer may lie there unread.
_TURNS, _TURN_S = 12, 0.05


class Pulse:
    """Asks until it is cancelled, and tells `changed` whether there was an answer, whenever that changes and after each
    failure."""

    def __init__(
        self, connect: Callable[[], Awaitable[asyncpg.Connection]], changed: Callable[[bool], Awaitable[None]]
    ) -> None:
        self._connect = connect
        self._changed = changed
        self._connection: asyncpg.Connection | None = None

    async def beat(self) -> None:
        answered = True
        try:
            while True:
                before, answered = answered, await self._answered()
                if not answered or not before:
                    await self._changed(answered)
                await asyncio.sleep(PULSE_S)
        finally:
            self._drop()

    async def _answered(self) -> bool:
        asking = asyncio.create_task(self._ask())
        try:
            for _ in range(_TURNS):
                await asyncio.wait({asking}, timeout=_TURN_S)
                if asking.done():
                    return True
        finally:
            if not asking.done():
                # first, or asyncpg would ask the server to cancel what it does not do
                self._drop()
                asking.cancel()
                with suppress(asyncio.CancelledError):
                    await asking
        return False

    async def _ask(self) -> None:
        """Returns once there was an answer; a lost connection is made again meanwhile."""
        while True:
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                await self._connection.fetchval("SELECT 1")
            except asyncpg.TooManyConnectionsError:
                return  # an answer, too
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                self._drop()
                await asyncio.sleep(_TURN_S)
            else:
                return

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
