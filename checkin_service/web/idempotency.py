"""The optional `Idempotency-Key` of changing calls, and its form."""

import re
from collections.abc import Awaitable, Callable

from aiohttp import web

from checkin_service.adapters.postgres import idempotency
from checkin_service.adapters.postgres.idempotency import EarlierCall, KeyOwner
from checkin_service.usecases.refusals import FieldFault, Refusal
from checkin_service.web.answers import Answer
from checkin_service.web.context import caller, services

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def idempotency_key(request: web.Request) -> str | None:
    """The key, if one was sent. Raises `Refusal` invalid when it is not 1 to 255 visible ASCII characters."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise Refusal("invalid", [FieldFault("Idempotency-Key", "bad_format")])
    return key


def required_key(request: web.Request) -> str:
    """The key of a call that nobody should send without one. Raises `Refusal` idempotency_key_required."""
    key = idempotency_key(request)
    if key is None:
        raise Refusal("idempotency_key_required")
    return key


async def once(
    request: web.Request, body_digest: bytes, work: Callable[[], Awaitable[Answer]]
) -> web.Response:
    """Runs `work`, or gives the stored answer of the same call under the same key.

    Only what succeeded is stored; a refusal or a failure of ours gives the key back. Every such call is repeatable
    by itself, so a crash between its effect and the stored answer does no harm.
    """
    key = idempotency_key(request)
    if key is None:
        return (await work()).response()
    owner = KeyOwner(caller(request).iss, caller(request).sub, request.method, request.path, key)
    database = services(request).database
    async with database.connection() as connection:
        earlier = await idempotency.claim_key(connection, owner, body_digest)
    if earlier:
        return _repeat(earlier, body_digest).response()
    try:
        answer = await work()
    except BaseException:
        async with database.connection() as connection:
            await idempotency.give_key_back(connection, owner)
        raise
    async with database.connection() as connection:
        await idempotency.store_answer(connection, owner, answer.status, [answer.body, answer.headers])
    return answer.response()


def _repeat(earlier: EarlierCall, body_digest: bytes) -> Answer:
    if earlier.body_digest != body_digest:
        raise Refusal("idempotency_key_reused")
    if earlier.status is None:
        raise Refusal("idempotency_in_progress")
    body, headers = earlier.answer
    return Answer(earlier.status, body, headers)
