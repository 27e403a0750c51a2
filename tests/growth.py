"""What a check-in, a status, a page of the feed and a night's purge cost as the database grows.

`python -m tests.growth`; BENCH_QUICK=1 fills less, and numbers of tasks may be given. Two services run side by side, on
an empty database and on a filled one, and take turns: a machine that slows down slows both. Writes
.artifacts/growth.json; quoted in docs/performance.md. Ten million attempts take 40 GB of disk.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres.database import open_database
from checkin_service.adapters.postgres.migrate import migrate_at
from checkin_service.adapters.token_keys import development_key_set, development_token
from checkin_service.app import open_template_keys
from checkin_service.settings import read_settings
from face import DLIB_RESNET_MODEL, SFACE_MODEL
from tests import portraits
from tests.embedded.temporary import temporary_data_dir, temporary_stores
from tests.many_rows import ATTEMPTS, MEMBERS, fill
from tests.service.own_process import OwnProcess, served
from tests.service.stage import check_in_fields, registration

QUICK = bool(os.environ.get("BENCH_QUICK"))
SIZES = (100, 1_000) if QUICK else (100, 10_000, 100_000)
WARMING_UP, TURNS, A_TURN = 20, 2 if QUICK else 6, 20
POLLS = 200
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
COLLEAGUES = [f"growth-colleague-{number}" for number in range(MEMBERS - 1)]
# So that nothing of a table goes through the log that is filled in the transaction that has emptied it. For both alike.
SETTINGS = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "shared_buffers": "1GB",
    "autovacuum": "off",  # it would be at work after the filling, for one of the two
}


@dataclass(slots=True)
class Spent:
    """What some calls took together: seconds of wall clock, and of CPU by service and PostgreSQL; bytes of WAL."""

    calls: int = 0
    service_s: float = 0
    postgres_s: float = 0
    wal_bytes: int = 0
    times_s: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        return {
            "calls": self.calls,
            "median_ms": statistics.median(self.times_s) * 1000,
            "service_cpu_ms": self.service_s / self.calls * 1000,
            "postgres_cpu_ms": self.postgres_s / self.calls * 1000,
            "wal_kb": self.wal_bytes / self.calls / 1000,
        }


Work = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Side:
    """A service on a database of so many made-up tasks, and who is on which task of its own."""

    process: OwnProcess
    session: aiohttp.ClientSession
    token_dir: Path
    tasks: int
    people: Sequence[str]

    @property
    def database_url(self) -> str:
        return self.process.environment["DATABASE_URL"]

    def task_of(self, number: int) -> str:
        """One that is there: made up, or on an empty database the person's own."""
        return (
            f"many-{number * 7919 % self.tasks}"
            if self.tasks
            else task_id_of(self.people[number % len(self.people)])
        )

    async def call(self, method: str, path: str, sub: str, scope: str, expected: int, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {development_token(self.token_dir, sub, scope, 15)}"}
        headers |= options.pop("headers", {})
        async with self.session.request(
            method, self.process.base + path, headers=headers, **options
        ) as answer:
            text = await answer.text()
            if answer.status != expected:
                raise SystemExit(f"{method} {path} answered {answer.status}: {text}")
            return json.loads(text)

    async def sql(self, query: str) -> Any:
        connection = await asyncpg.connect(self.database_url)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    async def spend(self, spent: Spent, work: Work, numbers: Sequence[int]) -> None:
        """Two at a time."""

        async def timed(number: int) -> None:
            started = time.perf_counter()
            await work(number)
            spent.times_s.append(time.perf_counter() - started)

        wal = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
        written, service_s, postgres_s = (
            await self.sql(wal),
            cpu_s(self.process.pid),
            cpu_s(os.getpid(), b"postgres"),
        )
        await two_at_a_time(timed, numbers)
        spent.calls += len(numbers)
        spent.service_s += cpu_s(self.process.pid) - service_s
        spent.postgres_s += cpu_s(os.getpid(), b"postgres") - postgres_s
        spent.wal_bytes += await self.sql(wal) - written


async def two_at_a_time(work: Work, numbers: Iterable[int]) -> None:
    waiting = iter(numbers)

    async def worker() -> None:
        for number in waiting:
            await work(number)

    await asyncio.gather(worker(), worker())


def cpu_s(pid: int, named: bytes = b"checkin_service") -> float:
    """Of the process and all below it whose command line has that name, with their children that have ended."""
    total = 0
    with suppress(FileNotFoundError, ProcessLookupError):
        folder = Path(f"/proc/{pid}")
        if named in (folder / "cmdline").read_bytes():
            total += sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:15]))
        for child in (folder / f"task/{pid}/children").read_text().split():
            total += round(cpu_s(int(child), named) * TICKS_PER_S)
    return total / TICKS_PER_S


def task_id_of(person_id: str) -> str:
    return f"{person_id}-task"


async def prepare(side: Side) -> None:
    """A task of twenty for each, who all have a reference and consent."""
    approved_at = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    for person_id in side.people:
        body = registration(person_id, *COLLEAGUES, approved_at=approved_at)
        await side.call("PUT", f"/v1/tasks/{task_id_of(person_id)}", "platform", "tasks", 201, json=body)
    everyone = [*side.people, *COLLEAGUES]
    hopper, astronaut = portraits.hopper(), portraits.astronaut()

    async def enrol(number: int) -> None:
        person_id, form = everyone[number], aiohttp.FormData()
        form.add_field("photo", hopper if number < len(side.people) else astronaut, filename="photo.jpg")
        await side.call("PUT", f"/v1/persons/{person_id}/reference", "platform", "tasks", 201, data=form)
        notice = await side.call("GET", "/v1/consent-notice", person_id, "checkin", 200)
        consent = {"notice_version": notice["notice_version"], "scopes": notice["scopes"]}
        await side.call("PUT", "/v1/me/consent", person_id, "checkin", 200, json=consent)

    await two_at_a_time(enrol, range(len(everyone)))


# --- What is measured ---


def check_ins(side: Side) -> Work:
    selfie = portraits.hopper_altered()

    async def check_in(number: int) -> None:
        person_id = side.people[number]
        task_id = task_id_of(person_id)
        opened = await side.call(
            "POST", "/v1/challenges", person_id, "checkin", 201, json={"task_id": task_id}
        )
        form = aiohttp.FormData()
        for name, value in check_in_fields(task_id, opened["challenge_id"]).items():
            form.add_field(name, value if isinstance(value, str) else json.dumps(value))
        form.add_field("selfie", selfie, filename="selfie.jpg")
        headers = {"Idempotency-Key": uuid4().hex}
        answer = await side.call(
            "POST", "/v1/check-ins", person_id, "checkin", 201, data=form, headers=headers
        )
        if answer["outcome"] != "accepted":
            raise SystemExit(f"not accepted: {answer['reasons']}")

    return check_in


def statuses(side: Side) -> Work:
    async def ask(number: int) -> None:
        await side.call("GET", f"/v1/tasks/{side.task_of(number)}", "platform", "tasks", 200)

    return ask


def bulk(side: Side) -> Work:
    async def ask(number: int) -> None:
        body = {"task_ids": [side.task_of(number + n) for n in range(50)]}
        await side.call("POST", "/v1/tasks/query", "platform", "tasks", 200, json=body)

    return ask


async def pages(side: Side) -> Work:
    """The last ten changes."""
    page = await side.call("GET", "/v1/changes?limit=1", "platform", "tasks", 200)
    last = await side.sql("SELECT max(seq) FROM change")
    path = f"/v1/changes?after={page['feed_epoch']}.{last - 10}"

    async def read(_: int) -> None:
        await side.call("GET", path, "platform", "tasks", 200)

    return read


async def compare(sides: Sequence[Side]) -> dict[str, list[dict[str, float]]]:
    """Figures by what was done, of each side; they take turns."""
    kinds: dict[str, tuple[list[Work], int, int]] = {
        "check_in": ([check_ins(side) for side in sides], A_TURN, WARMING_UP),
        "status": ([statuses(side) for side in sides], POLLS, 0),
        "bulk_query_of_50": ([bulk(side) for side in sides], POLLS // 10, 0),
        "feed_page": ([await pages(side) for side in sides], POLLS, 0),
    }
    found = {}
    for name, (works, a_turn, first) in kinds.items():
        for work in works:
            # each connection plans a statement when it first executes it
            await two_at_a_time(work, range(WARMING_UP))
        spent = [Spent() for _ in sides]
        for turn in range(TURNS):
            numbers = [
                n % len(sides[0].people) for n in range(first + turn * a_turn, first + (turn + 1) * a_turn)
            ]
            for side, work, its in zip(sides, works, spent, strict=True):
                await side.spend(its, work, numbers)
        found[name] = [its.figures() for its in spent]
    return found


async def purge(side: Side) -> dict[str, Any]:
    """A night's work, as an operator starts it. Its process and its connections end with it: their time is that of
    ended children."""
    started, before, postgres_s = time.perf_counter(), os.times(), cpu_s(os.getpid(), b"postgres")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "checkin_service",
        "purge",
        env=side.process.environment,
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"the purge ended with {process.returncode}")
    after = os.times()
    return {
        "wall_s": time.perf_counter() - started,
        "service_cpu_s": after.children_user
        + after.children_system
        - before.children_user
        - before.children_system,
        "postgres_cpu_s": cpu_s(os.getpid(), b"postgres") - postgres_s,
        "counts": json.loads(told)["counts"],
    }


# --- The whole ---


async def measure(processes: Sequence[OwnProcess], token_dirs: Sequence[Path], tasks: int) -> dict[str, Any]:
    people = [f"growth-{number}" for number in range(WARMING_UP + TURNS * A_TURN)]
    async with aiohttp.ClientSession() as session:
        sides = [
            Side(process, session, token_dir, number, people)
            for process, token_dir, number in zip(processes, token_dirs, (0, tasks), strict=True)
        ]
        for side in sides:
            await prepare(side)
        found: dict[str, Any] = await compare(sides)
        return found | {"purge": await purge(sides[1])}


def grown(tasks: int) -> dict[str, Any]:
    """The figures of one size: of the empty database and of the filled one, in this order."""
    with ExitStack() as stack:
        stores = [stack.enter_context(temporary_stores(SETTINGS)) for _ in range(2)]
        token_dirs = [stack.enter_context(temporary_data_dir()) for _ in range(2)]
        started = time.perf_counter()
        asyncio.run(make(stores[1], token_dirs[1], tasks))
        filled_s = time.perf_counter() - started
        processes = [stack.enter_context(started_on(*its)) for its in zip(stores, token_dirs, strict=True)]
        found = asyncio.run(measure(processes, token_dirs, tasks))
    return {"tasks": tasks, "attempts": tasks * MEMBERS * ATTEMPTS, "filled_s": filled_s, **found}


async def make(stores: EmbeddedStores, token_dir: Path, tasks: int) -> None:
    """The key store first: it is made for an empty database only."""
    url, key_store_url = stores.database_url or "", stores.key_store_url or ""
    settings = read_settings({"CHECKIN_DATA_DIR": str(token_dir / "service")})
    await migrate_at(url)
    async with open_database(url, 1) as database, open_template_keys(settings, key_store_url, database):
        pass
    await fill(url, tasks, (SFACE_MODEL, DLIB_RESNET_MODEL))


def started_on(stores: EmbeddedStores, token_dir: Path) -> AbstractContextManager[OwnProcess]:
    return served(
        CHECKIN_DATA_DIR=str(token_dir / "service"),
        DATABASE_URL=stores.database_url or "",
        REDIS_URL=stores.redis_url or "",
        CHECKIN_KEY_STORE_URL=stores.key_store_url or "",
        CHECKIN_JWKS=str(development_key_set(token_dir)),
    )


def main() -> None:
    sizes = [int(text) for text in sys.argv[1:]] or SIZES
    text = json.dumps([grown(tasks) for tasks in sizes], indent=1)
    folder = Path(".artifacts")
    folder.mkdir(exist_ok=True)
    (folder / "growth.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
