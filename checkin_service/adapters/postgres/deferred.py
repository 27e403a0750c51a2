"""Submissions that were taken near their deadline and wait to be judged: docs/decisions/0010-overload.md."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any
from uuid import UUID

from checkin_service.adapters.postgres.check_ins import LEASE, Receipt, Submission
from checkin_service.adapters.postgres.database import Connection

ReceiptKey = tuple[str, str, str]
"""Of a submission: the token's issuer, the person, the idempotency key."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """A submission to be judged now, by whoever has its lease; `sealed`: what it holds."""

    receipt: Receipt
    submission: Submission
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many wait for their verdict, and how long the first one does."""

    waiting: int
    oldest_s: float


async def put_off(connection: Connection, check_in_id: UUID, key_id: UUID, sealed: bytes) -> bool:
    """Keeps what an unjudged submission holds, and lets go of its lease; False when it is judged or gone, or its
    person has another key meanwhile.

    With the person locked, whatever deletes that key either finds this, or has been here before.
    """
    kept: bool | None = await connection.fetchval(
        """
        WITH owner AS (SELECT person_id FROM person WHERE key_id = $2 FOR SHARE),
             put_off AS (
            UPDATE receipt r SET deferred = true, ended = NULL, leased_until = NULL FROM owner o
            WHERE r.check_in_id = $1 AND r.person_id = o.person_id AND r.answer IS NULL
            RETURNING r.check_in_id, r.received_at)
        INSERT INTO deferred_submission (check_in_id, received_at, sealed)
        SELECT check_in_id, received_at, $3 FROM put_off RETURNING true
        """,
        check_in_id,
        key_id,
        sealed,
    )
    return kept or False


async def lease_next(connection: Connection) -> Deferred | None:
    """The one that has waited longest and that nobody is judging, leased; None when there is none."""
    row = await connection.fetchrow("SELECT * FROM lease_deferred($1)", LEASE)
    return row and _deferred(row)


async def let_wait(connection: Connection, check_in_id: UUID, pause: timedelta) -> None:
    """Nobody judges it for so long: what it needs has just failed."""
    await connection.execute(
        "UPDATE receipt SET leased_until = checkin_now() + $2 WHERE check_in_id = $1 AND answer IS NULL",
        check_in_id,
        pause,
    )


_END = """
    WITH ended AS (
        UPDATE receipt SET ended = $2, leased_until = NULL
        WHERE {which} AND deferred AND answer IS NULL AND ended IS NULL RETURNING check_in_id, person_id, task_id),
         gone AS (DELETE FROM deferred_submission d USING ended e WHERE d.check_in_id = e.check_in_id)
    SELECT append_audit('checkin_service', 'system', 'abandon', task_id,
                        json_build_object('check_in_id', check_in_id, 'person_id', person_id, 'reason', $2::text))
    FROM ended
"""


async def end_deferred(connection: Connection, check_in_id: UUID, ended: str) -> None:
    """No verdict can follow: what it holds goes, and the audit is told."""
    await connection.execute(_END.format(which="check_in_id = $1"), check_in_id, ended)


async def end_persons_deferred(connection: Connection, person_id: str) -> None:
    """The person takes back the consent that theirs rest on. The person is locked, and the feed from here on."""
    await connection.execute(_END.format(which="person_id = $1"), person_id, "withdrawn")


async def read_backlog(connection: Connection) -> Backlog:
    row = await connection.fetchrow(
        """
        SELECT count(*) AS waiting,
               coalesce(extract(epoch FROM checkin_now() - min(received_at))::double precision, 0) AS oldest_s
        FROM deferred_submission
        """
    )
    return Backlog(**row)


async def tasks_near_a_deadline(connection: Connection, within: timedelta) -> Mapping[str, float]:
    """Those that close so soon, with the seconds until then."""
    # the instant by a SELECT of its own: the index serves no condition on a function that may change between rows
    rows = await connection.fetch(
        """
        SELECT task_id, extract(epoch FROM closes_at - checkin_now())::double precision AS seconds FROM task
        WHERE closes_at > (SELECT checkin_now()) AND closes_at <= (SELECT checkin_now() + $1)
          AND voided_at IS NULL AND (announced_end IS NULL OR announced_end = 'pending_review')
        """,
        within,
    )
    return {row["task_id"]: row["seconds"] for row in rows}


async def members_of(connection: Connection, task_ids: Collection[str]) -> frozenset[str]:
    """Who is on any of these rosters."""
    rows = await connection.fetch("SELECT person_id FROM member WHERE task_id = ANY($1)", task_ids)
    return frozenset(row["person_id"] for row in rows)


async def receipts_among(connection: Connection, keys: Collection[ReceiptKey]) -> set[ReceiptKey]:
    """Under which of these something has been sent before."""
    # LIMIT keeps the planner from reading all receipts for what it takes for many keys
    rows = await connection.fetch(
        """
        SELECT iss, person_id, key FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (iss, person_id, key),
            LATERAL (SELECT FROM receipt r WHERE (r.iss, r.person_id, r.idempotency_key)
                                               = (asked.iss, asked.person_id, asked.key) LIMIT 1) AS found
        """,
        *zip(*keys, strict=True),
    )
    return {(row["iss"], row["person_id"], row["key"]) for row in rows}


def _deferred(row: Any) -> Deferred:
    submission = Submission(**{field.name: row[field.name] for field in fields(Submission)})
    receipt = Receipt(
        row["check_in_id"], row["received_at"], row["body_digest"], row["task_id"], answer=None, leased=False
    )
    return Deferred(receipt, submission, row["sealed"])
