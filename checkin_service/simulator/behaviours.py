"""What each kind of person does, and what the service must answer: the table that every simulation runs by."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from checkin_service.domain.decision import Outcome
from checkin_service.domain.reasons import Reason
from checkin_service.simulator.photographs import Picture
from checkin_service.simulator.positions import Reading


class Sending(Enum):
    """What is sent at the same time: each a challenge, by number, and a key, by number."""

    ONCE = ((0, 0),)
    DOUBLE_TAP = ((0, 0), (0, 0))
    TWO_KEYS = ((0, 0), (0, 1))
    TWO_CHALLENGES = ((0, 0), (1, 1))


class Withdrawal(Enum):
    """When consent is withdrawn."""

    BEFORE_CHALLENGE = "before"
    AFTER_CHALLENGE = "after"


def judged(outcome: Outcome, *reasons: Reason) -> str:
    """The answer to a submission that got a verdict, in one line.

    >>> judged(Outcome.REJECTED, Reason.OUTSIDE_GEOFENCE, Reason.POSITION_FRAME_SUSPECT)
    'rejected outside_geofence position_frame_suspect'
    """
    return " ".join((outcome, *reasons))


def refused(status: int, code: str) -> str:
    """A problem in one line."""
    return f"{status} {code}"


def _rejected(*reasons: Reason) -> tuple[str]:
    return (judged(Outcome.REJECTED, *reasons),)


def _held(*reasons: Reason) -> tuple[str]:
    return (judged(Outcome.REVIEW, *reasons),)


ACCEPTED = judged(Outcome.ACCEPTED)
WINDOW_CLOSED = judged(Outcome.REJECTED, Reason.WINDOW_CLOSED)
_REPEATED = judged(Outcome.ACCEPTED, Reason.ALREADY_CHECKED_IN)
_NO_CONSENT, _CHALLENGE = refused(403, "consent_required"), refused(409, "challenge_invalid")
_IN_THE_MIDDLE = Reading()


@dataclass(frozen=True, slots=True)
class Step:
    """One check-in from challenge to answer.

    `expects`: the answers in any order, one for each that is sent, or the one that the challenge gets; `otherwise` are
    as right, where a picture decides. `cut`: the connection breaks after the first sending, and the phone sends it all
    again. `waits` until the challenge has expired; `reuses` the last step's. `consents`: gives consent again before
    anything else.
    """

    expects: tuple[str, ...] = (ACCEPTED,)
    reading: Reading = _IN_THE_MIDDLE
    picture: Picture = Picture.OWN
    sending: Sending = Sending.ONCE
    cut: bool = False
    waits: bool = False
    reuses: bool = False
    withdraws: Withdrawal | None = None
    consents: bool = False
    otherwise: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a person does, step by step.

    `share`: how many of them for one of each other; none come by themselves with 0, only by name. `late`: on a task
    whose window is long over. `rushes`: comes at the very end, at the same instant as all others who do.
    """

    name: str
    steps: tuple[Step, ...]
    share: int = 1
    consents: bool = True
    enrolled: bool = True
    late: bool = False
    rushes: bool = False


_FAR = Step(_rejected(Reason.OUTSIDE_GEOFENCE), Reading(beyond_m=2000))
_EDGE = Step(_rejected(Reason.POSITION_UNCERTAIN), Reading(beyond_m=30, accuracy_m=40, noise_m=20))
_MISLABELLED = Step(
    _rejected(Reason.OUTSIDE_GEOFENCE, Reason.POSITION_FRAME_SUSPECT), Reading(mislabelled=True, noise_m=30)
)
_ROUGH = Step(_rejected(Reason.POSITION_UNCERTAIN), Reading(accuracy_m=3000, reduced=True))
_EXCHANGED = Step(_rejected(Reason.POSITION_IMPLAUSIBLE), Reading(exchanged=True))
_DIM, _UNSHARP = (
    Step(_rejected(Reason.POOR_QUALITY), picture=picture, otherwise=_rejected(Reason.NO_FACE))
    for picture in (Picture.DARK, Picture.BLURRED)
)
_REPLAY = Step(_held(Reason.DUPLICATE_PHOTO), picture=Picture.REPLAY)
_GOOD = Step()

_TABLE = (
    Behaviour("honest", (_GOOD,), share=6),
    Behaviour("rushes", (_GOOD,), share=3, rushes=True),
    Behaviour("cached_fix", (Step(reading=Reading(cached=True)),)),
    Behaviour("far_then_inside", (_FAR, _GOOD)),
    Behaviour("edge_then_inside", (_EDGE, _EDGE, _GOOD)),
    Behaviour("edge_for_good", (_EDGE, _EDGE, replace(_EDGE, expects=_held(Reason.POSITION_UNCERTAIN)))),
    Behaviour("spoofer", (Step(reading=Reading(still=True, fixes=6, accuracy_m=10)),)),
    Behaviour("wrong_frame", (_MISLABELLED, _GOOD)),
    Behaviour("exchanged_axes", (_EXCHANGED, _GOOD)),
    Behaviour("no_position", (Step(_rejected(Reason.POSITION_MISSING), Reading(fixes=0)), _GOOD)),
    Behaviour("stale_position", (Step(_rejected(Reason.POSITION_UNCERTAIN), Reading(age_s=90)),)),
    Behaviour("rough_position", (_ROUGH, _GOOD)),
    Behaviour("colleagues_face", (Step(_rejected(Reason.NON_MATCH), picture=Picture.COLLEAGUES), _GOOD)),
    Behaviour("no_face", (Step(_rejected(Reason.NO_FACE), picture=Picture.NOBODY), _GOOD)),
    Behaviour("bad_light", (_DIM, _GOOD)),
    Behaviour("blurred", (_UNSHARP, _GOOD)),
    Behaviour("replay", (_REPLAY,)),
    Behaviour("replay_then_own", (_REPLAY, _GOOD)),
    Behaviour("cut_off", (Step(cut=True),)),
    Behaviour("double_tap", (Step((ACCEPTED, ACCEPTED), sending=Sending.DOUBLE_TAP),)),
    Behaviour("two_keys", (Step((_CHALLENGE, ACCEPTED), sending=Sending.TWO_KEYS),)),
    Behaviour("two_challenges", (Step((ACCEPTED, _REPEATED), sending=Sending.TWO_CHALLENGES),)),
    Behaviour("again", (_GOOD, Step((_REPEATED,)))),
    Behaviour("used_challenge", (_FAR, Step((_CHALLENGE,), reuses=True))),
    Behaviour("expired_challenge", (Step((_CHALLENGE,), waits=True),), share=0),
    Behaviour("stubborn", (_FAR,) * 10 + (Step(_rejected(Reason.TOO_MANY_ATTEMPTS)),)),
    Behaviour("not_enrolled", (Step(_rejected(Reason.NOT_ENROLLED)),), enrolled=False),
    Behaviour("no_consent", (Step((_NO_CONSENT,)),), consents=False),
    Behaviour(
        "withdraws",
        (
            Step((_NO_CONSENT,), withdraws=Withdrawal.AFTER_CHALLENGE),
            Step(_rejected(Reason.NOT_ENROLLED), consents=True),
        ),
    ),
    Behaviour("withdraws_later", (_GOOD, Step((_NO_CONSENT,), withdraws=Withdrawal.BEFORE_CHALLENGE))),
    Behaviour("late", (Step((WINDOW_CLOSED,)),), late=True),
)
BEHAVIOURS: Mapping[str, Behaviour] = {behaviour.name: behaviour for behaviour in _TABLE}
