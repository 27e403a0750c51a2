"""Why a roster member is not accepted yet."""

from dataclasses import dataclass
from datetime import datetime

from checkin_service.domain.reasons import Missing
from checkin_service.domain.task import MemberState, MemberStatus


@dataclass(frozen=True, slots=True)
class LastRefusal:
    at: datetime
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenMember:
    """A member who is not accepted, and what is known of the way there.

    `reviewed_since` is when the oldest submission that waits for a decision was received.
    """

    status: MemberStatus
    consented: bool
    withdrawn_at: datetime | None
    reviewed_since: datetime | None
    revoked_at: datetime | None
    counted_today: int
    last_refusal: LastRefusal | None


def what_is_missing(member: OpenMember) -> tuple[Missing, datetime | None]:
    """The first of `Missing` that holds, and since when, where that is known."""
    if member.status.state is MemberState.IN_REVIEW:
        return Missing.IN_REVIEW, member.reviewed_since
    if not member.status.has_reference:
        return Missing.REFERENCE_MISSING, None
    if not member.consented:
        return Missing.CONSENT_MISSING, member.withdrawn_at
    if member.status.state is MemberState.REVOKED:
        return Missing.REVOKED, member.revoked_at
    if member.last_refusal:
        return Missing.REFUSED_SO_FAR, member.last_refusal.at
    return Missing.NOT_STARTED, None
