"""Promise 12: malformed and slow uploads are ended in the contract's words, and everybody else is served meanwhile.

The service is a process of its own. In the short form its limits of time are a tenth (`--impatient`).
"""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from uuid import uuid4

import pytest
import pytest_asyncio

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.web.error_codes import ErrorCode
from checkin_service.web.server import raise_file_limit
from tests.faults.clients import BOUNDARY, Caller, calling, form
from tests.faults.processes import ServiceProcess, processes
from tests.faults.raw_connections import Heard, connected, hear, pace, say, trickle
from tests.faults.record import Record
from tests.service.stage import Stage, check_in_fields, photo_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = b"canary-9f3c"
MEGABYTE = 1024 * 1024
# 6 MB of a selfie on a weak network
WEAK_RATE = 100_000


@dataclass(frozen=True, slots=True)
class Served:
    """A service process, and what its callers need."""

    process: ServiceProcess
    stage: Stage
    caller: Caller
    log: Path

    @property
    def port(self) -> int:
        return self.process.port

    def head(self, line: str, *fields: str, sub: str = "p-1") -> bytes:
        scope = "tasks" if sub == "platform" else "checkin"
        bearer = f"Authorization: Bearer {self.stage.token(sub, scope)}"
        return "\r\n".join([line, "Host: x", bearer, *fields, "", ""]).encode("latin-1")

    def upload(self, length: int | None = None, *fields: str, key: str = "", sub: str = "p-1") -> bytes:
        """The head of a check-in whose body comes in chunks, or has a length."""
        sized = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        return self.head(
            "POST /v1/check-ins HTTP/1.1",
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
            f"Idempotency-Key: {key or uuid4().hex}",
            sized,
            *fields,
            sub=sub,
        )

    def memory_mb(self) -> float:
        kilobytes = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        assert kilobytes
        return int(kilobytes[1]) / 1024

    async def cut(self, why: str) -> float:
        """How many connections the service says to have ended so."""
        async with self.caller.session.get(f"{self.process.base}/metrics") as metrics:
            found = re.search(rf'connections_cut_total{{why="{why}"}} (\S+)', await metrics.text())
        return float(found[1]) if found else 0.0


@asynccontextmanager
async def serving(
    stage: Stage, stores: EmbeddedStores, folder: Path, *switches: str
) -> AsyncIterator[Served]:
    data_dir = stage.settings.data_dir
    at = stage.database_url, stores.redis_url or "", data_dir
    async with processes(1, folder, *at, *switches) as [process], calling([process.base], data_dir) as caller:
        yield Served(process, stage, caller, folder / "served-0.log")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def impatient(
    shared_stage: Stage, stores: EmbeddedStores, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    raise_file_limit()
    await shared_stage.ready_task("T-12", "p-1", "p-2", "p-3")
    async with serving(shared_stage, stores, tmp_path_factory.mktemp("impatient"), "--impatient") as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(
    impatient: Served, stores: EmbeddedStores, tmp_path_factory: pytest.TempPathFactory, full: bool
) -> AsyncIterator[Served]:
    """The service as it is, in the full form."""
    if not full:
        yield impatient
        return
    async with serving(impatient.stage, stores, tmp_path_factory.mktemp("served")) as one:
        yield one


# --- Malformed ---

GET = b"GET /v1/me?" + CANARY + b" HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /v1/check-ins?" + CANARY + b" HTTP/1.1\r\nHost: x\r\n"
NO_HTTP: dict[str, bytes] = {
    "garbage": CANARY + b"\r\n\r\n",
    "binary": b"\x16\x03\x01\x02\x00" + CANARY,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unknown version": b"GET /" + CANARY + b" HTTP/9.9\r\n\r\n",
    "unknown method": b"BREW /" + CANARY + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "control character in the path": b"GET /" + CANARY + b"\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    "control character in a header": GET + b"X: " + CANARY + b"\x01\r\n\r\n",
    "NUL in a header": GET + b"X: " + CANARY + b"\0\r\n\r\n",
    "blank in a header's name": GET + CANARY + b" x: 1\r\n\r\n",
    "folded header": GET + b"X: a\r\n " + CANARY + b"\r\n\r\n",
    "bare line feeds": b"GET /" + CANARY + b" HTTP/1.1\nHost: x\n\n",
    "no host": b"GET /" + CANARY + b" HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: " + CANARY + b"\r\n\r\n",
    "line too long": b"GET /" + CANARY * 900 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "header too long": GET + b"X: " + CANARY * 900 + b"\r\n\r\n",
    "too many headers": GET + b"".join(b"X-%d: %s\r\n" % (n, CANARY) for n in range(100)) + b"\r\n",
    "too much of headers": GET + b"".join(b"X-%d: %s\r\n" % (n, CANARY * 100) for n in range(60)) + b"\r\n",
    "1 MB of headers": GET + b"".join(b"X-%d: %s\r\n" % (n, CANARY * 700) for n in range(140)),
    "1 MB of blank lines": b"\r\n" * (MEGABYTE // 2),
    "length no number": POST + b"Content-Length: " + CANARY + b"\r\n\r\n",
    "length below zero": POST + b"Content-Length: -1\r\n\r\n",
    "length beyond everything": POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and chunks": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two identities": GET + b"Authorization: Bearer a\r\nAuthorization: Bearer " + CANARY + b"\r\n\r\n",
    "two keys": POST + b"Idempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("name", NO_HTTP)
async def test_what_is_no_http_is_malformed(served: Served, name: str) -> None:
    assert_problem(await say(served.port, NO_HTTP[name]), "malformed")


async def test_what_nobody_serves_is_a_problem_too(served: Served) -> None:
    nowhere = await say(served.port, b"GET /" + CANARY + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert_problem(nowhere, "not_found")
    wrong_method = await say(served.port, b"PATCH /v1/me HTTP/1.1\r\nHost: x\r\n\r\n")
    assert_problem(wrong_method, "not_found", 405)
    for path in (b"/" + CANARY, b"/v1/me"):
        expecting = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nExpect: " + CANARY + b"\r\n\r\n"
        assert_problem(await say(served.port, expecting), "malformed", 417)
    tunnel = await say(served.port, b"CONNECT " + CANARY + b":80 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert tunnel.problem["code"] in {"not_found", "malformed"}


def _parts(number: int) -> Iterator[bytes]:
    for _ in range(number):
        yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="fixes"\r\n\r\n[]\r\n'.encode()


def _one_part(*headers: bytes, content: bytes = CANARY, end: bytes = b"--") -> bytes:
    lines = [b'Content-Disposition: form-data; name="task_id"', *headers]
    opened = f"--{BOUNDARY}\r\n".encode() + b"\r\n".join(lines) + b"\r\n\r\n" + content
    return opened + f"\r\n--{BOUNDARY}".encode() + end + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()
FORMS: dict[str, tuple[bytes, str]] = {
    "10,000 parts": (b"".join(_parts(10_000)) + END, "malformed"),
    "1 MB part header": (_one_part(b"X: " + CANARY * 95_000), "malformed"),
    "1 MB of part headers": (_one_part(*[b"X: " + CANARY * 100] * 1000), "malformed"),
    "a part header without an end": (b"--" + BOUNDARY.encode() + b"\r\nX: " + CANARY * 95_000, "malformed"),
    "missing terminator": (_one_part(end=b""), "malformed"),
    "cut within a part": (_one_part()[:-20], "malformed"),
    "nothing": (b"", "malformed"),
    "another boundary": (_one_part().replace(BOUNDARY.encode(), b"other"), "malformed"),
    "a part in base64": (_one_part(b"Content-Transfer-Encoding: base64"), "unsupported_media_type"),
    "a part quoted": (_one_part(b"Content-Transfer-Encoding: quoted-printable"), "unsupported_media_type"),
    "a part compressed": (_one_part(b"Content-Encoding: gzip"), "unsupported_media_type"),
    "a part of 7 MB": (_one_part(content=bytes(7 * MEGABYTE)), "payload_too_large"),
}


@pytest.mark.parametrize("name", FORMS)
async def test_a_form_that_is_none_is_refused(served: Served, name: str) -> None:
    body, code = FORMS[name]
    assert_problem(await say(served.port, served.upload(len(body)) + body), code)


@pytest.mark.parametrize(
    "field", ["Content-Encoding: gzip", "Content-Encoding: br", "Content-Encoding: identity, gzip"]
)
async def test_a_body_is_not_decoded(served: Served, field: str) -> None:
    body = _one_part()
    assert_problem(await say(served.port, served.upload(len(body), field) + body), "unsupported_media_type")


async def test_an_encoding_on_the_way_is_not_undone(served: Served) -> None:
    head = served.upload().replace(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked")
    assert_problem(await say(served.port, head + b"0\r\n\r\n"), "unsupported_media_type")


async def test_a_body_longer_than_allowed_is_refused_before_it_is_read(served: Served) -> None:
    assert_problem(await say(served.port, served.upload(100 * MEGABYTE)), "payload_too_large")


async def test_who_asks_first_is_asked_for_the_body_only_when_it_is_wanted(served: Served) -> None:
    unknown = await say(
        served.port,
        b"POST /v1/check-ins HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    )
    assert_problem(unknown, "unauthenticated")
    async with connected(served.port) as (reader, writer):
        writer.write(served.upload(len(_one_part()), "Expect: 100-continue"))
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"


# --- Slow ---

REFUSED = b"POST /v1/check-ins HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"


async def test_slow_ones_are_cut_while_everybody_else_is_served(
    served: Served, full: bool, record: Record
) -> None:
    """Half of them trickle a body, the others a head or nothing at all; each that is cut comes again."""
    number, seconds = (2000, 45.0) if full else (150, 2.0)
    before_mb, normal = served.memory_mb(), await _requests(served)
    quiet_s = await _p99_s(served, normal, until=time.monotonic() + seconds / 3)
    ends: Counter[tuple[str, int]] = Counter()
    until = time.monotonic() + seconds
    slow = [asyncio.create_task(_pester(served, number, until, ends)) for number in range(number)]
    p99_s = await _p99_s(served, normal, until)
    peak_mb = served.memory_mb()
    await asyncio.gather(*slow)
    assert ends["body", 408] >= number // 2, ends
    assert ends["head", 408] >= number // 4, ends
    assert ends["silent", 0] >= number // 4, ends
    assert set(ends) == {("body", 408), ("head", 408), ("silent", 0)}
    assert peak_mb - before_mb < (150 if full else 60)
    assert p99_s < (2 if full else 20)
    record.kept(
        f"{number} trickling connections, cut {ends.total()} times; normal p99 {p99_s * 1000:.0f} ms "
        f"(without them {quiet_s * 1000:.0f} ms), memory + {peak_mb - before_mb:.0f} MB"
    )


async def test_a_slow_upload_uses_nothing_up(served: Served) -> None:
    challenge_id, key = await served.stage.challenge("p-1", "T-12"), uuid4().hex
    body = form(check_in_fields("T-12", challenge_id), photo_of("p-1", 1))
    cut = await trickle(served.port, served.upload(len(body), key=key) + body[:-100], body[-100:], 0.3)
    assert_problem(cut, "too_slow")
    whole = await say(served.port, served.upload(len(body), key=key) + body)
    assert (whole.status, whole.problem["outcome"]) == (201, "accepted")


async def test_an_honest_upload_on_a_weak_network_passes(served: Served, full: bool, record: Record) -> None:
    challenge_id = await served.stage.challenge("p-2", "T-12")
    selfie = _padded(photo_of("p-2", 1), 6_000_000 if full else 2 * WEAK_RATE)
    body = form(check_in_fields("T-12", challenge_id), selfie)
    heard = await pace(served.port, served.upload(len(body), sub="p-2"), body, WEAK_RATE)
    assert (heard.status, heard.problem["outcome"]) == (201, "accepted")
    record.kept(f"{len(selfie) / 1e6:.1f} MB at 100 kB/s accepted after {heard.seconds:.0f} s")


async def test_what_was_too_slow_is_ended_at_once(impatient: Served) -> None:
    """What is left of it is not waited for, which `--impatient` would do for a minute."""
    async with asyncio.timeout(30), connected(impatient.port) as (reader, writer):
        writer.write(impatient.upload(MEGABYTE) + b"-")
        assert_problem(await hear(reader, 0), "too_slow")
        assert await reader.read() == b""


async def test_what_is_left_of_a_refused_body_is_passed_over(impatient: Served) -> None:
    async with asyncio.timeout(30), connected(impatient.port) as (reader, writer):
        writer.write(REFUSED.replace(b"Content-Length: 9", b"Content-Length: 100000"))
        assert_problem(await hear(reader, 0), "unauthenticated")
        for _ in range(10):
            writer.write(CANARY[:10] * 1000)
            await impatient.cut("idle")  # so that it is read in pieces
        writer.write(impatient.head("GET /v1/me HTTP/1.1"))
        assert (await hear(reader, 0)).status == 200


async def test_an_answer_that_nobody_reads_is_given_up(impatient: Served) -> None:
    before = await impatient.cut("answer")
    async with asyncio.timeout(60), connected(impatient.port) as (_, writer):
        writer.write(b"GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n" * 300)
        while await impatient.cut("answer") == before:  # noqa: ASYNC110  the event is in the service
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "start", [b"", b"GET /v1/me HTTP/1.1\r\nX", REFUSED], ids=["idle", "head", "refused"]
)
async def test_the_door_is_never_full(impatient: Served, start: bytes) -> None:
    """Who waits longest makes room for who comes: who says nothing, or not all, or keeps back the rest of a body that
    was refused."""
    before = await impatient.cut("crowded")
    async with AsyncExitStack() as crowd:
        for _ in range(320):
            reader, writer = await crowd.enter_async_context(connected(impatient.port))
            writer.write(start)
            if start == REFUSED:
                assert (await hear(reader, 0)).status == 401
        assert (await say(impatient.port, impatient.head("GET /v1/me HTTP/1.1"))).status == 200
        assert await impatient.cut("crowded") - before >= 20


async def test_without_limits_of_time_slow_ones_stay(
    served: Served, stores: EmbeddedStores, tmp_path: Path, record: Record
) -> None:
    """The control: they are there still when the others' have long been cut."""
    async with serving(served.stage, stores, tmp_path, "--patient") as patient:
        slow = [
            asyncio.create_task(_slow(one, kind))
            for one in (served, patient)
            for kind in ("body", "head", "silent")
            for _ in range(5)
        ]
        cut = await asyncio.gather(*slow[:15])
        assert {heard.status for heard in cut} == {408, 0}
        staying = [task for task in slow[15:] if not task.done()]
        assert len(staying) == 15
        record.control(f"{len(staying)} of 15 stay where there are no limits of time")
        for task in staying:
            task.cancel()
        await asyncio.gather(*staying, return_exceptions=True)


# --- And after all that ---


async def test_nothing_of_all_that_is_logged_and_nothing_broke(served: Served) -> None:
    logged = served.log.read_text()
    assert CANARY.decode() not in logged
    events = [json.loads(line)["event"] for line in logged.splitlines() if line.startswith("{")]
    assert "request" in events
    assert not {"defect", "unlisted"} & set(events)


# --- Aids ---


def assert_problem(heard: Heard, code: str, status: int | None = None) -> None:
    assert heard.content_type == "application/problem+json; charset=utf-8", heard
    assert heard.problem["code"] == code, heard
    assert heard.status == heard.problem["status"] == (status or ErrorCode(code).status)
    assert CANARY not in heard.body


def _padded(jpeg: bytes, size: int) -> bytes:
    """The same picture with so many bytes, in comments that every decoder passes over."""
    missing = size - len(jpeg)
    comments = b"".join(
        b"\xff\xef" + (length + 2).to_bytes(2, "big") + bytes(length)
        for length in [60_000] * (missing // 60_004) + [missing % 60_004]
    )
    return jpeg[:2] + comments + jpeg[2:]


async def _slow(served: Served, kind: str) -> Heard:
    if kind == "body":
        return await trickle(served.port, served.upload(MEGABYTE), b"-", 1)
    if kind == "head":
        return await trickle(served.port, b"GET /v1/me HTTP/1.1\r\n", b"X: y\r\n", 1)
    return await trickle(served.port, b"", b"", 1)


async def _pester(served: Served, number: int, until: float, ends: Counter[tuple[str, int]]) -> None:
    kind = ("body", "head", "body", "silent")[number % 4]
    while True:
        heard = await _slow(served, kind)
        ends[kind, heard.status] += 1
        if time.monotonic() > until:
            return


async def _requests(served: Served) -> list[bytes]:
    status = served.head("GET /v1/tasks/T-12 HTTP/1.1", sub="platform")
    asked = json.dumps({"task_id": "T-12"}).encode()
    challenge = served.head(
        "POST /v1/challenges HTTP/1.1",
        "Content-Type: application/json",
        f"Content-Length: {len(asked)}",
        sub="p-3",
    )
    return [status, challenge + asked, served.head("GET /v1/me HTTP/1.1", sub="p-3")]


async def _p99_s(served: Served, normal: list[bytes], until: float) -> float:
    """Of what two callers see who ask for one thing after the other, each on a connection of its own."""
    seconds: list[float] = []

    async def ask() -> None:
        while time.monotonic() < until:
            for request in normal:
                heard = await say(served.port, request)
                assert heard.status in {200, 201}, heard
                seconds.append(heard.seconds)
                await asyncio.sleep(0.01)

    await asyncio.gather(ask(), ask())
    return quantiles(seconds, n=100)[98]
