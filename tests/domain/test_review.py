"""Who may decide what and when, how long nobody may, and scores in words: exact at their limits."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest

from checkin_service.domain.calendar import Calendar
from checkin_service.domain.review import (
    Likeness,
    ReviewDecision,
    ReviewFacts,
    ReviewKind,
    ReviewState,
    likeness,
    overdue_until,
    state_after,
    what_forbids,
)
from face import DLIB_RESNET_MODEL, SFACE_MODEL, operating_points

CLOSES_AT = datetime.fromisoformat("2026-04-03T00:00:00+08:00")
MICROSECOND = timedelta(microseconds=1)
CHECK_IN = ReviewFacts(
    kind=ReviewKind.CHECK_IN,
    state=ReviewState.PENDING,
    received_at=CLOSES_AT - MICROSECOND,
    closes_at=CLOSES_AT,
    voided=False,
    closed=False,
    consented=True,
    has_evidence=True,
    own=None,
)
# of somebody who consents to nothing
MANUAL = replace(CHECK_IN, kind=ReviewKind.MANUAL, consented=False, has_evidence=False)
ACCEPT, REJECT = ReviewDecision


# --- Decisions ---


@pytest.mark.parametrize("facts", [CHECK_IN, MANUAL, replace(MANUAL, state=ReviewState.PENDING_SECOND)])
@pytest.mark.parametrize("decision", ReviewDecision)
def test_what_is_open_can_be_decided(facts: ReviewFacts, decision: ReviewDecision) -> None:
    assert what_forbids(facts, decision) is None


@pytest.mark.parametrize("decision", ReviewDecision)
@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"state": ReviewState.ACCEPTED}, "accepted"),
        ({"state": ReviewState.REJECTED, "voided": True}, "rejected"),
        ({"state": ReviewState.MOOT}, "moot"),
        ({"voided": True, "closed": True}, "voided"),
        ({"closed": True}, "closed"),
        ({"state": ReviewState.PENDING_SECOND, "own": ACCEPT}, "pending_second"),
    ],
)
def test_what_forbids_every_decision(
    decision: ReviewDecision, changes: dict[str, object], state: str
) -> None:
    for facts in (CHECK_IN, MANUAL):
        assert what_forbids(replace(facts, **changes), decision) == state  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "changes", "state"),
    [
        (CHECK_IN, {"received_at": CLOSES_AT}, "provisional"),
        (MANUAL, {"received_at": CLOSES_AT}, "provisional"),
        (CHECK_IN, {"consented": False}, "consent_withdrawn"),
        (CHECK_IN, {"has_evidence": False}, "evidence_removed"),
    ],
)
def test_what_forbids_an_acceptance_alone(facts: ReviewFacts, changes: dict[str, object], state: str) -> None:
    changed = replace(facts, **changes)  # type: ignore[arg-type]
    assert (what_forbids(changed, ACCEPT), what_forbids(changed, REJECT)) == (state, None)


@pytest.mark.parametrize(
    ("kind", "before", "decision", "after"),
    [
        (ReviewKind.CHECK_IN, ReviewState.PENDING, ACCEPT, ReviewState.ACCEPTED),
        (ReviewKind.CHECK_IN, ReviewState.PENDING, REJECT, ReviewState.REJECTED),
        (ReviewKind.MANUAL, ReviewState.PENDING, ACCEPT, ReviewState.PENDING_SECOND),
        (ReviewKind.MANUAL, ReviewState.PENDING_SECOND, ACCEPT, ReviewState.ACCEPTED),
        (ReviewKind.MANUAL, ReviewState.PENDING, REJECT, ReviewState.REJECTED),
        (ReviewKind.MANUAL, ReviewState.PENDING_SECOND, REJECT, ReviewState.REJECTED),
    ],
)
def test_what_follows(
    kind: ReviewKind, before: ReviewState, decision: ReviewDecision, after: ReviewState
) -> None:
    assert state_after(replace(CHECK_IN, kind=kind, state=before), decision) is after


# --- Overdue ---

SPRING = [date(2026, 4, day) for day in (4, 5, 6, 11, 12, 18, 19)]
CALENDAR = Calendar("cn", date(2026, 4, 1), date(2026, 4, 30), frozenset(SPRING))


@pytest.mark.parametrize(
    ("now", "closed_until"),
    [
        # Friday, then Qingming until Monday: the fifth working day is Friday, the 10th
        ("2026-04-11T00:00:00", "2026-04-03"),
        ("2026-04-10T23:59:59.999999", "2026-04-02"),
        # nothing becomes overdue over a weekend
        ("2026-04-13T23:59:59", "2026-04-03"),
        ("2026-04-14T00:00:00", "2026-04-07"),
    ],
)
def test_five_working_days(now: str, closed_until: str) -> None:
    until = overdue_until(datetime.fromisoformat(f"{now}+08:00"), CALENDAR)
    assert until.isoformat() == f"{closed_until}T00:00:00+08:00"


# --- Scores in words ---


@pytest.mark.parametrize(
    ("model", "scores"),
    [
        (SFACE_MODEL, (0.409, 0.41, 0.469, 0.47, 0.529, 0.53)),
        (DLIB_RESNET_MODEL, (0.61, 0.611, 0.648, 0.649, 0.686, 0.687)),
    ],
)
def test_words_change_exactly_at_the_models_steps(model: str, scores: tuple[float, ...]) -> None:
    points = operating_points(model)
    threshold = points["lfw_ea_1e3"].threshold
    words = [likeness(score, threshold, threshold - points["lfw_ea_1e2"].threshold) for score in scores]
    assert words == [
        Likeness.NOT_ENOUGH,
        Likeness.JUST_ENOUGH,
        Likeness.JUST_ENOUGH,
        Likeness.PROBABLY_SAME,
        Likeness.PROBABLY_SAME,
        Likeness.CLEARLY_SAME,
    ]


@pytest.mark.parametrize("score", [float("nan"), float("-inf")])
def test_what_is_no_score_is_never_enough(score: float) -> None:
    assert likeness(score, 0.41, 0.06) is Likeness.NOT_ENOUGH
