"""Idempotency keys of changing calls other than check-ins."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from checkin_service.adapters.postgres.database import Connection

# A claim whose owner died is taken over after this long.
CLAIM = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class KeyOwner:
    """A key belongs to one caller and one operation."""

    iss: str
    sub: str
    method: str
    path: str
    key: str


@dataclass(frozen=True, slots=True)
class EarlierCall:
    body_digest: bytes
    status: int | None
    answer: Any


async def claim_key(connection: Connection, owner: KeyOwner, body_digest: bytes) -> EarlierCall | None:
    """None when the caller may go on; else the earlier call under the same key (status None: still running).

    A key older than a day has ended, whether or not the sweeper came by yet.
    """
    claimed = await connection.fetchval(
        """
        INSERT INTO idempotency_key AS k (iss, sub, method, path, idempotency_key, body_digest, claimed_at)
        VALUES ($1, $2, $3, $4, $5, $6, checkin_now())
        ON CONFLICT (iss, sub, method, path, idempotency_key) DO UPDATE
            SET claimed_at = checkin_now(), body_digest = $6, status = NULL, answer = NULL
            WHERE k.claimed_at < checkin_now() - interval '1 day'
               OR (k.status IS NULL AND k.body_digest = $6 AND k.claimed_at < checkin_now() - $7::interval)
        RETURNING true
        """,
        *_key(owner),
        body_digest,
        CLAIM,
    )
    return None if claimed else await _earlier(connection, owner, body_digest)


async def store_answer(connection: Connection, owner: KeyOwner, status: int, answer: object) -> None:
    await connection.execute(
        """
        UPDATE idempotency_key SET status = $6, answer = $7
        WHERE (iss, sub, method, path, idempotency_key) = ($1, $2, $3, $4, $5)
        """,
        *_key(owner),
        status,
        answer,
    )


async def give_key_back(connection: Connection, owner: KeyOwner) -> None:
    """After a refusal or a failure of ours: the next try is judged afresh."""
    await connection.execute(
        """
        DELETE FROM idempotency_key
        WHERE (iss, sub, method, path, idempotency_key) = ($1, $2, $3, $4, $5) AND status IS NULL
        """,
        *_key(owner),
    )


async def _earlier(connection: Connection, owner: KeyOwner, body_digest: bytes) -> EarlierCall:
    row = await connection.fetchrow(
        """
        SELECT body_digest, status, answer FROM idempotency_key
        WHERE (iss, sub, method, path, idempotency_key) = ($1, $2, $3, $4, $5)
        """,
        *_key(owner),
    )
    # given back between the two statements: as good as still running, the retry will find it free
    return EarlierCall(**row) if row else EarlierCall(body_digest, None, None)


def _key(owner: KeyOwner) -> tuple[str, str, str, str, str]:
    return owner.iss, owner.sub, owner.method, owner.path, owner.key
