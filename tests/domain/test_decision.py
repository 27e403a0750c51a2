"""The rules of a check-in over every combination of what they look at, against the contract's stages."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from math import nan, nextafter

import pytest

from checkin_service.domain.decision import (
    LEAST_LIVE,
    Case,
    Comparison,
    Decision,
    Earlier,
    FaceEvidence,
    OperatingPoint,
    Outcome,
    Policy,
    Rivals,
    decide,
    decide_admission,
)
from checkin_service.domain.reasons import Reason

THRESHOLD = 0.55
MARGIN = 0.0625  # a sum of powers of two, like the scores below: no rounding
POINT = OperatingPoint("test", "model", THRESHOLD, MARGIN)
OTHER_POINT = OperatingPoint("test", "older-model", 0.8)
POLICY = Policy(attempts_per_day=10, operating_points=[POINT, OTHER_POINT])
OPENS_AT = datetime(2026, 3, 2, 2, tzinfo=UTC)
CLOSES_AT = datetime(2026, 4, 2, 16, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Moment:
    """When a submission arrived, of what kind of window, and what the window says of it."""

    received_at: datetime
    reasons: list[str]
    provisional: bool = False
    abandoned: bool = False
    held: bool = False


@dataclass(frozen=True)
class Seen:
    """A located position with the reasons that the contract gives it."""

    zone: str
    given: int
    usable: int
    implausible: int
    frame_suspect: bool
    reasons: tuple[str, ...]


MOMENTS = [
    Moment(OPENS_AT - MICROSECOND, ["window_not_open"]),
    Moment(OPENS_AT, []),
    Moment(CLOSES_AT - MICROSECOND, []),
    Moment(CLOSES_AT, ["window_closed"]),
    Moment(OPENS_AT, ["window_closed"], abandoned=True),
    Moment(OPENS_AT - MICROSECOND, ["window_not_open"], provisional=True),
    Moment(CLOSES_AT - MICROSECOND, [], provisional=True),
    Moment(CLOSES_AT, [], provisional=True, held=True),
    Moment(CLOSES_AT + timedelta(days=9), [], provisional=True, held=True),
    Moment(CLOSES_AT - MICROSECOND, ["window_closed"], provisional=True, abandoned=True),
]
POSITIONS = [
    Seen("inside", 1, 1, 0, False, ()),
    Seen("inside", 3, 1, 1, False, ()),
    Seen("unusable", 0, 0, 0, False, ("position_missing",)),
    Seen("unusable", 2, 0, 2, False, ("position_implausible",)),
    Seen("unusable", 2, 0, 1, False, ("position_implausible", "position_uncertain")),
    Seen("unusable", 2, 0, 0, False, ("position_uncertain",)),
    Seen("unusable", 2, 2, 0, False, ("position_uncertain",)),
    Seen("possible", 1, 1, 0, False, ("position_uncertain",)),
    Seen("outside", 1, 1, 0, False, ("outside_geofence",)),
    Seen("outside", 1, 1, 0, True, ("outside_geofence", "position_frame_suspect")),
]


def compared(
    score: float,
    point: OperatingPoint = POINT,
    rival: float | None = None,
    copy: bool = False,
    live: float | None = None,
) -> FaceEvidence:
    """A good picture that everything was done with."""
    rivals = Rivals(rival) if point.margin is not None else None
    return FaceEvidence(1, (), Comparison(score, point), Earlier(copy, 0.3, 30), rivals, live)


# None: not analysed yet
FACES: list[tuple[FaceEvidence | None, list[str]]] = [
    (None, []),
    (FaceEvidence(0, ()), ["no_face"]),
    (FaceEvidence(2, ()), ["multiple_faces"]),
    (FaceEvidence(1, ("too_dark", "blurred")), ["poor_quality"]),
    (FaceEvidence(1, ()), ["non_match"]),
    (compared(nan), ["non_match"]),
    (compared(nextafter(THRESHOLD, 0)), ["non_match"]),
    (compared(THRESHOLD), []),
    (compared(1.0), []),
    (compared(0.79, OTHER_POINT), ["non_match"]),
    (compared(0.8, OTHER_POINT), []),
    (compared(0.75, copy=True), ["duplicate_photo"]),
    (compared(0.5, copy=True), ["non_match", "duplicate_photo"]),
    (compared(0.75, rival=0.75 - MARGIN), ["look_alike"]),
    (compared(0.75, rival=nextafter(0.75 - MARGIN, 0)), []),
    (compared(0.75, rival=0.9), ["look_alike"]),
    (compared(0.75, rival=nan), []),
    (compared(0.5, rival=0.9), ["non_match"]),
    (compared(0.75, rival=0.75, copy=True), ["duplicate_photo", "look_alike"]),
    (compared(0.8, OTHER_POINT, rival=0.9), []),
    (compared(0.75, live=LEAST_LIVE), []),
    (compared(0.75, live=nextafter(LEAST_LIVE, 0)), ["presentation_attack"]),
    (compared(0.75, live=nan), ["presentation_attack"]),
    (compared(0.5, live=0.0), ["non_match", "presentation_attack"]),
    (FaceEvidence(2, (), live=0.0), ["multiple_faces"]),
    (
        compared(0.75, rival=0.75, copy=True, live=0.1),
        ["presentation_attack", "duplicate_photo", "look_alike"],
    ),
]
# What a reference has templates of, and whether one of them is known here.
REFERENCES = [({"model"}, True), ({"older-model"}, True), ({"unknown"}, False), (set[str](), False)]
DOUBTFUL = {"presentation_attack", "duplicate_photo", "look_alike"}
COUNTED = {"outside_geofence", "non_match", "presentation_attack", "duplicate_photo"}


def case_of(moment: Moment, voided: bool, counted_today: int, models: set[str]) -> Case:
    return Case(
        moment.received_at,
        voided,
        False,
        OPENS_AT,
        CLOSES_AT,
        moment.provisional,
        moment.abandoned,
        counted_today,
        0,
        frozenset(models),
    )


def first_failing(*stages: list[str]) -> list[str]:
    return next((stage for stage in stages if stage), [])


def test_the_first_failing_stage_gives_all_its_reasons_and_stops_the_later_ones() -> None:
    for moment, voided, counted_today, position, (models, enrolled), (face, face_reasons) in product(
        MOMENTS, (False, True), (0, 9, 10, 11), POSITIONS, REFERENCES, FACES
    ):
        case = case_of(moment, voided, counted_today, models)
        reasons = first_failing(
            (["task_not_open"] if voided else []) + moment.reasons,
            ["too_many_attempts"] if counted_today >= 10 else [],
            list(position.reasons),
            [] if enrolled else ["not_enrolled"],
            face_reasons,
        )
        passed = "review" if moment.held or reasons else "accepted"
        decision = decide_admission(case, POLICY) or decide(case, position, face, POLICY)
        if face is None and not reasons:
            assert decision is None, case
            continue
        assert decision is not None, case
        assert list(decision.reasons) == reasons, (case, position, face)
        refused = not set(reasons) <= DOUBTFUL
        assert decision.outcome == ("rejected" if refused else passed), (case, position, face)
        assert decision.counted == bool(COUNTED & set(reasons)), (case, position, face)


@pytest.mark.parametrize(
    ("score", "point", "is_enough"), [(0.75, POINT, False), (0.5, POINT, True), (0.8, OTHER_POINT, True)]
)
def test_a_match_is_not_decided_before_somebody_has_looked_for_look_alikes(
    score: float, point: OperatingPoint, is_enough: bool
) -> None:
    face = FaceEvidence(1, (), Comparison(score, point), Earlier(False, 0.3, 30))
    decision = decide(case_of(MOMENTS[1], False, 0, {"model"}), POSITIONS[0], face, POLICY)
    assert (decision is not None) == is_enough


@pytest.mark.parametrize("reason", list(Reason))
def test_an_attempt_counts_only_for_what_the_person_could_have_done_better(reason: Reason) -> None:
    assert Decision(Outcome.REJECTED, (reason,)).counted == (reason in COUNTED)


@pytest.mark.parametrize(
    ("before", "face", "outcome", "reasons"),
    [
        (1, compared(0.75), "rejected", ["position_uncertain"]),
        (2, compared(0.75), "review", ["position_uncertain"]),
        (2, compared(0.75, copy=True), "review", ["position_uncertain", "duplicate_photo"]),
        (2, compared(0.5), "rejected", ["non_match"]),
        (2, FaceEvidence(0, ()), "rejected", ["no_face"]),
    ],
)
def test_the_third_time_at_the_edge_in_a_day_people_decide_if_all_else_passes(
    before: int, face: FaceEvidence, outcome: str, reasons: list[str]
) -> None:
    case = replace(case_of(MOMENTS[1], False, 0, {"model"}), uncertain_before=before)
    at_the_edge = next(position for position in POSITIONS if position.zone == "possible")
    decision = decide(case, at_the_edge, face, POLICY)
    assert decision
    assert (decision.outcome, list(decision.reasons)) == (outcome, reasons)


@pytest.mark.parametrize("position", [p for p in POSITIONS if p.reasons])
def test_no_other_place_is_ever_left_to_people(position: Seen) -> None:
    case = replace(case_of(MOMENTS[1], False, 0, {"model"}), uncertain_before=9)
    decision = decide(case, position, compared(0.75), POLICY)
    assert decision
    assert decision.outcome == ("review" if position.zone == "possible" else "rejected")


@pytest.mark.parametrize(
    ("liveness", "score", "outcome", "reasons", "counted"),
    [
        (None, 0.75, "accepted", [], False),
        ("passed", 0.75, "accepted", [], False),
        ("other_face", 0.75, "review", ["presentation_attack"], True),
        ("whatever", 0.75, "review", ["presentation_attack"], True),
        # nobody's fault, and no way in
        ("unknown", 0.75, "review", [], False),
        ("unknown", 0.5, "rejected", ["non_match"], True),
    ],
)
def test_what_is_not_known_of_liveness_is_left_to_people_and_not_held_against_anybody(
    liveness: str | None, score: float, outcome: str, reasons: list[str], counted: bool
) -> None:
    face = replace(compared(score), liveness=liveness)
    decision = decide(case_of(MOMENTS[1], False, 0, {"model"}), POSITIONS[0], face, POLICY)
    assert decision
    found = (decision.outcome, list(decision.reasons), decision.counted)
    assert found == (outcome, reasons, counted)


def test_a_suspended_task_takes_nothing() -> None:
    case = replace(case_of(MOMENTS[1], False, 0, {"model"}), suspended=True)
    decision = decide_admission(case, POLICY)
    assert decision
    assert list(decision.reasons) == ["task_not_open"]


def test_a_review_or_an_acceptance_without_reasons_counts_nothing() -> None:
    assert not any(Decision(outcome).counted for outcome in Outcome)


@pytest.mark.parametrize(
    ("reference", "probe", "point"),
    [
        ({"model", "older-model"}, {"model", "older-model"}, POINT),
        ({"older-model"}, {"model", "older-model"}, OTHER_POINT),
        ({"model", "older-model"}, {"older-model"}, OTHER_POINT),
        ({"model"}, {"older-model"}, None),
        ({"unknown"}, {"unknown"}, None),
        (set(), {"model"}, None),
    ],
)
def test_the_first_model_that_both_sides_have_is_the_one_compared_by(
    reference: set[str], probe: set[str], point: OperatingPoint | None
) -> None:
    assert POLICY.point_for(reference, probe) == point
