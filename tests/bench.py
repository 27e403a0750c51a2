"""What a check-in, a poll, a page of the feed and a case of 1,000 cost: `make bench`, quoted in docs/performance.md.

The service runs as it does in production, with its face workers, beside a PostgreSQL and a Valkey of its own. CPU
times are read from /proc, so that the face workers and this generator stay out of the service's account.
"""

import asyncio
import json
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import aiohttp
import asyncpg

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres.database import open_database
from checkin_service.adapters.token_keys import development_key_set, development_token
from checkin_service.app import open_template_keys
from checkin_service.settings import read_settings
from tests import portraits
from tests.embedded.temporary import temporary_data_dir, temporary_stores
from tests.large_case import fill_case
from tests.service.stage import check_in_fields, registration

# Each person has a task of their own and one selfie for it, beside colleagues on the roster who look different.
PERSONS = [f"bench-{number}" for number in range(240)]
# who checks in before it is measured: a connection plans each statement the first time that it executes it
WARMING_UP = 60
COLLEAGUES = [f"bench-colleague-{number}" for number in range(9)]
TASKS = {person_id: f"bench-task-{number}" for number, person_id in enumerate(PERSONS)}
ANY_TASK = TASKS[PERSONS[0]]
POLLS = 5000
PAGES = 400
LARGE, ASKED = "bench-large", 100
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


# --- What processes used ---


def processes_below(pid: int) -> list[int]:
    """The process and all its descendants that live now."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(below for child in children for below in processes_below(int(child)))]


def is_face_worker(pid: int) -> bool:
    return b"face.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of the processes that still live, and of their children that have ended."""
    ticks = 0
    for pid in pids:
        if not Path(f"/proc/{pid}").exists():
            continue
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_PER_SECOND


@dataclass(slots=True)
class Cost:
    """What a piece of work took: seconds of wall clock, and of CPU by service, PostgreSQL and face workers."""

    wall_s: float
    service_cpu_s: float
    postgres_cpu_s: float
    face_cpu_s: float


# --- The service under measurement ---


class Bench:
    def __init__(
        self, session: aiohttp.ClientSession, base: str, data_dir: Path, service: int, stores: EmbeddedStores
    ) -> None:
        self.session, self.base, self.data_dir = session, base, data_dir
        self.service = [pid for pid in processes_below(service) if not is_face_worker(pid)]
        self.pid = service
        self.postgres = [pid for pid in processes_below(os.getpid()) if _is_postgres(pid)]
        self.database_url, self.key_store_url = stores.database_url or "", stores.key_store_url or ""
        self._tokens: dict[tuple[str, str], str] = {}

    def headers(self, sub: str, scope: str) -> dict[str, str]:
        key = (sub, scope)
        if key not in self._tokens:
            self._tokens[key] = development_token(self.data_dir, sub, scope, 15)
        return {"Authorization": f"Bearer {self._tokens[key]}"}

    async def call(self, method: str, path: str, sub: str, scope: str, expected: int, **options: Any) -> Any:
        headers = self.headers(sub, scope) | options.pop("headers", {})
        async with self.session.request(method, self.base + path, headers=headers, **options) as answer:
            text = await answer.text()
            if answer.status != expected:
                raise SystemExit(f"{method} {path} answered {answer.status}: {text}")
            return json.loads(text) if text.startswith(("{", "[")) else text

    async def measure(self, work: Callable[[], Awaitable[Any]]) -> Cost:
        postgres = [pid for pid in processes_below(os.getpid()) if _is_postgres(pid)]
        faces = [pid for pid in processes_below(self.pid) if is_face_worker(pid)]
        groups = (self.service, postgres, faces)
        before = [cpu_seconds(group) for group in groups]
        started = time.perf_counter()
        await work()
        wall = time.perf_counter() - started
        used = [cpu_seconds(group) - earlier for group, earlier in zip(groups, before, strict=True)]
        return Cost(wall, *used)

    async def metric(self, name: str, labels: str = "") -> float:
        """The sum of a metric's samples whose labels contain `labels`."""
        text = str(await self.call("GET", "/metrics", "bench", "operate", 200))
        lines = [line for line in text.splitlines() if line.startswith(name) and labels in line]
        return sum(float(line.rpartition(" ")[2]) for line in lines)


def _is_postgres(pid: int) -> bool:
    return b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes()


@asynccontextmanager
async def service(stores: EmbeddedStores, data_dir: Path, log: IO[str]) -> AsyncIterator[Bench]:
    environment = {
        **os.environ,
        "CHECKIN_DATA_DIR": str(data_dir / "service"),
        "CHECKIN_PORT": "0",
        "DATABASE_URL": stores.database_url or "",
        "REDIS_URL": stores.redis_url or "",
        "CHECKIN_KEY_STORE_URL": stores.key_store_url or "",
        "CHECKIN_JWKS": str(development_key_set(data_dir)),
    }
    command = (sys.executable, "-m", "checkin_service", "serve")
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=asyncio.subprocess.PIPE, stderr=log
    )
    assert process.stdout is not None
    base = ""
    async for line in process.stdout:
        if base := line.decode().partition("listens on ")[2].strip():
            break
    if not base:
        raise SystemExit("the service did not start")
    try:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield Bench(session, base, data_dir, process.pid, stores)
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


# --- Check-ins ---


async def prepare_people(bench: Bench) -> None:
    approved_at = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    for person_id, task_id in TASKS.items():
        body = registration(person_id, *COLLEAGUES, approved_at=approved_at)
        await bench.call("PUT", f"/v1/tasks/{task_id}", "platform", "tasks", 201, json=body)
    hopper, astronaut = portraits.hopper(), portraits.astronaut()
    photos = dict.fromkeys(PERSONS, hopper) | dict.fromkeys(COLLEAGUES, astronaut)
    for person_id, photo in photos.items():
        form = aiohttp.FormData()
        form.add_field("photo", photo, filename="photo.jpg")
        await bench.call("PUT", f"/v1/persons/{person_id}/reference", "platform", "tasks", 201, data=form)
        notice = await bench.call("GET", "/v1/consent-notice", person_id, "checkin", 200)
        consent = {"notice_version": notice["notice_version"], "scopes": notice["scopes"]}
        await bench.call("PUT", "/v1/me/consent", person_id, "checkin", 200, json=consent)


async def check_ins(bench: Bench) -> dict[str, float]:
    """Every person checks in to their task, two at a time."""
    selfie = portraits.hopper_altered()
    pairs = list(TASKS.items())
    challenges = {}
    for person_id, task_id in pairs:
        opened = await bench.call(
            "POST", "/v1/challenges", person_id, "checkin", 201, json={"task_id": task_id}
        )
        challenges[person_id, task_id] = opened["challenge_id"]

    async def check_in(person_id: str, task_id: str) -> None:
        form = aiohttp.FormData()
        for name, value in check_in_fields(task_id, challenges[person_id, task_id]).items():
            form.add_field(name, value if isinstance(value, str) else json.dumps(value))
        form.add_field("selfie", selfie, filename="selfie.jpg")
        headers = {"Idempotency-Key": uuid4().hex}
        answer = await bench.call(
            "POST", "/v1/check-ins", person_id, "checkin", 201, data=form, headers=headers
        )
        if answer["outcome"] != "accepted":
            raise SystemExit(f"not accepted: {answer['reasons']}")

    await in_parallel(2, pairs[:WARMING_UP], check_in)
    pairs = pairs[WARMING_UP:]
    held = "checkin_database_connection_seconds_total"
    spent, route = "checkin_request_duration_seconds_sum", 'route="/v1/check-ins"'
    before = await bench.metric(held), await bench.metric(spent, route)
    cost = await bench.measure(lambda: in_parallel(2, pairs, check_in))
    connection_s = await bench.metric(held) - before[0]
    request_s = await bench.metric(spent, route) - before[1]
    return {
        "check_ins": len(pairs),
        "per_second": len(pairs) / cost.wall_s,
        "service_cpu_ms": cost.service_cpu_s / len(pairs) * 1000,
        "postgres_cpu_ms": cost.postgres_cpu_s / len(pairs) * 1000,
        "connection_share": connection_s / request_s,
        # the yardstick: how fast this machine is today
        "face_cpu_ms": cost.face_cpu_s / len(pairs) * 1000,
    }


# --- Polls ---


async def polls(bench: Bench) -> dict[str, float]:
    """Polls with a current ETag: the service and PostgreSQL on one core, this generator on the other."""
    path = f"/v1/tasks/{ANY_TASK}"
    headers = bench.headers("platform", "tasks")
    async with bench.session.get(bench.base + path, headers=headers) as answer:
        headers = headers | {"If-None-Match": answer.headers["ETag"]}

    async def poll() -> None:
        async with bench.session.get(bench.base + path, headers=headers) as answer:
            if answer.status != 304:
                raise SystemExit(f"a poll answered {answer.status}")

    one, other = sorted(os.sched_getaffinity(0))[:2]
    for pid in (
        *bench.service,
        *bench.postgres,
        *(p for p in processes_below(os.getpid()) if _is_postgres(p)),
    ):
        pin(pid, {one})
    pin(os.getpid(), {other})
    await in_parallel(8, [()] * 500, poll)
    cost = await bench.measure(lambda: in_parallel(8, [()] * POLLS, poll))
    return {
        "polls": POLLS,
        "per_second": POLLS / cost.wall_s,
        "service_cpu_ms": cost.service_cpu_s / POLLS * 1000,
        "postgres_cpu_ms": cost.postgres_cpu_s / POLLS * 1000,
    }


def pin(pid: int, cores: set[int]) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), cores)


# --- Feed ---


async def feed(bench: Bench, tasks: int) -> dict[str, float]:
    """A page of the last ten changes with so many tasks in the database."""
    connection = await asyncpg.connect(bench.database_url)
    try:
        await grow(connection, tasks)
        last = await connection.fetchval("SELECT max(seq) FROM change")
        plan = await connection.fetchval(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
            "SELECT seq, task_id, rev, type, at FROM change WHERE seq > $1 ORDER BY seq LIMIT 501",
            last - 10,
        )
    finally:
        await connection.close()
    page = await bench.call("GET", "/v1/changes?limit=1", "platform", "tasks", 200)
    after = f"{page['feed_epoch']}.{last - 10}"
    times: list[float] = []

    async def read_page() -> None:
        started = time.perf_counter()
        found = await bench.call("GET", f"/v1/changes?after={after}", "platform", "tasks", 200)
        times.append(time.perf_counter() - started)
        if len(found["changes"]) != 10:
            raise SystemExit("a page of the feed is not complete")

    cost = await bench.measure(lambda: in_parallel(1, [()] * PAGES, read_page))
    buffers = json.loads(plan)[0]["Plan"]["Shared Hit Blocks"]
    return {
        "tasks": tasks,
        "median_ms": statistics.median(times) * 1000,
        "cpu_ms": (cost.service_cpu_s + cost.postgres_cpu_s) / PAGES * 1000,
        "buffers": buffers,
    }


async def grow(connection: asyncpg.Connection, tasks: int) -> None:
    """Copies of a real task, each with its registration in the feed, up to so many tasks."""
    copied = (
        "case_id, round, flow, rectifies, uscc, enterprise_name, requirement, registration_digest, "
        "opens_at, closes_at, window_basis, start_day, nominal_day, last_day, rolled_over, provisional, "
        "calendar_version, rev"
    )
    source = copied.replace("case_id", "'copy-' || n").replace(" rev", " 1")
    await connection.execute(
        f"""
        WITH made AS (
            INSERT INTO task (task_id, {copied})
            SELECT 'copy-' || n, {source} FROM task,
                   generate_series((SELECT count(*) FROM task), $1 - 1) AS n
            WHERE task_id = '{ANY_TASK}' RETURNING task_id)
        INSERT INTO change (seq, task_id, rev, type, at)
        SELECT nextval('change_seq'), task_id, 1, 'task_registered', now() FROM made
        """,
        tasks,
    )
    await connection.execute("ANALYZE")


# --- A case of 1,000 ---


async def large_case(bench: Bench) -> dict[str, dict[str, float]]:
    """What is asked about a task of 1,000 members, half of them accepted, each with two reference photographs."""
    person_ids = [f"bench-member-{number}" for number in range(1000)]
    approved_at = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    body = registration(*person_ids, approved_at=approved_at)
    await bench.call("PUT", f"/v1/tasks/{LARGE}", "platform", "tasks", 201, json=body)
    settings = read_settings({"CHECKIN_DATA_DIR": str(bench.data_dir / "service")})
    connection = await asyncpg.connect(bench.database_url)
    try:
        async with (
            open_database(bench.database_url, 1) as database,
            open_template_keys(settings, bench.key_store_url, database) as keys,
        ):
            await fill_case(connection, keys, LARGE, person_ids, photos=2)
    finally:
        await connection.close()
    return {
        name or "status": await _asked(bench, name) for name in ("", "why-not", "readiness", "statistics")
    }


async def _asked(bench: Bench, name: str) -> dict[str, float]:
    path, headers = f"/v1/tasks/{LARGE}/{name}".rstrip("/"), bench.headers("platform", "tasks")
    times: list[float] = []

    async def ask() -> None:
        started = time.perf_counter()
        async with bench.session.get(bench.base + path, headers=headers) as answer:
            await answer.read()
        times.append(time.perf_counter() - started)
        if answer.status != 200:
            raise SystemExit(f"{path} answered {answer.status}")

    await in_parallel(1, [()] * 5, ask)
    times.clear()
    cost = await bench.measure(lambda: in_parallel(1, [()] * ASKED, ask))
    return {
        "median_ms": statistics.median(times) * 1000,
        "fastest_ms": min(times) * 1000,
        "service_cpu_ms": cost.service_cpu_s / ASKED * 1000,
        "postgres_cpu_ms": cost.postgres_cpu_s / ASKED * 1000,
    }


async def in_parallel(
    width: int, jobs: Iterable[tuple[Any, ...]], work: Callable[..., Awaitable[None]]
) -> None:
    waiting = iter(list(jobs))

    async def worker() -> None:
        for job in waiting:
            await work(*job)

    await asyncio.gather(*(worker() for _ in range(width)))


async def report(stores: EmbeddedStores, data_dir: Path, log: IO[str]) -> dict[str, Any]:
    async with service(stores, data_dir, log) as bench:
        await prepare_people(bench)
        return {
            "check_in": await check_ins(bench),
            "feed": [await feed(bench, tasks) for tasks in (100, 100_000)],
            "large_case": await large_case(bench),
            "poll": await polls(bench),
            "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        }


def main() -> None:
    folder = Path(".artifacts")
    folder.mkdir(exist_ok=True)
    with (
        temporary_stores() as stores,
        temporary_data_dir() as data_dir,
        (folder / "bench.log").open("w") as log,
    ):
        figures = asyncio.run(report(stores, data_dir, log))
    text = json.dumps(figures, indent=1)
    (folder / "bench.json").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
