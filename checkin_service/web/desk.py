"""What the reviewing officer works from: the list of tasks, what was registered of one, its attempts."""

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from aiohttp import web

from checkin_service.adapters.postgres import desk
from checkin_service.adapters.postgres.desk import Attempt, Listed, Order, Place, Registered, Wanted, Window
from checkin_service.adapters.postgres.reviews import LocatedRequest
from checkin_service.adapters.postgres.tasks import FenceVersion, read_now
from checkin_service.domain.calendar import day_of
from checkin_service.usecases.refusals import FieldFault, Refusal
from checkin_service.usecases.view_task import view_attempts, view_registration
from checkin_service.web.answers import Answer, instant_text, progress_json, reason_json
from checkin_service.web.context import caller, language, services
from checkin_service.web.evidence import location_json
from checkin_service.web.messages import Language
from checkin_service.web.reviews import cursor_text, instant_cursor
from checkin_service.web.tasks import found_id, page_limit, storable_text

MOST_DAYS = 366
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CURSOR = re.compile(r"([0-9]{1,10})\.([0-9]{1,17})\.([A-Za-z0-9._-]{1,64})", re.ASCII)
_UNCACHED = {"Cache-Control": "no-store"}
Word = TypeVar("Word", bound=StrEnum)


async def listing(request: web.Request) -> web.Response:
    wanted, after, limit = _wanted(request), _place(request), page_limit(request)
    await services(request).viewings.note(caller(request), "view_tasks", None, asdict(wanted))
    async with services(request).database.snapshot() as connection:
        at = await read_now(connection)
        found = await desk.list_tasks(connection, wanted, at, day_of(at), after, limit + 1)
    body = {
        "tasks": [_listed_json(listed) for listed in found[:limit]],
        "next": _place_text(found[limit - 1].place) if len(found) > limit else None,
    }
    return Answer(200, body).response()


async def registration(request: web.Request) -> web.Response:
    task_id = found_id(request, "task_id")
    found = await view_registration(services(request).database, caller(request), task_id)
    return Answer(200, _registered_json(task_id, found), _UNCACHED).response()


async def attempts(request: web.Request) -> web.Response:
    task_id, person_id = found_id(request, "task_id"), storable_text(request, "person_id")
    after, limit = instant_cursor(request), page_limit(request)
    found = await view_attempts(
        services(request).database, caller(request), task_id, person_id or None, after, limit + 1
    )
    page = found[:limit]
    body = {
        "attempts": [_attempt_json(attempt, language(request)) for attempt in page],
        "next": cursor_text(page[-1].received_at, page[-1].check_in_id) if len(found) > limit else None,
    }
    return Answer(200, body, _UNCACHED).response()


# --- What is asked for ---


def _wanted(request: web.Request) -> Wanted:
    return Wanted(
        window=_one_of(request, "window", Window.RUNNING),
        order=_one_of(request, "order", Order.DEADLINE),
        in_review=_switch(request, "in_review"),
        within_days=_days(request, "within_days"),
        q=storable_text(request, "q"),
    )


def _one_of(request: web.Request, name: str, default: Word) -> Word:
    words = type(default)
    text = request.query.get(name, default)
    if text not in set(words):
        raise Refusal("invalid", [FieldFault(name, "not_allowed_value", {"allowed": ", ".join(words)})])
    return words(text)


def _switch(request: web.Request, name: str) -> bool:
    text = request.query.get(name, "false")
    if text not in {"true", "false"}:
        raise Refusal("invalid", [FieldFault(name, "not_allowed_value", {"allowed": "true, false"})])
    return text == "true"


def _days(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) or int(text) > MOST_DAYS:
        raise Refusal("invalid", [FieldFault(name, "out_of_range", {"minimum": 0, "maximum": MOST_DAYS})])
    return int(text)


def _place(request: web.Request) -> Place | None:
    """Which task to go on after."""
    text = request.query.get("after", "")
    if not text:
        return None
    cursor = _CURSOR.fullmatch(text)
    if cursor is None:
        raise Refusal("invalid", [FieldFault("after", "bad_format")])
    return Place(int(cursor[1]), _EPOCH + int(cursor[2]) * _MICROSECOND, cursor[3])


def _place_text(place: Place) -> str:
    return f"{place.rank}.{(place.closes_at - _EPOCH) // _MICROSECOND}.{place.task_id}"


# --- What is shown ---


def _listed_json(listed: Listed) -> dict[str, Any]:
    head, facts = listed.head, listed.head.facts
    missing = facts.total - facts.accepted
    return {
        "task_id": head.task_id,
        "case_id": listed.case_id,
        "round": listed.round,
        "flow": head.flow,
        "enterprise": {"uscc": listed.uscc, "name": listed.enterprise_name},
        "state": head.state,
        "opens_at": instant_text(listed.opens_at),
        "closes_at": instant_text(facts.closes_at),
        "provisional": facts.provisional,
        "days_left": listed.days_left,
        "progress": progress_json(head),
        "missing": missing,
        "missing_a_day": round(missing / max(listed.days_left + 1, 1), 3),
        "lacking_material": facts.lacking_material,
        "rev": head.rev,
    }


def _registered_json(task_id: str, found: Registered) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "case_id": found.case_id,
        "enterprise": {"uscc": found.uscc, "name": found.enterprise_name},
        "places": [_place_json(fence) for fence in found.fences],
        "members": [
            {
                "person_id": member.person_id,
                "name": member.name,
                "categories": list(member.categories),
                "technical_lead": member.technical_lead,
                "attempts": member.attempts,
                "last_attempt_at": member.last_attempt_at and instant_text(member.last_attempt_at),
            }
            for member in found.members
        ],
    }


def _place_json(version: FenceVersion) -> dict[str, Any]:
    return {
        "fence_version": version.version,
        "effective_at": instant_text(version.effective_at),
        "registered_address": version.registered_address,
        "frame": version.frame,
        "fence": version.fence,
        "buffer_m": version.buffer_m,
    }


def _attempt_json(attempt: Attempt, spoken: Language) -> dict[str, Any]:
    device = {"platform": attempt.platform, "model": attempt.model} if attempt.platform else None
    return {
        "check_in_id": str(attempt.check_in_id),
        "person_id": attempt.person_id,
        "received_at": instant_text(attempt.received_at),
        "outcome": attempt.outcome,
        "counted": attempt.counted,
        "reasons": [reason_json(reason, spoken) for reason in attempt.reasons],
        "fence_version": attempt.fence_version,
        "location": _location_json(attempt),
        "device": device,
        "review": attempt.review,
    }


def _location_json(attempt: Attempt) -> dict[str, Any] | None:
    if attempt.zone is None or attempt.frame is None:
        return None
    located = LocatedRequest(attempt.zone, attempt.distance_m, attempt.r95_m, attempt.lon, attempt.lat)
    return location_json(located, attempt.frame)
