"""Renders reviews and what they rest on, in the reviewer's language."""

from datetime import datetime
from typing import Any

from checkin_service.adapters.postgres.check_ins import Judged
from checkin_service.adapters.postgres.reviews import Dossier, LocatedRequest, Review
from checkin_service.domain.review import OPEN, likeness
from checkin_service.domain.signals import Signal
from checkin_service.web.answers import instant_text, reason_json
from checkin_service.web.messages import Language, likeness_text, signal_text
from face import operating_points
from geofence import Frame, from_wgs84

# Named points of every model, whose false match rates are ten times apart.
_RARE, _TEN_TIMES_AS_OFTEN = "lfw_ea_1e3", "lfw_ea_1e2"


def review_json(review: Review, overdue_until: datetime, spoken: Language) -> dict[str, Any]:
    """An entry of the queue. `overdue_until`: a window that closed by then has been over for too long."""
    return {
        **_review_json(review, spoken),
        "overdue": review.state in OPEN and review.closes_at <= overdue_until,
    }


def _review_json(review: Review, spoken: Language) -> dict[str, Any]:
    return {
        "review_id": str(review.review_id),
        "kind": review.kind,
        "state": review.state,
        "task_id": review.task_id,
        "person_id": review.person_id,
        "received_at": instant_text(review.received_at),
        "decided_at": review.decided_at and instant_text(review.decided_at),
        "reasons": [reason_json(reason, spoken) for reason in review.reasons],
    }


def evidence_json(dossier: Dossier, spoken: Language) -> dict[str, Any]:
    """No template and no digest is in it; the selfie has an address of its own."""
    review, judged = dossier.review, dossier.judged
    return {
        **_review_json(review, spoken),
        "closes_at": instant_text(review.closes_at),
        "case_id": dossier.case_id,
        "enterprise": {"name": dossier.enterprise_name},
        "person": {
            "name": dossier.name,
            "categories": list(dossier.categories),
            "technical_lead": dossier.technical_lead,
        },
        "request_reason": dossier.request_reason,
        "place": _place_json(dossier),
        "location": _seen_location_json(dossier),
        "face": _face_json(judged, spoken) if judged and judged.score is not None else None,
        "device": judged and judged.device and {name: judged.device[name] for name in ("platform", "model")},
        "signals": [_signal_json(signal, spoken) for signal in (judged.signals if judged else ())],
        "reference": dossier.reference
        and dossier.reference | {"created_at": instant_text(dossier.reference["created_at"])},
        "selfie": f"/v1/reviews/{review.review_id}/selfie" if dossier.has_selfie else None,
        "decisions": [
            {
                "review_id": str(decided.review_id),
                "actor": decided.actor,
                "decision": decided.decision,
                "note": decided.note,
                "decided_at": instant_text(decided.decided_at),
            }
            for decided in dossier.decisions
        ],
    }


def _place_json(dossier: Dossier) -> dict[str, Any]:
    """The fence as the platform gave it, of the version that the submission is judged by."""
    fence = dossier.fence
    return {
        "registered_address": fence.registered_address,
        "frame": fence.frame,
        "fence": fence.fence,
        "buffer_m": fence.buffer_m,
        "fence_version": fence.version,
    }


def _seen_location_json(dossier: Dossier) -> dict[str, Any] | None:
    located = dossier.located or _located(dossier)
    return location_json(located, dossier.fence.frame) if located else None


def location_json(located: LocatedRequest, frame: str) -> dict[str, Any]:
    """Where it was, in the fence's own frame, so that one map shows both."""
    place = None
    if located.lon is not None and located.lat is not None:
        place = from_wgs84(located.lon, located.lat, Frame(frame))
    lon, lat = place or (None, None)
    return {
        "zone": located.zone,
        "distance_m": _rounded(located.distance_m),
        "r95_m": _rounded(located.r95_m),
        "lon": lon,
        "lat": lat,
    }


def _located(dossier: Dossier) -> LocatedRequest | None:
    judged, position = dossier.judged, dossier.position or (None, None)
    if judged is None or judged.zone is None:
        return None
    return LocatedRequest(judged.zone, judged.distance_m, judged.r95_m, *position)


def _rounded(metres: float | None) -> float | None:
    return None if metres is None else round(metres, 1)


def _face_json(judged: Judged, spoken: Language) -> dict[str, Any]:
    """The comparison in words and in figures; of a model that this version knows nothing of in figures alone."""
    points, word = operating_points(str(judged.model_id)), None
    if points:
        tenfold = points[_RARE].threshold - points[_TEN_TIMES_AS_OFTEN].threshold
        word = likeness(judged.score or 0.0, judged.threshold or 0.0, tenfold)
    figures = ("score", "threshold", "operating_point", "model_id", "rival_score", "live", "liveness")
    return {
        "likeness": word,
        "likeness_text": word and likeness_text(word, spoken),
        **{name: getattr(judged, name) for name in (*figures, "copy_distance", "copy_bits")},
    }


def _signal_json(signal: dict[str, Any], spoken: Language) -> dict[str, Any]:
    code = Signal(signal["code"])
    return {"code": code, "message": signal_text(code, spoken), "figures": signal["figures"]}
