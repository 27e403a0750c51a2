"""Challenges, receipts, attempts and acceptances."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from checkin_service.adapters.postgres import feed
from checkin_service.adapters.postgres.database import Connection
from checkin_service.adapters.postgres.persons import SealedTemplate
from checkin_service.adapters.postgres.tasks import FenceVersion
from checkin_service.domain.decision import Case
from checkin_service.domain.signals import LocatedAttempt
from checkin_service.domain.task import TaskFacts, state_at

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
    """`deferred`: the service judges it by itself. `ended`: why no verdict can follow from what was sent; see the
    table."""

    check_in_id: UUID
    received_at: datetime
    body_digest: bytes
    task_id: str
    answer: dict[str, Any] | None
    leased: bool
    deferred: bool = False
    ended: str | None = None

    @property
    def waits(self) -> bool:
        """Whether the service judges it without being asked again."""
        return self.deferred and self.answer is None and self.ended is None


@dataclass(frozen=True, slots=True)
class KeptPhotograph:
    """What is kept of a selfie that got a verdict on its face, to tell it when it is sent again."""

    shanghai_day: date
    photo_sha256: bytes
    templates: Sequence[SealedTemplate]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The completion of a member that is in force; `method` is face or manual. `decided_at`: by people, else None."""

    check_in_id: UUID
    accepted_at: datetime
    method: str
    decided_at: datetime | None


@dataclass(frozen=True, slots=True)
class LoadedCase:
    """One reading of everything that a submission is judged by; `answer` when somebody judged it already. `stamp`
    changes with anything of it.

    `templates` are the reference's; `kept` are all of the person's, of every task.
    """

    stamp: str
    answer: dict[str, Any] | None
    case: Case
    consented: bool
    person_id: str
    accepted: Accepted | None
    fence: FenceVersion
    key_id: UUID
    templates: Sequence[SealedTemplate]
    kept: Sequence[KeptPhotograph]
    actions: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class OpenChallenge:
    """A challenge as its person may still answer it, and the id of the key under which its frames are sealed."""

    live: bool
    actions: Sequence[str]
    key_id: UUID


@dataclass(frozen=True, slots=True)
class AnsweredChallenge:
    """What a challenge asked for, the frames that were sent beforehand, by number, and another provider's session."""

    actions: Sequence[str]
    frames: Mapping[int, Sequence[SealedTemplate]]
    session: bytes | None


@dataclass(frozen=True, slots=True)
class Judged:
    """What a submission was judged by; see the table for the meaning of each figure."""

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
    device: dict[str, Any] | None
    signals: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Attempt(Judged):
    """A judged submission as it is stored."""

    check_in_id: UUID
    task_id: str
    person_id: str
    received_at: datetime
    shanghai_day: date
    outcome: str
    reasons: Sequence[str]
    counted: bool
    fence_version: int
    photo_sha256: bytes


@dataclass(frozen=True, slots=True)
class SealedObject:
    """A selfie as the object store has it. `address`: the SHA-256 of the ciphertext in hexadecimal. It says nothing of
    the content, and the same content sealed again has another. `wrapped_key`: its key under the person's data key."""

    address: str
    wrapped_key: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """What a judged submission leaves behind beside its attempt.

    Of a face that passed, sealed: `completing`, templates of models that the reference lacks, stored with an
    acceptance; `telling`, what tells the photograph when it is sent again; `selfie`, the photograph itself, which lies
    in the object store already. Of a place: `position` (lon, lat in WGS-84) and `fix_digests`, for the signals of later
    submissions.
    """

    completing: Sequence[SealedTemplate] = ()
    telling: Sequence[SealedTemplate] = ()
    selfie: SealedObject | None = None
    position: tuple[float, float] | None = None
    fix_digests: Sequence[bytes] = ()


NOTHING_LEFT = LeftBehind()


@dataclass(frozen=True, slots=True)
class Traces:
    """What earlier submissions say of this one, for its signals. Counts are of 90 days; see `SignalFacts`."""

    approved_at: datetime
    registered_at: datetime
    previous: LocatedAttempt | None
    others_with_fix: int
    others_with_device: int
    enterprises: int


async def open_challenge(
    connection: Connection, task_id: str, person_id: str, lifetime: timedelta
) -> tuple[UUID, datetime] | None:
    """A one-time challenge and its expiry; None when the person is not on the roster."""
    row = await connection.fetchrow(
        """
        INSERT INTO challenge (challenge_id, task_id, person_id, expires_at)
        SELECT $3, task_id, person_id, checkin_now() + $4 FROM member WHERE task_id = $1 AND person_id = $2
        RETURNING challenge_id, expires_at
        """,
        task_id,
        person_id,
        uuid4(),
        lifetime,
    )
    return row and (row["challenge_id"], row["expires_at"])


async def set_test(
    connection: Connection, challenge_id: UUID, actions: Sequence[str], session: bytes | None
) -> None:
    """What a challenge asks for, before anybody has been told of it. `session` is sealed."""
    await connection.execute(
        "UPDATE challenge SET actions = $2, session = $3 WHERE challenge_id = $1",
        challenge_id,
        actions,
        session,
    )


async def read_challenge(connection: Connection, challenge_id: UUID, person_id: str) -> OpenChallenge | None:
    """None when the person has no such challenge."""
    row = await connection.fetchrow(
        """
        SELECT c.expires_at > checkin_now()
               AND NOT EXISTS (SELECT FROM receipt r WHERE r.challenge_id = c.challenge_id) AS live,
               c.actions, p.key_id
        FROM challenge c JOIN person p USING (person_id) WHERE c.challenge_id = $1 AND c.person_id = $2
        """,
        challenge_id,
        person_id,
    )
    return row and OpenChallenge(**row)


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


async def read_answered(
    connection: Connection, challenge_id: UUID, actions: Sequence[str]
) -> AnsweredChallenge:
    rows = await connection.fetch(
        "SELECT photo, model_id, sealed FROM burst_frame WHERE challenge_id = $1", challenge_id
    )
    frames: dict[int, list[SealedTemplate]] = {}
    for row in rows:
        frames.setdefault(row["photo"], []).append(SealedTemplate(**row))
    session = await connection.fetchval("SELECT session FROM challenge WHERE challenge_id = $1", challenge_id)
    return AnsweredChallenge(actions, frames, session)


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
        SELECT check_in_id, received_at, body_digest, task_id, answer, facts, deferred, ended,
               coalesce(leased_until > checkin_now(), false) AS leased
        FROM receipt WHERE iss = $1 AND person_id = $2 AND idempotency_key = $3 FOR NO KEY UPDATE
        """,
        iss,
        person_id,
        key,
    )
    return row and _receipt(row)


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


async def abandon_receipts(connection: Connection, task_id: str) -> None:
    """Ends what was received in time but is still unjudged ten minutes after the window closed; after a provisional
    end nothing is given up, nor ever what the service itself has put off. Each is told to the audit."""
    await connection.execute(
        """
        WITH ended AS (
            UPDATE receipt r SET ended = 'abandoned' FROM task t
            WHERE r.task_id = $1 AND t.task_id = r.task_id AND r.answer IS NULL AND r.ended IS NULL
              AND NOT t.provisional AND NOT r.deferred AND r.received_at < t.closes_at
              AND checkin_now() >= t.closes_at + interval '10 minutes'
            RETURNING r.check_in_id, r.person_id)
        SELECT append_audit('checkin_service', 'system', 'abandon', $1,
                            json_build_object('check_in_id', check_in_id, 'person_id', person_id)) FROM ended
        """,
        task_id,
    )


async def read_check_in(connection: Connection, check_in_id: UUID, person_id: str) -> Receipt | None:
    row = await connection.fetchrow(
        """
        SELECT check_in_id, received_at, body_digest, task_id, answer, facts, deferred, ended, false AS leased
        FROM receipt WHERE check_in_id = $1 AND person_id = $2
        """,
        check_in_id,
        person_id,
    )
    return row and _receipt(row)


async def load_case(connection: Connection, check_in_id: UUID) -> LoadedCase | None:
    """One snapshot of everything that the submission is judged by; None when its receipt is gone (erased)."""
    row = await connection.fetchrow("SELECT * FROM stamped_check_in_case WHERE check_in_id = $1", check_in_id)
    return row and _loaded_case(row)


async def read_traces(
    connection: Connection,
    receipt: Receipt,
    person_id: str,
    fix_digests: Sequence[bytes],
    device_id: str | None,
) -> Traces:
    row = await connection.fetchrow(
        """
        SELECT t.opens_at AS approved_at, t.registered_at, l.lon, l.lat, l.received_at AS located_at,
               (SELECT count(DISTINCT s.person_id) FROM sent_fix s
                WHERE s.fix_digest = ANY($3::bytea[]) AND s.person_id <> $1
                  AND s.last_sent_at > $5::timestamptz - interval '90 days') AS others_with_fix,
               (SELECT count(DISTINCT a.person_id) FROM attempt a
                WHERE a.device->>'device_id' = $4 AND a.person_id <> $1
                  AND a.received_at > $5::timestamptz - interval '90 days') AS others_with_device,
               (SELECT count(DISTINCT o.uscc) FROM member m JOIN task o USING (task_id)
                WHERE m.person_id = $1 AND o.voided_at IS NULL AND o.closes_at > $5) AS enterprises
        FROM task t LEFT JOIN last_position l ON l.person_id = $1 WHERE t.task_id = $2
        """,
        person_id,
        receipt.task_id,
        fix_digests,
        device_id,
        receipt.received_at,
    )
    counts = {name: row[name] for name in ("others_with_fix", "others_with_device", "enterprises")}
    located = row["located_at"] and LocatedAttempt(row["lon"], row["lat"], row["located_at"])
    return Traces(row["approved_at"], row["registered_at"], located, **counts)


async def settle(
    connection: Connection,
    check_in_id: UUID,
    seen: str,
    answer: dict[str, Any],
    attempt: Attempt | None,
    left: LeftBehind,
) -> dict[str, Any] | None:
    """Writes a verdict: the answer, the attempt (None for a repeat) with what it leaves behind, the member's completion
    or review, and the feed's entries. The answer as stored; None, and nothing is written, when the case has changed
    since `seen`, its stamp. Raises a constraint violation where any promise would break.
    """
    facts: dict[str, Any] | None = await connection.fetchval(
        "SELECT settle_check_in($1, $2, $3, $4::text::jsonb, $5::text::jsonb, $6)",
        check_in_id,
        seen,
        answer,
        attempt and _as_json({field.name: getattr(attempt, field.name) for field in fields(attempt)}),
        _as_json(_left_behind(left)),
        feed.FEED_LOCK,
    )
    return facts and _answer({"answer": answer, "facts": facts})


def _left_behind(left: LeftBehind) -> dict[str, Any]:
    """Every part as a list, which is empty where there is nothing."""
    selfie = left.selfie
    return {
        "completing": [{"model_id": t.model_id, "sealed": t.sealed} for t in left.completing],
        "telling": [{"model_id": t.model_id, "sealed": t.sealed} for t in left.telling],
        "selfie": [{"address": selfie.address, "wrapped_key": selfie.wrapped_key}] if selfie else [],
        "position": [dict(zip(("lon", "lat"), left.position, strict=True))] if left.position else [],
        "fix_digests": list(left.fix_digests),
    }


def _as_json(values: dict[str, Any]) -> str:
    return json.dumps(values, default=_text)


def _text(value: object) -> str:
    """As PostgreSQL reads it out of JSON."""
    return "\\x" + value.hex() if isinstance(value, bytes) else str(value)


def _receipt(row: Any) -> Receipt:
    static = {field.name: row[field.name] for field in fields(Receipt) if field.name != "answer"}
    return Receipt(answer=_answer(row), **static)


def _answer(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The stored answer with the task as it was then."""
    answer: dict[str, Any] | None = row["answer"]
    if answer is None:
        return None
    stored = row["facts"]
    times = {name: datetime.fromisoformat(stored[name]) for name in ("closes_at", "read_at")}
    facts = TaskFacts(**{field.name: (stored | times)[field.name] for field in fields(TaskFacts)})
    state = state_at(facts, times["read_at"])
    return answer | {"task": {"state": state, "accepted": facts.accepted, "total": facts.total}}


def _loaded_case(row: Any) -> LoadedCase:
    case = Case(
        received_at=row["received_at"],
        voided=row["voided"],
        suspended=row["suspended"],
        opens_at=row["opens_at"],
        closes_at=row["closes_at"],
        provisional=row["provisional"],
        abandoned=row["abandoned"],
        counted_today=row["counted_today"],
        uncertain_before=row["uncertain_before"],
        models=frozenset(row["model_ids"] or ()),
    )
    accepted = row["accepted_id"] and Accepted(
        row["accepted_id"], row["accepted_at"], row["method"], row["decided_at"]
    )
    fence = FenceVersion(**{field.name: row[field.name] for field in fields(FenceVersion)})
    columns = (row["photos"] or (), row["model_ids"] or (), row["sealed"] or ())
    templates = tuple(SealedTemplate(*values) for values in zip(*columns, strict=True))
    return LoadedCase(
        row["stamp"],
        _answer(row),
        case,
        row["consented"] or False,
        row["person_id"],
        accepted,
        fence,
        row["key_id"],
        templates,
        _kept(row),
        row["actions"],
    )


def _kept(row: Any) -> list[KeptPhotograph]:
    """One a selfie, of a row for each of its vectors."""
    selfies: dict[UUID, KeptPhotograph] = {}
    names = ("kept_ids", "kept_days", "kept_digests", "kept_model_ids", "kept_sealed")
    for check_in_id, day, digest, model_id, sealed in zip(*(row[name] or () for name in names), strict=True):
        template = SealedTemplate(0, model_id, sealed)
        earlier = selfies[check_in_id].templates if check_in_id in selfies else ()
        selfies[check_in_id] = KeptPhotograph(day, digest, (*earlier, template))
    return list(selfies.values())
