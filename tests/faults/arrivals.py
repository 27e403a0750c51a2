"""Submissions that arrive at a rate of their own, whatever becomes of those before them: an open model, of phones that
give up after a while or come back when they are told to. Each call has a connection of its own."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count, product
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.faults.clients import Submission, form
from tests.faults.raw_connections import Heard, say
from tests.service.stage import INSIDE, Stage, check_in_fields, photo_of

GONE = Heard(0, "", b"", 0.0)
# What a phone does that has heard nothing at all.
PAUSE_S = 1.0

Photo = Callable[[str, int], bytes]
"""Of a person, by its number."""
Place = Callable[[str], tuple[float, float]]
"""Where a person is."""


@dataclass(frozen=True, slots=True)
class Call:
    """A submission as it goes over the wire."""

    submission: Submission
    head: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Heed:
    """What a caller has heard in the end: when, by the clock of the event loop, and how often it had called."""

    call: Call
    heard: Heard
    at: float
    calls: int = 1

    @property
    def answer(self) -> Any:
        return json.loads(self.heard.body)


Send = Callable[[Call], Awaitable[Heed]]


async def prepare(
    stage: Stage, members: Sequence[tuple[str, str]], photo: Photo, place: Place = lambda _: INSIDE
) -> list[Call]:
    """A new submission for each person and task. Their challenges are there without having been asked for."""
    people, task_ids = zip(*members, strict=True)
    opened = await stage.sql(
        """
        INSERT INTO challenge (challenge_id, task_id, person_id, expires_at)
        SELECT gen_random_uuid(), task_id, person_id, checkin_now() + interval '3 minutes'
        FROM unnest($1::text[], $2::text[]) AS member (person_id, task_id)
        RETURNING person_id, task_id, challenge_id::text
        """,
        people,
        task_ids,
    )
    tokens = {person_id: stage.token(person_id, "checkin") for person_id in set(people)}
    return [
        _call(tokens[row["person_id"]], row, photo(row["person_id"], number), place(row["person_id"]))
        for number, row in enumerate(opened, 1)
    ]


def _call(token: str, opened: Any, photo: bytes, at: tuple[float, float]) -> Call:
    person_id, task_id = opened["person_id"], opened["task_id"]
    body = form(check_in_fields(task_id, opened["challenge_id"], at), photo)
    submission = Submission(person_id, task_id, uuid4().hex, body)
    fields = {
        "Host": "x",
        "Authorization": f"Bearer {token}",
        "Content-Length": len(body),
        **submission.headers,
    }
    lines = ["POST /v1/check-ins HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return Call(submission, "\r\n".join([*lines, "", ""]).encode(), body)


# --- One caller ---


async def call_once(port: int, patience_s: float, call: Call) -> Heed:
    """And hangs up when nothing has come for so long: status 0."""
    heard = GONE
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(patience_s):
            heard = await say(port, call.head + call.body)
    return Heed(call, heard, time.monotonic())


async def insist(port: int, patience_s: float, until: float, call: Call) -> Heed:
    """Comes back as `Retry-After` says, until there is another answer than 503 or that would be later than a moment of
    the event loop's clock."""
    for calls in count(1):
        heed = await call_once(port, patience_s, call)
        pause_s = float(heed.heard.fields.get("retry-after", PAUSE_S))
        if heed.heard.status not in {0, 503} or heed.at + pause_s >= until:
            return replace(heed, calls=calls)
        await asyncio.sleep(pause_s)
    raise AssertionError


# --- Many ---


async def arrive(calls: Sequence[Call], rate: float, send: Send) -> list[Heed]:
    """So many a second, and what they have heard, in the order of their coming."""
    return await arrive_at(calls, [number / rate for number in range(len(calls))], send)


async def arrive_at(calls: Sequence[Call], times_s: Sequence[float], send: Send) -> list[Heed]:
    """Each so long after the first could have come, and what they have heard, in the order of their coming."""
    since, sent = time.monotonic(), []
    for call, at in zip(calls, times_s, strict=True):
        await asyncio.sleep(max(0.0, since + at - time.monotonic()))
        sent.append(asyncio.ensure_future(send(call)))
    return await asyncio.gather(*sent)


async def in_turn(calls: Iterator[Call], width: int, seconds: float, send: Send) -> list[Heed]:
    """As many at a time as there is room for, for so long: what can be done at most."""
    heard: list[Heed] = []
    end = time.monotonic() + seconds

    async def caller() -> None:
        while time.monotonic() < end:
            heard.append(await send(next(calls)))

    await asyncio.gather(*(caller() for _ in range(width)))
    return heard


# --- Who calls ---


@dataclass(frozen=True, slots=True)
class Crowd:
    """Every person is on every task; or, where `apart`, each on as many of their own: with one portrait for all of them
    nobody looks like a colleague."""

    persons: int
    tasks: int
    apart: bool = False

    @property
    def person_ids(self) -> list[str]:
        return [f"p-{n}" for n in range(self.persons)]

    @property
    def members(self) -> list[tuple[str, str]]:
        """Person and task of every member."""
        pairs = product(range(self.tasks), self.person_ids)
        return [(person_id, f"T{n}-{person_id}" if self.apart else f"T{n}") for n, person_id in pairs]


async def gather(stage: Stage, crowd: Crowd, portrait: bytes | None = None) -> None:
    """Registers the tasks; everybody is enrolled, with the same portrait or the fixed engine's own, and consents."""
    rosters: dict[str, list[str]] = {}
    for person_id, task_id in crowd.members:
        rosters.setdefault(task_id, []).append(person_id)
    registered = list(rosters)[: crowd.persons] if crowd.apart else rosters
    for task_id in registered:
        assert (await stage.register(task_id, *rosters[task_id])).status == 201
    if crowd.apart:
        await _copy_tasks(stage, crowd.tasks)
    for person_id in crowd.person_ids:
        assert (await stage.enrol(person_id, portrait or photo_of(person_id))).status == 201
        assert (await stage.consent(person_id)).status == 200


async def _copy_tasks(stage: Stage, tasks: int) -> None:
    """What is there once for each person, so many times: registering thousands takes longer than the test."""
    for table in ("task", "fence_version", "member"):
        other = "'{\"case_id\": \"' || id || '\"}'" if table == "task" else "'{}'"
        await stage.sql(
            f"""
            INSERT INTO {table}
            SELECT (jsonb_populate_record(row, ({other})::jsonb || jsonb_build_object('task_id', id))).*
            FROM {table} AS row, generate_series(1, $1) AS n, concat('T', n, substr(row.task_id, 3)) AS id
            """,
            tasks - 1,
        )


# --- The machine ---


@contextmanager
def two_cores() -> Iterator[None]:
    """This process, and all that it starts meanwhile, on the same two cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:2])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@asynccontextmanager
async def memory_of(pid: int) -> AsyncIterator[list[int]]:
    """The bytes that a process has in memory, now and every tenth of a second as long as the block lasts."""
    seen = [_resident_bytes(pid)]

    async def watch() -> None:
        while True:
            await asyncio.sleep(0.1)
            seen.append(_resident_bytes(pid))

    watching = asyncio.create_task(watch())
    try:
        yield seen
    finally:
        watching.cancel()
        await asyncio.wait([watching])


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
