"""Spans of requests for an OpenTelemetry collector, by OTLP over HTTP in JSON: docs/decisions/0022-traces.md.

A span says which route, how long and with what status, and what part of it was spent where; nothing of a request's
content. What cannot be sent is dropped and counted: a collector that is away costs nobody anything.
"""

import asyncio
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from checkin_service.metrics import Metrics
from checkin_service.ports import FaceEngine
from face import Analysis, PoolStats

MOST_WAITING = 4096
BATCH = 512
INTERVAL_S = 2.0
SEND_TIMEOUT_S = 5.0

# Numbers of the protocol: what a span is, and how it ended.
_INTERNAL, _SERVER = 1, 2
_ERROR = 2
Value = str | int


@dataclass(slots=True)
class Span:
    """`attributes` by the names of OpenTelemetry's semantic conventions. Identifiers are hexadecimal."""

    trace_id: str
    parent_id: str
    name: str
    kind: int
    started_ns: int
    ended_ns: int = 0
    failed: bool = False
    attributes: dict[str, Value] = field(default_factory=dict)
    span_id: str = field(default_factory=lambda: secrets.token_hex(8))


_REQUEST: ContextVar[Span | None] = ContextVar("_REQUEST", default=None)


class Traces:
    """Collects spans, and sends them while `run` runs."""

    def __init__(self, url: str, metrics: Metrics) -> None:
        self._url = url
        self._metrics = metrics
        self._waiting: deque[Span] = deque()

    @contextmanager
    def request(self, trace_id: str, parent_id: str) -> Iterator[Span]:
        """The span of a request, with `parent_id` empty where a trace begins with it. Name and attributes are for the
        block to set, once it knows them."""
        span = Span(trace_id, parent_id, "", _SERVER, time.time_ns())
        token = _REQUEST.set(span)
        try:
            yield span
        finally:
            _REQUEST.reset(token)
            self._end(span)

    def note(self, name: str, seconds: float) -> None:
        """A part of the request that is being answered, which took so long and ends now; nothing outside of one."""
        if request := _REQUEST.get():
            now = time.time_ns()
            started_ns = now - int(seconds * 1e9)
            self._end(Span(request.trace_id, request.span_id, name, _INTERNAL, started_ns))

    def _end(self, span: Span) -> None:
        span.ended_ns = time.time_ns()
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._metrics.spans_dropped.inc()
        self._waiting.append(span)

    async def run(self) -> None:
        """Sends for ever, what is left in the end, too."""
        timeout = aiohttp.ClientTimeout(total=SEND_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            try:
                while True:
                    await asyncio.sleep(INTERVAL_S)
                    await self._send_all(session)
            finally:
                await self._send_all(session)

    async def _send_all(self, session: aiohttp.ClientSession) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            if not await self._sent(session, batch):
                self._metrics.spans_dropped.inc(len(batch) + len(self._waiting))
                self._waiting.clear()

    async def _sent(self, session: aiohttp.ClientSession, batch: Sequence[Span]) -> bool:
        try:
            async with session.post(self._url, json=export_request(batch)) as answer:
                return answer.status < 300
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False


def export_request(spans: Sequence[Span]) -> dict[str, Any]:
    """An `ExportTraceServiceRequest` in the protocol's JSON: identifiers in hexadecimal, 64-bit numbers as text."""
    instance = f"{socket.gethostname()}:{os.getpid()}"
    resource = {"attributes": _attributes({"service.name": "checkin", "service.instance.id": instance})}
    scope = {"scope": {"name": "checkin_service"}, "spans": [_as_json(span) for span in spans]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def _as_json(span: Span) -> dict[str, Any]:
    parent = {"parentSpanId": span.parent_id} if span.parent_id else {}
    return {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        **parent,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.started_ns),
        "endTimeUnixNano": str(span.ended_ns),
        "attributes": _attributes(span.attributes),
        "status": {"code": _ERROR} if span.failed else {},
    }


def _attributes(values: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
        for key, value in values.items()
    ]


@dataclass(frozen=True, slots=True)
class TracedFaces:
    """A face engine whose analyses are noted, with the wait for a worker."""

    faces: FaceEngine
    traces: Traces

    @property
    def model_id(self) -> str:
        return self.faces.model_id

    @property
    def stats(self) -> PoolStats:
        return self.faces.stats

    async def analyse(self, photo: bytes) -> Analysis:
        since = time.perf_counter()
        try:
            return await self.faces.analyse(photo)
        finally:
            self.traces.note("face.analyse", time.perf_counter() - since)
