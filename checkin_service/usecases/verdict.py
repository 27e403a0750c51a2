"""Writes what was decided on a check-in: attempt, acceptance, answer, revision, feed; in the caller's transaction."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from checkin_service.adapters.postgres import check_ins, tasks
from checkin_service.adapters.postgres.check_ins import (
    NOTHING_STORED,
    Attempt,
    LoadedCase,
    Receipt,
    StoredVectors,
    Submission,
)
from checkin_service.adapters.postgres.database import Connection
from checkin_service.adapters.postgres.tasks import TaskHead
from checkin_service.domain.calendar import day_of, end_of
from checkin_service.domain.decision import Decision, FaceEvidence, Outcome, Policy
from checkin_service.domain.reasons import Reason
from checkin_service.domain.task import TaskState, state_at
from geofence import Fix, Frame, Location, Zone


@dataclass(frozen=True, slots=True)
class Device:
    """What the phone says of itself. Stored with the attempt; nothing is decided by it but how far to trust a fix."""

    platform: str
    model: str | None
    device_id: str | None
    reduced_accuracy: bool


@dataclass(frozen=True, slots=True)
class CheckIn:
    """A submission as it arrived, whole."""

    submission: Submission
    frame: Frame
    fixes: Sequence[Fix]
    captured_at: datetime
    device: Device
    selfie: bytes
    burst: Sequence[bytes]
    photo_sha256: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision with the evidence that was looked at; what was not looked at is None."""

    decision: Decision
    location: Location | None = None
    face: FaceEvidence | None = None
    stored: StoredVectors = NOTHING_STORED


async def write_verdict(
    connection: Connection,
    policy: Policy,
    check_in: CheckIn,
    receipt: Receipt,
    loaded: LoadedCase,
    verdict: Verdict,
) -> dict[str, Any]:
    """The answer as it is stored. Person and task are locked by the caller."""
    attempt = _attempt(check_in, receipt, loaded, verdict)
    await check_ins.insert_attempt(connection, attempt, verdict.stored)
    head = await _head(connection, loaded, receipt)
    answer = {
        "check_in_id": str(receipt.check_in_id),
        "task_id": receipt.task_id,
        "outcome": verdict.decision.outcome,
        "reasons": _reasons(policy, loaded, verdict),
        "received_at": receipt.received_at.isoformat(),
        "location": _place(verdict.location),
        "task": _progress(head),
        "attempts_left": _attempts_left(policy, loaded, verdict.decision.counted),
    }
    if Reason.TOO_MANY_ATTEMPTS in verdict.decision.reasons:
        answer["retry_at"] = _next_midnight(receipt).isoformat()
    changes = await _changes(connection, receipt, verdict.decision.outcome, head)
    await check_ins.answer_check_in(
        connection, receipt.check_in_id, answer, receipt.task_id, changes, head.read_at
    )
    return answer


async def write_repeat(
    connection: Connection,
    policy: Policy,
    receipt: Receipt,
    loaded: LoadedCase,
    accepted: tuple[UUID, datetime],
) -> dict[str, Any]:
    """The answer to a member who was accepted before: that check-in's id and time; no attempt is stored."""
    check_in_id, accepted_at = accepted
    head = await _head(connection, loaded, receipt)
    answer = {
        "check_in_id": str(check_in_id),
        "task_id": receipt.task_id,
        "outcome": Outcome.ACCEPTED,
        "reasons": [_reason(Reason.ALREADY_CHECKED_IN, accepted_at=accepted_at)],
        "received_at": accepted_at.isoformat(),
        "location": None,
        "task": _progress(head),
        "attempts_left": _attempts_left(policy, loaded, counted=False),
    }
    await check_ins.answer_check_in(
        connection, receipt.check_in_id, answer, receipt.task_id, (), head.read_at
    )
    return answer


async def _changes(
    connection: Connection, receipt: Receipt, outcome: Outcome, head: TaskHead
) -> tuple[str, ...]:
    """What the feed is told: only what the status shows, so nothing of a refused attempt."""
    if outcome is Outcome.ACCEPTED:
        completed = ("task_completed",) if head.state is TaskState.COMPLETED else ()
        return ("member_accepted", *completed)
    if outcome is Outcome.REVIEW and not await check_ins.in_review_before(connection, receipt.check_in_id):
        return ("member_in_review",)
    return ()


async def _head(connection: Connection, loaded: LoadedCase, receipt: Receipt) -> TaskHead:
    """The task as it is once this receipt is answered: it no longer counts as unjudged."""
    head = await tasks.read_head(connection, receipt.task_id)
    if head is None:
        raise RuntimeError("a locked task is gone")
    unjudged = receipt.received_at < head.facts.closes_at and not loaded.case.abandoned
    facts = replace(head.facts, unjudged=max(0, head.facts.unjudged - unjudged))
    return replace(head, facts=facts, state=state_at(facts, head.read_at))


def _progress(head: TaskHead) -> dict[str, Any]:
    return {"state": head.state, "accepted": head.facts.accepted, "total": head.facts.total}


def _attempts_left(policy: Policy, loaded: LoadedCase, counted: bool) -> int:
    return max(0, policy.attempts_per_day - loaded.case.counted_today - counted)


def _attempt(check_in: CheckIn, receipt: Receipt, loaded: LoadedCase, verdict: Verdict) -> Attempt:
    location = verdict.location
    face = verdict.face or FaceEvidence(0, ())
    comparison, earlier, rivals = face.comparison, face.earlier, face.rivals
    return Attempt(
        check_in_id=receipt.check_in_id,
        task_id=receipt.task_id,
        person_id=check_in.submission.person_id,
        received_at=receipt.received_at,
        shanghai_day=day_of(receipt.received_at),
        outcome=verdict.decision.outcome,
        reasons=list(verdict.decision.reasons),
        counted=verdict.decision.counted,
        fence_version=loaded.fence.version,
        zone=location.zone if location else None,
        distance_m=location.distance_m if location else None,
        r95_m=location.r95_m if location else None,
        model_id=comparison.point.model_id if comparison else None,
        score=comparison.score if comparison else None,
        threshold=comparison.point.threshold if comparison else None,
        operating_point=comparison.point.name if comparison else None,
        live=face.live,
        liveness=face.liveness,
        copy_distance=earlier.distance if earlier else None,
        copy_bits=earlier.hash_bits if earlier else None,
        rival_score=rivals.best if rivals else None,
        photo_sha256=check_in.photo_sha256,
        device=asdict(check_in.device),
    )


def _reasons(policy: Policy, loaded: LoadedCase, verdict: Verdict) -> list[dict[str, Any]]:
    """Each reason with the figures that its text may name."""
    figures: dict[Reason, dict[str, Any]] = {
        Reason.WINDOW_NOT_OPEN: {"opens_at": loaded.case.opens_at},
        Reason.WINDOW_CLOSED: {"closes_at": loaded.case.closes_at},
        Reason.TOO_MANY_ATTEMPTS: {
            "attempts": policy.attempts_per_day,
            "retry_at": end_of(day_of(loaded.case.received_at)),
        },
        Reason.OUTSIDE_GEOFENCE: _distance(verdict.location)
        | {"registered_address": loaded.fence.registered_address},
        Reason.POOR_QUALITY: {"quality": list(verdict.face.faults) if verdict.face else []},
    }
    return [_reason(reason, **figures.get(reason, {})) for reason in verdict.decision.reasons]


def _reason(reason: Reason, **figures: Any) -> dict[str, Any]:
    shown = {name: f.isoformat() if isinstance(f, datetime) else f for name, f in figures.items()}
    return {"code": reason, "figures": shown}


def _place(location: Location | None) -> dict[str, Any] | None:
    return {"zone": location.zone, **_distance(location)} if location else None


def _distance(location: Location | None) -> dict[str, Any]:
    """Metres to fence and buffer, rounded up to 10; 0 inside, None when the position is unusable."""
    if location is None or location.distance_m is None or location.zone is Zone.UNUSABLE:
        return {"distance_m": None}
    return {"distance_m": max(0, -int(-location.distance_m // 10) * 10)}


def _next_midnight(receipt: Receipt) -> datetime:
    return end_of(day_of(receipt.received_at))
