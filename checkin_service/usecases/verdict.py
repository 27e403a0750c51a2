"""What was decided on a check-in, as it is stored: its answer and its attempt."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from checkin_service.adapters.postgres.check_ins import (
    NOTHING_LEFT,
    Accepted,
    Attempt,
    LeftBehind,
    LoadedCase,
    Receipt,
    Submission,
)
from checkin_service.adapters.receipt_keys import ReceiptKeys
from checkin_service.domain.calendar import day_of, end_of
from checkin_service.domain.decision import Decision, FaceEvidence, Outcome, Policy
from checkin_service.domain.reasons import Reason
from checkin_service.usecases.receipts import signed_receipt
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
    left: LeftBehind = NOTHING_LEFT


def verdict_answer(
    policy: Policy, keys: ReceiptKeys, receipt: Receipt, loaded: LoadedCase, verdict: Verdict
) -> dict[str, Any]:
    """The answer as it is stored; the task's part is filled in from the facts that its verdict leaves."""
    answer = {
        "check_in_id": str(receipt.check_in_id),
        "task_id": receipt.task_id,
        "outcome": verdict.decision.outcome,
        "reasons": _reasons(policy, loaded, verdict),
        "received_at": receipt.received_at.isoformat(),
        "location": _place(verdict.location),
        "task": None,
        "attempts_left": _attempts_left(policy, loaded, verdict.decision.counted),
    }
    if Reason.TOO_MANY_ATTEMPTS in verdict.decision.reasons:
        answer["retry_at"] = _next_midnight(receipt).isoformat()
    if verdict.decision.outcome is Outcome.ACCEPTED:
        accepted = Accepted(receipt.check_in_id, receipt.received_at, "face", None)
        answer["receipt"] = signed_receipt(keys, loaded.person_id, receipt.task_id, accepted)
    return answer


def repeat_answer(
    policy: Policy, keys: ReceiptKeys, receipt: Receipt, loaded: LoadedCase, accepted: Accepted
) -> dict[str, Any]:
    """The answer to a member who was accepted before: that check-in's id and time; no attempt goes with it."""
    return {
        "check_in_id": str(accepted.check_in_id),
        "task_id": receipt.task_id,
        "outcome": Outcome.ACCEPTED,
        "reasons": [_reason(Reason.ALREADY_CHECKED_IN, accepted_at=accepted.accepted_at)],
        "received_at": accepted.accepted_at.isoformat(),
        "location": None,
        "task": None,
        "attempts_left": _attempts_left(policy, loaded, counted=False),
        "receipt": signed_receipt(keys, loaded.person_id, receipt.task_id, accepted),
    }


def _attempts_left(policy: Policy, loaded: LoadedCase, counted: bool) -> int:
    return max(0, policy.attempts_per_day - loaded.case.counted_today - counted)


def verdict_attempt(check_in: CheckIn, receipt: Receipt, loaded: LoadedCase, verdict: Verdict) -> Attempt:
    """The judged submission as it is stored."""
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
        signals=(),
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
