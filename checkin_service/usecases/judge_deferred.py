"""Judges what was taken near its deadline, in every process: one submission at a time, the longest waiting first.

Whoever dies with one loses its lease, and another goes on. A failure of ours leaves it waiting; it is never a refusal.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from checkin_service.adapters.postgres import deferred
from checkin_service.adapters.postgres.deferred import Deferred
from checkin_service.ports import FaceEngine
from checkin_service.usecases.deferral import open_submission
from checkin_service.usecases.refusals import Refusal
from checkin_service.usecases.submit_check_in import Judge, judge_received, look
from face import Analysis, ImageError, PoolStats

# After a failure of ours, for what failed to come back, and lest one submission keep all others waiting.
PAUSE = timedelta(seconds=5)
# How one ends whose person would have been refused without a verdict; who was erased has left nothing to end.
_ENDED = {"consent_required": "withdrawn", "challenge_invalid": None}
_NOTHING_SEEN = Analysis(width=0, height=0, turned_deg=0, boxes=(), quality=None, templates={})


@dataclass(frozen=True, slots=True)
class _WhateverItShows:
    """A face engine that sees no face in a picture that it can't read: whoever sent it was told of a verdict to come,
    and is told what to do."""

    faces: FaceEngine

    @property
    def model_id(self) -> str:
        return self.faces.model_id

    @property
    def stats(self) -> PoolStats:
        return self.faces.stats

    async def analyse(self, photo: bytes) -> Analysis:
        try:
            return await self.faces.analyse(photo)
        except ImageError:
            return _NOTHING_SEEN


async def judge_next(judge: Judge) -> tuple[bool, dict[str, Any] | None]:
    """Whether there was one, and the answer that was stored; None when it ended without. Raises whatever failed."""
    async with judge.database.connection() as connection:
        leased = await deferred.lease_next(connection)
    if leased is None:
        return False, None
    try:
        return True, await _judge(judge, leased)
    except Refusal as refusal:
        if refusal.code not in _ENDED:
            await _let_wait(judge, leased, PAUSE)
            raise
        await _end(judge, leased, _ENDED[refusal.code])
    except Exception:
        await _let_wait(judge, leased, PAUSE)
        raise
    except BaseException:
        # this process is stopping: the others need not wait for the lease
        await _let_wait(judge, leased, timedelta(0))
        raise
    return True, None


async def _judge(judge: Judge, leased: Deferred) -> dict[str, Any]:
    check_in_id = leased.receipt.check_in_id
    loaded = await look(judge.database, check_in_id)
    if loaded.answer is not None:
        return loaded.answer
    data_key = await judge.keys.find(loaded.key_id)
    if data_key is None:
        # taken back between the lease and here
        raise Refusal("consent_required")
    check_in = open_submission(data_key, leased.submission, check_in_id, leased.sealed)
    lenient = replace(judge, faces=_WhateverItShows(judge.faces))
    return await judge_received(lenient, check_in, leased.receipt, loaded)


async def _end(judge: Judge, leased: Deferred, ended: str | None) -> None:
    if ended:
        async with judge.database.connection() as connection:
            await deferred.end_deferred(connection, leased.receipt.check_in_id, ended)


async def _let_wait(judge: Judge, leased: Deferred, pause: timedelta) -> None:
    async with judge.database.connection() as connection:
        await deferred.let_wait(connection, leased.receipt.check_in_id, pause)
