"""What a person is told by code: closed lists. Tests compare them with `openapi.yaml` and `docs/reasons.md`."""

from collections.abc import Iterable
from enum import StrEnum


class Reason(StrEnum):
    """Why a check-in was refused, doubted or explained, in the order in which reasons are reported."""

    TASK_NOT_OPEN = "task_not_open"
    WINDOW_NOT_OPEN = "window_not_open"
    WINDOW_CLOSED = "window_closed"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    POSITION_MISSING = "position_missing"
    POSITION_IMPLAUSIBLE = "position_implausible"
    POSITION_UNCERTAIN = "position_uncertain"
    OUTSIDE_GEOFENCE = "outside_geofence"
    NOT_ENROLLED = "not_enrolled"
    NO_FACE = "no_face"
    MULTIPLE_FACES = "multiple_faces"
    POOR_QUALITY = "poor_quality"
    NON_MATCH = "non_match"

    PRESENTATION_ATTACK = "presentation_attack"
    DUPLICATE_PHOTO = "duplicate_photo"
    LOOK_ALIKE = "look_alike"

    ALREADY_CHECKED_IN = "already_checked_in"
    POSITION_FRAME_SUSPECT = "position_frame_suspect"


DOUBTFUL = frozenset({Reason.PRESENTATION_ATTACK, Reason.DUPLICATE_PHOTO, Reason.LOOK_ALIKE})
INFORMING = frozenset({Reason.ALREADY_CHECKED_IN, Reason.POSITION_FRAME_SUSPECT})
REFUSING = frozenset(Reason) - DOUBTFUL - INFORMING

# An attempt with one of these uses up one of the day's attempts: the person could have done better by being
# honest or by being there. What the phone or the light did wrong is not held against anybody.
COUNTED = frozenset(
    {Reason.OUTSIDE_GEOFENCE, Reason.NON_MATCH, Reason.PRESENTATION_ATTACK, Reason.DUPLICATE_PHOTO}
)


def in_order(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    """The reasons in the enum's order, each once.

    >>> in_order([Reason.POSITION_FRAME_SUSPECT, Reason.OUTSIDE_GEOFENCE, Reason.OUTSIDE_GEOFENCE])
    (<Reason.OUTSIDE_GEOFENCE: 'outside_geofence'>, <Reason.POSITION_FRAME_SUSPECT: 'position_frame_suspect'>)
    """
    given = frozenset(reasons)
    return tuple(reason for reason in Reason if reason in given)


class PhotoWarning(StrEnum):
    """What could be better about a reference photograph that serves, in the order in which warnings are given."""

    SAME_PHOTO = "same_photo"
    UNLIKE_OTHERS = "unlike_others"


class NotEnrolled(StrEnum):
    """Why a person of an enrolment list is left out, beside what the call for one person refuses."""

    FILE_MISSING = "file_missing"
    FILE_UNUSABLE = "file_unusable"
    TAKEN_BACK = "taken_back"


class NextStep(StrEnum):
    """What a roster member should do next about one task."""

    GIVE_CONSENT = "give_consent"
    WAIT_FOR_REFERENCE = "wait_for_reference"
    WAIT_FOR_OPENING = "wait_for_opening"
    CHECK_IN = "check_in"
    NOTHING = "nothing"
    ASK_MANUALLY = "ask_manually"


class Missing(StrEnum):
    """What keeps a roster member from being accepted, the first that holds."""

    IN_REVIEW = "in_review"
    REFERENCE_MISSING = "reference_missing"
    CONSENT_MISSING = "consent_missing"
    REVOKED = "revoked"
    REFUSED_SO_FAR = "refused_so_far"
    NOT_STARTED = "not_started"


class Doubt(StrEnum):
    """What is to be looked at before a task's first day, in the order in which it is told."""

    REFERENCE_MISSING = "reference_missing"
    REFERENCE_UNUSABLE = "reference_unusable"
    REFERENCE_OF_ANOTHER_MODEL = "reference_of_another_model"
    SINGLE_PHOTOGRAPH = "single_photograph"
    FENCE_NARROW = "fence_narrow"
    FENCE_WIDE = "fence_wide"
    FENCE_BUFFER_WIDE = "fence_buffer_wide"
    FENCE_SCATTERED = "fence_scattered"
    FENCE_ELSEWHERE = "fence_elsewhere"
    SAME_PHOTOGRAPH = "same_photograph"
    ALIKE = "alike"
