"""A running service on real stores, with an engine of fixed answers, and short ways to call it."""

import asyncio
import hashlib
import io
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import aiohttp
import asyncpg
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image

from checkin_service.adapters.postgres.database import open_database
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.adapters.token_keys import development_key_set, development_token
from checkin_service.app import Stores, make_app, open_template_keys
from checkin_service.ports import Clock
from checkin_service.settings import Settings, read_settings
from checkin_service.web.server import make_runner
from tests.service.databases import service_url
from tests.service.fixed_engine import Copy, FixedEngine, Shown

Json = dict[str, Any]
USCC = "91440300MA5DEM012D"
# WGS-84 positions around FENCE: its middle, 130 m east of it, and about a kilometre away
INSIDE, NEAR, FAR = (114.0600, 22.5440), (114.0622, 22.5440), (114.0700, 22.5500)
FENCE: Json = {
    "type": "Polygon",
    "coordinates": [
        [
            [114.0590, 22.5430],
            [114.0610, 22.5430],
            [114.0610, 22.5450],
            [114.0590, 22.5450],
            [114.0590, 22.5430],
        ]
    ],
}
ALL_SCOPES = ["face", "face_transfer", "location"]


def photo_of(
    identity: str,
    shot: int = 0,
    copy: Copy = "",
    live: float | None = None,
    yaw_deg: float | None = None,
) -> bytes:
    """A JPEG of which the fixed engine says whose it is.

    `shot` tells photographs of one person apart; a `copy` has other bytes but is the same photograph, but for one that
    is `retaken`: a moment later, as near for dlib and with another hash. Who is called `a+a+b` resembles a and, half as
    much, b. `live` is what the passive model says, `yaw_deg` how far the head is turned to its left.
    """
    shown, picture = Shown(identity, shot, copy, live, yaw_deg), io.BytesIO()
    colour = (shot % 256, 90, len(copy))
    Image.new("RGB", (64, 64), colour).save(picture, "JPEG", comment=json.dumps(asdict(shown)).encode())
    return picture.getvalue()


def place(**changes: Any) -> Json:
    address = "深圳市福田区福中三路1号"
    return {"registered_address": address, "frame": "wgs84", "fence": FENCE, "buffer_m": 100, **changes}


def member(person_id: str, *, lead: bool = False, categories: Sequence[str] = ("registered",)) -> Json:
    return {"person_id": person_id, "name": "张*", "categories": list(categories), "technical_lead": lead}


def registration(*person_ids: str, **changes: Any) -> Json:
    """The body of a registration approved yesterday; the first person is the technical lead."""
    return {
        "case_id": f"SZ-{uuid4().hex[:12]}",
        "round": 1,
        "flow": "first_application",
        "enterprise": {"uscc": USCC, "name": "深圳某建筑工程有限公司"},
        "approved_at": (datetime.now(UTC) - timedelta(days=1)).isoformat(),
        "place": place(),
        "roster": [
            member(person_id, lead=index == 0) for index, person_id in enumerate(person_ids or ("p-1",))
        ],
        **changes,
    }


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: Any
    headers: Any

    @property
    def code(self) -> str:
        """The problem's code."""
        return str(self.body["code"])

    @property
    def faults(self) -> set[tuple[str, str]]:
        return {(error["pointer"], error["code"]) for error in self.body["errors"]}

    @property
    def reasons(self) -> list[str]:
        return [reason["code"] for reason in self.body["reasons"]]


class Stage:
    """One service with its database, and the two callers that it has."""

    def __init__(
        self, client: TestClient[Any, Any], settings: Settings, database_url: str, engine: FixedEngine
    ) -> None:
        self.client, self.settings, self.database_url, self.engine = client, settings, database_url, engine
        self.photo_of: Callable[[str, int], bytes] = photo_of
        self._shots = count(1)

    @property
    def service_url(self) -> str:
        """The database with the service's rights; `database_url` is its owner's."""
        return service_url(self.database_url)

    # --- calling ---

    def token(self, sub: str, scope: str) -> str:
        return development_token(self.settings.data_dir, sub, scope, 15)

    async def call(self, method: str, path: str, sub: str, scope: str, **options: Any) -> Reply:
        headers = {"Authorization": f"Bearer {self.token(sub, scope)}", **options.pop("headers", {})}
        async with self.client.request(method, path, headers=headers, **options) as response:
            text = await response.text()
            is_json = "json" in response.content_type
            return Reply(response.status, json.loads(text) if is_json and text else text, response.headers)

    async def platform(self, method: str, path: str, body: Any = None, **options: Any) -> Reply:
        if body is not None:
            options["json"] = body
        return await self.call(method, path, "platform", "tasks", **options)

    async def person(self, person_id: str, method: str, path: str, body: Any = None, **options: Any) -> Reply:
        if body is not None:
            options["json"] = body
        return await self.call(method, path, person_id, "checkin", **options)

    # --- the usual steps ---

    async def register(self, task_id: str, *person_ids: str, **changes: Any) -> Reply:
        return await self.platform("PUT", f"/v1/tasks/{task_id}", registration(*person_ids, **changes))

    async def enrol(self, person_id: str, *photos: bytes) -> Reply:
        form = aiohttp.FormData()
        for photo in photos or (self.photo_of(person_id, 0),):
            form.add_field("photo", io.BytesIO(photo), filename="photo.jpg", content_type="image/jpeg")
        return await self.platform("PUT", f"/v1/persons/{person_id}/reference", data=form)

    async def consent(self, person_id: str, scopes: Sequence[str] = ALL_SCOPES) -> Reply:
        notice = await self.person(person_id, "GET", "/v1/consent-notice")
        body = {"notice_version": notice.body["notice_version"], "scopes": list(scopes)}
        return await self.person(person_id, "PUT", "/v1/me/consent", body)

    async def ready_task(self, task_id: str, *person_ids: str, **changes: Any) -> None:
        """A registered task whose members are enrolled and have consented."""
        assert (await self.register(task_id, *person_ids, **changes)).status == 201
        for person_id in person_ids or ("p-1",):
            assert (await self.enrol(person_id)).status == 201
            assert (await self.consent(person_id)).status == 200

    async def challenge(self, person_id: str, task_id: str) -> str:
        reply = await self.person(person_id, "POST", "/v1/challenges", {"task_id": task_id})
        assert reply.status == 201, reply.body
        return str(reply.body["challenge_id"])

    async def submit(
        self,
        person_id: str,
        fields: Json,
        selfie: bytes,
        key: str | None = None,
        language: str = "zh-CN",
        burst: Sequence[bytes] = (),
    ) -> Reply:
        form = aiohttp.FormData()
        for name, value in fields.items():
            form.add_field(name, value if isinstance(value, str) else json.dumps(value))
        form.add_field("selfie", io.BytesIO(selfie), filename="selfie.jpg", content_type="image/jpeg")
        for frame in burst:
            form.add_field("burst", io.BytesIO(frame), filename="frame.jpg", content_type="image/jpeg")
        headers = {"Idempotency-Key": key or uuid4().hex, "Accept-Language": language}
        return await self.person(person_id, "POST", "/v1/check-ins", data=form, headers=headers)

    async def check_in(
        self,
        person_id: str,
        task_id: str,
        at: tuple[float, float] = INSIDE,
        selfie: bytes | None = None,
        key: str | None = None,
        **fields: Any,
    ) -> Reply:
        """A challenge and its check-in; by default a new photograph of the right face in the right place."""
        challenge_id = fields.pop("challenge_id", None) or await self.challenge(person_id, task_id)
        form = check_in_fields(task_id, challenge_id, at) | fields
        return await self.submit(person_id, form, selfie or self.photo_of(person_id, next(self._shots)), key)

    @asynccontextmanager
    async def while_analysing(
        self, submission: Coroutine[Any, Any, Reply]
    ) -> AsyncIterator[asyncio.Task[Reply]]:
        """Holds a submission in the analysis of its face until the block ends; others are not held."""
        everyone, held = self.engine.gate, asyncio.Event()
        self.engine.gate = held
        self.engine.analysed.clear()
        submitted = asyncio.create_task(submission)
        try:
            await until(lambda: self.engine.analysed)
            self.engine.gate = everyone
            yield submitted
        finally:
            self.engine.gate = everyone
            held.set()

    async def status(self, task_id: str) -> Json:
        reply = await self.platform("GET", f"/v1/tasks/{task_id}")
        assert reply.status == 200, reply.body
        body: Json = reply.body
        return body

    async def changes(self, after: str = "") -> list[Json]:
        reply = await self.platform("GET", "/v1/changes", params={"after": after})
        changes: list[Json] = reply.body["changes"]
        return changes

    # --- the database behind it ---

    async def sql(self, query: str, *values: Any) -> list[Any]:
        connection = await asyncpg.connect(self.database_url)
        try:
            rows: list[Any] = await connection.fetch(query, *values)
            return rows
        finally:
            await connection.close()

    @asynccontextmanager
    async def keys(self) -> AsyncIterator[TemplateKeys]:
        """The persons' data keys, as another process of the service has them."""
        url = self.settings.key_store_url or self.database_url
        async with (
            open_database(self.service_url, 1) as database,
            open_template_keys(self.settings, url, database) as keys,
        ):
            yield keys

    @asynccontextmanager
    async def holding(self, statement: str) -> AsyncIterator[None]:
        """Holds the locks that a statement takes for as long as the block lasts."""
        connection = await asyncpg.connect(self.database_url)
        try:
            async with connection.transaction():
                await connection.execute(statement)
                yield
        finally:
            await connection.close()

    async def until_waiting(self, count: int) -> None:
        """Waits until so many of the service's connections wait for a lock; fails after ten seconds."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        async with asyncio.timeout(10):
            while (await self.sql(query))[0][0] < count:  # noqa: ASYNC110  the event is in the database
                await asyncio.sleep(0.005)

    async def set_clock(self, instant: datetime | None) -> None:
        """Makes the judging clock stand at an instant; None lets it run again."""
        body = f"SELECT timestamptz '{instant.isoformat()}'" if instant else "SELECT clock_timestamp()"
        head = "CREATE OR REPLACE FUNCTION checkin_now() RETURNS timestamptz LANGUAGE sql VOLATILE"
        await self.sql(f"{head} AS $$ {body} $$")


def check_in_fields(
    task_id: str, challenge_id: str, at: tuple[float, float] = INSIDE, **changes: Any
) -> Json:
    """The text fields of a check-in with one fresh, accurate fix."""
    now = datetime.now(UTC).isoformat()
    fix = {"lon": at[0], "lat": at[1], "accuracy_m": 15, "at": now}
    fields = {
        "task_id": task_id,
        "challenge_id": challenge_id,
        "frame": "wgs84",
        "captured_at": now,
        "fixes": [fix],
    }
    return fields | changes


async def until(condition: Callable[[], object]) -> None:
    """Waits for something that another coroutine brings about; fails after a minute without it."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  the condition is anything at all
            await asyncio.sleep(0.005)


def members_digest(status: Json) -> str:
    """The digest by the contract's words, independent of the service's code."""
    lines = [
        f"{m['person_id']}\t{m['state']}\t{m.get('check_in_id', '')}\n".encode() for m in status["members"]
    ]
    return "sha256:" + hashlib.sha256(b"".join(sorted(lines))).hexdigest()


class Served(TestServer):
    """With the server that `serve` has, at a free port."""

    async def _make_runner(self, **_: Any) -> web.AppRunner:
        return make_runner(self.app)


@asynccontextmanager
async def running_service(
    database_url: str,
    redis_url: str,
    data_dir: Path,
    engine: FixedEngine | Literal["real"] | None = None,
    clock: Clock = time.time,
    /,
    **environment: str,
) -> AsyncIterator[Stage]:
    """A service on these stores with a fixed engine, or with the real worker pool; at the test client's address."""
    settings = read_settings({"CHECKIN_DATA_DIR": str(data_dir), **environment})
    faces = engine if isinstance(engine, FixedEngine) else FixedEngine()
    key_set = str(development_key_set(data_dir))
    stores = Stores(service_url(database_url), redis_url, key_set, key_store_url=settings.key_store_url)
    app = make_app(settings, stores, None if engine == "real" else lambda _: faces.running(), clock)
    server = Served(app)
    await server.start_server()  # before there is a client that a failure would leave open
    async with TestClient(server) as client:
        yield Stage(client, settings, database_url, faces)
