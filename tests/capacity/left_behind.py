"""What the events around a check-in cost and leave behind: CPU, rows, log and objects, as the kernel, PostgreSQL and
the disk tell it before and after."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from random import Random
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tests.bench.cost import Cost, measured
from tests.bench.enrolments import enrolling
from tests.bench.fault import BenchFault
from tests.bench.people import place_of
from tests.bench.reads import WIDTH, many
from tests.bench.site import Api, Site, calling
from tests.faults.arrivals import Call, Heed, Photo, Place, Send, call_once, prepare
from tests.service.stage import ALL_SCOPES, FAR, photo_of, registration

PATIENCE_S = 60.0
ON_A_ROSTER = 20
KINDS = ("service", "postgres", "valkey", "face")
Figures = dict[str, Any]
"""By name: numbers, but for `tables`, bytes by table."""

_SIZES = "SELECT relname, pg_total_relation_size(relid) AS bytes FROM pg_stat_user_tables"
_WRITTEN = """
    SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS wal_bytes,
           pg_snapshot_xmax(pg_current_snapshot())::text::numeric AS transactions
"""


@dataclass(frozen=True, slots=True)
class Numbers:
    """How many of each event."""

    accepted: int = 1000
    refused: int = 400
    asked: int = 300
    tasks: int = 100
    deferred: int = 300
    after_checkpoint: int = 20

    @property
    def people(self) -> int:
        """Those who are accepted come twice, once to warm up; one keeps a worker from the deferred."""
        return 2 * self.accepted + 2 * self.refused + self.deferred + 1 + self.after_checkpoint


@dataclass(slots=True)
class Ledger:
    """What there is: bytes of rows with indexes by table; in total bytes of log and ids of transactions of the server,
    and bytes of objects."""

    tables: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)


async def measure(site: Site, numbers: Numbers) -> dict[str, Figures]:
    """Figures for one of each event, by its name."""
    async with site.serving() as [process], calling(site, process.base) as api:
        found = await _from_the_platform(site, api, numbers)
        found |= await _judged(site, process.port, numbers)
        found["accepted_after_checkpoint"] = await _after_checkpoints(
            site, process.port, numbers.after_checkpoint
        )
    found["deferred"] = await _deferred(site, numbers.deferred)
    found["commit"] = {"ms": await _commit_ms(site, numbers.asked)}
    return found


# --- The events ---


async def _from_the_platform(site: Site, api: Api, numbers: Numbers) -> dict[str, Figures]:
    """And of whoever consents and asks for a challenge."""
    tasks, people, members = count(), count(), iter(list(site.members))
    notice = await api.call("GET", "/v1/consent-notice", 200, "c-0", "checkin")
    body = {"notice_version": notice["notice_version"], "scopes": ALL_SCOPES}

    async def register() -> None:
        task_id = f"R-{next(tasks)}"
        roster = registration(*(f"{task_id}-{member}" for member in range(ON_A_ROSTER)))
        await api.call("PUT", f"/v1/tasks/{task_id}", 201, json=roster)

    async def consent() -> None:
        await api.call("PUT", "/v1/me/consent", 200, f"enrolled-{next(people)}", "checkin", json=body)

    async def challenge() -> None:
        person_id, task_id = next(members)
        await api.call("POST", "/v1/challenges", 201, person_id, "checkin", json={"task_id": task_id})

    return {
        "task": await _asked(site, register, numbers.tasks),
        "enrolment": await _asked(site, enrolling(api, site.faces.reference), numbers.asked),
        "consent": await _asked(site, consent, numbers.asked),
        "challenge": await _asked(site, challenge, numbers.asked),
    }


async def _judged(site: Site, port: int, numbers: Numbers) -> dict[str, Figures]:
    sent = partial(_sent, site, partial(call_once, port, PATIENCE_S), _judged_as)
    await sent(await site.calls(numbers.accepted), "accepted")
    found = {"accepted": await sent(await site.calls(numbers.accepted), "accepted")}
    far = await _calls(site, numbers.refused, place=lambda _: FAR)
    found["refused_place"] = await sent(far, "outside_geofence")
    strangers = await _calls(site, numbers.refused, photo=site.faces.stranger)
    return found | {"refused_face": await sent(strangers, "non_match")}


def _judged_as(heed: Heed) -> str:
    """The outcome, or why it was refused."""
    if heed.heard.status != 201:
        return str(heed.heard.status)
    reasons = [reason["code"] for reason in heed.answer["reasons"]]
    return " ".join(reasons) or str(heed.answer["outcome"])


async def _after_checkpoints(site: Site, port: int, number: int) -> Figures:
    """The first change to a page after a checkpoint puts the whole page into the log. Where no two check-ins touch the
    same pages, as in a large database, all of them are the first."""
    written = []
    for call in await site.calls(number):
        await site.stage.sql("CHECKPOINT")
        before = await _ledger(site)
        if _judged_as(await call_once(port, PATIENCE_S, call)) != "accepted":
            raise BenchFault("not accepted after a checkpoint")
        written.append((await _ledger(site)).totals["wal_bytes"] - before.totals["wal_bytes"])
    return {"number": number, "wal_bytes": statistics.median(written)}


async def _deferred(site: Site, number: int) -> Figures:
    """Taken near a deadline and not judged, as all who come while the only worker sleeps over the first of them."""
    await site.stage.sql("UPDATE task SET closes_at = clock_timestamp() + interval '1 hour'")
    asleep = replace(site, faces=replace(site.faces, switches=["--analysis-s=3600"]))
    settings = ["CHECKIN_FACE_WORKERS=1", "CHECKIN_LONGEST_WAIT_S=0.1", "CHECKIN_LONGEST_DEFERRAL_S=100000"]
    picture = Random(number).randbytes(len(site.faces.selfie(0)))

    def photo(person_id: str, shot: int) -> bytes:
        return photo_of("b", shot) + picture + person_id.encode()

    async with asleep.serving(1, *settings) as [process]:
        [first, *others] = await _calls(site, number + 1, photo=photo)
        await call_once(process.port, 1.0, first)
        return await _sent(site, partial(call_once, process.port, PATIENCE_S), _status, others, "202")


def _status(heed: Heed) -> str:
    return str(heed.heard.status)


async def _commit_ms(site: Site, number: int) -> float:
    """Median of the shortest transaction that has to be on disk, one after the other."""
    connection = await asyncpg.connect(site.stage.database_url)
    try:
        times = []
        for _ in range(number):
            since = time.perf_counter()
            await connection.execute("SELECT pg_logical_emit_message(true, 'capacity', 'x')")
            times.append(time.perf_counter() - since)
        return statistics.median(times) * 1000
    finally:
        await connection.close()


# --- How it is measured ---


async def _calls(site: Site, number: int, photo: Photo | None = None, place: Place = place_of) -> list[Call]:
    members = [site.members.popleft() for _ in range(number)]
    return await prepare(site.stage, members, photo or site.faces.photo, place)


async def _asked(site: Site, ask: Callable[[], Awaitable[None]], number: int) -> Figures:
    async with _grown(site, number + number // 10 + 1) as grown:
        seen = await many(ask, number)
    return grown | _cpu(seen.cost, number)


async def _sent(
    site: Site,
    send: Send,
    said: Callable[[Heed], str],
    calls: Sequence[Call],
    expected: str,
) -> Figures:
    """All of them, as many at a time as in the benchmark. Raises `BenchFault` where one hears anything else."""
    waiting, heard = iter(calls), Counter[str]()

    async def caller() -> None:
        for call in waiting:
            heard[said(await send(call))] += 1

    async with _grown(site, len(calls)) as grown:
        with measured() as cost:
            await asyncio.gather(*(caller() for _ in range(WIDTH)))
    if set(heard) != {expected}:
        raise BenchFault(f"these were to hear {expected}: {dict(heard)}")
    body_bytes = statistics.mean(len(call.body) for call in calls)
    return grown | _cpu(cost, len(calls)) | {"body_bytes": body_bytes}


@asynccontextmanager
async def _grown(site: Site, number: int) -> AsyncIterator[Figures]:
    """What one of so many events leaves behind, filled in when the block ends. Room that dead rows held may be used
    again, as it may where autovacuum has been."""
    for url in _databases(site):
        await _execute(url, "VACUUM")
    before, grown = await _ledger(site), Figures()
    yield grown
    after = await _ledger(site)
    grown["number"] = number
    grown |= {name: (total - before.totals[name]) / number for name, total in after.totals.items()}
    each = {table: (size - before.tables[table]) / number for table, size in after.tables.items()}
    grown["tables"] = {table: size for table, size in sorted(each.items()) if size > 0}


async def _ledger(site: Site) -> Ledger:
    ledger = Ledger()
    for url in _databases(site):
        ledger.tables.update({row["relname"]: row["bytes"] for row in await _execute(url, _SIZES)})
    [written] = await _execute(site.stage.database_url, _WRITTEN)
    ledger.totals.update({name: int(value) for name, value in written.items()})
    objects = (site.stage.settings.data_dir / "evidence").glob("*")
    ledger.totals["object_bytes"] = sum(path.stat().st_size for path in objects)
    return ledger


def _databases(site: Site) -> tuple[str, str]:
    """The main one and that of the keys, with the rights of their owner."""
    main, keys = site.stage.database_url, urlsplit(site.stage.settings.key_store_url or "")
    return main, urlunsplit(urlsplit(main)._replace(path=keys.path))


async def _execute(url: str, statement: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        rows: list[Any] = await connection.fetch(statement)
        return rows
    finally:
        await connection.close()


def _cpu(cost: Cost, number: int) -> Figures:
    return {f"{kind}_ms": cost.ms(number, kind) for kind in KINDS}
