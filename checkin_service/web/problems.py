"""Refusals and failures as `application/problem+json` (RFC 9457), and the one middleware that makes them."""

import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from random import SystemRandom
from typing import Any

import structlog
from aiohttp import web

from checkin_service.adapters.postgres.database import DATABASE_FAILURES
from checkin_service.adapters.token_keys import KeySetError
from checkin_service.metrics import Metrics
from checkin_service.ports import KeysUnavailable, StoreUnavailable
from checkin_service.tracing import Span
from checkin_service.usecases.refusals import Refusal
from checkin_service.web.context import REQUEST_ID, Services, language, services
from checkin_service.web.error_codes import RETRY_LATER, ErrorCode
from checkin_service.web.messages import Language, fault_text, problem_text
from checkin_service.web.request_id import named, traced
from face import PoolFull, PoolTimeout, WorkerFailed

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OUR_FAILURES: tuple[type[BaseException], ...] = (
    *DATABASE_FAILURES,
    KeySetError,
    KeysUnavailable,
    PoolFull,
    PoolTimeout,
    StoreUnavailable,
    WorkerFailed,
)

ERROR_CODES = {str(code): code for code in ErrorCode}

log = structlog.get_logger("checkin_service.request")
_jitter = SystemRandom()


@web.middleware
async def answer_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Renders whatever was refused or failed, counts and logs every request once."""
    started = time.perf_counter()
    with named(request), _span(request) as span:
        response = await _answer(request, handler)
        _tell(services(request).metrics, request, response, _route(request), time.perf_counter() - started)
        if span:
            _describe(span, request, response)
    return response


def _span(request: web.Request) -> AbstractContextManager[Span | None]:
    traces = services(request).traces
    if traces is None:
        return nullcontext()
    trace_id, parent_id = traced(request) or (request[REQUEST_ID], "")
    return traces.request(trace_id, parent_id)


def _describe(span: Span, request: web.Request, response: web.StreamResponse) -> None:
    route = _route(request)
    method = "_OTHER" if route == "unknown" else request.method
    span.name = f"{method} {route}"
    span.failed = response.status >= 500
    span.attributes |= {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": response.status,
        "checkin.request_id": request[REQUEST_ID],
    }


def answer_unread(
    wired: Services, request: web.BaseRequest, refusal: Refusal, status: int | None = None
) -> web.Response:
    """The answer to what never reached a middleware, as it is no HTTP or never came to its end."""
    with named(request, unread=True):
        response = problem(request, refusal, status)
        _tell(wired.metrics, request, response, "unknown", 0.0)
    return response


def _tell(
    metrics: Metrics, request: web.BaseRequest, response: web.StreamResponse, route: str, seconds: float
) -> None:
    response.headers["X-Request-Id"] = request[REQUEST_ID]
    method = "any" if route == "unknown" else request.method
    metrics.requests.labels(method, route, response.status).observe(seconds)
    log.info(
        "request",
        method=method,
        route=route,
        status=response.status,
        ms=round(seconds * 1000, 1),
    )


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        return problem(request, refusal)
    except web.HTTPException as error:
        return _from_aiohttp(request, error)
    except OUR_FAILURES as error:
        log.warning("unavailable", error=type(error).__name__)
        return problem(request, Refusal("unavailable"))
    except Exception as error:  # noqa: BLE001  the last stop
        # A defect of ours still answers in the contract's form. Logged are type and place only: the
        # message of an unexpected error may hold personal data.
        log.critical("defect", error=type(error).__name__, at=place_of(error))
        return problem(request, Refusal("unavailable"), status=500)


def problem(request: web.BaseRequest, refusal: Refusal, status: int | None = None) -> web.Response:
    """The refusal in the caller's language."""
    code, spoken = ERROR_CODES[refusal.code], language(request)
    headers = {"Content-Language": str(spoken), **refusal.params.get("headers", {})}
    if code in RETRY_LATER:
        headers["Retry-After"] = str(refusal.params.get("retry_after_s") or _jitter.randint(1, 3))
    if code is ErrorCode.UNAUTHENTICATED:
        headers["WWW-Authenticate"] = 'Bearer realm="checkin"'
    status = status or code.status
    title, detail = problem_text(code, spoken, **{k: v for k, v in refusal.params.items() if k != "headers"})
    body = {
        "type": f"urn:checkin:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request[REQUEST_ID],
        "errors": _errors(refusal, spoken),
    }
    return web.Response(
        status=status,
        text=json.dumps(body, ensure_ascii=False),
        content_type="application/problem+json",
        headers=headers,
    )


def _errors(refusal: Refusal, spoken: Language) -> list[dict[str, Any]]:
    return [
        {
            "pointer": fault.pointer,
            "code": fault.code,
            "message": fault_text(fault.code, spoken, **fault.params),
        }
        for fault in refusal.faults
    ]


def _from_aiohttp(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """aiohttp's own refusals: an unknown path, a method that a path does not have, a header it can't take."""
    if error.status < 400:
        return error
    code = {404: "not_found", 405: "not_found", 413: "payload_too_large", 415: "unsupported_media_type"}
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    refusal = Refusal(code.get(error.status, "malformed"), headers=headers)
    return problem(request, refusal, status=error.status)


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource else "unknown"


def place_of(error: BaseException) -> str:
    """File and line where it was raised."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "unknown"
