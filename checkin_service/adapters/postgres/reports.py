"""What a platform, a firm and an operator ask about: why members are missing, what is enrolled, how attempts went."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

from checkin_service.adapters.postgres.database import Connection
from checkin_service.adapters.postgres.tasks import FenceVersion
from checkin_service.domain.consent import CONSENT_SCOPES
from checkin_service.domain.readiness import EnrolledMember
from checkin_service.domain.task import MemberState, MemberStatus
from checkin_service.domain.why_not import LastRefusal, OpenMember

# A model that fewer attempts or persons stand behind says nothing of the model, but something of them.
LEAST_ATTEMPTS, LEAST_PERSONS = 5, 3

# How many of an enterprise's other tasks its fence is held against, the latest first.
OTHER_TASKS = 3


@dataclass(frozen=True, slots=True)
class Statistics:
    """Judged attempts in numbers, as JSON gives them: `outcomes` by name; of each reason, hour of the day (Shanghai),
    phone and signal a row with `attempts`, and `persons` where that says more. A phone's `model` is null for all models
    of its platform that too few stand behind, and for none given."""

    outcomes: Mapping[str, int]
    reasons: Sequence[Mapping[str, Any]]
    hours: Sequence[Mapping[str, Any]]
    phones: Sequence[Mapping[str, Any]]
    signals: Sequence[Mapping[str, Any]]


# --- Why members are missing ---


async def read_opens_at(connection: Connection, task_id: str) -> datetime:
    """When the window of an existing task begins."""
    opens_at: datetime = await connection.fetchval("SELECT opens_at FROM task WHERE task_id = $1", task_id)
    return opens_at


async def read_open_members(connection: Connection, task_id: str) -> list[OpenMember]:
    """The members who are not accepted, in the roster's order."""
    rows = await connection.fetch(
        """
        SELECT m.person_id, m.state, m.has_reference,
               (c.withdrawn_at IS NULL AND c.scopes @> $2) IS TRUE AS consented, c.withdrawn_at,
               (SELECT min(v.received_at) FROM review v
                WHERE v.task_id = m.task_id AND v.person_id = m.person_id
                  AND v.state IN ('pending', 'pending_second')) AS reviewed_since,
               (SELECT max(r.revoked_at) FROM acceptance r
                WHERE r.task_id = m.task_id AND r.person_id = m.person_id AND r.revoked_at IS NOT NULL) AS revoked_at,
               (SELECT count(*) FROM attempt a
                WHERE a.task_id = m.task_id AND a.person_id = m.person_id AND a.counted
                  AND a.shanghai_day = (checkin_now() AT TIME ZONE 'Asia/Shanghai')::date) AS counted_today,
               l.received_at AS refused_at, l.reasons
        FROM member_status m
        LEFT JOIN consent c USING (person_id)
        LEFT JOIN LATERAL (
            SELECT a.received_at, a.reasons FROM attempt a
            WHERE a.task_id = m.task_id AND a.person_id = m.person_id AND a.outcome = 'rejected'
            ORDER BY a.shanghai_day DESC, a.received_at DESC LIMIT 1) l ON true
        WHERE m.task_id = $1 AND m.state <> 'accepted' ORDER BY m.position
        """,
        task_id,
        CONSENT_SCOPES,
    )
    return [_open_member(row) for row in rows]


def _open_member(row: Any) -> OpenMember:
    facts = ("consented", "withdrawn_at", "reviewed_since", "revoked_at", "counted_today")
    return OpenMember(
        MemberStatus(row["person_id"], MemberState(row["state"]), row["has_reference"]),
        **{name: row[name] for name in facts},
        last_refusal=LastRefusal(row["refused_at"], tuple(row["reasons"])) if row["refused_at"] else None,
    )


# --- What is enrolled, and where the fences are ---


async def read_enrolled(connection: Connection, task_id: str, deciding: str) -> list[EnrolledMember]:
    """Every member in the roster's order; `deciding` is the model whose score decides."""
    rows = await connection.fetch(
        """
        SELECT m.person_id, p.reference_id IS NOT NULL AS in_force,
               (SELECT coalesce(max(r.photos), 0) FROM reference r WHERE r.person_id = m.person_id) AS photos,
               EXISTS (SELECT FROM template t
                       WHERE t.reference_id = p.reference_id AND t.model_id = $2) AS decides,
               (c.withdrawn_at IS NULL AND c.scopes @> $3) IS TRUE AS consented
        FROM member m
        JOIN person p USING (person_id)
        LEFT JOIN consent c USING (person_id)
        WHERE m.task_id = $1 ORDER BY m.position
        """,
        task_id,
        deciding,
        CONSENT_SCOPES,
    )
    return [EnrolledMember(**row) for row in rows]


async def read_fences(connection: Connection, task_id: str, at: datetime) -> list[FenceVersion]:
    """The version in force at an instant and those to come, in order."""
    rows = await connection.fetch(
        """
        SELECT version, effective_at, registered_address, frame, fence, buffer_m FROM fence_version v
        WHERE task_id = $1 AND NOT EXISTS (
            SELECT FROM fence_version later
            WHERE later.task_id = v.task_id AND later.effective_at > v.effective_at AND later.effective_at <= $2)
        ORDER BY effective_at
        """,
        task_id,
        at,
    )
    return [FenceVersion(**row) for row in rows]


async def read_other_fences(connection: Connection, task_id: str) -> list[FenceVersion]:
    """The last fences of the enterprise's latest other tasks."""
    rows = await connection.fetch(
        """
        SELECT f.* FROM task t
        CROSS JOIN LATERAL (
            SELECT o.task_id FROM task o
            WHERE o.uscc = t.uscc AND o.task_id <> t.task_id AND o.voided_at IS NULL
            ORDER BY o.registered_at DESC LIMIT $2) latest
        CROSS JOIN LATERAL (
            SELECT version, effective_at, registered_address, frame, fence, buffer_m FROM fence_version v
            WHERE v.task_id = latest.task_id ORDER BY effective_at DESC, version DESC LIMIT 1) f
        WHERE t.task_id = $1
        """,
        task_id,
        OTHER_TASKS,
    )
    return [FenceVersion(**row) for row in rows]


# --- How attempts went ---

# Read once, counted in five ways. Each step once, too: of a task that its statistics don't know the planner expects one
# row, and would do the steps anew for each.
_COUNTED = """
    WITH judged AS MATERIALIZED (
        SELECT person_id, outcome, reasons, signals,
               extract(hour FROM received_at AT TIME ZONE 'Asia/Shanghai')::int AS hour,
               coalesce(device->>'platform', 'other') AS platform, device->>'model' AS model
        FROM attempt WHERE {wanted}),
    known AS MATERIALIZED (
        SELECT platform, model FROM judged WHERE model IS NOT NULL GROUP BY platform, model
        HAVING count(*) >= $1 AND count(DISTINCT person_id) >= $2),
    on_phone AS (
        SELECT j.platform, k.model, j.person_id, j.outcome, j.reasons
        FROM judged j LEFT JOIN known k ON k.platform = j.platform AND k.model = j.model),
    refused AS MATERIALIZED (
        SELECT platform, model, code, count(*) AS attempts FROM on_phone, unnest(reasons) AS code
        WHERE outcome = 'rejected' GROUP BY platform, model, code)
    SELECT
        (SELECT coalesce(json_object_agg(outcome, attempts), '{{}}') FROM (
            SELECT outcome, count(*) AS attempts FROM judged GROUP BY outcome) o) AS outcomes,
        (SELECT coalesce(json_agg(r ORDER BY attempts DESC, code), '[]') FROM (
            SELECT code, count(*) AS attempts, count(DISTINCT person_id) AS persons
            FROM judged, unnest(reasons) AS code GROUP BY code) r) AS reasons,
        (SELECT coalesce(json_agg(h ORDER BY hour), '[]') FROM (
            SELECT hour, count(*) AS attempts, count(*) FILTER (WHERE outcome = 'rejected') AS rejected
            FROM judged GROUP BY hour) h) AS hours,
        (SELECT coalesce(json_agg(p ORDER BY attempts DESC, platform, model), '[]') FROM (
            SELECT platform, model, count(*) AS attempts, count(DISTINCT person_id) AS persons,
                   count(*) FILTER (WHERE outcome = 'rejected') AS rejected,
                   (SELECT coalesce(json_agg(json_build_object('code', f.code, 'attempts', f.attempts)
                                             ORDER BY f.attempts DESC, f.code), '[]')
                    FROM refused f
                    WHERE f.platform = u.platform AND f.model IS NOT DISTINCT FROM u.model) AS reasons
            FROM on_phone u GROUP BY platform, model) p) AS phones,
        (SELECT coalesce(json_agg(s ORDER BY attempts DESC, code), '[]') FROM (
            SELECT signal->>'code' AS code, count(*) AS attempts, count(DISTINCT person_id) AS persons
            FROM judged, jsonb_array_elements(signals) AS signal GROUP BY signal->>'code') s) AS signals
"""
OF_TASK = _COUNTED.format(wanted="task_id = $3")
OF_PERIOD = _COUNTED.format(wanted="shanghai_day BETWEEN $3 AND $4")


async def read_task_statistics(connection: Connection, task_id: str) -> Statistics:
    return _statistics(await connection.fetchrow(OF_TASK, LEAST_ATTEMPTS, LEAST_PERSONS, task_id))


async def read_period_statistics(connection: Connection, first: date, last: date) -> Statistics:
    """Of every task, by the day in Shanghai on which a submission was received; both days included."""
    return _statistics(await connection.fetchrow(OF_PERIOD, LEAST_ATTEMPTS, LEAST_PERSONS, first, last))


async def count_reviews(connection: Connection, task_id: str) -> dict[str, int]:
    """How many of the task are in each state; a state without any is left out."""
    rows = await connection.fetch(
        "SELECT state, count(*) AS number FROM review WHERE task_id = $1 GROUP BY state", task_id
    )
    return {row["state"]: row["number"] for row in rows}


def _statistics(row: Any) -> Statistics:
    return Statistics(**{field.name: row[field.name] for field in fields(Statistics)})
