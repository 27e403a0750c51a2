"""The reviewing department: the queue, what a review rests on, decisions."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from aiohttp import web

from checkin_service.adapters.postgres import reviews as review_rows
from checkin_service.adapters.postgres.reviews import Review
from checkin_service.domain.review import ReviewState
from checkin_service.usecases.decide_review import DecideReview, decide_review
from checkin_service.usecases.overdue_reviews import read_overdue_until
from checkin_service.usecases.refusals import FieldFault, Refusal
from checkin_service.usecases.view_review import view_review, view_selfie
from checkin_service.web import schema
from checkin_service.web.answers import Answer, instant_text
from checkin_service.web.body import json_digest, read_json
from checkin_service.web.context import caller, language, services
from checkin_service.web.evidence import evidence_json, review_json
from checkin_service.web.idempotency import once, required_key
from checkin_service.web.tasks import found_uuid, page_limit, storable_text

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_CURSOR = re.compile(r"([0-9]{1,17})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.ASCII)


async def queue(request: web.Request) -> web.Response:
    state, after, limit = _state(request), instant_cursor(request), page_limit(request)
    task_id = storable_text(request, "task_id") or None
    wired = services(request)
    await wired.viewings.note(caller(request), "view_reviews", task_id, {"state": state})
    async with wired.database.connection() as connection:
        found = await review_rows.read_queue(connection, state, after, limit + 1, task_id)
        overdue = await read_overdue_until(connection)
    page = found[:limit]
    body = {
        "reviews": [review_json(review, overdue, language(request)) for review in page],
        "next": cursor_text(page[-1].received_at, page[-1].review_id) if len(found) > limit else None,
    }
    return Answer(200, body).response()


async def evidence(request: web.Request) -> web.Response:
    wired = services(request)
    dossier = await view_review(wired.database, caller(request), found_uuid(request, "review_id"))
    return Answer(200, evidence_json(dossier, language(request)), {"Cache-Control": "no-store"}).response()


async def selfie(request: web.Request) -> web.Response:
    wired = services(request)
    photo = await view_selfie(
        wired.database, wired.keys, wired.evidence, caller(request), found_uuid(request, "review_id")
    )
    kind = "image/png" if photo.startswith(b"\x89PNG") else "image/jpeg"
    return web.Response(body=photo, content_type=kind, headers={"Cache-Control": "no-store"})


async def decide(request: web.Request) -> web.Response:
    required_key(request)
    review_id, body = found_uuid(request, "review_id"), await read_json(request)
    decided = DecideReview(review_id, **schema.parse_decision(body))

    async def work() -> Answer:
        review = await decide_review(services(request).database, caller(request), decided)
        return Answer(200, _decided_json(review))

    return await once(request, json_digest(body), work)


def _decided_json(review: Review) -> dict[str, Any]:
    return {
        "review_id": str(review.review_id),
        "task_id": review.task_id,
        "person_id": review.person_id,
        "state": review.state,
        "decided_at": review.decided_at and instant_text(review.decided_at),
    }


def _state(request: web.Request) -> ReviewState:
    text = request.query.get("state", ReviewState.PENDING)
    if text not in set(ReviewState):
        raise Refusal(
            "invalid", [FieldFault("state", "not_allowed_value", {"allowed": ", ".join(ReviewState)})]
        )
    return ReviewState(text)


def instant_cursor(request: web.Request) -> tuple[datetime, UUID] | None:
    """Which submission to go on after."""
    text = request.query.get("after", "")
    if not text:
        return None
    cursor = _CURSOR.fullmatch(text)
    if cursor is None:
        raise Refusal("invalid", [FieldFault("after", "bad_format")])
    return _EPOCH + int(cursor[1]) * _MICROSECOND, UUID(cursor[2])


def cursor_text(received_at: datetime, check_in_id: UUID) -> str:
    return f"{(received_at - _EPOCH) // _MICROSECOND}.{check_in_id}"
