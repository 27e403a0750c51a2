"""`enrol` with an engine of fixed answers, made to be killed:

python -m tests.service.enrolling PLACE NUMBER ARGUMENTS…

From the NUMBER-th person on that comes to the PLACE, `analysis`, `transaction` or `commit` (just after it), everybody
stays there for ever; the first one writes a line.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import pytest

from checkin_service import __main__ as command_line
from checkin_service.adapters.postgres import persons
from checkin_service.bulk import enrol
from checkin_service.usecases.enrol_listed import enrol_listed
from face import Analysis
from tests.service.fixed_engine import FixedEngine

Hang = Callable[[], Awaitable[None]]


def hanging_from(number: int) -> Hang:
    numbers = count(1)

    async def hang() -> None:
        if (mine := next(numbers)) == number:
            print("hanging", flush=True)
        if mine >= number:
            await asyncio.Event().wait()

    return hang


class HangingEngine(FixedEngine):
    def __init__(self, hang: Hang) -> None:
        super().__init__()
        self._hang = hang

    async def analyse(self, photo: bytes) -> Analysis:
        await self._hang()
        return await super().analyse(photo)


def main(place: str, number: str, *arguments: str) -> int:
    hang = hanging_from(int(number))
    engine = HangingEngine(hang) if place == "analysis" else FixedEngine()
    patch = pytest.MonkeyPatch()  # for good: this process does nothing else
    patch.setattr(command_line, "configured_faces", lambda _: engine.running())
    record = persons.record_processing

    async def record_and_hang(*args: Any) -> None:
        await record(*args)
        await hang()

    async def enrol_and_hang(*args: Any) -> Any:
        standing = await enrol_listed(*args)
        await hang()
        return standing

    if place == "transaction":
        patch.setattr(persons, "record_processing", record_and_hang)
    if place == "commit":
        patch.setattr(enrol, "enrol_listed", enrol_and_hang)
    return command_line.main(["enrol", *arguments])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
