"""A person asks to be judged without face recognition, and sees what came of it."""

from typing import Any

from aiohttp import web

from checkin_service.adapters.postgres import reviews
from checkin_service.adapters.postgres.reviews import ManualRequest
from checkin_service.usecases.receipts import signed_receipt
from checkin_service.usecases.refusals import Refusal
from checkin_service.usecases.request_manually import RequestManually, request_manually
from checkin_service.web import schema
from checkin_service.web.answers import Answer, instant_text
from checkin_service.web.body import json_digest, read_json
from checkin_service.web.context import caller, services
from checkin_service.web.idempotency import once, required_key
from checkin_service.web.tasks import found_uuid
from geofence import FixRules


async def ask(request: web.Request) -> web.Response:
    required_key(request)
    body = await read_json(request)
    asked = RequestManually(caller(request).sub, **schema.parse_manual_request(body))
    wired = services(request)

    async def work() -> Answer:
        rules = FixRules(max_accuracy_m=wired.settings.max_accuracy_m)
        made = await request_manually(
            wired.database, wired.keys, wired.box, rules, caller(request).iss, asked
        )
        return Answer(201, _json(made), {"Location": f"/v1/manual-requests/{made.manual_request_id}"})

    return await once(request, json_digest(body), work)


async def read(request: web.Request) -> web.Response:
    manual_request_id, person_id, wired = (
        found_uuid(request, "manual_request_id"),
        caller(request).sub,
        services(request),
    )
    async with wired.database.connection() as connection:
        made = await reviews.read_manual_request(connection, manual_request_id, person_id)
        accepted = made and await reviews.read_acceptance(connection, manual_request_id)
    if made is None:
        raise Refusal("not_found")
    body = _json(made) | {
        "task_id": made.task_id,
        "decided_at": made.decided_at and instant_text(made.decided_at),
    }
    if accepted:
        body["receipt"] = signed_receipt(wired.receipt_keys, person_id, made.task_id, accepted)
    return Answer(200, body).response()


def _json(made: ManualRequest) -> dict[str, Any]:
    return {
        "manual_request_id": str(made.manual_request_id),
        "state": made.state,
        "received_at": instant_text(made.received_at),
    }
