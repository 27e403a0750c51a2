"""The closed lists of codes in a problem answer (RFC 9457): `code` with its status, and `errors[].code`."""

from enum import StrEnum


class ErrorCode(StrEnum):
    """`code` of a problem, in the order of their statuses.

    >>> ErrorCode("stale_revision").status
    412
    """

    MALFORMED = "malformed"
    IDEMPOTENCY_KEY_REQUIRED = "idempotency_key_required"
    UNAUTHENTICATED = "unauthenticated"
    SCOPE_MISSING = "scope_missing"
    CONSENT_REQUIRED = "consent_required"
    NOT_FOUND = "not_found"
    TOO_SLOW = "too_slow"
    TASK_CONFLICT = "task_conflict"
    ROUND_EXISTS = "round_exists"
    STATE_CONFLICT = "state_conflict"
    DEADLINE_REQUIRED = "deadline_required"
    CHALLENGE_INVALID = "challenge_invalid"
    IDEMPOTENCY_IN_PROGRESS = "idempotency_in_progress"
    NOTICE_OUTDATED = "notice_outdated"
    FEED_EPOCH_CHANGED = "feed_epoch_changed"
    STALE_REVISION = "stale_revision"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    INVALID = "invalid"
    IMAGE_UNREADABLE = "image_unreadable"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"

    @property
    def status(self) -> int:
        """The HTTP status that goes with the code."""
        return _STATUS[self]


_STATUS = {
    ErrorCode.MALFORMED: 400,
    ErrorCode.IDEMPOTENCY_KEY_REQUIRED: 400,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.SCOPE_MISSING: 403,
    ErrorCode.CONSENT_REQUIRED: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.TOO_SLOW: 408,
    ErrorCode.TASK_CONFLICT: 409,
    ErrorCode.ROUND_EXISTS: 409,
    ErrorCode.STATE_CONFLICT: 409,
    ErrorCode.DEADLINE_REQUIRED: 409,
    ErrorCode.CHALLENGE_INVALID: 409,
    ErrorCode.IDEMPOTENCY_IN_PROGRESS: 409,
    ErrorCode.NOTICE_OUTDATED: 409,
    ErrorCode.FEED_EPOCH_CHANGED: 410,
    ErrorCode.STALE_REVISION: 412,
    ErrorCode.PAYLOAD_TOO_LARGE: 413,
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: 415,
    ErrorCode.INVALID: 422,
    ErrorCode.IMAGE_UNREADABLE: 422,
    ErrorCode.IDEMPOTENCY_KEY_REUSED: 422,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.UNAVAILABLE: 503,
}

# The caller is told when to come back: these always carry the header Retry-After.
RETRY_LATER = frozenset({ErrorCode.IDEMPOTENCY_IN_PROGRESS, ErrorCode.RATE_LIMITED, ErrorCode.UNAVAILABLE})


class FaultCode(StrEnum):
    """`errors[].code`: what is wrong with one field. The rules behind them stand in domain/ and geofence/."""

    # shape
    MISSING = "missing"
    UNKNOWN_FIELD = "unknown_field"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    BAD_FORMAT = "bad_format"
    NOT_ALLOWED_VALUE = "not_allowed_value"
    NOT_FINITE = "not_finite"
    DUPLICATE_FIELD = "duplicate_field"
    NOT_A_TIME = "not_a_time"
    # roster
    QUOTA_TOTAL = "quota_total"
    QUOTA_REGISTERED = "quota_registered"
    QUOTA_TITLED = "quota_titled"
    TECHNICAL_LEAD_MISSING = "technical_lead_missing"
    PERSON_TWICE = "person_twice"
    # deadline, rectification, approval, commands
    DEADLINE_NOT_DAY_END = "deadline_not_day_end"
    DEADLINE_REQUIRED = "deadline_required"
    DEADLINE_REFUSED = "deadline_refused"
    DEADLINE_TOO_EARLY = "deadline_too_early"
    DEADLINE_NOT_AFTER_APPROVAL = "deadline_not_after_approval"
    RECTIFIES_REQUIRED = "rectifies_required"
    RECTIFIES_REFUSED = "rectifies_refused"
    RECTIFIES_UNKNOWN = "rectifies_unknown"
    RECTIFIES_WRONG_ENTERPRISE = "rectifies_wrong_enterprise"
    RECTIFIES_WRONG_STATE = "rectifies_wrong_state"
    RECTIFIES_WRONG_ROUND = "rectifies_wrong_round"
    APPROVED_AT_IN_FUTURE = "approved_at_in_future"
    APPROVED_AT_TOO_EARLY = "approved_at_too_early"
    EFFECTIVE_AT_IN_PAST = "effective_at_in_past"
    # statistics
    BAD_PERIOD = "bad_period"
    # enterprise
    USCC_LENGTH = "uscc_length"
    USCC_CHARACTER = "uscc_character"
    USCC_CHECK_DIGIT = "uscc_check_digit"
    # fence: `geofence.FaultCode`
    FENCE_TYPE = "fence_type"
    FENCE_UNKNOWN_MEMBER = "fence_unknown_member"
    FENCE_COORDINATES = "fence_coordinates"
    FENCE_NOT_FINITE = "fence_not_finite"
    FENCE_TOO_MANY_POINTS = "fence_too_many_points"
    FENCE_RING_SHORT = "fence_ring_short"
    FENCE_RING_OPEN = "fence_ring_open"
    FENCE_SELF_INTERSECTION = "fence_self_intersection"
    FENCE_HOLE_OUTSIDE = "fence_hole_outside"
    FENCE_OVERLAP = "fence_overlap"
    FENCE_AREA = "fence_area"
    FENCE_RADIUS = "fence_radius"
    FENCE_OUTSIDE_BOX = "fence_outside_box"
    FENCE_SWAPPED = "fence_swapped"
    # photographs of an enrolment
    NO_FACE = "no_face"
    MULTIPLE_FACES = "multiple_faces"
    POOR_QUALITY = "poor_quality"
    TOO_SMALL = "too_small"
    TOO_DARK = "too_dark"
    TOO_BRIGHT = "too_bright"
    BLURRED = "blurred"
    TURNED_AWAY = "turned_away"
    CUT_OFF = "cut_off"
    COVERED = "covered"
