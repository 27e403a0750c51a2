"""Promise 21: a request that fails, in whatever way, leaves nothing of a person in logs, metrics, errors or files.

Canaries are sent to the real service process: a name, coordinates, a picture, a vector. What it wrote anywhere is
searched for them, in every form in which they could have been written.
"""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import pytest

from checkin_service.adapters.token_keys import development_token
from tests.access import SERVED
from tests.faults import canaries
from tests.faults.canaries import ADDRESS, BREAKS_DOWN, CRASHES, DEVICE, LAT, LON, NAME, NOTE, PERSON
from tests.faults.clients import BOUNDARY, form
from tests.faults.every_route import every_call
from tests.faults.nemesis import OwnStores
from tests.faults.processes import ROOT, ServiceProcess, processes
from tests.faults.record import Record
from tests.service.stage import ALL_SCOPES, check_in_fields, photo_of, place, registration

JSON_TYPE = {"Content-Type": "application/json"}
FORM_TYPE = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@dataclass(slots=True)
class Sender:
    """Sends, and keeps every answer that is an error: its body and its headers."""

    session: aiohttp.ClientSession
    base: str
    data_dir: Path
    errors: list[bytes] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    _tokens: dict[tuple[str, str], str] = field(default_factory=dict)

    async def send(
        self, method: str, path: str, scope: str = "checkin", sub: str = PERSON, **options: Any
    ) -> tuple[int, Any]:
        headers = {
            "Authorization": f"Bearer {self._token(sub, scope)}",
            "Idempotency-Key": uuid4().hex,
            **options.pop("headers", {}),
        }
        async with self.session.request(method, self.base + path, headers=headers, **options) as answer:
            content = await answer.read()
        self.statuses[answer.status] += 1
        if answer.status >= 400:
            self.errors += [content, repr(answer.headers).encode()]
        return answer.status, json.loads(content) if "json" in answer.content_type and content else content

    def _token(self, sub: str, scope: str) -> str:
        if (sub, scope) not in self._tokens:
            self._tokens[sub, scope] = development_token(self.data_dir, sub, scope, 15)
        return self._tokens[sub, scope]

    async def send_raw(self, request: bytes) -> None:
        host, port = self.base.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        with suppress(ConnectionError):
            writer.write(request)
            writer.write_eof()
            self.errors.append(await asyncio.wait_for(reader.read(), 30))
        writer.close()


@dataclass(slots=True)
class Leaky:
    """The service process and the places where something of a person could come to lie."""

    process: ServiceProcess
    sender: Sender
    stores: OwnStores
    folder: Path
    kept: list[bytes] = field(default_factory=list)

    @property
    def database_log(self) -> Path:
        return self.stores.postgres._server.log

    def keep_database_log(self) -> None:
        """It begins anew with the server."""
        self.kept.append(self.database_log.read_bytes())

    async def leaks(self) -> dict[str, set[str]]:
        """Which canary was seen where; empty when all is well."""
        self.keep_database_log()
        known = canaries.everything()
        _, metrics = await self.sender.send("GET", "/metrics")
        told = {
            "database's log": b"".join(self.kept),
            "metrics": metrics,
            "errors": b"\n".join(self.sender.errors),
        }
        seen = {place: canaries.found_in(content, known) for place, content in told.items()}
        return {place: names for place, names in seen.items() if names} | canaries.found_below(
            self.folder, known
        )


@pytest.fixture
async def database_url(own_stores: OwnStores) -> str:
    return await own_stores.databases.make()


@asynccontextmanager
async def leaky(
    stores: OwnStores, database_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *switches: str
) -> AsyncIterator[Leaky]:
    """Everything that the process writes lies in the folder: its log, its data, its temporary files."""
    (folder / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(folder / "tmp"))
    data_dir = folder / "data"
    at = database_url, stores.redis_url, data_dir
    async with processes(1, folder, *at, *switches) as [process], aiohttp.ClientSession() as session:
        yield Leaky(process, Sender(session, process.base, data_dir), stores, folder)


# --- A person of whom everything is known ---


async def enrolled(sender: Sender, person_id: str) -> None:
    body = form({}, photo_of(person_id)).replace(b'name="selfie"', b'name="photo"')
    path = f"/v1/persons/{person_id}/reference"
    status, _ = await sender.send("PUT", path, "tasks", data=body, headers=FORM_TYPE)
    assert status == 201
    _, notice = await sender.send("GET", "/v1/consent-notice", sub=person_id)
    consent = {"notice_version": notice["notice_version"], "scopes": ALL_SCOPES}
    assert (await sender.send("PUT", "/v1/me/consent", sub=person_id, json=consent))[0] == 200


async def settled(sender: Sender) -> None:
    """A task of the person's, with their name, and a check-in that was accepted."""
    people = [PERSON, BREAKS_DOWN]
    task = registration(*people, place=place(registered_address=ADDRESS))
    for member in task["roster"]:
        member["name"] = NAME
    assert (await sender.send("PUT", "/v1/tasks/T1", "tasks", json=task))[0] == 201
    for person_id in people:
        await enrolled(sender, person_id)


async def check_in(sender: Sender, person_id: str, photo: bytes, **changes: Any) -> tuple[int, Any]:
    status, challenge = await sender.send("POST", "/v1/challenges", sub=person_id, json={"task_id": "T1"})
    assert status == 201, challenge
    fields = check_in_fields("T1", challenge["challenge_id"], (LON, LAT)) | changes
    device = {"device": {"platform": "android", "device_id": DEVICE}}
    body = form(device | fields, photo)
    return await sender.send("POST", "/v1/check-ins", sub=person_id, data=body, headers=FORM_TYPE)


# --- Ways to fail ---


def broken_bodies() -> Iterator[tuple[Mapping[str, str], bytes]]:
    """Content types and bodies with everything in them."""
    whole = json.dumps(canaries.body(), ensure_ascii=False).encode()
    parts = form({**canaries.body(), "task_id": PERSON, "device": DEVICE}, photo_of(PERSON))
    yield JSON_TYPE, whole
    yield JSON_TYPE, whole[:-9]
    yield {"Content-Type": "text/plain"}, whole
    yield {"Content-Type": "image/jpeg"}, photo_of(PERSON)[:-200]
    yield FORM_TYPE, parts
    yield FORM_TYPE, parts[:-60]
    yield FORM_TYPE, parts.replace(b'filename="selfie.jpg"', f'filename="{NAME}"'.encode())
    yield {**JSON_TYPE, "Content-Encoding": NOTE}, whole


async def fail_on_every_route(sender: Sender) -> None:
    """By broken bodies, strange ids, wrong rights, and headers that are not what they should be."""
    strange = dict.fromkeys(("task_id", "person_id", "case_id", "check_in_id", "review_id", "n"), PERSON)
    calls, odd_calls, bodies = every_call(), every_call(**strange), list(broken_bodies())
    _, first = bodies[0]
    for (method, _), call, odd in zip(SERVED, calls.values(), odd_calls.values(), strict=True):
        wrong = "tasks" if call.scope == "checkin" else "checkin"
        for headers, body in bodies:
            await sender.send(method, call.path, call.scope, headers=headers, data=body)
        await sender.send(method, odd.path, call.scope, data=first, headers=JSON_TYPE)
        await sender.send(
            method, odd.path, wrong, data=first, headers={"Authorization": f"Bearer {PERSON}.x.y"}
        )
        query = {"after": NAME, "limit": repr(LON), "from": PERSON, "state": NOTE}
        await sender.send(method, call.path, call.scope, params=query)
        for header in ("If-Match", "If-None-Match", "Accept-Language", "Idempotency-Key", "Expect"):
            await sender.send(method, call.path, wrong, headers={header: f"{NOTE} {LON}"}, data=first)
        await sender.send(method, f"/v1/{NAME}/{PERSON}", call.scope, data=first)
        await sender.send("PATCH", call.path, call.scope, data=first)


async def fail_before_http(sender: Sender) -> None:
    """What aiohttp's parser refuses, which quotes it."""
    known = f"{NAME} {PERSON} {LON} {NOTE}".encode()
    for request in (
        known + b"\r\n\r\n",
        b"GET /" + known + b" HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n" + known + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Y: " + known + b"\0\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Y: " + 3000 * known + b"\r\n\r\n",
        b"POST /v1/check-ins HTTP/1.1\r\nHost: x\r\nContent-Length: " + known + b"\r\n\r\n",
        b"POST /v1/check-ins HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + known + b"\r\n",
        b"POST /v1/check-ins HTTP/1.1\r\nHost: x\r\nExpect: " + known + b"\r\n\r\n" + known,
        b"GET http://[" + known + b"/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez?" + known.replace(b" ", b"+") + b" HTTP/1.1\r\nHost: " + PERSON.encode() + b"\r\n\r\n",
    ):
        await sender.send_raw(request)


async def fail_in_a_check_in(sender: Sender) -> None:
    """By a broken picture, a worker's crash and defects of ours."""
    assert (await check_in(sender, PERSON, photo_of(PERSON, 1)[:-300]))[0] in {422, 503}
    assert (await check_in(sender, PERSON, photo_of(CRASHES, 2)))[0] == 503
    assert (await check_in(sender, BREAKS_DOWN, photo_of(BREAKS_DOWN, 3)))[0] == 500


async def fail_in_the_database(sender: Sender, database_url: str) -> None:
    """Rows that break a constraint: the error names all their values."""
    connection = await asyncpg.connect(database_url)
    try:
        for table in ("manual_request", "attempt", "last_position", "audit"):
            await connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT canary CHECK (false) NOT VALID")
            fails = (
                ask_manually(sender)
                if table == "manual_request"
                else check_in(sender, PERSON, photo_of(PERSON, 4))
            )
            assert (await fails)[0] == 500, table
            await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT canary")
    finally:
        await connection.close()


async def ask_manually(sender: Sender) -> tuple[int, Any]:
    fixes = check_in_fields("T1", "", (LON, LAT))["fixes"]
    request = {"task_id": "T1", "reason": NOTE, "frame": "wgs84", "fixes": fixes}
    return await sender.send("POST", "/v1/manual-requests", json=request)


async def fail_without_database(leaky: Leaky) -> None:
    leaky.keep_database_log()
    leaky.stores.postgres.kill()
    sender = leaky.sender
    for call in every_call(person_id=PERSON).values():
        await sender.send(call.method, call.path, call.scope, **call.options)
    await check_in_without_challenge(sender)
    await leaky.stores.postgres.restart()


async def check_in_without_challenge(sender: Sender) -> None:
    body = form(check_in_fields("T1", str(uuid4()), (LON, LAT)), photo_of(PERSON, 5))
    await sender.send("POST", "/v1/check-ins", data=body, headers=FORM_TYPE)


# --- The promise ---


def cores() -> set[Path]:
    return {path for path in ROOT.iterdir() if path.name.startswith("core")}


async def test_nothing_of_a_person_is_in_what_is_written_when_requests_fail(
    own_stores: OwnStores,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    full: bool,
    record: Record,
) -> None:
    switches = "--analyse-in-workers", "--break-down"
    before = cores()
    async with leaky(own_stores, database_url, tmp_path, monkeypatch, *switches) as service:
        sender = service.sender
        await settled(sender)
        await fail_on_every_route(sender)
        await fail_before_http(sender)
        await enrolled(sender, PERSON)  # whose data some of these calls have deleted
        await fail_in_a_check_in(sender)
        await fail_in_the_database(sender, database_url)
        await fail_without_database(service)
        await until_up(sender)
        assert (await check_in(sender, PERSON, photo_of(PERSON, 6)))[1]["outcome"] == "accepted"
        assert await service.leaks() == {}
        await assert_sealed(service, database_url, full)
        os.kill(service.process.pid, signal.SIGABRT)
        await service.process.ended()
        assert canaries.found_below(tmp_path, canaries.everything()) == {}
    assert cores() == before
    failed = {status: number for status, number in sender.statuses.items() if status >= 400}
    record.kept(
        f"{sum(failed.values())} requests failed by {len(failed)} statuses, {failed[500]} of them by defects of ours; "
        f"{len(canaries.everything())} canaries found nowhere"
    )


async def until_up(sender: Sender) -> None:
    async with asyncio.timeout(60):
        while (await sender.send("GET", "/readyz"))[0] != 200:  # noqa: ASYNC110  it is in another process
            await asyncio.sleep(0.05)


async def assert_sealed(service: Leaky, database_url: str, full: bool) -> None:
    """The database's files can't be read for pictures and vectors; its log of changes is searched in the full form."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("CHECKPOINT")
        assert await connection.fetchval("SELECT count(*) FROM template") > 0
        oid = await connection.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()")
    finally:
        await connection.close()
    assert list((service.folder / "data" / "evidence").iterdir())
    data = service.database_log.parent / "postgres"
    searched = data if full else data / "base" / str(oid)
    assert canaries.found_below(searched, canaries.sealed()) == {}


async def test_control_a_body_on_standard_error_is_noticed(
    own_stores: OwnStores,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record: Record,
) -> None:
    async with leaky(own_stores, database_url, tmp_path, monkeypatch, "--say-bodies") as service:
        await settled(service.sender)
        await check_in(service.sender, PERSON, photo_of(PERSON, 1))
        found = (await service.leaks())["served-0.log"]
    assert {"name", "lon", "lat", "address", "device", f"picture of {PERSON}"} <= found
    record.control(f"bodies on standard error, {len(found)} kinds of canary found")


def test_control_every_canary_is_known_again() -> None:
    content = b"\n".join(form for canary in canaries.everything() for form in canary.forms)
    assert canaries.found_in(content, canaries.everything()) == {
        canary.name for canary in canaries.everything()
    }
    assert canaries.found_in(json.dumps(canaries.body()).encode(), canaries.everything())
