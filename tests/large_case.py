"""A task of many members halfway through: rows made up for measurements, templates sealed as by an enrolment."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import numpy as np

from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.usecases.templates import seal_all
from face import DLIB_RESNET_MODEL, FINGERPRINT, SFACE_MODEL, Templates

_LENGTHS = {SFACE_MODEL: 128, DLIB_RESNET_MODEL: 128, FINGERPRINT: 256}
_PHONES = ("Pura 70", "Mate 60", "Find X8", "X200", "Mi 15", "S24")
Row = dict[str, Any]


async def fill_case(
    connection: asyncpg.Connection, keys: TemplateKeys, task_id: str, person_ids: Sequence[str], photos: int
) -> None:
    """Everybody of a registered task consents and is enrolled with so many photographs; every other one was refused
    and then accepted, the rest was refused once."""
    people = {
        person_id: [templates_of_nobody(f"{person_id} {photo}") for photo in range(photos)]
        for person_id in person_ids
    }
    await enrol_all(connection, keys, people)
    attempts = [_attempt(task_id, person_id, index, "rejected") for index, person_id in enumerate(person_ids)]
    attempts += [_attempt(task_id, person_id, 0, "accepted") for person_id in person_ids[::2]]
    await _copy(connection, "receipt", [_receipt(attempt) for attempt in attempts])
    await _copy(connection, "attempt", attempts)
    window = await connection.fetchrow("SELECT opens_at, closes_at FROM task WHERE task_id = $1", task_id)
    accepted = [attempt for attempt in attempts if attempt["outcome"] == "accepted"]
    await _copy(connection, "acceptance", [_acceptance(attempt) | dict(window) for attempt in accepted])
    await analyse(connection)


async def analyse(connection: asyncpg.Connection, command: str = "ANALYZE") -> None:
    """Statistics of every table that has rows. One that is known to be empty is planned for as if it stayed so: any of
    its indexes will do, and is read from end to end until autovacuum looks at it again."""
    names = await connection.fetch("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'")
    filled = [name for (name,) in names if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {name})")]
    await connection.execute(f"{command} {', '.join(filled)}")


async def enrol_all(
    connection: asyncpg.Connection, keys: TemplateKeys, people: Mapping[str, Sequence[Templates]]
) -> None:
    """These persons consent and are enrolled, each with the templates of their photographs. They are known already."""
    rows = await connection.fetch(
        "SELECT person_id, key_id, gen_random_uuid() AS reference_id FROM person WHERE person_id = ANY($1)",
        list(people),
    )
    sealed = [
        {"reference_id": row["reference_id"], "photo": t.photo, "model_id": t.model_id, "sealed": t.sealed}
        for row in rows
        for t in seal_all(await keys.make(row["key_id"]), row["person_id"], people[row["person_id"]])
    ]
    references = [
        {
            "reference_id": row["reference_id"],
            "person_id": row["person_id"],
            "engine": SFACE_MODEL,
            "photos": len(people[row["person_id"]]),
            "basis_kind": "statutory_duty",
        }
        for row in rows
    ]
    await _copy(connection, "reference", references)
    await _copy(connection, "template", sealed)
    await connection.execute(
        "UPDATE person SET reference_id = reference.reference_id FROM reference "
        "WHERE reference.person_id = person.person_id AND person.person_id = ANY($1)",
        list(people),
    )
    await connection.execute(
        "INSERT INTO consent SELECT unnest($1::text[]), '2026-11', '{face,face_transfer,location}', now()",
        list(people),
    )


def templates_of_nobody(name: str) -> dict[str, tuple[float, ...]]:
    """As far from everybody else's as chance has it."""
    random = np.random.default_rng(list(name.encode()))
    return {model_id: tuple(random.normal(size=length)) for model_id, length in _LENGTHS.items()}


def _attempt(task_id: str, person_id: str, number: int, outcome: str) -> Row:
    received_at = datetime.now(UTC) - timedelta(minutes=number if outcome == "rejected" else 0)
    return {
        "check_in_id": uuid4(),
        "task_id": task_id,
        "person_id": person_id,
        "received_at": received_at,
        "shanghai_day": (received_at + timedelta(hours=8)).date(),
        "outcome": outcome,
        "reasons": ["outside_geofence"] if outcome == "rejected" else [],
        "counted": outcome == "rejected",
        "distance_m": 0.0,
        "score": 0.6,
        "threshold": 0.41,
        "device": json.dumps({"platform": "android", "model": _PHONES[number % len(_PHONES)]}),
    }


def _receipt(attempt: Row) -> Row:
    of_attempt = {name: attempt[name] for name in ("check_in_id", "task_id", "person_id", "received_at")}
    key = {"iss": "bench", "idempotency_key": uuid4().hex, "body_digest": b"", "challenge_id": uuid4()}
    return of_attempt | key | {"answer": "{}"}


def _acceptance(attempt: Row) -> Row:
    of_attempt = {name: attempt[name] for name in ("check_in_id", "task_id", "person_id")}
    return of_attempt | {"accepted_at": attempt["received_at"], "method": "face", "outcome": "accepted"}


async def _copy(connection: asyncpg.Connection, table: str, rows: Sequence[Row]) -> None:
    await connection.copy_records_to_table(
        table, records=[tuple(row.values()) for row in rows], columns=rows[0]
    )
