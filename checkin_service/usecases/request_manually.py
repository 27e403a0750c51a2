"""The way without face recognition: a person asks that people judge their presence."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from checkin_service.adapters.postgres import persons, reviews, tasks
from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.postgres.feed import record_change
from checkin_service.adapters.postgres.reviews import Asker, LocatedRequest, ManualRequest
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.domain.review import ReviewState
from checkin_service.domain.task import MemberState
from checkin_service.usecases.refusals import Refusal
from geofence import EARTH, Box, Fix, FixRules, Frame, locate, parse_fence, r95_factor


@dataclass(frozen=True, slots=True)
class RequestManually:
    """A request as it arrived. `frame` is None only when there are no fixes."""

    person_id: str
    task_id: str
    reason: str
    fixes: Sequence[Fix]
    frame: Frame | None


async def request_manually(
    database: Database, keys: TemplateKeys, box: Box, rules: FixRules, iss: str, request: RequestManually
) -> ManualRequest:
    """The pending request, new or the person's first. Raises `Refusal`: not_found, state_conflict.

    A position is used only with live consent to `location`; without it the request is taken all the same.
    """
    async with database.transaction() as connection:
        # before the locks: who waits for them is not late for it
        received_at = await tasks.read_now(connection)
        await persons.lock_person(connection, request.person_id)
        await tasks.lock_task(connection, request.task_id)
        asker = await reviews.read_asker(connection, request.task_id, request.person_id, received_at)
        if asker is None:
            raise Refusal("not_found")
        if state := _what_forbids(asker, received_at):
            raise Refusal("state_conflict", state=state)
        if asker.open_id:
            return await _first(connection, asker, request)
        asked = ManualRequest(uuid4(), request.task_id, ReviewState.PENDING, received_at, None)
        located = (
            await _locate(connection, box, rules, request, received_at) if asker.shares_position else None
        )
        await reviews.add_manual_request(connection, asked, request.person_id, request.reason, located)
        details = {"manual_request_id": str(asked.manual_request_id), "person_id": request.person_id}
        pseudonym = keys.pseudonym(request.person_id).hex()
        await write_audit(connection, iss, pseudonym, "manual_request", request.task_id, details)
        if asker.member_state != MemberState.IN_REVIEW:
            await record_change(connection, request.task_id, "member_in_review", received_at)
        return asked


def _what_forbids(asker: Asker, received_at: datetime) -> str | None:
    """What it is judged by is of its receipt, as for a check-in; a provisional window holds it after its end."""
    found = {
        "voided": asker.voided,
        "closed": asker.closed,
        "suspended": asker.suspended,
        "window_not_open": received_at < asker.opens_at,
        "window_closed": received_at >= asker.closes_at and not asker.provisional,
        "accepted": asker.member_state == MemberState.ACCEPTED,
    }
    return next((state for state, holds in found.items() if holds), None)


async def _first(connection: Connection, asker: Asker, request: RequestManually) -> ManualRequest:
    first = asker.open_id and await reviews.read_manual_request(connection, asker.open_id, request.person_id)
    if not first:
        raise RuntimeError("an open manual request can't be read")
    return first


async def _locate(
    connection: Connection, box: Box, rules: FixRules, request: RequestManually, at: datetime
) -> LocatedRequest | None:
    """Where the fixes are, for whoever decides; how old they are is seen from the newest, for no photograph is."""
    if not request.fixes or request.frame is None:
        return None
    place = await tasks.read_fence_at(connection, request.task_id, at)
    found = locate(
        parse_fence(place.fence, Frame(place.frame), EARTH),
        place.buffer_m,
        request.fixes,
        request.frame,
        max(fix.at for fix in request.fixes),
        r95_factor=r95_factor(None),
        reduced_accuracy=False,
        rules=rules,
        box=box,
    )
    return LocatedRequest(found.zone, found.distance_m, found.r95_m, found.lon, found.lat)
