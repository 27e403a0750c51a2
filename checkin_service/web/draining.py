"""How a process leaves while others go on: what it has begun it finishes, and whoever comes is sent elsewhere.

`web.server.drain` leads through it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


class Drain:
    """Whether this process is leaving, and who still sends it a body."""

    def __init__(self) -> None:
        self.begun = False
        self._hurrying = False
        self._receiving: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[asyncio.Timeout]:
        """For as long as a body is received. Raises `TimeoutError` with the timeout expired when there is no more time
        for it."""
        async with asyncio.timeout(0 if self._hurrying else None) as timeout:
            self._receiving.add(timeout)
            try:
                yield timeout
            finally:
                self._receiving.discard(timeout)

    def hurry(self) -> None:
        self._hurrying = True
        for timeout in self._receiving:
            timeout.reschedule(asyncio.get_running_loop().time())


DRAIN = web.AppKey("drain", Drain)
