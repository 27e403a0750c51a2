"""All rules of a check-in, as one pure function from values to a decision.

Stages run from cheap to intrusive. The first that fails stops the later ones, and reports all its reasons.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from checkin_service.domain.reasons import COUNTED, DOUBTFUL, REFUSING, Reason, in_order

# What a challenge's liveness test showed; any other code is what it did not.
PASSED = "passed"
OTHER_FACE = "other_face"
# Nobody knows, and it is not the person's fault: a provider is away, or can't know them.
UNKNOWN = "unknown"


class Outcome(StrEnum):
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A named threshold on one model's score (higher is more alike) and the group and rate it stands for.

    `margin`: another member of the roster who scores no more than this below the person is a look-alike; None for a
    model whose scores can't tell.
    """

    name: str
    model_id: str
    threshold: float
    margin: float | None = None


UNCERTAIN_ALONE = 2
"""So many attempts in 24 hours end at a place that is uncertain; the next goes on to people."""

LEAST_LIVE = 0.5
"""Below this passive score, 0 an attack to 1 live, a selfie is doubted: the authors' own threshold. How many honest
people it doubts is not known for any real population, so it only ever doubts."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`operating_points`: one a model, in the order in which the engine's models are preferred."""

    attempts_per_day: int
    operating_points: Sequence[OperatingPoint]
    least_live: float = LEAST_LIVE

    def point_for(self, *sides: Collection[str]) -> OperatingPoint | None:
        """What a comparison is held to: the first whose model has a template on every side, each given by its model
        ids. A score is never one across models.

        >>> new, old = OperatingPoint("a", "new", 0.4), OperatingPoint("a", "old", 0.6)
        >>> Policy(10, [new, old]).point_for({"old"}, {"new", "old"}) == old
        True
        >>> Policy(10, [new, old]).point_for({"unknown"}) is None
        True
        """
        return next((p for p in self.operating_points if all(p.model_id in side for side in sides)), None)


@dataclass(frozen=True, slots=True)
class Case:
    """The facts about task and member that a submission is judged by, as of one reading of the database.

    `suspended`: at received_at. `uncertain_before`: attempts of the 24 hours before that may or may not have been in
    the place. `models` are those that the person's reference has a template of; empty without a reference.
    """

    received_at: datetime
    voided: bool
    suspended: bool
    opens_at: datetime
    closes_at: datetime
    provisional: bool
    abandoned: bool
    counted_today: int
    uncertain_before: int
    models: frozenset[str]


class Position(Protocol):
    """What the decision reads of a located position (`geofence.Location`)."""

    @property
    def zone(self) -> str: ...
    @property
    def given(self) -> int: ...
    @property
    def usable(self) -> int: ...
    @property
    def implausible(self) -> int: ...
    @property
    def frame_suspect(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Comparison:
    """The probe's score against the reference, and the point that it is held to."""

    score: float
    point: OperatingPoint

    @property
    def matched(self) -> bool:
        return self.score >= self.point.threshold


@dataclass(frozen=True, slots=True)
class Rivals:
    """The probe's best score against the other members of the roster; None when none could be compared."""

    best: float | None


@dataclass(frozen=True, slots=True)
class Earlier:
    """Whether the photograph is one of the person's earlier ones again, and how near any of them comes: the least
    distance and the fewest differing bits of a hash, not always of the same one; None with nothing to compare."""

    is_copy: bool
    distance: float | None
    hash_bits: int | None


@dataclass(frozen=True, slots=True)
class FaceEvidence:
    """What the face engine found: how many comparable faces, faults of quality, and how the one face compares.

    `rivals` are those by the comparison's model, None while nobody has looked. `live` is the passive model's score,
    0 an attack to 1 live; None where none is configured. `liveness` is what the challenge's test showed; None where it
    asked for nothing.
    """

    faces: int
    faults: Sequence[str]
    comparison: Comparison | None = None
    earlier: Earlier | None = None
    rivals: Rivals | None = None
    live: float | None = None
    liveness: str | None = None

    @property
    def wants_rivals(self) -> bool:
        """Only a face that matches, by a model that can tell: below the threshold it does not matter whom else it
        resembles."""
        compared = self.comparison
        return compared is not None and compared.matched and compared.point.margin is not None


@dataclass(frozen=True, slots=True)
class Decision:
    outcome: Outcome
    reasons: tuple[Reason, ...] = ()

    @property
    def counted(self) -> bool:
        """Whether it uses up one of the day's attempts."""
        return any(reason in COUNTED for reason in self.reasons)


def decide_admission(case: Case, policy: Policy) -> Decision | None:
    """The refusal by task, window or attempts left, which needs nothing personal; None when the person may go on."""
    used_up = case.counted_today >= policy.attempts_per_day
    reasons = _task_and_window(case) or ([Reason.TOO_MANY_ATTEMPTS] if used_up else [])
    return _decision(reasons) if reasons else None


def decide(case: Case, position: Position, face: FaceEvidence | None, policy: Policy) -> Decision | None:
    """The decision on an admitted submission; None when place and reference pass and the face is not analysed yet, or
    it matches and nobody has looked for look-alikes yet.

    A reference of which no model is known here is none: nothing could be compared with it. The status says so too,
    see `usecases/usable_references.py`.
    """
    enrolled = policy.point_for(case.models) is not None
    uncertain = _is_left_to_people(case, position)
    reasons = ([] if uncertain else _place(position)) or ([] if enrolled else [Reason.NOT_ENROLLED])
    if reasons:
        return _decision(reasons)
    if face is None:
        return None
    reasons = _image(face)
    if not reasons and face.wants_rivals and face.rivals is None:
        return None
    reasons = reasons or _comparison(face, policy)
    # Only a provisional window gets here late: held until the calendar is published, neither lost nor accepted.
    late = case.received_at >= case.closes_at
    held = [Reason.POSITION_UNCERTAIN] if uncertain else []
    return _decision(reasons, held=held, doubted=late or face.liveness == UNKNOWN)


def _task_and_window(case: Case) -> list[Reason]:
    late = case.received_at >= case.closes_at and not case.provisional
    found = {
        Reason.TASK_NOT_OPEN: case.voided or case.suspended,
        Reason.WINDOW_NOT_OPEN: case.received_at < case.opens_at,
        Reason.WINDOW_CLOSED: late or case.abandoned,
    }
    return [reason for reason, holds in found.items() if holds]


def _place(position: Position) -> list[Reason]:
    if position.given == 0:
        return [Reason.POSITION_MISSING]
    if position.zone == "unusable":
        return _unusable(position)
    if position.zone == "possible":
        return [Reason.POSITION_UNCERTAIN]
    if position.zone == "outside":
        suspect = [Reason.POSITION_FRAME_SUSPECT] if position.frame_suspect else []
        return [Reason.OUTSIDE_GEOFENCE, *suspect]
    return []


def _is_left_to_people(case: Case, position: Position) -> bool:
    """Who is at the edge for the third time in a day can't do better: the face is looked at, and people decide."""
    return position.zone == "possible" and case.uncertain_before >= UNCERTAIN_ALONE


def _unusable(position: Position) -> list[Reason]:
    """Implausible fixes are named as such; whatever else was unusable makes the position uncertain."""
    implausible = [Reason.POSITION_IMPLAUSIBLE] if position.implausible else []
    uncertain = [Reason.POSITION_UNCERTAIN] if position.given > position.implausible else []
    return [*implausible, *uncertain]


def _image(face: FaceEvidence) -> list[Reason]:
    if face.faces == 0:
        return [Reason.NO_FACE]
    if face.faces > 1:
        return [Reason.MULTIPLE_FACES]
    return [Reason.POOR_QUALITY] if face.faults else []


def _comparison(face: FaceEvidence, policy: Policy) -> list[Reason]:
    """What is against a good picture, refusing and doubtful: somebody else's face, a picture of a picture, an earlier
    photograph, a likeness. A score that is no number is never in its favour."""
    matched = face.comparison is not None and face.comparison.matched
    found = {
        Reason.NON_MATCH: not matched,
        Reason.PRESENTATION_ATTACK: _is_attack(face, policy),
        Reason.DUPLICATE_PHOTO: face.earlier is not None and face.earlier.is_copy,
        Reason.LOOK_ALIKE: _has_look_alike(face),
    }
    return [reason for reason, holds in found.items() if holds]


def _is_attack(face: FaceEvidence, policy: Policy) -> bool:
    looks_dead = face.live is not None and not face.live >= policy.least_live
    return looks_dead or face.liveness not in {None, PASSED, UNKNOWN}


def _has_look_alike(face: FaceEvidence) -> bool:
    best = face.rivals.best if face.rivals else None
    if best is None or not face.wants_rivals or face.comparison is None:
        return False
    return best >= face.comparison.score - (face.comparison.point.margin or 0)


def _decision(reasons: Sequence[Reason], held: Sequence[Reason] = (), *, doubted: bool = False) -> Decision:
    """`held`: refusing reasons that people may put aside; they count only when nothing else refuses."""
    if any(reason in REFUSING for reason in reasons):
        return Decision(Outcome.REJECTED, in_order(reasons))
    if held or doubted or any(reason in DOUBTFUL for reason in reasons):
        return Decision(Outcome.REVIEW, in_order([*held, *reasons]))
    return Decision(Outcome.ACCEPTED, in_order(reasons))
