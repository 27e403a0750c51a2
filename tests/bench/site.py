"""Stores with people in them, the service's processes before them, and how they are called."""

import json
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.bench.fault import BenchFault
from tests.bench.people import Faces, gather, place_of
from tests.faults.arrivals import Call, prepare
from tests.faults.processes import ServiceProcess, processes
from tests.service.conftest import UNLIMITED
from tests.service.databases import Databases, service_url
from tests.service.stage import Stage, running_service


@dataclass(frozen=True, slots=True)
class Site:
    """`stage` has no service any more: it is the database, and what signs tokens. Logs lie in `folder`. `most`: what
    was judged a second, by engine, for whoever compares with it."""

    stage: Stage
    redis_url: str
    folder: Path
    faces: Faces
    members: deque[tuple[str, str]]
    most: dict[str, float] = field(default_factory=dict)

    async def calls(self, number: int) -> list[Call]:
        """Submissions of so many who have not checked in yet. Their challenges last three minutes."""
        if len(self.members) < number:
            raise BenchFault(f"there are too few people: {len(self.members)} of {number}")
        members = [self.members.popleft() for _ in range(number)]
        return await prepare(self.stage, members, self.faces.photo, place_of)

    def give_back(self, calls: Sequence[Call]) -> None:
        """Those that were not sent."""
        self.members.extend((call.submission.person_id, call.submission.task_id) for call in calls)

    @asynccontextmanager
    async def serving(self, number: int = 1, *settings: str) -> AsyncIterator[list[ServiceProcess]]:
        """So many processes of the service, ready; `settings` as NAME=VALUE."""
        named = [f"CHECKIN_KEY_STORE_URL={self.stage.settings.key_store_url}", *settings]
        switches = [*self.faces.switches, *(f"--set={setting}" for setting in named)]
        at = self.stage.database_url, self.redis_url, self.stage.settings.data_dir
        async with processes(number, self.folder, *at, *switches) as running:
            yield running


@asynccontextmanager
async def made_site(
    databases: Databases, redis_url: str, data_dir: Path, folder: Path, faces: Faces, people: int
) -> AsyncIterator[Site]:
    """On a new database, with the key store in another; so many people can check in."""
    database_url, key_store = await databases.make(), await databases.make()
    settings = UNLIMITED | {"CHECKIN_KEY_STORE_URL": service_url(key_store)}
    async with running_service(database_url, redis_url, data_dir, **settings) as stage:
        members = await gather(stage, faces, people)
    yield Site(stage, redis_url, folder, faces, deque(members))


@dataclass(slots=True)
class Api:
    """Calls of the platform's and of an operator's, over connections that are kept."""

    session: aiohttp.ClientSession
    base: str
    stage: Stage
    _tokens: dict[tuple[str, str], str] = field(default_factory=dict)

    async def call(
        self,
        method: str,
        path: str,
        expected: int,
        sub: str = "platform",
        scope: str = "tasks",
        **options: Any,
    ) -> Any:
        """The answer's JSON or text. Raises `BenchFault` for any other status."""
        headers = self.headers(sub, scope) | options.pop("headers", {})
        async with self.session.request(method, self.base + path, headers=headers, **options) as answer:
            text = await answer.text()
            if answer.status != expected:
                raise BenchFault(f"{method} {path} answered {answer.status}: {text[:300]}")
            return json.loads(text) if text.startswith(("{", "[")) else text

    def headers(self, sub: str, scope: str) -> dict[str, str]:
        if (sub, scope) not in self._tokens:
            self._tokens[sub, scope] = self.stage.token(sub, scope)
        return {"Authorization": f"Bearer {self._tokens[sub, scope]}"}

    async def metric(self, name: str, labels: str = "") -> float:
        """The sum of a metric's samples whose labels contain `labels`."""
        text = str(await self.call("GET", "/metrics", 200, "bench", "operate"))
        lines = [line for line in text.splitlines() if line.startswith(name) and labels in line]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


@asynccontextmanager
async def calling(site: Site, base: str) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield Api(session, base, site.stage)
