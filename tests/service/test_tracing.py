"""Spans reach a collector as OTLP's JSON says, and lead from the caller's trace to the parts of a request. A collector
that is away costs nothing."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from checkin_service import tracing
from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.metrics import Metrics
from checkin_service.tracing import Traces
from tests.service.conftest import UNLIMITED
from tests.service.stage import Stage, running_service, until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
INTERNAL, SERVER = 1, 2


@dataclass(slots=True)
class Collector:
    status: int = 200
    url: str = ""
    bodies: list[Any] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        return web.json_response({}, status=self.status)

    def spans(self) -> list[Any]:
        return [span for body in self.bodies for span in body["resourceSpans"][0]["scopeSpans"][0]["spans"]]

    async def trace(self, trace_id: str) -> list[Any]:
        """Its spans, once its request's has come."""

        def found() -> list[Any]:
            return [span for span in self.spans() if span["traceId"] == trace_id]

        await until(lambda: any(span["kind"] == SERVER for span in found()))
        return found()


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    async with TestServer(app) as server:
        collector.url = str(server.make_url("/v1/traces"))
        yield collector


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    monkeypatch.setattr(tracing, "INTERVAL_S", 0.02)
    async with collecting() as running:
        yield running


@pytest.fixture
async def traced(
    database_url: str, stores: EmbeddedStores, tmp_path: Path, collector: Collector
) -> AsyncIterator[Stage]:
    at = database_url, stores.redis_url or "", tmp_path, None
    async with running_service(*at, CHECKIN_TRACES_URL=collector.url, **UNLIMITED) as running:
        yield running


async def test_a_check_in_is_a_trace_with_its_parts(traced: Stage, collector: Collector) -> None:
    await traced.ready_task("T1", "p-1")
    reply = await traced.check_in("p-1", "T1")
    spans = await collector.trace(reply.headers["X-Request-Id"])
    [request] = [span for span in spans if span["kind"] == SERVER]
    assert request["name"] == "POST /v1/check-ins"
    assert "parentSpanId" not in request
    assert values(request) == {
        "http.request.method": "POST",
        "http.route": "/v1/check-ins",
        "http.response.status_code": "201",
        "checkin.request_id": reply.headers["X-Request-Id"],
    }
    parts = [span for span in spans if span["kind"] == INTERNAL]
    assert {part["name"] for part in parts} == {"database", "face.analyse"}
    for part in parts:
        assert part["parentSpanId"] == request["spanId"]
        assert int(part["endTimeUnixNano"]) <= int(request["endTimeUnixNano"])
        assert int(part["startTimeUnixNano"]) <= int(part["endTimeUnixNano"])


async def test_the_callers_trace_goes_on(traced: Stage, collector: Collector) -> None:
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-Id": "1" * 32}
    await traced.client.get("/v1/me", headers=headers)
    [request] = await collector.trace(TRACE)
    assert request["parentSpanId"] == SPAN
    assert values(request)["checkin.request_id"] == "1" * 32
    assert request["status"] == {}


async def test_a_span_says_nothing_of_anybody(traced: Stage, collector: Collector) -> None:
    await traced.ready_task("T1", "p-1")
    reply = await traced.check_in("p-1", "T1")
    await traced.client.get("/v1/check-ins/p-1-was-here?name=p-1", headers={"User-Agent": "p-1"})
    await collector.trace(reply.headers["X-Request-Id"])
    told = json.dumps(collector.bodies)
    assert "p-1" not in told
    assert "T1" not in told


async def test_a_failure_is_marked_and_an_unknown_path_is_not_told(
    traced: Stage, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("checkin_service.web.operations._openapi_text", lambda: 1 / 0)
    async with traced.client.get("/openapi.yaml") as answer:
        assert answer.status == 500
    [failed] = await collector.trace(answer.headers["X-Request-Id"])
    assert failed["status"] == {"code": 2}
    async with traced.client.delete("/p-1") as answer:
        assert answer.status == 404
    [unknown] = await collector.trace(answer.headers["X-Request-Id"])
    assert unknown["name"] == "_OTHER unknown"


async def test_the_form_is_the_protocols(traced: Stage, collector: Collector) -> None:
    await traced.client.get("/livez")
    await until(collector.spans)
    [body] = [body for body in collector.bodies if body["resourceSpans"]][:1]
    resource = {one["key"]: one["value"] for one in body["resourceSpans"][0]["resource"]["attributes"]}
    assert resource["service.name"] == {"stringValue": "checkin"}
    [span, *_] = collector.spans()
    assert re.fullmatch("[0-9a-f]{32}", span["traceId"])
    assert re.fullmatch("[0-9a-f]{16}", span["spanId"])
    assert abs(int(span["endTimeUnixNano"]) - time.time_ns()) < 60e9
    assert isinstance(span["startTimeUnixNano"], str)


def values(span: Any) -> dict[str, str]:
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}


async def test_what_is_left_is_sent_in_the_end() -> None:
    async with collecting() as collector:
        traces = Traces(collector.url, Metrics())
        running = asyncio.create_task(traces.run())
        await asyncio.sleep(0)
        with traces.request(TRACE, ""):
            traces.note("part", 0.1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [span["name"] for span in collector.spans()] == ["part", ""]


@pytest.mark.parametrize("status", [200, 503, None])
async def test_what_nobody_takes_is_dropped_and_counted(
    monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    monkeypatch.setattr(tracing, "MOST_WAITING", 10)
    metrics = Metrics()
    async with collecting() as collector:
        collector.status = status or 200
        traces = Traces(collector.url if status else "http://127.0.0.1:1/v1/traces", metrics)
        for _ in range(15):
            with traces.request(TRACE, ""):
                pass
        running = asyncio.create_task(traces.run())
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    dropped = 5 if status == 200 else 15
    assert f"checkin_spans_dropped_total {dropped}.0".encode() in metrics.render()


def test_outside_of_a_request_nothing_is_noted() -> None:
    traces = Traces("http://127.0.0.1:1", Metrics())
    traces.note("database", 1)
    assert not traces._waiting
