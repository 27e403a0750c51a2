"""No statement of a check-in, a poll, the console or a purge reads a large table from end to end.

PostgreSQL is told that it has the rows of ten million attempts, and tells the plan of all that it carries out, also
within the functions of the schema and for foreign keys, of which EXPLAIN shows nothing.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from checkin_service.adapters.postgres import (
    audit,
    calendars,
    check_ins,
    deferred,
    desk,
    feed,
    persons,
    purge,
    reports,
    reviews,
    tasks,
    watch,
)
from checkin_service.adapters.postgres.check_ins import Attempt, LeftBehind, SealedObject, Submission
from checkin_service.adapters.postgres.database import SESSION_SETTINGS, Connection, prepare_connection
from checkin_service.adapters.postgres.desk import Order, Wanted, Window
from checkin_service.adapters.postgres.person_export import read_stored
from checkin_service.adapters.postgres.persons import SealedTemplate
from checkin_service.domain.retention import POLICY, Kind
from checkin_service.domain.review import ReviewState
from tests.many_rows import MADE, fill
from tests.service.databases import Databases

pytestmark = pytest.mark.asyncio(loop_scope="module")

TASKS = 20
PRETENDED_ATTEMPTS = 10_000_000
MODELS = ("model-1", "model-2")

# Of ids there are as many as there would be, and none stands out; of outcomes and the like as many as there are.
_PRETENDED_VALUES = """
    SELECT pg_clear_attribute_stats('public', tablename, attname, false),
           pg_restore_attribute_stats('schemaname', 'public', 'relname', tablename::text, 'attname', attname::text,
               'inherited', false, 'null_frac', null_frac, 'avg_width', avg_width,
               'n_distinct', CASE WHEN n_distinct > 0 THEN -(n_distinct / reltuples)::real ELSE n_distinct END)
    FROM pg_stats JOIN pg_class ON pg_class.oid = tablename::regclass
    WHERE tablename = ANY($1) AND (n_distinct < 0 OR n_distinct > 10)
"""
_PRETENDED_SIZES = """
    SELECT pg_restore_relation_stats('schemaname', 'public', 'relname', relname::text, 'relpages', relpages,
                                     'reltuples', (reltuples * $2::float8)::real)
    FROM pg_class WHERE oid = ANY($1::text[]::regclass[])
       OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = ANY($1::text[]::regclass[]))
"""
# A column of few values in front of others is skipped: PostgreSQL looks under each of them.
_LARGE = """
    SELECT c.relname, (
        SELECT pg_get_indexdef(c.oid, n, true)
        FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid CROSS JOIN generate_series(1, i.indnkeyatts) AS n
        LEFT JOIN pg_stats s ON s.tablename = t.relname AND s.attname = pg_get_indexdef(c.oid, n, true)
        WHERE i.indexrelid = c.oid AND (s.n_distinct BETWEEN 1 AND 10) IS NOT TRUE ORDER BY n LIMIT 1) AS leading
    FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND reltuples > 50000
"""
_KNOWN = """
    SELECT task_id, a.person_id, a.check_in_id, r.challenge_id, now() AS now
    FROM attempt a JOIN receipt r USING (check_in_id, task_id) JOIN task t USING (task_id)
    WHERE t.closes_at > now() AND a.outcome = 'rejected' AND NOT EXISTS (
        SELECT FROM acceptance c WHERE c.task_id = a.task_id AND c.person_id = a.person_id)
    ORDER BY a.check_in_id LIMIT 1
"""
# The plan of everything that is carried out, also within functions and for foreign keys, as it begins.
_TELL_PLANS = """
    LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on;
    SET auto_explain.log_format = json; SET auto_explain.log_level = notice; SET client_min_messages = notice
"""

Plan = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """Somebody of a task whose window is open, not accepted yet, and an attempt of theirs that was refused."""

    task_id: str
    person_id: str
    check_in_id: UUID
    challenge_id: UUID
    now: datetime


@dataclass(frozen=True, slots=True)
class Large:
    """`relations`: tables and indexes of many rows; with an index the first of what it is ordered by."""

    url: str
    known: Known
    relations: Mapping[str, str]


Statement = Callable[[Connection, Known], Awaitable[Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def large(databases: Databases) -> Large:
    """Half a year in twenty tasks, and statistics of ten million attempts."""
    url = await databases.make()
    await fill(url, TASKS, MODELS)
    connection = await asyncpg.connect(url)
    try:
        for table in MADE:  # nobody looks what is really there
            await connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        known = await connection.fetchrow(_KNOWN)
        attempts = await connection.fetchval("SELECT count(*) FROM attempt")
        await connection.fetch(_PRETENDED_VALUES, MADE)
        await connection.fetch(_PRETENDED_SIZES, MADE, PRETENDED_ATTEMPTS / attempts)
        relations = {row["relname"]: row["leading"] for row in await connection.fetch(_LARGE)}
    finally:
        await connection.close()
    return Large(url, Known(*known), relations)


async def plans_of(large: Large, statement: Statement, before: str = "SELECT") -> list[Plan]:
    """Of all that it carries out. Nothing of it stays."""
    connection = await asyncpg.connect(large.url, server_settings=SESSION_SETTINGS)
    await prepare_connection(connection)
    told: list[str] = []
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(before)
        await connection.execute(_TELL_PLANS)
        connection.add_log_listener(lambda _, message: told.append(message.message))
        await statement(connection, large.known)
        await connection.execute("SELECT")  # the last one ends when the next begins
        await asyncio.sleep(0)  # listeners are called in the next turn
        return [json.loads(text.partition("plan:\n")[2])["Plan"] for text in told if "plan:\n" in text]
    finally:
        await transaction.rollback()
        await connection.close()


def read_whole(plan: Plan, large: Large, limited: bool = False) -> set[str]:
    """What of the large tables and indexes the plan reads from end to end. `limited`: no more than the first rows are
    asked of it."""
    found = {plan["Relation Name"]} if plan["Node Type"] == "Seq Scan" else set()
    if index := plan.get("Index Name"):
        of_first = (large.relations.get(index) or "") in plan.get("Index Cond", "")
        walked = limited and "Filter" not in plan
        found = set() if of_first or walked else {index}
    passes_on = plan["Node Type"] in ("Limit", "LockRows", "Subquery Scan", "Result", "Append", "ModifyTable")
    limited = plan["Node Type"] == "Limit" or (limited and passes_on)
    below = [read_whole(part, large, limited) for part in plan.get("Plans", ())]
    return (found & large.relations.keys()).union(*below)


async def wholly_read(large: Large, statement: Statement, before: str = "SELECT") -> set[str]:
    plans = await plans_of(large, statement, before)
    assert plans
    return set().union(*(read_whole(plan, large) for plan in plans))


# --- What a check-in does ---


async def received(connection: Connection, known: Known) -> tuple[check_ins.Receipt, check_ins.LoadedCase]:
    opened = await check_ins.open_challenge(connection, known.task_id, known.person_id, timedelta(minutes=3))
    assert opened
    submission = Submission("iss", known.person_id, uuid4().hex, bytes(32), known.task_id, opened[0])
    found = await check_ins.insert_receipt(connection, submission)
    assert found
    return found


def attempt(receipt: check_ins.Receipt, known: Known, outcome: str) -> Attempt:
    accepted = outcome != "rejected"
    return Attempt(
        zone="inside",
        distance_m=-20.0 if accepted else 400.0,
        r95_m=30.0,
        model_id="model-1",
        score=0.6,
        threshold=0.4,
        operating_point="p",
        live=None,
        liveness=None,
        copy_distance=None,
        copy_bits=None,
        rival_score=None,
        device={"device_id": "d"},
        signals=(),
        check_in_id=receipt.check_in_id,
        task_id=known.task_id,
        person_id=known.person_id,
        received_at=receipt.received_at,
        shanghai_day=receipt.received_at.date(),
        outcome=outcome,
        reasons=[] if accepted else ["outside_geofence"],
        counted=not accepted,
        fence_version=1,
        photo_sha256=bytes(32),
    )


def settled(outcome: str) -> Statement:
    async def settle(connection: Connection, known: Known) -> None:
        receipt, loaded = await received(connection, known)
        passed = outcome != "rejected"
        left = LeftBehind(
            telling=[SealedTemplate(0, "model-1", b"sealed")] if passed else (),
            selfie=SealedObject("a" * 64, b"wrapped", b"") if passed else None,
            position=(114.0, 22.5),
            fix_digests=[bytes(32)],
        )
        judged = attempt(receipt, known, outcome)
        assert await check_ins.settle(connection, receipt.check_in_id, loaded.stamp, {}, judged, left)

    return settle


async def traces(connection: Connection, known: Known) -> None:
    receipt, _ = await received(connection, known)
    await check_ins.read_traces(connection, receipt, known.person_id, [bytes(32)], "d")


async def put_off(connection: Connection, known: Known) -> None:
    receipt, loaded = await received(connection, known)
    await check_ins.release_receipt(connection, receipt.check_in_id, None)
    assert await deferred.put_off(connection, receipt.check_in_id, loaded.key_id, b"sealed")
    assert await deferred.lease_next(connection)
    await deferred.read_backlog(connection)
    await deferred.end_deferred(connection, receipt.check_in_id, "abandoned")


async def near_a_deadline(connection: Connection, known: Known) -> None:
    await deferred.tasks_near_a_deadline(connection, timedelta(hours=2))
    await deferred.members_of(connection, [known.task_id])


CHECK_IN: Mapping[str, Statement] = {
    "an acceptance": settled("accepted"),
    "a refusal": settled("rejected"),
    "a review": settled("review"),
    "traces": traces,
    "roster": lambda c, k: persons.read_roster(c, k.task_id, k.person_id, "model-1"),
    "frames": lambda c, k: check_ins.read_answered(c, k.challenge_id, []),
    "a retry": lambda c, k: check_ins.lock_receipt_by_key(c, "iss", k.person_id, "key"),
    "known keys": lambda c, k: deferred.receipts_among(c, [("iss", k.person_id, "key")]),
    "one read again": lambda c, k: check_ins.read_check_in(c, k.check_in_id, k.person_id),
    "one put off": put_off,
    "who is near a deadline": near_a_deadline,
    "my tasks": lambda c, k: persons.my_tasks(c, k.person_id),
}

# --- What is asked for again and again ---


async def listened(connection: Connection, known: Known) -> None:
    position = await watch._position(connection)
    await watch._events_after(connection, position)


async def bulk(connection: Connection, known: Known) -> None:
    ids = await connection.fetch("SELECT task_id FROM task ORDER BY task_id LIMIT 100")
    await tasks.read_statuses(connection, [row["task_id"] for row in ids])


def listed(window: Window, order: Order) -> Statement:
    def page(connection: Connection, known: Known) -> Awaitable[Any]:
        wanted = Wanted(window, order, in_review=False, within_days=None, q="")
        return desk.list_tasks(connection, wanted, known.now, known.now.date(), None, 50)

    return page


POLLS: Mapping[str, Statement] = {
    "a status": lambda c, k: tasks.read_status(c, k.task_id),
    "a head": lambda c, k: tasks.read_head(c, k.task_id),
    "statuses": bulk,
    "a page of the feed": lambda c, k: feed.changes_after(c, 100, 501),
    "events": listened,
    "head of the audit": lambda c, k: audit.read_head(c),
    "why not": lambda c, k: reports.read_open_members(c, k.task_id),
    "readiness": lambda c, k: reports.read_enrolled(c, k.task_id, "model-1"),
    "statistics of a task": lambda c, k: reports.read_task_statistics(c, k.task_id),
    "running tasks": listed(Window.RUNNING, Order.DEADLINE),
    "running tasks at risk": listed(Window.RUNNING, Order.RISK),
    "waiting tasks": listed(Window.WAITING, Order.DEADLINE),
    "all tasks": listed(Window.ALL, Order.DEADLINE),
    "attempts of a task": lambda c, k: desk.list_attempts(c, k.task_id, None, None, 50),
    "a registration": lambda c, k: desk.read_registered(c, k.task_id),
    "queue": lambda c, k: reviews.read_queue(c, ReviewState.PENDING, None, 50),
    "a review": lambda c, k: reviews.read_dossier(c, k.check_in_id),
}

# --- What goes on beside ---


def removed(kind: Kind) -> Statement:
    return lambda c, k: purge.remove(c, kind, k.now - POLICY[kind].period, ["many-0", "many-1"], 500)


async def erased(connection: Connection, known: Known) -> None:
    await tasks.lock_tasks_of(connection, known.person_id)
    await persons.delete_positions(connection, known.person_id)
    await persons.delete_biometrics(connection, known.person_id)
    await deferred.end_persons_deferred(connection, known.person_id)
    await persons.erase_person(connection, known.person_id, bytes(32), "iss", "actor")


BESIDE: Mapping[str, Statement] = {
    **{f"purge of {kind}": removed(kind) for kind in POLICY if kind in purge._REMOVALS},
    "an erasure": erased,
    "an export": lambda c, k: read_stored(c, k.person_id, bytes(32)),
    "ended windows": lambda c, k: tasks.due_tasks(c, timedelta(seconds=15), None, 50),
    "outdated windows": lambda c, k: calendars.outdated_tasks(c, ended=False),
    "reach of the calendar": lambda c, k: calendars.read_reach(c),
    "whose tasks may be over": lambda c, k: purge.tasks_ended_by(c, k.now, "", 100),
    "who has a reference": lambda c, k: purge.enrolled_persons(c, "", 500),
    "who is due": lambda c, k: purge.persons_due(c, k.now, [k.person_id, "many-person-1"]),
    "whether one is due": lambda c, k: purge.person_is_due(c, k.now, k.person_id),
}

STATEMENTS = {**CHECK_IN, **POLLS, **BESIDE}

# A page of all tasks walks them by deadline until it is full: what an officer looks for is compared on the way.
WALKS = {"all tasks": {"task_deadline"}}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_no_large_table_is_read_from_end_to_end(large: Large, name: str) -> None:
    assert await wholly_read(large, STATEMENTS[name]) == WALKS.get(name, set())


@pytest.mark.parametrize(
    ("name", "dropped"),
    {
        "an acceptance": "INDEX kept_photograph_person",
        "a status": "INDEX accepted_once, acceptance_revoked",
        "all tasks": "INDEX task_deadline",
        "why not": "INDEX attempt_of_day, attempt_person",
        "purge of refused_attempt": "INDEX attempt_of_day",
        "purge of consent": "INDEX consent_withdrawn",
        "an erasure": "INDEX attempt_person",
    }.items(),
)
async def test_control_without_its_index_it_is(large: Large, name: str, dropped: str) -> None:
    found = await wholly_read(large, STATEMENTS[name], f"DROP {dropped}")
    assert found - WALKS.get(name, set())


async def test_control_without_its_key_the_feed_is(large: Large) -> None:
    dropped = "ALTER TABLE change DROP CONSTRAINT change_pkey"
    assert await wholly_read(large, POLLS["a page of the feed"], dropped) == {"change"}
