"""A person's own calls: what is asked of me, the notice, my consent."""

from typing import Any

from aiohttp import web

from checkin_service.adapters.postgres import persons, tasks
from checkin_service.adapters.postgres.persons import Consent, MyTask
from checkin_service.adapters.postgres.tasks import FenceVersion, TaskStatus
from checkin_service.domain.next_step import next_step
from checkin_service.domain.task import MemberStatus
from checkin_service.usecases import consent
from checkin_service.usecases.export_person import export_own
from checkin_service.usecases.refusals import Refusal
from checkin_service.web import schema
from checkin_service.web.answers import Answer, export_answer, instant_text
from checkin_service.web.body import json_digest, read_json
from checkin_service.web.context import caller, language, services
from checkin_service.web.idempotency import once
from checkin_service.web.messages import NOTICE_VERSION, Language, next_text, notice
from geofence import EARTH, Frame, from_wgs84, parse_fence


async def overview(request: web.Request) -> web.Response:
    wired, person_id = services(request), caller(request).sub
    async with wired.database.connection() as connection:
        await persons.ensure_person(connection, person_id)
        given = await persons.read_consent(connection, person_id)
        mine = await persons.my_tasks(connection, person_id)
        statuses = await tasks.read_statuses(connection, [task.task_id for task in mine])
        fences = {
            task_id: await tasks.read_fence_at(connection, task_id, status.head.read_at)
            for task_id, status in statuses.items()
        }
    attempts = wired.settings.attempts_per_day
    body = {
        "person_id": person_id,
        "consent": _consent_json(given),
        "tasks": [
            _task_json(
                task,
                statuses[task.task_id],
                fences[task.task_id],
                given,
                attempts,
                language(request),
            )
            for task in mine
        ],
    }
    return Answer(200, body).response()


async def consent_notice(request: web.Request) -> web.Response:
    shown = notice(language(request))
    body = {
        "notice_version": shown.version,
        "language": shown.language,
        "text": shown.text,
        "text_sha256": shown.text_sha256,
        "scopes": list(shown.scopes),
    }
    return Answer(200, body, {"Content-Language": str(shown.language)}).response()


async def give_consent(request: web.Request) -> web.Response:
    body = await read_json(request)
    version, scopes = schema.parse_consent(body)
    if version != NOTICE_VERSION:
        raise Refusal("notice_outdated")
    wired = services(request)

    async def work() -> Answer:
        give = consent.GiveConsent(caller(request).iss, caller(request).sub, version, scopes)
        given = await consent.give_consent(wired.database, wired.keys, wired.evidence, give)
        return Answer(
            200,
            {
                "notice_version": given.notice_version,
                "scopes": list(given.scopes),
                "given_at": instant_text(given.given_at),
            },
        )

    return await once(request, json_digest(body), work)


async def withdraw_consent(request: web.Request) -> web.Response:
    wired = services(request)

    async def work() -> Answer:
        by = caller(request)
        await consent.withdraw_consent(wired.database, wired.keys, wired.evidence, by.iss, by.sub)
        return Answer(204)

    return await once(request, b"", work)


async def export(request: web.Request) -> web.Response:
    wired = services(request)
    return export_answer(await export_own(wired.database, wired.keys, caller(request))).response()


def _consent_json(given: Consent | None) -> dict[str, Any]:
    live = given if given and given.live else None
    return {
        "given": live is not None,
        "notice_version": live and live.notice_version,
        "scopes": list(live.scopes) if live else [],
    }


def _task_json(
    task: MyTask,
    status: TaskStatus,
    fence: FenceVersion,
    given: Consent | None,
    attempts: int,
    spoken: Language,
) -> dict[str, Any]:
    own = next(member for member in status.members if member.person_id == task.person_id)
    closes_at = status.head.facts.closes_at
    step = next_step(
        status.head.state,
        own,
        provisional=status.head.facts.provisional,
        consented=given is not None and given.covers_check_in,
        opened=status.opens_at <= status.head.read_at,
        attempts_left=attempts - task.counted_today,
    )
    return {
        "task_id": task.task_id,
        "enterprise": {"name": task.enterprise_name},
        "place": _place_json(fence),
        "opens_at": instant_text(status.opens_at),
        "closes_at": instant_text(closes_at),
        "state": status.head.state,
        "own_state": own.state,
        **_accepted_json(own),
        "reference": "ready" if own.has_reference else "missing",
        "attempts_left": max(0, attempts - task.counted_today),
        "next": step,
        "next_text": next_text(step, spoken, opens_at=status.opens_at, closes_at=closes_at),
    }


def _accepted_json(own: MemberStatus) -> dict[str, Any]:
    """What the own acceptance is called, so that its receipt can be read again from any phone."""
    if own.accepted_at is None:
        return {}
    return {
        "accepted_at": instant_text(own.accepted_at),
        "method": own.method,
        "check_in_id": own.check_in_id,
    }


def _place_json(fence: FenceVersion) -> dict[str, Any]:
    """The address and a point inside the fence, in the fence's own frame, as a map of that frame shows it."""
    frame = Frame(fence.frame)
    lon, lat = from_wgs84(*parse_fence(fence.fence, frame, EARTH).inside_point(), frame)
    return {"registered_address": fence.registered_address, "lon": lon, "lat": lat, "frame": frame}
