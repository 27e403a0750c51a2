"""What a request is called, from the edge to the worker: in its answer, in every line of the log, in the face job.

A proxy's `X-Request-Id` or the trace of a `traceparent` (W3C Trace Context) is taken over, but only as 32 hexadecimal
digits: what is logged must not be able to hold anybody's name or number.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from aiohttp import web

from checkin_service.web.context import REQUEST_ID
from face import JOB_NAME

_GIVEN = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_NONE = re.compile("0+")


def traced(request: web.BaseRequest) -> tuple[str, str] | None:
    """The trace and the span that the caller is in."""
    given = request.headers.getall("traceparent", [""])
    found = _TRACEPARENT.fullmatch(given[0])
    if len(given) > 1 or not found or given[0].startswith("ff"):
        return None
    trace, span = found["trace"], found["span"]
    return None if _NONE.fullmatch(trace) or _NONE.fullmatch(span) else (trace, span)


@contextmanager
def named(request: web.BaseRequest, *, unread: bool = False) -> Iterator[None]:
    """Gives the request its name, for as long as it is answered. One that is `unread` has no headers."""
    request[REQUEST_ID] = name = (None if unread else _given(request)) or uuid4().hex
    token = JOB_NAME.set(name)
    try:
        yield
    finally:
        JOB_NAME.reset(token)


def _given(request: web.BaseRequest) -> str | None:
    given = request.headers.getall("X-Request-Id", [])
    if (
        len(given) == 1
        and _GIVEN.fullmatch(given[0])
        and not _NONE.fullmatch(name := given[0].replace("-", ""))
    ):
        return name
    trace = traced(request)
    return trace and trace[0]
