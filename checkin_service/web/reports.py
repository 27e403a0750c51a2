"""What the platform, the firm through it, and the operator ask about: missing members, readiness, statistics."""

import re
from datetime import date, datetime, timedelta
from typing import Any

from aiohttp import web

from checkin_service.adapters.postgres import reports, tasks
from checkin_service.adapters.postgres.reports import Statistics
from checkin_service.adapters.postgres.tasks import FenceVersion, TaskHead
from checkin_service.domain.decision import Outcome
from checkin_service.domain.next_step import next_step
from checkin_service.domain.readiness import FenceFigures, fence_doubts, reference_doubt
from checkin_service.domain.reasons import Doubt
from checkin_service.domain.review import ReviewState
from checkin_service.domain.why_not import OpenMember, what_is_missing
from checkin_service.usecases.readiness import LookAlikes, read_readiness
from checkin_service.usecases.refusals import FieldFault, Refusal
from checkin_service.web.answers import Answer, instant_text
from checkin_service.web.context import caller, language, services
from checkin_service.web.messages import Language, doubt_text, missing_text, next_advice
from checkin_service.web.tasks import found_id

# A quarter: what a year's attempts cost is not for a request.
LONGEST_PERIOD = timedelta(days=92)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


async def why_not(request: web.Request) -> web.Response:
    task_id, wired = found_id(request, "task_id"), services(request)
    async with wired.database.snapshot() as connection:
        head = await tasks.read_head(connection, task_id)
        if head is None:
            raise Refusal("not_found")
        opens_at = await reports.read_opens_at(connection, task_id)
        members = await reports.read_open_members(connection, task_id)
    attempts, spoken = wired.settings.attempts_per_day, language(request)
    body = _head_json(head) | {
        "closes_at": instant_text(head.facts.closes_at),
        "members": [_open_member_json(member, head, opens_at, attempts, spoken) for member in members],
    }
    return Answer(200, body).response()


async def readiness(request: web.Request) -> web.Response:
    task_id, wired = found_id(request, "task_id"), services(request)
    found = await read_readiness(wired.database, wired.keys, wired.policy, task_id)
    if found is None:
        raise Refusal("not_found")
    spoken = language(request)
    doubted = [(member.person_id, reference_doubt(member)) for member in found.members]
    body = _head_json(found.head) | {
        "members": len(found.members),
        "references": [
            {"person_id": person_id, **_doubt_json(doubt, spoken)} for person_id, doubt in doubted if doubt
        ],
        "consents_missing": sum(not member.consented for member in found.members),
        "fences": [_fence_json(version, figures, spoken) for version, figures in found.fences],
        "look_alikes": found.look_alikes and _look_alikes_json(found.look_alikes, spoken),
    }
    return Answer(200, body).response()


async def task_statistics(request: web.Request) -> web.Response:
    task_id = found_id(request, "task_id")
    async with services(request).database.snapshot() as connection:
        if await tasks.registration_digest(connection, task_id) is None:
            raise Refusal("not_found")
        counted = await reports.read_task_statistics(connection, task_id)
        reviews = await reports.count_reviews(connection, task_id)
    body = {
        "task_id": task_id,
        **_statistics_json(counted),
        "reviews": {state: reviews.get(state, 0) for state in ReviewState},
    }
    return Answer(200, body).response()


async def period_statistics(request: web.Request) -> web.Response:
    first, last = _period(request)
    period = {"from": str(first), "to": str(last)}
    await services(request).viewings.note(caller(request), "view_statistics", None, period)
    async with services(request).database.connection() as connection:
        counted = await reports.read_period_statistics(connection, first, last)
    return Answer(200, period | _statistics_json(counted)).response()


def _head_json(head: TaskHead) -> dict[str, Any]:
    return {"task_id": head.task_id, "state": head.state}


# --- Why members are missing ---


def _open_member_json(
    member: OpenMember, head: TaskHead, opens_at: datetime, attempts: int, spoken: Language
) -> dict[str, Any]:
    missing, since = what_is_missing(member)
    left = max(0, attempts - member.counted_today)
    step = next_step(
        head.state,
        member.status,
        provisional=head.facts.provisional,
        consented=member.consented,
        opened=opens_at <= head.read_at,
        attempts_left=left,
    )
    refusal = member.last_refusal
    return {
        "person_id": member.status.person_id,
        "missing": missing,
        **({"since": instant_text(since)} if since else {}),
        **({"last_refusal": {"at": instant_text(refusal.at), "reasons": refusal.reasons}} if refusal else {}),
        "attempts_left_today": left,
        "next_step": step,
        "message": missing_text(missing, spoken),
        "advice": next_advice(step, spoken, opens_at=opens_at, closes_at=head.facts.closes_at),
    }


# --- Readiness ---


def _doubt_json(doubt: Doubt, spoken: Language, **figures: float | None) -> dict[str, Any]:
    message, advice = doubt_text(doubt, spoken, **figures)
    return {"code": doubt, "message": message, "advice": advice}


def _fence_json(version: FenceVersion, figures: FenceFigures, spoken: Language) -> dict[str, Any]:
    away_m = None if figures.elsewhere_m is None else round(figures.elsewhere_m, -1)
    return {
        "version": version.version,
        "effective_at": instant_text(version.effective_at),
        "area_m2": round(figures.area_m2),
        "buffer_m": figures.buffer_m,
        "doubts": [_doubt_json(doubt, spoken, distance_m=away_m) for doubt in fence_doubts(figures)],
    }


def _look_alikes_json(found: LookAlikes, spoken: Language) -> dict[str, Any]:
    return {
        "pairs": [
            {"person_ids": [first, second], **_doubt_json(doubt, spoken)}
            for first, second, doubt in found.pairs
        ],
        "found": found.found,
        "compared": found.compared,
        "left_out": {why: found.left_out.get(why, 0) for why in ("consent", "template", "seal")},
    }


# --- Statistics ---


def _statistics_json(counted: Statistics) -> dict[str, Any]:
    return {
        "outcomes": {outcome: counted.outcomes.get(outcome, 0) for outcome in Outcome},
        "reasons": counted.reasons,
        "hours": counted.hours,
        "phones": counted.phones,
        "signals": counted.signals,
    }


def _period(request: web.Request) -> tuple[date, date]:
    """The days `from` and `to`, both included."""
    days = {name: _day(request.query.get(name)) for name in ("from", "to")}
    faults = [FieldFault(name, code) for name, code in days.items() if isinstance(code, str)]
    first, last = days.values()
    if isinstance(first, str) or isinstance(last, str):
        raise Refusal("invalid", faults)
    if not timedelta() <= last - first < LONGEST_PERIOD:
        raise Refusal("invalid", [FieldFault("to", "bad_period", {"maximum": LONGEST_PERIOD.days})])
    return first, last


def _day(text: str | None) -> date | str:
    """The day, or the code of what is wrong with it."""
    if text is None:
        return "missing"
    try:
        return date.fromisoformat(text) if _DAY.fullmatch(text) else "bad_format"
    except ValueError:
        return "bad_format"
