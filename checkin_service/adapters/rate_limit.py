"""How often one person may ask, counted in Redis.

A convenience, not evidence: it protects the face workers from one phone in a loop. Without Redis it is open, because
a lost counter must never keep an honest person out; the failures are counted.
"""

import asyncio
import time

import redis.asyncio as redis
from redis.exceptions import RedisError

from checkin_service.metrics import Metrics
from checkin_service.ports import Clock

WINDOW_S = 60
# A Redis that hangs costs a request this much, and for the pause below nobody asks it at all.
TIMEOUT_S = 0.2
PAUSE_S = 5.0


class RateLimit:
    def __init__(self, client: redis.Redis, limit: int, metrics: Metrics, clock: Clock) -> None:
        self._client = client
        self._limit = limit
        self._metrics = metrics
        self._clock = clock
        self._paused_until = 0.0

    async def retry_after_s(self, key: str) -> int | None:
        """None when the call may go on, else the seconds until the window is over."""
        if time.monotonic() < self._paused_until:
            return None
        now = self._clock()
        window = int(now // WINDOW_S)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                count = await self._count(f"rate:{key}:{window}")
        except (RedisError, OSError, TimeoutError):
            self._paused_until = time.monotonic() + PAUSE_S
            self._metrics.redis_failures.inc()
            return None
        return None if count <= self._limit else int((window + 1) * WINDOW_S - now) + 1

    async def alive(self) -> bool:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return bool(await self._client.ping())
        except (RedisError, OSError, TimeoutError):
            return False

    async def _count(self, key: str) -> int:
        count = int(await self._client.incr(key))
        if count == 1:
            # a key that misses this, because we died in between, is named after its window and never used again
            await self._client.expire(key, 2 * WINDOW_S)
        return count
