"""Enrols everybody on a list, a few at a time: all face workers have work, and memory does not grow with the list.

Each person is a transaction of their own, and whoever is in already is passed over without a look at their photographs.
So a run may be cut off anywhere, run again, and have another one beside it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from checkin_service.adapters.postgres.database import Database
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.bulk.enrolment_list import Listed
from checkin_service.bulk.photo_folder import PhotoFolder
from checkin_service.domain.decision import Policy
from checkin_service.ports import FaceEngine
from checkin_service.usecases.caller import Caller
from checkin_service.usecases.enrol_listed import Standing, enrol_listed
from checkin_service.usecases.enrol_person import Enrolment
from checkin_service.usecases.refusals import Refusal
from checkin_service.web.problems import OUR_FAILURES

PAUSES_S = (1, 2, 4, 8, 16, 32)
"""Before each further try of what failed through no fault of the list; together longer than a database restarts, and
than services take to carry out a deletion that a crash has cut off."""


class Rest(StrEnum):
    """What becomes of a line beside `Standing`: refused, failed as often as it was tried, or not looked at."""

    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    LEFT = "left"


Report = Callable[[Listed, Refusal], None]


@dataclass(frozen=True, slots=True)
class Enroller:
    """What `enrol_listed` needs, and how many persons there may be on their way at once."""

    database: Database
    keys: TemplateKeys
    faces: FaceEngine
    policy: Policy
    caller: Caller
    folder: PhotoFolder
    at_once: int


def enough_at_once(face_workers: int) -> int:
    """For every worker one who is analysed and one who waits, and two who are read or written meanwhile."""
    return 2 * face_workers + 2


async def enrol_list(
    enroller: Enroller, listed: Sequence[Listed], report: Report, tell: Callable[[int, int], None]
) -> Counter[Standing | Rest]:
    """How many came to what. `report` is given every line that has to be looked at by somebody, and `tell` how many
    are done, of how many.

    Ends early when nothing works any more: as many persons in a row as there may be at once.
    """
    run = _Run(enroller, iter(listed), report, lambda done: tell(done, len(listed)))
    async with asyncio.TaskGroup() as group:
        for _ in range(enroller.at_once):
            group.create_task(run.go())
    run.counts[Rest.LEFT] = len(listed) - run.counts.total()
    return run.counts


@dataclass(slots=True)
class _Run:
    enroller: Enroller
    waiting: Iterator[Listed]
    report: Report
    tell: Callable[[int], None]
    counts: Counter[Standing | Rest] = field(default_factory=Counter)
    in_a_row: int = 0

    async def go(self) -> None:
        while self.in_a_row < self.enroller.at_once and (listed := next(self.waiting, None)):
            came_to = await self._come_to(listed)
            self.in_a_row = self.in_a_row + 1 if came_to is Rest.UNAVAILABLE else 0
            self.counts[came_to] += 1
            self.tell(self.counts.total())

    async def _come_to(self, listed: Listed) -> Standing | Rest:
        try:
            return await self._persistently(listed)
        except Refusal as refusal:
            self.report(listed, refusal)
            return Rest.REFUSED
        except OUR_FAILURES:
            self.report(listed, Refusal("unavailable"))
            return Rest.UNAVAILABLE

    async def _persistently(self, listed: Listed) -> Standing:
        for pause_s in PAUSES_S:
            try:
                return await self._enrol(listed)
            except OUR_FAILURES:
                await asyncio.sleep(pause_s)
        return await self._enrol(listed)

    async def _enrol(self, listed: Listed) -> Standing:
        by = self.enroller
        photos = await asyncio.to_thread(lambda: [by.folder.read(name) for name in listed.photos])
        enrolment = Enrolment(listed.person_id, photos, listed.basis_kind, listed.basis_document)
        return await enrol_listed(by.database, by.keys, by.faces, by.policy, by.caller, enrolment)
