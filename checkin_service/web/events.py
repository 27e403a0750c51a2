"""What happens to tasks as it happens: server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html.

A browser's `EventSource` can't send a token: read the stream with `fetch`. The events name tasks and nobody; whoever is
told that something is new asks for it by the calls that are audited.
"""

import asyncio
import json
import re
import time
from collections.abc import Iterable, Iterator

from aiohttp import web

from checkin_service.adapters.postgres.watch import Ended, Event, FellBehind, Listener, Position, TooMany
from checkin_service.usecases.refusals import FieldFault, Refusal
from checkin_service.web.answers import instant_text
from checkin_service.web.auth import token_ends_at
from checkin_service.web.context import REQUEST_ID, services

STREAM_S = 120.0
"""How long one stream lasts at most: less than an answer may take (`ANSWER_S` in web/server.py). Who listens on asks
again with the last id."""
HEARTBEAT_S = 15.0
PATIENCE_S = 5.0
"""How long a listener may take nothing before it is cut."""
RETRY_MS = 1000

_ID = re.compile(r"([0-9a-f]{1,64})\.([0-9]{1,18})\.([0-9]{1,18})", re.ASCII)
_STREAM = "text/event-stream"


async def stream(request: web.Request) -> web.StreamResponse:
    """Stays connected for who asks with `Accept: text/event-stream`; gives anybody else what has happened by now."""
    since, watch = _since(request), services(request).watch
    try:
        if request.method != "GET" or _STREAM not in request.headers.get("Accept", ""):
            return _whole(_texts(*await watch.missed(since)))
        async with watch.listen(since) as listener:
            return await _stay(request, listener)
    except FellBehind:
        # what it knows is to be read anew
        return _whole(["event: reset\ndata: {}\n\n"])
    except TooMany as error:
        raise Refusal("unavailable") from error


async def _stay(request: web.Request, listener: Listener) -> web.StreamResponse:
    response = web.StreamResponse(headers={**_HEADERS, "X-Request-Id": request[REQUEST_ID]})
    ends = time.monotonic() + min(STREAM_S, max(0.0, token_ends_at(request) - services(request).clock()))
    await response.prepare(request)
    try:
        await _write(
            response, f"retry: {RETRY_MS}\nid: {_id(listener.position)}\nevent: hello\ndata: {{}}\n\n"
        )
        while (left := ends - time.monotonic()) > 0:
            event = await listener.next(min(HEARTBEAT_S, left))
            await _write(response, _text(event, listener.position) if event else ": still here\n\n")
    except FellBehind:
        await _write(response, "event: reset\ndata: {}\n\n")
    except Ended:
        pass
    except TimeoutError:
        services(request).metrics.cut_connections.labels("answer").inc()
        if request.transport:
            request.transport.abort()
    except ConnectionError:
        pass  # it has gone
    return response


_HEADERS = {
    "Content-Type": f"{_STREAM}; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}


async def _write(response: web.StreamResponse, text: str) -> None:
    """Raises `TimeoutError` when the listener takes nothing."""
    async with asyncio.timeout(PATIENCE_S):
        await response.write(text.encode())


def _whole(parts: Iterable[str]) -> web.Response:
    return web.Response(text="".join(parts), headers=_HEADERS)


def _texts(position: Position, events: list[Event]) -> Iterator[str]:
    for event in events:
        position = position.after(event)
        yield _text(event, position)


def _text(event: Event, position: Position) -> str:
    data = {"type": event.type, "task_id": event.task_id, "at": instant_text(event.at)}
    if event.outcome:
        data["outcome"] = event.outcome
    kind = "attempt" if event.type == "attempt" else "change"
    return f"id: {_id(position)}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"


def _id(position: Position) -> str:
    return f"{position.epoch}.{position.change}.{position.audit}"


def _since(request: web.Request) -> Position | None:
    text = request.query.get("after", "")
    if not text:
        return None
    found = _ID.fullmatch(text)
    if found is None:
        raise Refusal("invalid", [FieldFault("after", "bad_format")])
    return Position(found[1], int(found[2]), int(found[3]))
