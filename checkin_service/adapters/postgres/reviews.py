"""Reviews: manual requests, the queue, what a review rests on, decisions and what follows from them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from checkin_service.adapters.postgres.check_ins import Accepted, Judged
from checkin_service.adapters.postgres.database import Connection
from checkin_service.adapters.postgres.tasks import FenceVersion
from checkin_service.domain.review import OPEN, ReviewDecision, ReviewFacts, ReviewKind, ReviewState


@dataclass(frozen=True, slots=True)
class Review:
    """`reasons`: what the person was told, as codes and figures; a manual request has none. `too_late`: the calendar
    has rejected it."""

    review_id: UUID
    kind: str
    state: str
    task_id: str
    person_id: str
    received_at: datetime
    decided_at: datetime | None
    closes_at: datetime
    too_late: bool
    reasons: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class LocatedRequest:
    """Where the fixes of a manual request were, as `geofence.Location` has it."""

    zone: str
    distance_m: float | None
    r95_m: float | None
    lon: float | None
    lat: float | None


@dataclass(frozen=True, slots=True)
class Asker:
    """A roster member who asks to be judged without a face, and the task, as of one reading.

    `suspended`: at the instant of asking. `open_id`: their manual request that nobody has decided yet.
    """

    voided: bool
    suspended: bool
    closed: bool
    opens_at: datetime
    closes_at: datetime
    provisional: bool
    member_state: str
    shares_position: bool
    open_id: UUID | None


@dataclass(frozen=True, slots=True)
class ManualRequest:
    manual_request_id: UUID
    task_id: str
    state: str
    received_at: datetime
    decided_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredSelfie:
    """`key_id`: of the person's data key, which `wrapped_key` opens with."""

    address: str
    wrapped_key: bytes
    key_id: UUID


@dataclass(frozen=True, slots=True)
class Decided:
    """One reviewer's decision on a review of the same member and task."""

    review_id: UUID
    actor: str
    decision: str
    note: str
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class Dossier:
    """All that a review rests on. `position`: (lon, lat) of a check-in in WGS-84, where it is kept; `located`: a manual
    request's place."""

    review: Review
    case_id: str
    enterprise_name: str
    name: str
    categories: Sequence[str]
    technical_lead: bool
    fence: FenceVersion
    judged: Judged | None
    position: tuple[float, float] | None
    has_selfie: bool
    request_reason: str | None
    located: LocatedRequest | None
    reference: dict[str, Any] | None
    decisions: Sequence[Decided]


# --- Manual requests ---


async def read_asker(connection: Connection, task_id: str, person_id: str, at: datetime) -> Asker | None:
    """None when the person is not on the roster. The person and the task are locked."""
    row = await connection.fetchrow(
        """
        SELECT t.voided_at IS NOT NULL AS voided, t.closed_at IS NOT NULL AS closed, t.opens_at, t.closes_at,
               t.provisional, m.state AS member_state,
               EXISTS (SELECT FROM suspension u
                       WHERE u.task_id = t.task_id AND u.suspended_at <= $3
                         AND (u.resumed_at IS NULL OR $3 < u.resumed_at)) AS suspended,
               EXISTS (SELECT FROM consent c
                       WHERE c.person_id = $2 AND c.withdrawn_at IS NULL AND 'location' = ANY(c.scopes))
                   AS shares_position,
               (SELECT v.review_id FROM review v
                WHERE v.task_id = t.task_id AND v.person_id = $2 AND v.kind = 'manual'
                  AND v.state IN ('pending', 'pending_second')) AS open_id
        FROM task t JOIN member_status m USING (task_id) WHERE t.task_id = $1 AND m.person_id = $2
        """,
        task_id,
        person_id,
        at,
    )
    return row and Asker(**row)


async def add_manual_request(
    connection: Connection,
    request: ManualRequest,
    person_id: str,
    reason: str,
    located: LocatedRequest | None,
) -> None:
    await connection.execute(
        """
        WITH review AS (
            INSERT INTO review (review_id, kind, task_id, person_id, received_at) VALUES ($1, 'manual', $2, $3, $4))
        INSERT INTO manual_request (manual_request_id, reason, position) VALUES ($1, $5, $6)
        """,
        request.manual_request_id,
        request.task_id,
        person_id,
        request.received_at,
        reason,
        located and asdict(located),
    )


async def read_manual_request(
    connection: Connection, manual_request_id: UUID, person_id: str
) -> ManualRequest | None:
    row = await connection.fetchrow(
        """
        SELECT review_id AS manual_request_id, task_id, state, received_at, decided_at FROM review
        WHERE review_id = $1 AND person_id = $2 AND kind = 'manual'
        """,
        manual_request_id,
        person_id,
    )
    return row and ManualRequest(**row)


# --- The queue ---

_REVIEW = """
    SELECT v.review_id, v.kind, v.state, v.task_id, v.person_id, v.received_at, v.decided_at, t.closes_at,
           coalesce(r.answer->'reasons', '[]') AS reasons,
           -- nothing else is rejected in the service's own name (`SYSTEM` in usecases/caller.py)
           EXISTS (SELECT FROM review_decision d
                   WHERE d.review_id = v.review_id AND d.iss = 'checkin_service' AND d.decision = 'reject') AS too_late
    FROM review v JOIN task t USING (task_id) LEFT JOIN receipt r ON r.check_in_id = v.review_id
"""

# What waits for somebody; of a voided task nothing does.
_WAITING = "v.state IN ('pending', 'pending_second') AND t.voided_at IS NULL"
_OF_STATE = {ReviewState.PENDING: _WAITING}


async def read_queue(
    connection: Connection,
    state: ReviewState,
    after: tuple[datetime, UUID] | None,
    limit: int,
    task_id: str | None = None,
) -> list[Review]:
    """Reviews of a state, or for `pending` all that wait for a decision, of one task or all; the oldest first."""
    rows = await connection.fetch(
        f"""
        {_REVIEW} WHERE {_OF_STATE.get(state, f"v.state = '{state}'")}
          AND ($1::timestamptz IS NULL OR (v.received_at, v.review_id) > ($1, $2))
          AND ($4::text IS NULL OR v.task_id = $4)
        ORDER BY v.received_at, v.review_id LIMIT $3
        """,
        *(after or (None, None)),
        limit,
        task_id,
    )
    return [Review(**row) for row in rows]


async def count_overdue(connection: Connection, closed_until: datetime) -> int:
    """Reviews that wait although their window closed at that instant or before."""
    number: int = await connection.fetchval(
        f"SELECT count(*) FROM review v JOIN task t USING (task_id) WHERE {_WAITING} AND t.closes_at <= $1",  # noqa: S608  a constant
        closed_until,
    )
    return number


# --- One review ---


async def read_review(connection: Connection, review_id: UUID) -> Review | None:
    row = await connection.fetchrow(f"{_REVIEW} WHERE v.review_id = $1", review_id)
    return row and Review(**row)


async def read_dossier(connection: Connection, review_id: UUID) -> Dossier | None:
    """One snapshot of all that the review rests on."""
    row = await connection.fetchrow(
        f"""
        SELECT v.*, t.case_id, t.enterprise_name, m.name, m.categories, m.technical_lead,
               to_jsonb(a) AS attempt, e.lon, e.lat, e.check_in_id IS NOT NULL AS has_selfie,
               q.reason AS request_reason, q.position AS located,
               f.version, f.effective_at, f.registered_address, f.frame, f.fence, f.buffer_m,
               g.engine, g.photos, g.quality, g.created_at,
               (SELECT array_agg(ROW(d.review_id, d.actor, d.decision, d.note, d.decided_at)
                                 ORDER BY d.decided_at, d.actor)
                FROM review_decision d JOIN review o USING (review_id)
                WHERE o.task_id = v.task_id AND o.person_id = v.person_id) AS decisions
        FROM ({_REVIEW} WHERE v.review_id = $1) v
        JOIN task t USING (task_id)
        JOIN member m USING (task_id, person_id)
        JOIN person p USING (person_id)
        CROSS JOIN LATERAL (
            SELECT * FROM fence_version w
            WHERE w.task_id = v.task_id AND (w.effective_at <= v.received_at OR w.version = 1)
            ORDER BY w.effective_at DESC, w.version DESC LIMIT 1) f
        LEFT JOIN attempt a ON a.check_in_id = v.review_id
        LEFT JOIN evidence e ON e.check_in_id = v.review_id
        LEFT JOIN manual_request q ON q.manual_request_id = v.review_id
        LEFT JOIN reference g ON g.reference_id = p.reference_id
        """,  # noqa: S608  a constant
        review_id,
    )
    return row and _dossier(row)


async def read_selfie(connection: Connection, review_id: UUID) -> tuple[str, str, StoredSelfie] | None:
    """The task, the person and where the selfie is; None when the review has none, or none any more."""
    row = await connection.fetchrow(
        """
        SELECT v.task_id, v.person_id, e.address, e.wrapped_key, p.key_id
        FROM review v JOIN evidence e ON e.check_in_id = v.review_id JOIN person p USING (person_id)
        WHERE v.review_id = $1
        """,
        review_id,
    )
    if row is None:
        return None
    kept = StoredSelfie(row["address"], row["wrapped_key"], row["key_id"])
    return row["task_id"], row["person_id"], kept


# --- Decisions ---


async def held_reviews(connection: Connection, task_id: str) -> list[tuple[UUID, bool]]:
    """Open reviews that the calendar alone decides, the oldest first, and whether they are in time: check-ins in time
    that nothing else is against or in doubt, and, once the end is not provisional any more, whatever came later."""
    rows = await connection.fetch(
        """
        SELECT v.review_id, v.received_at < t.closes_at AS in_time
        FROM review v JOIN task t USING (task_id) LEFT JOIN attempt a ON a.check_in_id = v.review_id
        WHERE v.task_id = $1 AND v.state IN ('pending', 'pending_second')
          AND CASE WHEN v.received_at < t.closes_at THEN a.reasons = '{}' AND coalesce(a.liveness, 'passed') = 'passed'
                   ELSE NOT t.provisional END
        ORDER BY v.received_at, v.review_id
        """,
        task_id,
    )
    return [(row["review_id"], row["in_time"]) for row in rows]


async def read_facts(connection: Connection, review_id: UUID, actor: str | None) -> ReviewFacts | None:
    """What a decision of this reviewer depends on, whichever issuer names them; None is the service itself. The person
    and the task are locked."""
    row = await connection.fetchrow(
        """
        SELECT v.kind, v.state, v.received_at, t.closes_at, t.voided_at IS NOT NULL AS voided,
               t.closed_at IS NOT NULL AS closed,
               EXISTS (SELECT FROM consent c
                       WHERE c.person_id = v.person_id AND c.withdrawn_at IS NULL
                         AND c.scopes @> ARRAY['face', 'face_transfer', 'location']) AS consented,
               EXISTS (SELECT FROM evidence e WHERE e.check_in_id = v.review_id) AS has_evidence,
               (SELECT d.decision FROM review_decision d
                WHERE d.review_id = v.review_id AND d.actor = $2 LIMIT 1) AS own
        FROM review v JOIN task t USING (task_id) WHERE v.review_id = $1
        """,
        review_id,
        actor,
    )
    if row is None:
        return None
    words = {"kind": ReviewKind(row["kind"]), "state": ReviewState(row["state"])}
    return ReviewFacts(**{**row, **words, "own": row["own"] and ReviewDecision(row["own"])})


async def is_on_roster(connection: Connection, task_id: str, person_id: str) -> bool:
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM member WHERE task_id = $1 AND person_id = $2)", task_id, person_id
    )
    return found


async def add_decision(
    connection: Connection,
    review_id: UUID,
    reviewer: tuple[str, str],
    decision: ReviewDecision,
    note: str,
    at: datetime,
) -> None:
    """`reviewer`: issuer and subject. Raises a constraint violation when they have decided on it before."""
    await connection.execute(
        """
        INSERT INTO review_decision (review_id, iss, actor, decision, note, decided_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        """,
        review_id,
        *reviewer,
        decision,
        note,
        at,
    )


async def set_state(connection: Connection, review_id: UUID, state: ReviewState, at: datetime) -> None:
    await connection.execute(
        "UPDATE review SET state = $2, decided_at = $3 WHERE review_id = $1",
        review_id,
        state,
        None if state in OPEN else at,
    )


async def add_acceptance(connection: Connection, review_id: UUID) -> None:
    """The completion that an accepted review is, as of the submission; the member's other reviews are moot.

    Raises a constraint violation where any promise would break.
    """
    await connection.execute(
        """
        INSERT INTO acceptance (check_in_id, task_id, person_id, accepted_at, method, outcome, review_state, decided_at,
                                opens_at, closes_at)
        SELECT v.review_id, v.task_id, v.person_id, v.received_at,
               CASE v.kind WHEN 'manual' THEN 'manual' ELSE 'face' END, v.outcome, v.state, v.decided_at,
               t.opens_at, t.closes_at
        FROM review v JOIN task t USING (task_id) WHERE v.review_id = $1
        """,
        review_id,
    )
    await connection.execute(
        """
        UPDATE review o SET state = 'moot', decided_at = v.decided_at
        FROM review v
        WHERE v.review_id = $1 AND o.task_id = v.task_id AND o.person_id = v.person_id
          AND o.state IN ('pending', 'pending_second')
        """,
        review_id,
    )


async def read_acceptance(connection: Connection, review_id: UUID) -> Accepted | None:
    """The completion that the review led to, while it is in force."""
    row = await connection.fetchrow(
        """
        SELECT check_in_id, accepted_at, method, decided_at FROM acceptance
        WHERE check_in_id = $1 AND revoked_at IS NULL
        """,
        review_id,
    )
    return row and Accepted(**row)


# --- Rows ---


def _dossier(row: Mapping[str, Any]) -> Dossier:
    alike = {
        "case_id",
        "enterprise_name",
        "name",
        "categories",
        "technical_lead",
        "has_selfie",
        "request_reason",
    }
    return Dossier(
        review=Review(**_columns(row, Review)),
        fence=FenceVersion(**_columns(row, FenceVersion)),
        judged=row["attempt"] and Judged(**_columns(row["attempt"], Judged)),
        position=None if row["lon"] is None else (row["lon"], row["lat"]),
        located=row["located"] and LocatedRequest(**row["located"]),
        reference=row["engine"]
        and {name: row[name] for name in ("engine", "photos", "quality", "created_at")},
        decisions=[Decided(*decided) for decided in row["decisions"] or ()],
        **{name: row[name] for name in alike},
    )


def _columns(row: Mapping[str, Any], of: type[Any]) -> dict[str, Any]:
    return {field.name: row[field.name] for field in fields(of)}
