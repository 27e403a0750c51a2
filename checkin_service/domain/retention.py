"""How long each kind of data is kept, from when on that is counted, and why: the whole policy, as data.

`docs/retention.md` shows it, with what is kept for good; `purge` carries it out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

# Changed with any period or beginning below: a purge's receipt names the policy that it carried out.
POLICY_VERSION = "2026-11"

# 行政复议法 art. 20: sixty days to ask for reconsideration; the rest is for the authority's decision to reach the firm.
OBJECTION = timedelta(days=90)
# 行政诉讼法 art. 46: six months to sue, of which the longest have 184 days; 网络安全法 art. 21: logs of six months.
LAWSUIT = timedelta(days=184)
# 个人信息保护法 art. 56: three years at least, leap days included.
RECORD = timedelta(days=1096)


class Kind(StrEnum):
    """In the order in which they are purged: what another kind's rows refer to comes after that kind."""

    DEFERRED_SUBMISSION = "deferred_submission"
    BURST_FRAME = "burst_frame"
    CHALLENGE = "challenge"
    IDEMPOTENCY_KEY = "idempotency_key"
    LAST_POSITION = "last_position"
    SENT_FIX = "sent_fix"
    EVIDENCE = "evidence"
    KEPT_PHOTOGRAPH = "kept_photograph"
    REFERENCE = "reference"
    EVIDENCE_OBJECT = "evidence_object"
    MANUAL_REQUEST = "manual_request"
    REVIEW_NOTE = "review_note"
    REFUSED_ATTEMPT = "refused_attempt"
    ATTEMPT_FIGURES = "attempt_figures"
    ANSWER = "answer"
    RECEIPT = "receipt"
    MEMBER_NAME = "member_name"
    CONSENT = "consent"
    PROCESSING_RECORD = "processing_record"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Rule:
    """`what` the kind is, the `period` it is kept for, `since` when that is counted, and `why` that long."""

    what: str
    period: timedelta
    since: str
    why: str


_OVER = "its task was over"
_OBJECTION = "an objection can be checked against it"
_LAWSUIT = "a court can be shown how it was judged"

POLICY: Mapping[Kind, Rule] = {
    Kind.DEFERRED_SUBMISSION: Rule(
        "what a submission holds that is judged later, encrypted",
        timedelta(minutes=10),
        "it was received, once it has a verdict",
        "it goes with the verdict",
    ),
    Kind.BURST_FRAME: Rule(
        "what a frame of a liveness challenge shows, encrypted",
        timedelta(minutes=10),
        "its challenge expired",
        "whoever was judging with it has ended; most go with the verdict",
    ),
    Kind.CHALLENGE: Rule(
        "one-time challenges; until the verdict also, encrypted, what WeChat is asked about",
        timedelta(days=1),
        "they expired",
        "nothing can use them any more",
    ),
    Kind.IDEMPOTENCY_KEY: Rule(
        "keys of calls with their answers", timedelta(days=1), "the call", "as long as a call may be repeated"
    ),
    Kind.LAST_POSITION: Rule(
        "where a person was located last",
        timedelta(days=1),
        "it was received",
        "after that no journey is impossible",
    ),
    Kind.SENT_FIX: Rule(
        "keyed digests of exact coordinates",
        timedelta(days=90),
        "they were last sent",
        "copied positions come within one round",
    ),
    Kind.EVIDENCE: Rule(
        "selfies of check-ins that were accepted or went to people, encrypted, and where the latter were taken",
        OBJECTION,
        _OVER,
        _OBJECTION,
    ),
    Kind.KEPT_PHOTOGRAPH: Rule(
        "encrypted features that tell an old selfie again", OBJECTION, _OVER, "as the selfie itself"
    ),
    Kind.REFERENCE: Rule(
        "references, their templates and the key that opens them",
        timedelta(days=90),
        "the enrolment, or the end of the last task that names the person, whichever is later",
        "a next round follows within it; then the person is enrolled anew",
    ),
    Kind.EVIDENCE_OBJECT: Rule(
        "objects of the evidence store that no row names",
        timedelta(hours=1),
        "they were put there",
        "a verdict on its way names it within a minute; unreadable without the row",
    ),
    Kind.MANUAL_REQUEST: Rule(
        "reason and position of a manual request; that it was made stays", OBJECTION, _OVER, _OBJECTION
    ),
    Kind.REVIEW_NOTE: Rule(
        "a reviewer's note; the decision stays", LAWSUIT, _OVER, "a court can be shown the grounds"
    ),
    Kind.REFUSED_ATTEMPT: Rule("refused attempts with all their figures", LAWSUIT, _OVER, _LAWSUIT),
    Kind.ATTEMPT_FIGURES: Rule(
        "distances, scores, device and signals of other attempts; that they were made stays",
        LAWSUIT,
        _OVER,
        _LAWSUIT,
    ),
    Kind.ANSWER: Rule("the place in a check-in's stored answer", LAWSUIT, _OVER, "as the attempt"),
    Kind.RECEIPT: Rule("receipts of check-ins without an attempt", LAWSUIT, _OVER, "as the attempt"),
    Kind.MEMBER_NAME: Rule("masked names on the roster", LAWSUIT, _OVER, "who it was can be told to a court"),
    Kind.CONSENT: Rule("withdrawn consents", RECORD, "the withdrawal", "as the processing record"),
    Kind.PROCESSING_RECORD: Rule(
        "enrolment, consent, withdrawal and erasure under a pseudonym",
        RECORD,
        "the entry",
        "个人信息保护法 art. 56: three years",
    ),
    Kind.AUDIT: Rule(
        "who commanded, decided, looked at or exported what",
        RECORD,
        "the entry",
        "part of the processing record; 网络安全法 art. 21 asks for six months",
    ),
}

# What every running service clears in passing, because it is too short for a nightly purge.
SWEPT = (Kind.BURST_FRAME, Kind.CHALLENGE, Kind.IDEMPOTENCY_KEY, Kind.LAST_POSITION)
