"""Hostile and broken input at every endpoint: always the contract's 4xx with a code, never a 5xx, nothing used up."""

import asyncio
import copy
import gzip
import io
import json
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checkin_service.web import body as body_module
from checkin_service.web.error_codes import ErrorCode
from checkin_service.web.messages import NOTICE_VERSION
from tests.service.reviewing import ask, asked
from tests.service.stage import (
    ALL_SCOPES,
    FENCE,
    INSIDE,
    Json,
    Reply,
    Stage,
    check_in_fields,
    member,
    photo_of,
    place,
    registration,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON_TYPE = {"Content-Type": "application/json"}
MEGABYTE = 1024 * 1024


@dataclass(frozen=True)
class Call:
    """One JSON endpoint with a body that it takes."""

    method: str
    path: str
    scope: str
    body: Json

    async def send(self, stage: Stage, data: Any, **headers: str) -> Reply:
        sent = io.BytesIO(data) if isinstance(data, bytes) else data
        headers = JSON_TYPE | {"Idempotency-Key": uuid4().hex} | headers
        return await stage.call(self.method, self.path, "p-1", self.scope, data=sent, headers=headers)

    async def send_json(self, stage: Stage, body: Any) -> Reply:
        return await self.send(stage, json.dumps(body).encode())


CALLS = {
    "register": Call(
        "PUT",
        "/v1/tasks/T-new",
        "tasks",
        registration(
            "p-1",
            "p-2",
            requirement={"registered": 1, "titled": 0, "has_safety_permit": True},
            rectifies=None,
            deadline_at=None,
        ),
    ),
    "query": Call("POST", "/v1/tasks/query", "tasks", {"task_ids": ["T-open", "T-none"]}),
    "void": Call("POST", "/v1/tasks/T-void/void", "tasks", {"reason": "x", "superseded_by": "T-2"}),
    "extend": Call(
        "POST",
        "/v1/tasks/T-open/extend",
        "tasks",
        {"reason": "x", "deadline_at": "2099-01-01T00:00:00+08:00", "document_no": "深建〔2026〕1号"},
    ),
    "fence": Call(
        "POST",
        "/v1/tasks/T-open/fence",
        "tasks",
        {"reason": "x", "place": place(buffer_m=50), "effective_at": "2098-01-01T00:00:00+08:00"},
    ),
    "consent": Call(
        "PUT", "/v1/me/consent", "checkin", {"notice_version": NOTICE_VERSION, "scopes": ALL_SCOPES}
    ),
    "challenge": Call("POST", "/v1/challenges", "checkin", {"task_id": "T-open"}),
    "manual request": Call(
        "POST",
        "/v1/manual-requests",
        "checkin",
        {
            "task_id": "T-open",
            "reason": "x",
            "frame": "gcj02",
            "fixes": [
                {"lon": 114.06, "lat": 22.544, "accuracy_m": 15, "at": "2026-11-20T09:12:00+08:00"},
            ],
        },
    ),
}
EVERY_CALL = pytest.mark.parametrize("name", CALLS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(shared_stage: Stage) -> AsyncIterator[Stage]:
    """The service with two tasks of one person who is ready to check in."""
    await shared_stage.ready_task("T-open", "p-1")
    await shared_stage.register("T-void", "p-1")
    yield shared_stage


@EVERY_CALL
async def test_the_bodies_that_are_broken_here_are_taken_when_whole(stage: Stage, name: str) -> None:
    reply = await CALLS[name].send_json(stage, CALLS[name].body)
    assert reply.status in {200, 201}, reply.body


def assert_refused(reply: Reply, status: int, code: str) -> None:
    assert (reply.status, reply.code) == (status, code), reply.body
    assert reply.headers["Content-Type"].startswith("application/problem+json")
    assert reply.body["detail"]


# --- Bodies that are no JSON ---

MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "blank": b"  \n",
    "cut": b'{"reason": "x"',
    "a bare word": b"nul",
    "two values": b"{} {}",
    "single quotes": b"{'reason': 'x'}",
    "trailing comma": b'{"reason": "x",}',
    "comment": b'{} // "x"',
    "NaN": b'{"x": NaN}',
    "infinite": b'{"x": Infinity}',
    "minus infinite": b'{"x": [-Infinity]}',
    "a number beyond every double": b'{"x": 1e999}',
    "a number of 5,000 digits": b'{"x": ' + b"9" * 5000 + b"}",
    "a name twice": b'{"reason": "x", "reason": "y"}',
    "a name twice further down": b'{"x": [{"y": 1, "y": 1}]}',
    "half a surrogate": b'{"reason": "\\ud800"}',
    "a name with half a surrogate": b'{"\\udfff": 1}',
    "NUL": b'{"reason": "a\\u0000b"}',
    "a raw control character": b'{"reason": "a\x01b"}',
    "not UTF-8": b'{"reason": "\xff\xfe"}',
    "UTF-16": '{"reason": "x"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"reason": "x"}',
    "nested too deep": b'{"x": ' + b"[" * 100 + b"]" * 100 + b"}",
    "nested beyond the stack": b"[" * 200_000,
}


@EVERY_CALL
@pytest.mark.parametrize("body", MALFORMED)
async def test_a_body_that_is_no_json_is_malformed(stage: Stage, name: str, body: str) -> None:
    assert_refused(await CALLS[name].send(stage, MALFORMED[body]), 400, "malformed")


@EVERY_CALL
@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null", b"true", b"[{}]"], ids=bytes.decode)
async def test_a_body_that_is_no_object_is_invalid(stage: Stage, name: str, body: bytes) -> None:
    reply = await CALLS[name].send(stage, body)
    assert_refused(reply, 422, "invalid")
    assert reply.faults == {("", "wrong_type")}


@EVERY_CALL
async def test_an_empty_object_is_told_all_that_is_missing(stage: Stage, name: str) -> None:
    reply = await CALLS[name].send(stage, b"{}")
    assert_refused(reply, 422, "invalid")
    optional = {
        "register": {"rectifies", "deadline_at", "requirement"},
        "void": {"superseded_by"},
        "fence": {"effective_at"},
        "manual request": {"fixes", "frame"},
    }
    required = CALLS[name].body.keys() - optional.get(name, set())
    assert reply.faults == {(f"/{field}", "missing") for field in required}


@EVERY_CALL
@pytest.mark.parametrize(
    ("field", "pointer"),
    [
        ("surprise", "/surprise"),
        ("Reason", "/Reason"),
        ("a/b~c", "/a~1b~0c"),
        ("", "/"),
        ("__class__", "/__class__"),
    ],
)
async def test_an_unknown_field_is_refused_by_its_name(
    stage: Stage, name: str, field: str, pointer: str
) -> None:
    reply = await CALLS[name].send_json(stage, CALLS[name].body | {field: 1})
    assert_refused(reply, 422, "invalid")
    assert reply.faults == {(pointer, "unknown_field")}


# --- Media types, encodings, sizes ---


@EVERY_CALL
@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "application/json-patch+json",
        "application/octet-stream",
        "multipart/form-data; boundary=b",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "nonsense",
        "",
    ],
)
async def test_another_media_type_is_refused(stage: Stage, name: str, content_type: str) -> None:
    reply = await CALLS[name].send(stage, b"{}", **{"Content-Type": content_type})
    assert_refused(reply, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=UTF-8", 'APPLICATION/JSON;charset="utf-8"', "application/json;"],
)
async def test_json_is_known_by_all_its_spellings(stage: Stage, content_type: str) -> None:
    data = json.dumps(CALLS["query"].body).encode()
    assert (await CALLS["query"].send(stage, data, **{"Content-Type": content_type})).status == 200


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": bytes,
    "zstd": bytes,
    "GZIP": gzip.compress,
    "identity, gzip": gzip.compress,
    "made-up": bytes,
}


@EVERY_CALL
@pytest.mark.parametrize("encoding", ENCODERS)
async def test_an_encoded_body_is_not_decoded(stage: Stage, name: str, encoding: str) -> None:
    data = ENCODERS[encoding](json.dumps(CALLS[name].body).encode())
    reply = await CALLS[name].send(stage, data, **{"Content-Encoding": encoding})
    assert_refused(reply, 415, "unsupported_media_type")


async def test_a_bomb_is_not_inflated(stage: Stage) -> None:
    bomb = gzip.compress(bytes(64 * MEGABYTE), compresslevel=1)
    assert_refused(
        await CALLS["query"].send(stage, bomb, **{"Content-Encoding": "gzip"}), 415, "unsupported_media_type"
    )


@EVERY_CALL
async def test_a_body_beyond_the_limit_is_too_large(stage: Stage, name: str) -> None:
    data = b'{"x": "' + b"a" * (2 * MEGABYTE) + b'"}'
    assert_refused(await CALLS[name].send(stage, data), 413, "payload_too_large")


async def test_a_body_that_does_not_say_how_long_it_is_is_counted(stage: Stage) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 64 * 1024

    assert_refused(await CALLS["query"].send(stage, stream()), 413, "payload_too_large")


async def test_a_body_just_within_the_limit_is_read(stage: Stage) -> None:
    data = json.dumps(CALLS["query"].body).encode().ljust(2 * MEGABYTE)
    assert (await CALLS["query"].send(stage, data)).status == 200


async def test_a_body_that_never_comes_is_given_up(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "RECEIVE_TIMEOUT_S", 0.05)
    never = asyncio.Event()

    async def stream() -> AsyncIterator[bytes]:
        yield b"{"
        await never.wait()

    sending = asyncio.create_task(CALLS["query"].send(stage, stream()))
    try:
        assert_refused(await sending, 408, "too_slow")
    finally:
        never.set()


# --- What HTTP itself gets wrong ---


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /v1/me HTTP/9.9\r\n\r\n",
        b"GET /v1/me HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 9000 + b"\r\n\r\n",
        b"GET /" + b"y" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/me HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
        b"GET /v1/me HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        b"BREW /v1/me HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/challenges HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"POST /v1/challenges HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/challenges HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
    ids=[
        "no request line",
        "unknown version",
        "header too long",
        "path too long",
        "blank in a header's name",
        "NUL in a header",
        "unknown method",
        "length no number",
        "length and chunks",
        "unknown transfer encoding",
    ],
)
async def test_what_is_no_http_is_a_bad_request(stage: Stage, request_bytes: bytes) -> None:
    assert await _status_of(stage, request_bytes) == 400


@pytest.mark.parametrize("chunks", [b"zz\r\n{}\r\n", b"ffffffffffffffffff\r\n{}", b"2\r\n{}xx"])
async def test_broken_chunks_are_malformed(stage: Stage, chunks: bytes) -> None:
    head = (
        b"POST /v1/tasks/query HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\nAuthorization: Bearer %s\r\n\r\n"
    )
    token = stage.token("platform", "tasks").encode()
    assert await _status_of(stage, head % token + chunks) == 400


async def test_an_expectation_that_nobody_knows_is_refused(stage: Stage) -> None:
    reply = await stage.platform("GET", "/v1/changes", headers={"Expect": "miracles"})
    assert 400 <= reply.status < 500


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("POST", "/v1/tasks", 405),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/tasks/T-open/", 404),
        ("GET", "/v1/tasks/T-open/suspend", 405),
        ("POST", "/v1/tasks/T-open/members/p-1", 404),
        ("GET", "/v1/manual-requests", 405),
        ("POST", "/v1/reviews", 405),
        ("POST", "/v1/reviews/x/selfie", 405),
        ("GET", "/docs/none/none.js", 404),
        ("DELETE", "/v1/tasks/T-open", 405),
        ("PATCH", "/v1/tasks/T-open", 405),
        ("GET", "/v1/challenges", 405),
        ("POST", "/livez", 405),
        ("TRACE", "/v1/me", 405),
    ],
)
async def test_what_does_not_exist_is_a_problem_too(
    stage: Stage, method: str, path: str, status: int
) -> None:
    reply = await stage.platform(method, path)
    assert_refused(reply, status, "not_found")
    assert ("Allow" in reply.headers) == (status == 405)


# --- Ids and parameters in the address ---

STRANGE_IDS = [
    "%00",
    "a%00b",
    "a%20b",
    "%C3%A9",
    "%FF",
    "%ED%A0%80",
    "x" * 65,
    "a%0Ab",
    "a+b",
    "a,b",
    "%25",
    "%F0%9F%98%80",
]


@pytest.mark.parametrize("strange", STRANGE_IDS)
@pytest.mark.parametrize(
    ("method", "path", "scope", "body"),
    [
        ("GET", "/v1/tasks/{}", "tasks", None),
        ("POST", "/v1/tasks/{}/void", "tasks", CALLS["void"].body),
        ("POST", "/v1/tasks/{}/extend", "tasks", CALLS["extend"].body),
        ("POST", "/v1/tasks/{}/fence", "tasks", CALLS["fence"].body),
        ("GET", "/v1/persons/{}/reference", "tasks", None),
        ("DELETE", "/v1/persons/{}", "tasks", None),
        ("GET", "/v1/check-ins/{}", "checkin", None),
        ("PUT", "/v1/challenges/{}/burst/0", "checkin", None),
    ],
)
async def test_nothing_is_found_under_a_strange_id(
    stage: Stage, method: str, path: str, scope: str, body: Any, strange: str
) -> None:
    options: Json = {"json": body} if body else {}
    reply = await stage.call(method, path.format(strange), "p-1", scope, **options)
    assert_refused(reply, 404, "not_found")


@pytest.mark.parametrize("strange", STRANGE_IDS)
async def test_nothing_is_made_under_a_strange_id(stage: Stage, strange: str) -> None:
    task = await stage.platform("PUT", f"/v1/tasks/{strange}", CALLS["register"].body)
    assert_refused(task, 422, "invalid")
    assert task.faults == {("task_id", "bad_format")}
    form = aiohttp.FormData()
    form.add_field("photo", photo_of("p-1"), filename="a.jpg")
    person = await stage.platform("PUT", f"/v1/persons/{strange}/reference", data=form)
    assert_refused(person, 422, "invalid")
    assert person.faults == {("person_id", "bad_format")}


@pytest.mark.parametrize("number", ["8", "-1", "1.0", "x", "٣", "99999999999999999999", "%00"])
async def test_a_burst_has_eight_places(stage: Stage, number: str) -> None:
    challenge_id = await stage.challenge("p-1", "T-open")
    headers = {"Content-Type": "image/jpeg"}
    reply = await stage.person(
        "p-1", "PUT", f"/v1/challenges/{challenge_id}/burst/{number}", data=photo_of("p-1"), headers=headers
    )
    assert_refused(reply, 404, "not_found")


@pytest.mark.parametrize(
    "limit", ["0", "-1", "501", "1.5", "1e2", "x", "", "٣", "%00", "9" * 400, "0x1", " 1"]
)
async def test_a_page_has_one_to_five_hundred_changes(stage: Stage, limit: str) -> None:
    reply = await stage.platform("GET", f"/v1/changes?limit={limit}")
    assert_refused(reply, 422, "invalid")
    assert reply.faults == {("limit", "out_of_range")}


@pytest.mark.parametrize(
    "cursor",
    ["x", "1", ".1", "epoch.", "epoch.x", "epoch.-1", "epoch." + "9" * 19, "EPOCH.1", "%00", "a b.1", "é.1"],
)
async def test_a_cursor_is_one_of_ours(stage: Stage, cursor: str) -> None:
    reply = await stage.platform("GET", f"/v1/changes?after={cursor}")
    assert_refused(reply, 422, "invalid")
    assert reply.faults == {("after", "bad_format")}


@pytest.mark.parametrize("name", [name for name in CALLS if name != "query"])
@pytest.mark.parametrize("key", ["", "a b", "a\tb", "é", "x" * 256])
async def test_an_idempotency_key_is_visible_ascii(stage: Stage, name: str, key: str) -> None:
    data = json.dumps(CALLS[name].body).encode()
    reply = await CALLS[name].send(stage, data, **{"Idempotency-Key": key})
    assert_refused(reply, 422, "invalid")
    assert reply.faults == {("Idempotency-Key", "bad_format")}


# --- Types and ranges of a registration ---

RING: list[list[float]] = FENCE["coordinates"][0]
BOWTIE = [RING[0], RING[2], RING[1], RING[3], RING[0]]


def _moved(by_lon: float, by_lat: float = 0.0) -> list[list[float]]:
    return [[lon + by_lon, lat + by_lat] for lon, lat in RING]


def _square(side: float) -> list[list[float]]:
    west, south = RING[0]
    corners = [(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]
    return [[west + side * east, south + side * north] for east, north in corners]


def _polygon(*rings: Any) -> Json:
    return {"type": "Polygon", "coordinates": list(rings)}


def _circle(**changes: Any) -> Json:
    return {"type": "Circle", "coordinates": [114.06, 22.544], "radius_m": 150, **changes}


NAMELESS = {key: value for key, value in member("p-1", lead=True).items() if key != "name"}
WRONG: list[tuple[str, Any, str, str]] = [
    # pointer, value there, pointer of the fault, its code
    ("/case_id", 7, "/case_id", "wrong_type"),
    ("/case_id", None, "/case_id", "wrong_type"),
    ("/case_id", "", "/case_id", "bad_format"),
    ("/case_id", "a b", "/case_id", "bad_format"),
    ("/case_id", "a\n", "/case_id", "bad_format"),
    ("/case_id", "x" * 65, "/case_id", "bad_format"),
    ("/round", "1", "/round", "wrong_type"),
    ("/round", 1.5, "/round", "wrong_type"),
    ("/round", True, "/round", "wrong_type"),
    ("/round", None, "/round", "wrong_type"),
    ("/round", 0, "/round", "out_of_range"),
    ("/round", 10**300, "/round", "out_of_range"),
    ("/flow", "other", "/flow", "not_allowed_value"),
    ("/flow", 1, "/flow", "not_allowed_value"),
    ("/flow", None, "/flow", "not_allowed_value"),
    ("/flow", [], "/flow", "not_allowed_value"),
    ("/rectifies", 5, "/rectifies", "wrong_type"),
    ("/rectifies", "", "/rectifies", "bad_format"),
    ("/enterprise", None, "/enterprise", "wrong_type"),
    ("/enterprise", [], "/enterprise", "wrong_type"),
    ("/enterprise", {}, "/enterprise/uscc", "missing"),
    ("/enterprise/extra", 1, "/enterprise/extra", "unknown_field"),
    ("/enterprise/uscc", 1, "/enterprise/uscc", "wrong_type"),
    ("/enterprise/uscc", "9" * 100, "/enterprise/uscc", "too_long"),
    ("/enterprise/name", "", "/enterprise/name", "too_short"),
    ("/enterprise/name", "x" * 201, "/enterprise/name", "too_long"),
    ("/enterprise/name", "a\u0001b", "/enterprise/name", "bad_format"),
    ("/approved_at", 1762135200, "/approved_at", "wrong_type"),
    ("/approved_at", None, "/approved_at", "wrong_type"),
    ("/approved_at", "2026-11-03", "/approved_at", "not_a_time"),
    ("/approved_at", "2026-11-03T10:00:00", "/approved_at", "not_a_time"),
    ("/approved_at", "2026-11-03 10:00:00+08:00", "/approved_at", "not_a_time"),
    ("/approved_at", "2026-02-30T10:00:00+08:00", "/approved_at", "not_a_time"),
    ("/approved_at", "2026-11-03T10:00:61Z", "/approved_at", "not_a_time"),
    ("/approved_at", "2026-11-03T10:00:00+25:00", "/approved_at", "not_a_time"),
    ("/approved_at", "2026-11-03T10:00:00Z junk", "/approved_at", "not_a_time"),
    ("/approved_at", "２０２６-11-03T10:00:00Z", "/approved_at", "not_a_time"),
    ("/approved_at", "0000-01-01T00:00:00Z", "/approved_at", "not_a_time"),
    ("/approved_at", "0001-01-01T00:00:00+08:00", "/approved_at", "out_of_range"),
    ("/approved_at", "9999-12-31T23:59:59-08:00", "/approved_at", "out_of_range"),
    ("/deadline_at", "tomorrow", "/deadline_at", "not_a_time"),
    ("/place", None, "/place", "wrong_type"),
    ("/place", "Shenzhen", "/place", "wrong_type"),
    ("/place/extra", 1, "/place/extra", "unknown_field"),
    ("/place/registered_address", "", "/place/registered_address", "too_short"),
    ("/place/registered_address", 5, "/place/registered_address", "wrong_type"),
    ("/place/frame", "WGS84", "/place/frame", "not_allowed_value"),
    ("/place/frame", "wgs-84", "/place/frame", "not_allowed_value"),
    ("/place/frame", "epsg:4326", "/place/frame", "not_allowed_value"),
    ("/place/frame", "", "/place/frame", "not_allowed_value"),
    ("/place/frame", None, "/place/frame", "not_allowed_value"),
    ("/place/frame", ["wgs84"], "/place/frame", "not_allowed_value"),
    ("/place/buffer_m", -0.1, "/place/buffer_m", "out_of_range"),
    ("/place/buffer_m", 500.1, "/place/buffer_m", "out_of_range"),
    ("/place/buffer_m", "100", "/place/buffer_m", "wrong_type"),
    ("/place/buffer_m", True, "/place/buffer_m", "wrong_type"),
    ("/place/buffer_m", None, "/place/buffer_m", "wrong_type"),
    ("/place/fence", None, "/place/fence", "wrong_type"),
    ("/place/fence", [], "/place/fence", "wrong_type"),
    ("/place/fence", {}, "/place/fence/type", "fence_type"),
    ("/place/fence/type", "Point", "/place/fence/type", "fence_type"),
    ("/place/fence/type", {}, "/place/fence/type", "fence_type"),
    ("/place/fence/crs", "EPSG:4326", "/place/fence/crs", "fence_unknown_member"),
    ("/place/fence/coordinates", None, "/place/fence/coordinates", "fence_coordinates"),
    ("/place/fence/coordinates", [], "/place/fence/coordinates", "fence_coordinates"),
    ("/place/fence/coordinates", "x", "/place/fence/coordinates", "fence_coordinates"),
    ("/place/fence/coordinates/0", [], "/place/fence/coordinates/0", "fence_coordinates"),
    ("/place/fence/coordinates/0/1", [114.061], "/place/fence/coordinates/0/1", "fence_coordinates"),
    ("/place/fence/coordinates/0/1", ["114", 22.5], "/place/fence/coordinates/0/1/0", "fence_coordinates"),
    ("/place/fence/coordinates/0/1", [True, 22.5], "/place/fence/coordinates/0/1/0", "fence_coordinates"),
    ("/place/fence", _polygon(RING[:-1]), "/place/fence/coordinates/0", "fence_ring_open"),
    ("/place/fence", _polygon([RING[0], RING[1], RING[0]]), "/place/fence/coordinates/0", "fence_ring_short"),
    ("/place/fence", _polygon(BOWTIE), "/place/fence/coordinates/0", "fence_self_intersection"),
    ("/place/fence", _polygon(RING, _moved(0.01)), "/place/fence/coordinates/1", "fence_hole_outside"),
    (
        "/place/fence",
        {"type": "MultiPolygon", "coordinates": [[RING], [_moved(0.001)]]},
        "/place/fence/coordinates/1",
        "fence_overlap",
    ),
    ("/place/fence", _polygon(_square(0.05)), "/place/fence/coordinates", "fence_area"),
    ("/place/fence", _polygon(_square(0.00001)), "/place/fence/coordinates", "fence_area"),
    ("/place/fence", _polygon(RING * 500), "/place/fence/coordinates", "fence_too_many_points"),
    (
        "/place/fence",
        _polygon([[lat, lon] for lon, lat in RING]),
        "/place/fence/coordinates",
        "fence_swapped",
    ),
    ("/place/fence", _polygon(_moved(2.3, 17.4)), "/place/fence/coordinates", "fence_outside_box"),
    ("/place/fence", _polygon(_moved(1e300)), "/place/fence/coordinates", "fence_outside_box"),
    ("/place/fence", _circle(radius_m=0.99), "/place/fence/radius_m", "fence_radius"),
    ("/place/fence", _circle(radius_m=5000.1), "/place/fence/radius_m", "fence_radius"),
    ("/place/fence", _circle(radius_m="150"), "/place/fence/radius_m", "fence_radius"),
    ("/place/fence", _circle(radius_m=None), "/place/fence/radius_m", "fence_radius"),
    ("/place/fence", _circle(coordinates=[22.544, 114.06]), "/place/fence/coordinates", "fence_swapped"),
    ("/place/fence", _circle(coordinates=[0, 0]), "/place/fence/coordinates", "fence_outside_box"),
    ("/requirement", [], "/requirement", "wrong_type"),
    ("/requirement", {}, "/requirement/titled", "missing"),
    ("/requirement/extra", 1, "/requirement/extra", "unknown_field"),
    ("/requirement/registered", -1, "/requirement/registered", "out_of_range"),
    ("/requirement/registered", "1", "/requirement/registered", "wrong_type"),
    ("/requirement/titled", 0.5, "/requirement/titled", "wrong_type"),
    ("/requirement/has_safety_permit", 1, "/requirement/has_safety_permit", "wrong_type"),
    ("/requirement/has_safety_permit", "true", "/requirement/has_safety_permit", "wrong_type"),
    ("/roster", [], "/roster", "too_short"),
    ("/roster", {}, "/roster", "wrong_type"),
    ("/roster", None, "/roster", "wrong_type"),
    ("/roster", [member(f"p-{n}", lead=True) for n in range(1001)], "/roster", "too_long"),
    ("/roster/0", 1, "/roster/0", "wrong_type"),
    ("/roster/0", None, "/roster/0", "wrong_type"),
    ("/roster/0", NAMELESS, "/roster/0/name", "missing"),
    ("/roster/0/extra", 1, "/roster/0/extra", "unknown_field"),
    ("/roster/0/person_id", 1, "/roster/0/person_id", "wrong_type"),
    ("/roster/0/person_id", "张三", "/roster/0/person_id", "bad_format"),
    ("/roster/0/name", "", "/roster/0/name", "too_short"),
    ("/roster/0/name", "x" * 65, "/roster/0/name", "too_long"),
    ("/roster/0/categories", [], "/roster/0/categories", "too_short"),
    ("/roster/0/categories", "registered", "/roster/0/categories", "wrong_type"),
    ("/roster/0/categories", ["other"], "/roster/0/categories/0", "not_allowed_value"),
    ("/roster/0/categories", [None], "/roster/0/categories/0", "not_allowed_value"),
    ("/roster/0/categories", ["titled", "titled"], "/roster/0/categories", "duplicate_field"),
    ("/roster/0/technical_lead", "true", "/roster/0/technical_lead", "wrong_type"),
    ("/roster/0/technical_lead", 1, "/roster/0/technical_lead", "wrong_type"),
]


@pytest.mark.parametrize(("at", "value", "pointer", "code"), WRONG)
async def test_a_registration_with_one_thing_wrong(
    stage: Stage, at: str, value: Any, pointer: str, code: str
) -> None:
    body = _with(CALLS["register"].body, at, value)
    reply = await CALLS["register"].send_json(stage, body)
    assert_refused(reply, 422, "invalid")
    assert (pointer, code) in reply.faults
    assert all(error["message"] for error in reply.body["errors"])


@pytest.mark.parametrize(
    ("name", "at", "value", "pointer", "code"),
    [
        ("query", "/task_ids", "T-open", "/task_ids", "wrong_type"),
        ("query", "/task_ids", None, "/task_ids", "wrong_type"),
        ("query", "/task_ids", ["x"] * 501, "/task_ids", "too_long"),
        ("query", "/task_ids/1", 5, "/task_ids/1", "wrong_type"),
        ("query", "/task_ids/1", "a b", "/task_ids/1", "bad_format"),
        ("void", "/reason", "", "/reason", "too_short"),
        ("void", "/reason", "x" * 501, "/reason", "too_long"),
        ("void", "/reason", None, "/reason", "wrong_type"),
        ("void", "/superseded_by", "a b", "/superseded_by", "bad_format"),
        ("extend", "/reason", 5, "/reason", "wrong_type"),
        ("extend", "/deadline_at", None, "/deadline_at", "wrong_type"),
        ("extend", "/deadline_at", "2099-01-01", "/deadline_at", "not_a_time"),
        ("extend", "/deadline_at", "2099-01-01T00:00:01+08:00", "/deadline_at", "deadline_not_day_end"),
        ("extend", "/document_no", "", "/document_no", "too_short"),
        ("extend", "/document_no", 5, "/document_no", "wrong_type"),
        ("fence", "/place", None, "/place", "wrong_type"),
        ("fence", "/place/frame", "wgs", "/place/frame", "not_allowed_value"),
        ("fence", "/place/fence/type", "Line", "/place/fence/type", "fence_type"),
        ("fence", "/place/fence", _circle(radius_m=0), "/place/fence/radius_m", "fence_radius"),
        ("fence", "/effective_at", "now", "/effective_at", "not_a_time"),
        ("fence", "/effective_at", 5, "/effective_at", "wrong_type"),
        ("consent", "/notice_version", None, "/notice_version", "wrong_type"),
        ("consent", "/scopes", [], "/scopes", "too_short"),
        ("consent", "/scopes", ["face", "face"], "/scopes", "duplicate_field"),
        ("consent", "/scopes", ["fingerprint"], "/scopes/0", "not_allowed_value"),
        ("consent", "/scopes", "face", "/scopes", "wrong_type"),
        ("challenge", "/task_id", 5, "/task_id", "wrong_type"),
        ("challenge", "/task_id", "a b", "/task_id", "bad_format"),
    ],
)
async def test_another_call_with_one_thing_wrong(
    stage: Stage, name: str, at: str, value: Any, pointer: str, code: str
) -> None:
    reply = await CALLS[name].send_json(stage, _with(CALLS[name].body, at, value))
    assert_refused(reply, 422, "invalid")
    assert reply.faults == {(pointer, code)}


# --- Forms ---


@dataclass(frozen=True)
class FormCall:
    method: str
    path: str
    scope: str
    file: str


FORMS = {
    "enrol": FormCall("PUT", "/v1/persons/p-form/reference", "tasks", "photo"),
    "check-in": FormCall("POST", "/v1/check-ins", "checkin", "selfie"),
}
EVERY_FORM = pytest.mark.parametrize("name", FORMS)
Part = tuple[bytes, bytes]


def _part(field: str, content: bytes | str, *more: str, filename: str | None = None) -> Part:
    file = f'; filename="{filename}"' if filename else ""
    lines = [f'Content-Disposition: form-data; name="{field}"{file}', *more]
    return "\r\n".join(lines).encode(), content if isinstance(content, bytes) else content.encode()


def _joined(*parts: Part, end: bytes = b"--b--\r\n") -> bytes:
    return b"".join(b"--b\r\n" + head + b"\r\n\r\n" + content + b"\r\n" for head, content in parts) + end


def _whole_form(name: str, challenge_id: str = "") -> list[Part]:
    """The parts of a form that is taken."""
    call = FORMS[name]
    file = _part(call.file, photo_of("p-1", shot=1), "Content-Type: image/jpeg", filename="a.jpg")
    if name == "enrol":
        return [file, _part("basis", '{"kind": "statutory_duty", "document": "x"}')]
    fields = check_in_fields("T-open", challenge_id or str(uuid4()), INSIDE)
    return [file, *(_part(k, v if isinstance(v, str) else json.dumps(v)) for k, v in fields.items())]


async def _send_form(
    stage: Stage, name: str, data: Any, content_type: str = "multipart/form-data; boundary=b", **headers: str
) -> Reply:
    call = FORMS[name]
    named = {"Content-Type": content_type, "Idempotency-Key": uuid4().hex} | headers
    sent = io.BytesIO(data) if isinstance(data, bytes) else data
    return await stage.call(call.method, call.path, "p-1", call.scope, data=sent, headers=named)


@EVERY_FORM
async def test_the_forms_that_are_broken_here_are_taken_when_whole(stage: Stage, name: str) -> None:
    challenge_id = await stage.challenge("p-1", "T-open")
    reply = await _send_form(stage, name, _joined(*_whole_form(name, challenge_id)))
    assert reply.status == 201, reply.body


@EVERY_FORM
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_a_form_is_read_in_whatever_pieces_it_comes(stage: Stage, name: str, size: int) -> None:
    challenge_id = await stage.challenge("p-1", "T-open")
    data = _joined(*_whole_form(name, challenge_id))

    async def stream() -> AsyncIterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]
            await asyncio.sleep(0)

    reply = await _send_form(stage, name, stream())
    assert reply.status == 201, reply.body


HEAD = b'Content-Disposition: form-data; name="x"'
BROKEN_FORMS: dict[str, bytes] = {
    "empty": b"",
    "no part": b"--b--\r\n",
    "no boundary in it": b"hello",
    "another boundary": _joined(_part("x", "1")).replace(b"--b", b"--c"),
    "no end": _joined(_part("x", "1"), end=b""),
    "half an end": _joined(_part("x", "1"), end=b"--b-"),
    "a part cut in its head": b"--b\r\nContent-Dispo",
    "a part without a head": b"--b\r\n\r\n1\r\n--b--\r\n",
    "a head that is none": _joined((b"nonsense", b"1")),
    "a part that is no form data": _joined((b'Content-Disposition: attachment; name="x"', b"1")),
    "line feeds alone": _joined(_part("x", "1")).replace(b"\r\n", b"\n"),
    "a head of a megabyte": _joined((HEAD + b"\r\nX-Long: " + b"y" * MEGABYTE, b"1")),
    "a hundred heads": _joined((HEAD + b"\r\nX-Many: y" * 100, b"1")),
    "a head that is not UTF-8": _joined((b'Content-Disposition: form-data; name="\xff"', b"1")),
    "ten thousand parts": _joined(*[_part("x", "1")] * 10_000),
    "a length that lies": _joined((HEAD + b"\r\nContent-Length: 5", b"123456")),
}


@EVERY_FORM
@pytest.mark.parametrize("form", [name for name in BROKEN_FORMS if name != "no part"])
async def test_a_form_that_cannot_be_read_is_malformed(stage: Stage, name: str, form: str) -> None:
    assert_refused(await _send_form(stage, name, BROKEN_FORMS[form]), 400, "malformed")


@EVERY_FORM
@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data", "multipart/form-data; boundary=", f"multipart/form-data; boundary={'b' * 71}"],
)
async def test_a_boundary_has_one_to_seventy_characters(stage: Stage, name: str, content_type: str) -> None:
    assert_refused(await _send_form(stage, name, _joined(), content_type), 400, "malformed")


@EVERY_FORM
@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "multipart/mixed; boundary=b",
        "text/plain",
        "application/x-www-form-urlencoded",
        "",
    ],
)
async def test_a_form_of_another_media_type_is_refused(stage: Stage, name: str, content_type: str) -> None:
    assert_refused(await _send_form(stage, name, _joined(), content_type), 415, "unsupported_media_type")


@EVERY_FORM
@pytest.mark.parametrize(
    "header",
    [
        "Content-Transfer-Encoding: base64",
        "Content-Transfer-Encoding: quoted-printable",
        "content-transfer-encoding: BASE64",
        "Content-Encoding: gzip",
    ],
)
async def test_a_part_is_not_decoded(stage: Stage, name: str, header: str) -> None:
    file, *others = _whole_form(name)
    encoded = (file[0] + b"\r\n" + header.encode(), file[1])
    assert_refused(await _send_form(stage, name, _joined(encoded, *others)), 415, "unsupported_media_type")


@EVERY_FORM
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_a_form_is_not_decoded(stage: Stage, name: str, encoding: str) -> None:
    data = ENCODERS[encoding](_joined(*_whole_form(name)))
    reply = await _send_form(stage, name, data, **{"Content-Encoding": encoding})
    assert_refused(reply, 415, "unsupported_media_type")


@EVERY_FORM
@pytest.mark.parametrize(
    ("extra", "fault"),
    [
        (_part("surprise", "1"), ("/surprise", "unknown_field")),
        (_part("surprise", "1", filename="a.jpg"), ("/surprise", "unknown_field")),
        (_part("a/b~c", "1"), ("/a~1b~0c", "unknown_field")),
        (_part("", "1"), ("/", "unknown_field")),
        ((b"Content-Disposition: form-data", b"1"), ("/", "unknown_field")),
    ],
    ids=["text", "file", "escaped", "empty name", "no name"],
)
async def test_a_form_field_that_nobody_knows_is_refused_by_its_name(
    stage: Stage, name: str, extra: Part, fault: tuple[str, str]
) -> None:
    reply = await _send_form(stage, name, _joined(*_whole_form(name), extra))
    assert_refused(reply, 422, "invalid")
    assert reply.faults == {fault}


@pytest.mark.parametrize(
    ("name", "extra", "fault"),
    [
        ("enrol", [_part("basis", "{}")], ("/basis", "duplicate_field")),
        ("enrol", [_part("photo", photo_of("p-1"))] * 5, ("/photo", "too_long")),
        ("check-in", [_part("task_id", "T-open")], ("/task_id", "duplicate_field")),
        ("check-in", [_part("selfie", photo_of("p-1"))], ("/selfie", "duplicate_field")),
        ("check-in", [_part("burst", photo_of("p-1"))] * 9, ("/burst", "too_long")),
        ("check-in", [_part("device", "x" * (64 * 1024 + 1))], ("/device", "too_long")),
    ],
)
async def test_a_form_field_comes_no_more_often_and_no_longer_than_allowed(
    stage: Stage, name: str, extra: list[Part], fault: tuple[str, str]
) -> None:
    reply = await _send_form(stage, name, _joined(*_whole_form(name), *extra))
    assert_refused(reply, 422, "invalid")
    assert fault in reply.faults


@EVERY_FORM
async def test_a_form_without_its_picture_says_so(stage: Stage, name: str) -> None:
    _, *texts = _whole_form(name)
    reply = await _send_form(stage, name, _joined(*texts))
    assert_refused(reply, 422, "invalid")
    assert reply.faults == {(f"/{FORMS[name].file}", "missing")}


@EVERY_FORM
async def test_a_picture_of_more_than_six_megabytes_is_too_large(stage: Stage, name: str) -> None:
    _, *texts = _whole_form(name)
    large = photo_of("p-1").ljust(6 * MEGABYTE + 1, b"\0")
    form = _joined(*texts, _part(FORMS[name].file, large, filename="a.jpg"))
    assert_refused(await _send_form(stage, name, form), 413, "payload_too_large")


@EVERY_FORM
async def test_a_part_without_an_end_is_counted_while_it_comes(stage: Stage, name: str) -> None:
    async def stream() -> AsyncIterator[bytes]:
        yield _joined(_part(FORMS[name].file, b"\xff\xd8"), end=b"")
        for _ in range(10):
            yield b" " * MEGABYTE

    assert_refused(await _send_form(stage, name, stream()), 413, "payload_too_large")


async def test_many_pictures_together_are_counted_while_they_come(stage: Stage) -> None:
    async def stream() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield _joined(_part("photo", b" " * 5 * MEGABYTE), end=b"")

    assert_refused(await _send_form(stage, "enrol", stream()), 413, "payload_too_large")


@EVERY_FORM
@pytest.mark.parametrize(
    "picture",
    [b"", b"GIF89a" + bytes(50), b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"hello"],
)
async def test_what_is_no_picture_is_refused(stage: Stage, name: str, picture: bytes) -> None:
    _, *texts = _whole_form(name)
    form = _joined(*texts, _part(FORMS[name].file, picture, filename="a.jpg"))
    reply = await _send_form(stage, name, form)
    assert (reply.status, reply.code) in {(415, "unsupported_media_type"), (422, "image_unreadable")}


@pytest.mark.parametrize("text", [b"\xff\xfe", b"a\0b"], ids=["not UTF-8", "NUL"])
@pytest.mark.parametrize(("name", "field"), [("enrol", "basis"), ("check-in", "task_id")])
async def test_a_text_field_is_text(stage: Stage, name: str, field: str, text: bytes) -> None:
    file, *_ = _whole_form(name)
    assert_refused(await _send_form(stage, name, _joined(file, _part(field, text))), 400, "malformed")


@pytest.mark.parametrize("text", ["", "{", "NaN", "[Infinity]", '{"a": 1, "a": 2}', "[" * 100_000, "1e999"])
@pytest.mark.parametrize(
    ("name", "field"), [("enrol", "basis"), ("check-in", "fixes"), ("check-in", "device")]
)
async def test_json_within_a_form_is_json(stage: Stage, name: str, field: str, text: str) -> None:
    parts = [part for part in _whole_form(name) if f'name="{field}"'.encode() not in part[0]]
    form = _joined(*parts, _part(field, text[: 64 * 1024]))
    assert_refused(await _send_form(stage, name, form), 400, "malformed")


FIX = {"lon": 114.06, "lat": 22.544, "accuracy_m": 15, "at": "2026-11-20T09:00:00+08:00"}
FORM_FAULTS: list[tuple[str, Any, str, str]] = [
    ("task_id", "", "/task_id", "bad_format"),
    ("task_id", "a b", "/task_id", "bad_format"),
    ("challenge_id", "", "/challenge_id", "too_short"),
    ("challenge_id", "x" * 101, "/challenge_id", "too_long"),
    ("frame", "WGS84", "/frame", "not_allowed_value"),
    ("frame", "", "/frame", "not_allowed_value"),
    ("captured_at", "now", "/captured_at", "not_a_time"),
    ("captured_at", "2026-11-20T09:00:00", "/captured_at", "not_a_time"),
    ("fixes", {}, "/fixes", "wrong_type"),
    ("fixes", None, "/fixes", "wrong_type"),
    ("fixes", [FIX] * 11, "/fixes", "too_long"),
    ("fixes", [1], "/fixes/0", "wrong_type"),
    ("fixes", [{}], "/fixes/0/at", "missing"),
    ("fixes", [FIX | {"extra": 1}], "/fixes/0/extra", "unknown_field"),
    ("fixes", [FIX | {"lon": "114"}], "/fixes/0/lon", "wrong_type"),
    ("fixes", [FIX | {"lat": None}], "/fixes/0/lat", "wrong_type"),
    ("fixes", [FIX | {"lat": True}], "/fixes/0/lat", "wrong_type"),
    ("fixes", [FIX | {"accuracy_m": "15"}], "/fixes/0/accuracy_m", "wrong_type"),
    ("fixes", [FIX | {"at": 5}], "/fixes/0/at", "wrong_type"),
    ("fixes", [FIX | {"at": "then"}], "/fixes/0/at", "not_a_time"),
    ("fixes", [FIX | {"speed_mps": []}], "/fixes/0/speed_mps", "wrong_type"),
    ("device", [], "/device", "wrong_type"),
    ("device", {"extra": 1}, "/device/extra", "unknown_field"),
    ("device", {"platform": "windows"}, "/device/platform", "not_allowed_value"),
    ("device", {"model": 5}, "/device/model", "wrong_type"),
    ("device", {"device_id": "x" * 201}, "/device/device_id", "too_long"),
    ("device", {"reduced_accuracy": "no"}, "/device/reduced_accuracy", "wrong_type"),
]


@pytest.mark.parametrize(("field", "value", "pointer", "code"), FORM_FAULTS)
async def test_a_check_in_with_one_thing_wrong(
    stage: Stage, field: str, value: Any, pointer: str, code: str
) -> None:
    fields = check_in_fields("T-open", str(uuid4())) | {field: value}
    reply = await stage.submit("p-1", fields, photo_of("p-1", shot=1))
    assert_refused(reply, 422, "invalid")
    assert (pointer, code) in reply.faults


@pytest.mark.parametrize("field", ["task_id", "challenge_id", "frame", "fixes", "captured_at"])
async def test_a_check_in_with_something_missing(stage: Stage, field: str) -> None:
    fields = check_in_fields("T-open", str(uuid4()))
    del fields[field]
    reply = await stage.submit("p-1", fields, photo_of("p-1", shot=1))
    assert_refused(reply, 422, "invalid")
    assert reply.faults == {(f"/{field}", "missing")}


@pytest.mark.parametrize(
    ("basis", "pointer", "code"),
    [
        ([], "/basis", "wrong_type"),
        ({}, "/basis/kind", "missing"),
        ({"kind": "none"}, "/basis/kind", "not_allowed_value"),
        ({"kind": "statutory_duty", "document": 5}, "/basis/document", "wrong_type"),
        ({"kind": "statutory_duty", "extra": 1}, "/basis/extra", "unknown_field"),
    ],
)
async def test_an_enrolment_with_a_wrong_basis(stage: Stage, basis: Any, pointer: str, code: str) -> None:
    file, _ = _whole_form("enrol")
    reply = await _send_form(stage, "enrol", _joined(file, _part("basis", json.dumps(basis))))
    assert_refused(reply, 422, "invalid")
    assert reply.faults == {(pointer, code)}


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256])
@EVERY_FORM
async def test_a_form_takes_no_invisible_key(stage: Stage, name: str, key: str) -> None:
    reply = await _send_form(stage, name, _joined(*_whole_form(name)), **{"Idempotency-Key": key})
    assert_refused(reply, 422, "invalid")


async def test_a_check_in_needs_a_key(stage: Stage) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    data = _joined(*_whole_form("check-in"))
    reply = await stage.person("p-1", "POST", "/v1/check-ins", data=data, headers=headers)
    assert_refused(reply, 400, "idempotency_key_required")


async def test_what_cannot_be_read_uses_nothing_up(stage: Stage) -> None:
    """400, 413, 415 and 422 come before the receipt: the same challenge and key serve afterwards."""
    challenge_id, key = await stage.challenge("p-1", "T-open"), uuid4().hex
    file, *texts = _whole_form("check-in", challenge_id)
    broken = {
        400: [file, *texts, _part("device", "NaN")],
        413: [(file[0], file[1].ljust(7 * MEGABYTE)), *texts],
        415: [(file[0], b"hello"), *texts],
        422: [file, *texts, _part("device", "[]")],
    }
    for status, parts in broken.items():
        reply = await _send_form(stage, "check-in", _joined(*parts), **{"Idempotency-Key": key})
        assert reply.status == status
    reply = await _send_form(stage, "check-in", _joined(file, *texts), **{"Idempotency-Key": key})
    assert (reply.status, reply.body["outcome"]) == (201, "accepted")


# --- Somebody else's ---


async def test_what_belongs_to_somebody_else_looks_like_nothing(stage: Stage) -> None:
    await stage.ready_task("T-mine", "p-mine")
    challenge_id = await stage.challenge("p-mine", "T-mine")
    mine = await stage.check_in("p-mine", "T-mine", selfie=photo_of("p-other"))
    asked_for = await asked(stage, "p-mine", "T-mine")
    burst = {"data": photo_of("p-1"), "headers": {"Content-Type": "image/jpeg"}}
    pairs: list[tuple[str, str, str, Json]] = [
        ("GET", f"/v1/check-ins/{mine.body['check_in_id']}", f"/v1/check-ins/{uuid4()}", {}),
        ("GET", f"/v1/manual-requests/{asked_for}", f"/v1/manual-requests/{uuid4()}", {}),
        ("PUT", f"/v1/challenges/{challenge_id}/burst/0", f"/v1/challenges/{uuid4()}/burst/0", burst),
    ]
    for method, theirs, absent, options in pairs:
        assert _shown(await stage.person("p-1", method, theirs, **options)) == _shown(
            await stage.person("p-1", method, absent, **options)
        )
    roster = await stage.person("p-1", "POST", "/v1/challenges", {"task_id": "T-mine"})
    nothing = await stage.person("p-1", "POST", "/v1/challenges", {"task_id": "T-none"})
    assert _shown(roster) == _shown(nothing)
    assert_refused(roster, 404, "not_found")
    requests = [await ask(stage, "p-1", task_id) for task_id in ("T-mine", "T-none")]
    assert _shown(requests[0]) == _shown(requests[1])
    assert_refused(requests[0], 404, "not_found")


async def test_somebody_elses_challenge_serves_nobody_and_is_not_used_up(stage: Stage) -> None:
    await stage.ready_task("T-two", "p-a", "p-b")
    challenge_id = await stage.challenge("p-a", "T-two")
    stolen = await stage.check_in("p-b", "T-two", challenge_id=challenge_id)
    assert_refused(stolen, 409, "challenge_invalid")
    assert (await stage.check_in("p-a", "T-two", challenge_id=challenge_id)).status == 201


@pytest.mark.parametrize(
    "challenge_id",
    ["x", "1", "0190a9e8-5f3c-7c55-9d3e-2f8f6c1f6a11", "00000000-0000-0000-0000-000000000000", "{}"],
)
async def test_a_challenge_that_was_never_given(stage: Stage, challenge_id: str) -> None:
    reply = await stage.submit("p-1", check_in_fields("T-open", challenge_id), photo_of("p-1", shot=1))
    assert_refused(reply, 409, "challenge_invalid")


# --- Anything at all ---

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(
        ["", "T-open", "wgs84", "Circle", "9999-12-31T23:59:59+08:00", "1990-01-01T00:00:00Z", -0.0]
    )
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
SHORT = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def places_of(value: Any, pointer: str = "") -> list[str]:
    """The JSON pointer of everything within a value."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [pointer, *(inner for name, child in children for inner in places_of(child, f"{pointer}/{name}"))]


@st.composite
def damaged(draw: st.DrawFn, body: Any) -> Any:
    """A good body with anything at all in one to three places."""
    for at in draw(st.lists(st.sampled_from(places_of(body)), min_size=1, max_size=3)):
        body = _with(body, at, draw(ANYTHING))
    return body


@EVERY_CALL
@SHORT
@given(data=st.data())
async def test_anything_at_all_never_breaks_the_service(stage: Stage, name: str, data: st.DataObject) -> None:
    body = data.draw(ANYTHING | damaged(CALLS[name].body))
    _assert_answered(await CALLS[name].send_json(stage, body))


@SHORT
@given(data=st.data())
async def test_anything_at_all_in_a_check_in_never_breaks_the_service(
    stage: Stage, data: st.DataObject
) -> None:
    fields = {
        name: json.dumps(value) if isinstance(value, list) else value
        for name, value in check_in_fields("T-open", await stage.challenge("p-1", "T-open")).items()
    }
    name = data.draw(st.sampled_from(["fixes", "device", *fields]))
    whole = [FIX, FIX] if name == "fixes" else {"platform": "ios", "model": "x", "reduced_accuracy": False}
    anything = data.draw(ANYTHING | damaged(whole) if name in {"fixes", "device"} else st.text(max_size=20))
    text = json.dumps(anything) if name in {"fixes", "device"} else str(anything)
    parts = [_part(k, v.encode("utf-8", "replace")) for k, v in (fields | {name: text}).items()]
    reply = await _send_form(stage, "check-in", _joined(*parts, _part("selfie", photo_of("p-1", shot=1))))
    _assert_answered(reply)


@SHORT
@given(data=st.binary(max_size=300))
async def test_any_bytes_at_all_never_break_the_service(stage: Stage, data: bytes) -> None:
    for name in FORMS:
        _assert_answered(await _send_form(stage, name, data))
        _assert_answered(await _send_form(stage, name, _joined((HEAD, data))))
    _assert_answered(await CALLS["query"].send(stage, data))


def _assert_answered(reply: Reply) -> None:
    """With a success or with a problem of the contract whose status is its code's."""
    if reply.status >= 300:
        assert reply.status < 500, reply.body
        assert ErrorCode(reply.code).status == reply.status


# --- Aids ---


def _with(body: Any, pointer: str, value: Any) -> Any:
    """A copy with another value at a JSON pointer; what is no longer there stays away."""
    if not pointer:
        return value
    changed = copy.deepcopy(body)
    *steps, last = pointer.split("/")[1:]
    try:
        target = changed
        for step in steps:
            target = target[int(step) if isinstance(target, list) else step]
        target[int(last) if isinstance(target, list) else last] = value
    except (KeyError, IndexError, TypeError, ValueError):
        return changed
    return changed


def _shown(reply: Reply) -> tuple[int, Json]:
    return reply.status, {name: value for name, value in reply.body.items() if name != "request_id"}


async def _status_of(stage: Stage, request_bytes: bytes) -> int:
    """The status that the service answers to bytes on the wire."""
    url = stage.client.make_url("/")
    assert url.host is not None
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(request_bytes)
        line = await reader.readline()
    finally:
        writer.close()
        await writer.wait_closed()
    return int(line.split()[1])
