"""Challenges, receipts, attempts and acceptances."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from checkin_service.adapters.postgres import feed
from checkin_service.adapters.postgres.database import Connection
from checkin_service.adapters.postgres.persons import SealedTemplate
from checkin_service.adapters.postgres.tasks import FenceVersion
from checkin_service.adapters.template_keys import WrappedKey
from checkin_service.domain.decision import Case

# How long an owner may judge before a retry takes its receipt over: longer than any deadline on the way.
LEASE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Submission:
    """What identifies a submission: who sent it under which key, and for which task and challenge."""

    iss: str
    person_id: str
    idempotency_key: str
    body_digest: bytes
    task_id: str
    challenge_id: UUID


@dataclass(frozen=True, slots=True)
class Receipt:
    check_in_id: UUID
    received_at: datetime
    body_digest: bytes
    task_id: str
    answer: dict[str, Any] | None
    leased: bool


@dataclass(frozen=True, slots=True)
class KeptPhotograph:
    """What is kept of a selfie that got a verdict on its face, to tell it when it is sent again."""

    shanghai_day: date
    photo_sha256: bytes
    templates: Sequence[SealedTemplate]


@dataclass(frozen=True, slots=True)
class LoadedCase:
    """One reading of everything that a submission is judged by; `answer` when somebody judged it already.

    `templates` are the reference's; `kept` are all of the person's, of every task.
    """

    answer: dict[str, Any] | None
    case: Case
    consented: bool
    accepted: tuple[UUID, datetime] | None
    fence: FenceVersion
    data_key: WrappedKey | None
    templates: Sequence[SealedTemplate]
    kept: Sequence[KeptPhotograph]
    actions: Sequence[str]


@dataclass(frozen=True, slots=True)
class OpenChallenge:
    """A challenge as its person may still answer it, and the key under which its frames are sealed."""

    live: bool
    actions: Sequence[str]
    data_key: WrappedKey | None


@dataclass(frozen=True, slots=True)
class AnsweredChallenge:
    """What a challenge asked for, and the frames that were sent beforehand, by number."""

    actions: Sequence[str]
    data_key: WrappedKey | None
    frames: Mapping[int, Sequence[SealedTemplate]]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A judged submission as it is stored; see the table for the meaning of each figure."""

    check_in_id: UUID
    task_id: str
    person_id: str
    received_at: datetime
    shanghai_day: date
    outcome: str
    reasons: Sequence[str]
    counted: bool
    fence_version: int
    zone: str | None
    distance_m: float | None
    r95_m: float | None
    model_id: str | None
    score: float | None
    threshold: float | None
    operating_point: str | None
    live: float | None
    liveness: str | None
    copy_distance: float | None
    copy_bits: int | None
    rival_score: float | None
    photo_sha256: bytes
    device: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """What a face that passed leaves behind, sealed. `completing`: templates of models that the reference lacks, stored
    with an acceptance. `telling`: what tells the photograph when it is sent again, stored with a review as well."""

    completing: Sequence[SealedTemplate]
    telling: Sequence[SealedTemplate]


NOTHING_STORED = StoredVectors((), ())

_ATTEMPT_COLUMNS = tuple(field.name for field in fields(Attempt))
_AFTER = len(_ATTEMPT_COLUMNS) + 1
_INSERT_ATTEMPT = f"""
    WITH judged AS (
        INSERT INTO attempt ({", ".join(_ATTEMPT_COLUMNS)})
        VALUES ({", ".join(f"${n}" for n in range(1, len(_ATTEMPT_COLUMNS) + 1))})
        ON CONFLICT (task_id, person_id, shanghai_day) WHERE reasons = ARRAY['too_many_attempts'] DO NOTHING
        RETURNING check_in_id, task_id, person_id, received_at, outcome),
    accepted AS (
        INSERT INTO acceptance (check_in_id, task_id, person_id, accepted_at, method, opens_at, closes_at)
        SELECT check_in_id, task_id, person_id, received_at, 'face', opens_at, closes_at
        FROM judged JOIN task USING (task_id) WHERE outcome = 'accepted'
        RETURNING check_in_id, person_id),
    kept AS (
        INSERT INTO kept_photograph (check_in_id, task_id, person_id, received_at, outcome, model_id, sealed)
        SELECT check_in_id, task_id, person_id, received_at, outcome, t.model_id, t.sealed
        FROM judged CROSS JOIN unnest(${_AFTER + 2}::text[], ${_AFTER + 3}::bytea[]) AS t (model_id, sealed))
    INSERT INTO template (reference_id, photo, model_id, sealed, completed_by)
    SELECT p.reference_id, 0, t.model_id, t.sealed, a.check_in_id
    FROM accepted a JOIN person p USING (person_id)
    CROSS JOIN unnest(${_AFTER}::text[], ${_AFTER + 1}::bytea[]) AS t (model_id, sealed)
    """  # noqa: S608  the columns are the dataclass's own


async def open_challenge(
    connection: Connection, task_id: str, person_id: str, lifetime: timedelta, actions: Sequence[str]
) -> tuple[UUID, datetime] | None:
    """A one-time challenge and its expiry; None when the person is not on the roster."""
    row = await connection.fetchrow(
        """
        INSERT INTO challenge (challenge_id, task_id, person_id, expires_at, actions)
        SELECT $3, task_id, person_id, checkin_now() + $4, $5 FROM member WHERE task_id = $1 AND person_id = $2
        RETURNING challenge_id, expires_at
        """,
        task_id,
        person_id,
        uuid4(),
        lifetime,
        actions,
    )
    return row and (row["challenge_id"], row["expires_at"])


async def read_challenge(connection: Connection, challenge_id: UUID, person_id: str) -> OpenChallenge | None:
    """None when the person has no such challenge."""
    row = await connection.fetchrow(
        """
        SELECT c.expires_at > checkin_now()
               AND NOT EXISTS (SELECT FROM receipt r WHERE r.challenge_id = c.challenge_id) AS live,
               c.actions, p.wrapping_key_id, p.wrapped_key
        FROM challenge c JOIN person p USING (person_id) WHERE c.challenge_id = $1 AND c.person_id = $2
        """,
        challenge_id,
        person_id,
    )
    return row and OpenChallenge(row["live"], row["actions"], _wrapped_key(row))


async def replace_frame(
    connection: Connection, challenge_id: UUID, number: int, frame: Sequence[SealedTemplate]
) -> None:
    """Puts a frame in its place; one whose challenge was answered meanwhile comes too late and is not kept."""
    await connection.execute(
        "DELETE FROM burst_frame WHERE challenge_id = $1 AND photo = $2", challenge_id, number
    )
    await connection.executemany(
        """
        INSERT INTO burst_frame (challenge_id, photo, model_id, sealed)
        SELECT challenge_id, $2, $3, $4 FROM challenge c
        WHERE challenge_id = $1 AND NOT EXISTS (SELECT FROM receipt r WHERE r.challenge_id = c.challenge_id)
        """,
        [(challenge_id, number, template.model_id, template.sealed) for template in frame],
    )


async def read_frames(connection: Connection, challenge_id: UUID) -> Mapping[int, Sequence[SealedTemplate]]:
    rows = await connection.fetch(
        "SELECT photo, model_id, sealed FROM burst_frame WHERE challenge_id = $1", challenge_id
    )
    frames: dict[int, list[SealedTemplate]] = {}
    for row in rows:
        frames.setdefault(row["photo"], []).append(SealedTemplate(**row))
    return frames


async def delete_frames(connection: Connection, challenge_id: UUID) -> None:
    await connection.execute("DELETE FROM burst_frame WHERE challenge_id = $1", challenge_id)


async def insert_receipt(connection: Connection, submission: Submission) -> tuple[Receipt, LoadedCase] | None:
    """A new receipt and the first look at its case; None when key or challenge is taken or not usable."""
    check_in_id = uuid4()
    row = await connection.fetchrow(
        "SELECT * FROM receive_check_in($1, $2, $3, $4, $5, $6, $7, $8)",
        check_in_id,
        submission.iss,
        submission.person_id,
        submission.idempotency_key,
        submission.body_digest,
        submission.challenge_id,
        submission.task_id,
        LEASE,
    )
    if row is None:
        return None
    receipt = Receipt(
        check_in_id, row["received_at"], submission.body_digest, submission.task_id, answer=None, leased=False
    )
    return receipt, _loaded_case(row)


async def lock_receipt_by_key(connection: Connection, iss: str, person_id: str, key: str) -> Receipt | None:
    row = await connection.fetchrow(
        """
        SELECT check_in_id, received_at, body_digest, task_id, answer,
               coalesce(leased_until > checkin_now(), false) AS leased
        FROM receipt WHERE iss = $1 AND person_id = $2 AND idempotency_key = $3 FOR NO KEY UPDATE
        """,
        iss,
        person_id,
        key,
    )
    return row and Receipt(**row)


async def lease_receipt(connection: Connection, check_in_id: UUID) -> None:
    await connection.execute(
        "UPDATE receipt SET leased_until = checkin_now() + $2 WHERE check_in_id = $1", check_in_id, LEASE
    )


async def release_receipt(connection: Connection, check_in_id: UUID, ended: str | None) -> None:
    """Lets a retry of the key go on at once; `ended` says that no verdict can follow from this body."""
    await connection.execute(
        "UPDATE receipt SET leased_until = NULL, ended = coalesce(ended, $2) WHERE check_in_id = $1 AND answer IS NULL",
        check_in_id,
        ended,
    )


async def answer_check_in(
    connection: Connection,
    check_in_id: UUID,
    answer: dict[str, Any],
    task_id: str,
    changes: Sequence[str],
    at: datetime,
) -> None:
    """Stores the answer, which every retry of the key gets, and tells the feed. The last thing a verdict does."""
    await connection.execute(
        "SELECT answer_check_in($1, $2, $3, $4, $5, $6)",
        check_in_id,
        answer,
        feed.FEED_LOCK,
        task_id,
        list(changes),
        at,
    )


async def abandon_receipts(connection: Connection, task_id: str) -> None:
    """Ends what was received in time but is still unjudged ten minutes after the window closed."""
    await connection.execute(
        """
        UPDATE receipt r SET ended = 'abandoned' FROM task t
        WHERE r.task_id = $1 AND t.task_id = r.task_id AND r.answer IS NULL AND r.ended IS NULL
          AND r.received_at < t.closes_at AND checkin_now() >= t.closes_at + interval '10 minutes'
        """,
        task_id,
    )


async def read_check_in(connection: Connection, check_in_id: UUID, person_id: str) -> Receipt | None:
    row = await connection.fetchrow(
        """
        SELECT check_in_id, received_at, body_digest, task_id, answer, false AS leased
        FROM receipt WHERE check_in_id = $1 AND person_id = $2
        """,
        check_in_id,
        person_id,
    )
    return row and Receipt(**row)


async def load_case(connection: Connection, check_in_id: UUID) -> LoadedCase | None:
    """One snapshot of everything that the submission is judged by; None when its receipt is gone (erased)."""
    row = await connection.fetchrow("SELECT * FROM check_in_case WHERE check_in_id = $1", check_in_id)
    return row and _loaded_case(row)


async def lock_case(connection: Connection, check_in_id: UUID) -> LoadedCase | None:
    """The case with its person and its task locked, in this order, as everywhere."""
    row = await connection.fetchrow("SELECT * FROM locked_check_in_case($1)", check_in_id)
    return row and _loaded_case(row)


async def insert_attempt(connection: Connection, attempt: Attempt, stored: StoredVectors) -> None:
    """Stores a judged attempt with what its face leaves behind and, when it is accepted, the member's completion.

    A second `too_many_attempts` of a day is the same fact and adds no row. Raises a constraint violation where
    any promise would break.
    """
    columns = [getattr(attempt, column) for column in _ATTEMPT_COLUMNS]
    await connection.execute(_INSERT_ATTEMPT, *columns, *_split(stored.completing), *_split(stored.telling))


def _split(templates: Sequence[SealedTemplate]) -> tuple[list[str], list[bytes]]:
    return [template.model_id for template in templates], [template.sealed for template in templates]


async def in_review_before(connection: Connection, check_in_id: UUID) -> bool:
    """Whether another attempt of the same member is in review already, so that this one shows nothing new."""
    found: bool = await connection.fetchval(
        """
        SELECT EXISTS (SELECT FROM attempt a JOIN attempt other USING (task_id, person_id)
                       WHERE a.check_in_id = $1 AND other.check_in_id <> $1 AND other.outcome = 'review')
        """,
        check_in_id,
    )
    return found


async def delete_expired(connection: Connection) -> None:
    """Challenges a day past their expiry, and idempotency keys older than a day: nothing can use them any more."""
    await connection.execute("DELETE FROM challenge WHERE expires_at < checkin_now() - interval '1 day'")
    await connection.execute(
        """
        DELETE FROM burst_frame WHERE challenge_id IN (
            SELECT challenge_id FROM challenge WHERE expires_at < checkin_now() - interval '10 minutes')
        """
    )
    await connection.execute(
        "DELETE FROM idempotency_key WHERE claimed_at < checkin_now() - interval '1 day'"
    )


def _loaded_case(row: Any) -> LoadedCase:
    case = Case(
        received_at=row["received_at"],
        voided=row["voided"],
        opens_at=row["opens_at"],
        closes_at=row["closes_at"],
        provisional=row["provisional"],
        abandoned=row["abandoned"],
        counted_today=row["counted_today"],
        models=frozenset(row["model_ids"] or ()),
    )
    accepted = (row["accepted_id"], row["accepted_at"]) if row["accepted_id"] else None
    fence = FenceVersion(**{field.name: row[field.name] for field in fields(FenceVersion)})
    key = _wrapped_key(row)
    columns = (row["photos"] or (), row["model_ids"] or (), row["sealed"] or ())
    templates = tuple(SealedTemplate(*values) for values in zip(*columns, strict=True))
    return LoadedCase(
        row["answer"],
        case,
        row["consented"] or False,
        accepted,
        fence,
        key,
        templates,
        _kept(row),
        row["actions"],
    )


def _wrapped_key(row: Any) -> WrappedKey | None:
    return WrappedKey(row["wrapping_key_id"], row["wrapped_key"]) if row["wrapped_key"] else None


def _kept(row: Any) -> list[KeptPhotograph]:
    """One a selfie, of a row for each of its vectors."""
    selfies: dict[UUID, KeptPhotograph] = {}
    names = ("kept_ids", "kept_days", "kept_digests", "kept_model_ids", "kept_sealed")
    for check_in_id, day, digest, model_id, sealed in zip(*(row[name] or () for name in names), strict=True):
        template = SealedTemplate(0, model_id, sealed)
        earlier = selfies[check_in_id].templates if check_in_id in selfies else ()
        selfies[check_in_id] = KeptPhotograph(day, digest, (*earlier, template))
    return list(selfies.values())
