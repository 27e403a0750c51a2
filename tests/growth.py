"""What a check-in, a status, a page of the feed and a night's purge cost as the database grows.

`python -m tests.growth`; BENCH_QUICK=1 fills less, and numbers of tasks may be given. Services on an empty database and
on one of each size run side by side and take turns: a machine that slows down slows all. Prints the tables and writes
them to .artifacts/growth.json; in full also into docs/performance.md, with a plot. Ten million attempts take 45 GB of
disk.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
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
from tests.bench.publication import publish
from tests.bench.report import GROWN, Row, Table, circumstances
from tests.embedded.temporary import temporary_data_dir, temporary_stores
from tests.large_case import analyse
from tests.many_rows import ATTEMPTS, MEMBERS, fill
from tests.service.own_process import OwnProcess, served
from tests.service.stage import check_in_fields, registration

COMMAND = "python -m tests.growth"
QUICK = bool(os.environ.get("BENCH_QUICK"))
SIZES = (100, 1_000) if QUICK else (100, 10_000, 100_000)
WARMING_UP, TURNS, A_TURN = 20, 2 if QUICK else 8, 30
POLLS = 200
CHECK_IN = "check-in"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
COLLEAGUES = [f"growth-colleague-{number}" for number in range(MEMBERS - 1)]
# So that nothing of a table goes through the log that is filled in the transaction that has emptied it. For all alike.
SETTINGS = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "shared_buffers": "1GB",
    "autovacuum": "off",  # it would be at work after the filling, for one of them
}


@dataclass(slots=True)
class Spent:
    """What some calls took together: seconds of wall clock each, and of CPU of service and PostgreSQL by turn; bytes of
    WAL."""

    service_s: list[float] = field(default_factory=list)
    postgres_s: list[float] = field(default_factory=list)
    wal_bytes: int = 0
    times_s: list[float] = field(default_factory=list)

    @property
    def cpu_s(self) -> float:
        return sum(self.service_s) + sum(self.postgres_s)

    def a_call(self, total: float) -> float:
        """A thousand times: ms of seconds, kB of MB."""
        return total / len(self.times_s) * 1000

    def by_turn(self) -> list[float]:
        return [service + postgres for service, postgres in zip(self.service_s, self.postgres_s, strict=True)]


Work = Callable[[int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Side:
    """A service on a database of so many made-up tasks, and who is on which task of its own. `postgres`: the process
    above all of this database's."""

    process: OwnProcess
    session: aiohttp.ClientSession
    token_dir: Path
    tasks: int
    people: Sequence[str]
    postgres: int

    @property
    def attempts(self) -> int:
        return self.tasks * MEMBERS * ATTEMPTS

    @property
    def name(self) -> str:
        return f"{self.attempts:,} attempts" if self.tasks else "empty"

    def task_of(self, number: int) -> str:
        """One of those made up, from all over the database."""
        return f"many-{number * 7919 % self.tasks}"

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
        async with connected(self.process) as connection:
            return await connection.fetchval(query)

    async def spend(self, spent: Spent, work: Work, numbers: Sequence[int]) -> None:
        """Two at a time."""

        async def timed(number: int) -> None:
            started = time.perf_counter()
            await work(number)
            spent.times_s.append(time.perf_counter() - started)

        wal = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
        written, service_s, postgres_s = await self.sql(wal), cpu_s(self.process.pid), self.postgres_s()
        await two_at_a_time(timed, numbers)
        spent.service_s.append(cpu_s(self.process.pid) - service_s)
        spent.postgres_s.append(self.postgres_s() - postgres_s)
        spent.wal_bytes += await self.sql(wal) - written

    def postgres_s(self) -> float:
        return cpu_s(self.postgres, b"postgres")


@asynccontextmanager
async def connected(process: OwnProcess) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(process.environment["DATABASE_URL"])
    try:
        yield connection
    finally:
        await connection.close()


async def postmaster_of(process: OwnProcess) -> int:
    async with connected(process) as connection:
        return parent_of(connection.get_server_pid())


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


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


async def check_ins(side: Side) -> Work:
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


async def statuses(side: Side) -> Work:
    async def ask(number: int) -> None:
        await side.call("GET", f"/v1/tasks/{side.task_of(number)}", "platform", "tasks", 200)

    return ask


async def bulk(side: Side) -> Work:
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


async def compare(sides: Sequence[Side], kind: str) -> list[Spent]:
    """Of each side; they take turns, each as often the first as the last."""
    made, a_turn, first = KINDS[kind]
    works = [await made(side) for side in sides]
    for work in works:
        # each connection plans a statement when it first executes it
        await two_at_a_time(work, range(WARMING_UP))
    spent = [Spent() for _ in sides]
    for turn in range(TURNS):
        numbers = range(first + turn * a_turn, first + (turn + 1) * a_turn)
        for side, work, its in list(zip(sides, works, spent, strict=True))[:: (-1) ** turn]:
            await side.spend(its, work, numbers)
    return spent


# How many a turn, and the first of them: who has checked in to warm up can't again.
KINDS: Mapping[str, tuple[Callable[[Side], Awaitable[Work]], int, int]] = {
    CHECK_IN: (check_ins, A_TURN, WARMING_UP),
    "status": (statuses, POLLS, 0),
    "query of 50": (bulk, POLLS // 10, 0),
    "page of the feed": (pages, POLLS, 0),
}


async def settle(side: Side) -> int:
    """Statistics of all that is there, and nothing left to be written out; bytes of the whole database."""
    async with connected(side.process) as connection:
        await analyse(connection, "VACUUM ANALYZE")
    await side.sql("CHECKPOINT")
    return int(await side.sql("SELECT pg_database_size(current_database())"))


async def purge(side: Side) -> tuple[Spent, int]:
    """A night's work, as an operator starts it, and how many rows went. Its process and its connections end with it:
    their time is that of ended children."""
    started, before, postgres_s = time.perf_counter(), os.times(), side.postgres_s()
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
    service_s = after.children_user + after.children_system - before.children_user - before.children_system
    spent = Spent([service_s], [side.postgres_s() - postgres_s], 0, [time.perf_counter() - started])
    return spent, sum(json.loads(told)["counts"].values())


# --- What is told of it ---


def check_in_table(sides: Sequence[Side], spent: Sequence[Spent]) -> Table:
    note = (
        f"{len(spent[0].times_s)} a database, two at a time, each with its challenge, by people and tasks of twenty "
        "that were registered for it. All databases were vacuumed, analysed and written out before. CPU by /proc."
    )
    rows = [row for number in range(len(sides)) for row in costs(sides, spent, number, GROWN)]
    for side, its in zip(sides, spent, strict=True):
        rows.append(Row(f"{side.name}: PostgreSQL's part", its.a_call(sum(its.postgres_s)), "ms"))
        rows.append(Row("time, median", statistics.median(its.times_s) * 1000, "ms"))
        rows.append(Row("written to the log", its.a_call(its.wal_bytes / 1e6), "kB"))
    return Table("Growth: a check-in", note, rows, plotted=points(CHECK_IN, sides, spent))


def reads_table(kind: str, sides: Sequence[Side], spent: Sequence[Spent]) -> Table:
    note = f"{len(spent[0].times_s)} a database, two at a time, of made-up tasks from all over it."
    rows = [row for number in range(len(sides)) for row in costs(sides, spent, number)]
    return Table(f"Growth: a {kind}", note, rows, plotted=points(kind, sides, spent))


def costs(
    sides: Sequence[Side], spent: Sequence[Spent], number: int, most: float | None = None
) -> Iterator[Row]:
    """Of service and PostgreSQL, and beside the smallest database."""
    its = spent[number]
    yield Row(f"{sides[number].name}: service and PostgreSQL", its.a_call(its.cpu_s), "ms")
    if number:
        by_turn = [larger / base for larger, base in zip(its.by_turn(), spent[0].by_turn(), strict=True)]
        name = f"beside {sides[0].name}, by turn {min(by_turn):.2f} to {max(by_turn):.2f}"
        yield Row(name, its.cpu_s / spent[0].cpu_s, "times", most=most)


def points(kind: str, sides: Sequence[Side], spent: Sequence[Spent]) -> Mapping[str, Mapping[str, Any]]:
    """Times the cost on the smallest by attempts, of which an empty database has none to show."""
    grown = [
        (side.attempts, its.cpu_s / spent[0].cpu_s)
        for side, its in zip(sides, spent, strict=True)
        if side.tasks
    ]
    return {"growth": {kind: grown}}


async def purge_table(sides: Sequence[Side], sizes: Sequence[int]) -> Table:
    note = "As an operator starts it, on a database of half a year that has never been purged. The size is that before."
    rows = []
    for side, size in zip(sides, sizes, strict=True):
        spent, removed = await purge(side)
        rows.append(Row(f"{side.name}: the whole database", size / 1e9, "GB"))
        rows.append(Row("rows removed", removed))
        rows.append(Row("time", spent.times_s[0], "s"))
        rows.append(Row("service", sum(spent.service_s), "s"))
        rows.append(Row("PostgreSQL", sum(spent.postgres_s), "s"))
    return Table("Growth: a night's purge", note, rows)


# --- The whole ---


@contextmanager
def timed(what: str) -> Iterator[None]:
    since = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - since:.0f} s", file=sys.stderr, flush=True)


async def measure(
    processes: Sequence[OwnProcess], token_dirs: Sequence[Path], sizes: Sequence[int]
) -> list[Table]:
    """`sizes`: tasks by database, none in the first."""
    people = [f"growth-{number}" for number in range(WARMING_UP + TURNS * A_TURN)]
    async with aiohttp.ClientSession() as session:
        sides = [
            Side(process, session, token_dir, tasks, people, await postmaster_of(process))
            for process, token_dir, tasks in zip(processes, token_dirs, sizes, strict=True)
        ]
        with timed("people and tasks to check in"):
            for side in sides:
                await prepare(side)
            sizes_bytes = [await settle(side) for side in sides]
        with timed("check-ins"):
            tables = [check_in_table(sides, await compare(sides, CHECK_IN))]
        filled = sides[1:]
        with timed("reads"):
            tables += [
                reads_table(kind, filled, await compare(filled, kind)) for kind in KINDS if kind != CHECK_IN
            ]
        with timed("purges"):
            return [*tables, await purge_table(filled, sizes_bytes[1:])]


def grown(sizes: Sequence[int]) -> list[Table]:
    """Of databases with so many tasks, beside an empty one."""
    with ExitStack() as stack:
        every = [0, *sizes]
        stores = [stack.enter_context(temporary_stores(SETTINGS)) for _ in every]
        token_dirs = [stack.enter_context(temporary_data_dir()) for _ in every]
        for its, token_dir, tasks in zip(stores[1:], token_dirs[1:], sizes, strict=True):
            with timed(f"filling {tasks} tasks"):
                asyncio.run(make(its, token_dir, tasks))
        processes = [stack.enter_context(started_on(*its)) for its in zip(stores, token_dirs, strict=True)]
        return asyncio.run(measure(processes, token_dirs, every))


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
    given = sorted(map(int, sys.argv[1:]))
    about = circumstances("quick" if QUICK else "in full")
    tables = grown(given or SIZES)
    publish(COMMAND, "growth", about, tables, whole=not (QUICK or given))


if __name__ == "__main__":
    main()
