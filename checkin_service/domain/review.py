"""What people decide, and when they can: doubtful check-ins, and requests to be judged without a face."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from checkin_service.domain.calendar import Calendar, day_of, end_of

WORKING_DAYS = 5
"""So many working days after the end of the window a review that nobody has decided is overdue."""

_ONE_DAY = timedelta(days=1)


class ReviewKind(StrEnum):
    CHECK_IN = "check_in"
    MANUAL = "manual"


class ReviewState(StrEnum):
    PENDING = "pending"
    PENDING_SECOND = "pending_second"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    MOOT = "moot"


class ReviewDecision(StrEnum):
    ACCEPT = "accept"
    REJECT = "reject"


OPEN = frozenset({ReviewState.PENDING, ReviewState.PENDING_SECOND})


@dataclass(frozen=True, slots=True)
class ReviewFacts:
    """What a decision depends on, as of one reading of the database.

    `closed`: the task is. `own`: what this reviewer decided on it before. `consented`: the person's consent covers a
    check-in. `has_evidence`: the selfie is still there to be looked at; of a manual request there is none.
    """

    kind: ReviewKind
    state: ReviewState
    received_at: datetime
    closes_at: datetime
    voided: bool
    closed: bool
    consented: bool
    has_evidence: bool
    own: ReviewDecision | None


def what_forbids(facts: ReviewFacts, decision: ReviewDecision) -> str | None:
    """The state that forbids the decision; None when it can be made."""
    if facts.state not in OPEN:
        return facts.state
    if facts.voided or facts.closed:
        return "voided" if facts.voided else "closed"
    if facts.own is not None:
        # the other accept is another person's, and nobody takes back their own
        return facts.state
    return _what_forbids_accepting(facts) if decision is ReviewDecision.ACCEPT else None


def _what_forbids_accepting(facts: ReviewFacts) -> str | None:
    if facts.received_at >= facts.closes_at:
        # held in a provisional window until the calendar says whether it was in time
        return "provisional"
    if facts.kind is ReviewKind.CHECK_IN and not facts.consented:
        return "consent_withdrawn"
    if facts.kind is ReviewKind.CHECK_IN and not facts.has_evidence:
        return "evidence_removed"
    return None


def state_after(facts: ReviewFacts, decision: ReviewDecision) -> ReviewState:
    """What a decision that nothing forbids makes of the review."""
    if decision is ReviewDecision.REJECT:
        return ReviewState.REJECTED
    first_of_two = facts.kind is ReviewKind.MANUAL and facts.state is ReviewState.PENDING
    return ReviewState.PENDING_SECOND if first_of_two else ReviewState.ACCEPTED


def overdue_until(now: datetime, calendar: Calendar) -> datetime:
    """Windows that closed at this instant or before are so long over that their reviews are overdue at `now`.

    >>> from datetime import date
    >>> year = Calendar("cn", date(2026, 3, 1), date(2026, 3, 31), frozenset({date(2026, 3, 21), date(2026, 3, 22)}))
    >>> overdue_until(datetime.fromisoformat("2026-03-24T00:00:00+08:00"), year).isoformat()
    '2026-03-17T00:00:00+08:00'
    """
    day, left = day_of(now), WORKING_DAYS
    while left:
        day -= _ONE_DAY
        left -= not calendar.is_rest_day(day)
    return end_of(day - _ONE_DAY)


class Likeness(StrEnum):
    """How alike a selfie and the reference are, in words."""

    CLEARLY_SAME = "clearly_same"
    PROBABLY_SAME = "probably_same"
    JUST_ENOUGH = "just_enough"
    NOT_ENOUGH = "not_enough"


def likeness(score: float, threshold: float, tenfold: float) -> Likeness:
    """The score in words. `tenfold`: the step of the model's score by which a match between two persons becomes ten
    times rarer, as far as that was measured: one step above the threshold is probably, two are clearly.

    >>> [str(likeness(score, 0.41, 0.06)) for score in (0.40, 0.41, 0.47, 0.53)]
    ['not_enough', 'just_enough', 'probably_same', 'clearly_same']
    >>> str(likeness(float("nan"), 0.41, 0.06))
    'not_enough'
    """
    # figures have three decimals; 0.41 + 0.06 is a little less than 0.47
    above = round((score - threshold) / tenfold, 6)
    if above >= 1:
        return Likeness.CLEARLY_SAME if above >= 2 else Likeness.PROBABLY_SAME
    return Likeness.JUST_ENOUGH if above >= 0 else Likeness.NOT_ENOUGH
