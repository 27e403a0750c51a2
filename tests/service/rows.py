"""The rows that a check-in writes, to be written wrongly past the service."""

from datetime import datetime
from typing import Any
from uuid import uuid4

from tests.service.stage import Stage
from tests.service.window import CLOSES_AT, NOON, OPENS_AT

Row = dict[str, Any]
Rows = dict[str, Row]


def accepted_rows(task_id: str, received_at: datetime = NOON, **attempt: Any) -> Rows:
    """What a right accepted check-in writes, table by table in order."""
    member = {"check_in_id": uuid4(), "task_id": task_id, "person_id": "p-1"}
    receipt = {
        **member,
        "iss": "i",
        "idempotency_key": uuid4().hex,
        "body_digest": b"",
        "challenge_id": uuid4(),
        "received_at": received_at,
    }
    judged = {
        **member,
        "received_at": received_at,
        "shanghai_day": received_at.date(),
        "outcome": "accepted",
        "reasons": [],
        "counted": False,
        "distance_m": 0.0,
        "score": 0.55,
        "threshold": 0.55,
        **attempt,
    }
    window = {"opens_at": OPENS_AT, "closes_at": CLOSES_AT}
    acceptance = {
        **member,
        "accepted_at": received_at,
        "method": "face",
        "outcome": "accepted",
        **window,
    }
    return {"receipt": receipt, "attempt": judged, "acceptance": acceptance}


def changed(rows: Rows, **changes: Row) -> Rows:
    """The rows with other values in some tables' columns."""
    return {table: row | changes.get(table, {}) for table, row in rows.items()}


async def store(stage: Stage, rows: Rows) -> None:
    for table, row in rows.items():
        places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
        await stage.sql(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", *row.values())
