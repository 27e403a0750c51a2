"""What makes a submission worth a second look: shown to reviewers and platform, never a reason of an outcome.

Every signal has honest explanations; how often honest phones cause it in a simulation stands in docs/signals.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import asin, cos, radians, sin, sqrt
from typing import Protocol

# WeChat repeats a cached fix, so that fewer or closer ones may well be the same one (domain.md).
STEADY_FIXES = 5
STEADY_SPAN = timedelta(seconds=10)

# 0.1 m: finer than the noise of any phone, coarser than rounding to six decimals twice (domain.md).
CENTRE_DEG = 1e-6

# Whole metres that honest phones claim over and over, as seen on them; no maker documents any.
USUAL_CONSTANTS_M: Mapping[str, frozenset[float]] = {
    "ios": frozenset({5.0, 10.0, 65.0}),
    "android": frozenset({20.0, 30.0}),
}
# A fix that claims to be worse is not usable (domain.md), so nobody gains by making it up.
WORST_CLAIM_M = 100.0

# 360 km/h: the fastest trains run at 350.
GROUND_MPS = 100.0
# 900 km/h in the air, and half an hour at least to taxi, climb and descend.
AIR_MPS = 250.0
TAXI_AND_CLIMB_S = 1800.0
# A usable fix is up to 60 s old and an upload takes up to 64 s, both on the earlier attempt at worst: somebody on the
# fastest train is never reported.
TIMING_S = 124.0
# After that no journey on Earth is impossible (half its circumference takes 22.7 h), so an earlier position need not
# be kept for longer.
POSITION_OF_USE = timedelta(hours=24)

# A grid of five decimals is 1 m wide: colleagues in one building meet on it by chance.
DISTINCTIVE_DECIMALS = 6
# A pair is an older person and whoever lends the phone, whose cached fix then serves both.
SEVERAL_PERSONS = 3

# A selfie arrives within the 180 s of its challenge; the rest is a clock that was set by hand.
CLOCK = timedelta(minutes=10)

# The longest holiday published so far has nine days off, and the platform's clerk a working day after it.
REGISTRATION = timedelta(days=10)

_EARTH_RADIUS_M = 6_371_000.0


class Signal(StrEnum):
    """In the order in which they are shown."""

    ZERO_VARIANCE = "zero_variance"
    FENCE_CENTRE = "fence_centre"
    ROUND_ACCURACY = "round_accuracy"
    IMPOSSIBLE_SPEED = "impossible_speed"
    SHARED_FIX = "shared_fix"
    SHARED_DEVICE = "shared_device"
    SEVERAL_ENTERPRISES = "several_enterprises"
    FRAME_SUSPECT = "frame_suspect"
    CLOCK_FAR_OFF = "clock_far_off"
    REGISTERED_LATE = "registered_late"


Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Finding:
    """A signal and the numbers behind it for whoever looks; never a coordinate."""

    code: Signal
    figures: Figures


class SentFix(Protocol):
    """What is read of a fix as it was sent (`geofence.Fix`)."""

    @property
    def lon(self) -> float: ...
    @property
    def lat(self) -> float: ...
    @property
    def accuracy_m(self) -> float | None: ...
    @property
    def at(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class LocatedAttempt:
    """Where an attempt was located, in WGS-84 degrees, and when it had arrived."""

    lon: float
    lat: float
    received_at: datetime


@dataclass(frozen=True, slots=True)
class SignalFacts:
    """What the signals of one submission are found from. Times are aware.

    `fixes` are those that can be a position at all, usable or not, and `fence_centre` is (lon, lat), both in the
    submission's frame. `previous` is the person's last located attempt on whatever task. `others_with_fix` counts the
    persons but this one who sent any of `distinctive_places(fixes)`, `others_with_device` those who used its
    device_id, both within 90 days; `enterprises` those in whose live tasks the person is, this one included.
    """

    received_at: datetime
    captured_at: datetime
    platform: str
    fixes: Sequence[SentFix]
    fence_centre: tuple[float, float]
    frame_suspect: bool
    position: tuple[float, float] | None
    previous: LocatedAttempt | None
    others_with_fix: int
    others_with_device: int
    enterprises: int
    approved_at: datetime
    registered_at: datetime


def signals(facts: SignalFacts) -> tuple[Finding, ...]:
    """Whatever is found, in the order of `Signal`, each at most once."""
    found = ((code, find(facts)) for code, find in _FINDERS.items())
    return tuple(Finding(code, figures) for code, figures in found if figures is not None)


def distinctive_places(fixes: Sequence[SentFix]) -> frozenset[tuple[float, float]]:
    """The (lon, lat) that two phones do not both report by chance, each once.

    >>> from types import SimpleNamespace as Sent
    >>> distinctive_places([Sent(lon=114.06, lat=22.54471), Sent(lon=114.060013, lat=22.54471)])
    frozenset({(114.060013, 22.54471)})
    """
    return frozenset(
        (fix.lon, fix.lat) for fix in fixes if _is_distinctive(fix.lon) or _is_distinctive(fix.lat)
    )


def least_journey_s(distance_m: float) -> float:
    """The shortest time that anybody needs for a distance, by train or by plane.

    >>> [round(least_journey_s(km * 1000.0) / 60) for km in (10, 105, 1950)]
    [2, 18, 160]
    """
    return min(distance_m / GROUND_MPS, TAXI_AND_CLIMB_S + distance_m / AIR_MPS)


# --- One function a signal: its figures, or None ---


def _zero_variance(facts: SignalFacts) -> Figures | None:
    if not _is_steady(facts.fixes) or _places(facts.fixes) > 1:
        return None
    return {"fixes": len(facts.fixes), "span_s": _span(facts.fixes).total_seconds()}


def _fence_centre(facts: SignalFacts) -> Figures | None:
    hits = sum(_is_at(fix, facts.fence_centre) for fix in facts.fixes)
    return {"fixes": hits, "of": len(facts.fixes)} if hits else None


def _round_accuracy(facts: SignalFacts) -> Figures | None:
    """Only while the position moves: a repeated fix repeats its claim, and that is `zero_variance`."""
    claims = {fix.accuracy_m for fix in facts.fixes}
    claim = claims.pop() if len(claims) == 1 else None
    if claim is None or not _is_steady(facts.fixes) or _places(facts.fixes) == 1:
        return None
    if not (0 < claim <= WORST_CLAIM_M and claim.is_integer()) or claim in _usual_constants_m(facts.platform):
        return None
    return {"accuracy_m": claim, "fixes": len(facts.fixes)}


def _impossible_speed(facts: SignalFacts) -> Figures | None:
    if facts.previous is None or facts.position is None:
        return None
    elapsed_s = abs((facts.received_at - facts.previous.received_at).total_seconds())
    distance_m = _distance_m((facts.previous.lon, facts.previous.lat), facts.position)
    if least_journey_s(distance_m) <= elapsed_s + TIMING_S:
        return None
    return {"distance_m": round(distance_m), "elapsed_s": elapsed_s}


def _shared_fix(facts: SignalFacts) -> Figures | None:
    return _persons(facts.others_with_fix)


def _shared_device(facts: SignalFacts) -> Figures | None:
    return _persons(facts.others_with_device)


def _several_enterprises(facts: SignalFacts) -> Figures | None:
    return {"enterprises": facts.enterprises} if facts.enterprises > 1 else None


def _frame_suspect(facts: SignalFacts) -> Figures | None:
    return {} if facts.frame_suspect else None


def _clock_far_off(facts: SignalFacts) -> Figures | None:
    """`behind_s` is negative where the phone's clock is ahead."""
    behind = facts.received_at - facts.captured_at
    return {"behind_s": behind.total_seconds()} if abs(behind) > CLOCK else None


def _registered_late(facts: SignalFacts) -> Figures | None:
    lag = facts.registered_at - facts.approved_at
    return {"days": round(lag / timedelta(days=1), 1)} if lag > REGISTRATION else None


_FINDERS: Mapping[Signal, Callable[[SignalFacts], Figures | None]] = {
    Signal.ZERO_VARIANCE: _zero_variance,
    Signal.FENCE_CENTRE: _fence_centre,
    Signal.ROUND_ACCURACY: _round_accuracy,
    Signal.IMPOSSIBLE_SPEED: _impossible_speed,
    Signal.SHARED_FIX: _shared_fix,
    Signal.SHARED_DEVICE: _shared_device,
    Signal.SEVERAL_ENTERPRISES: _several_enterprises,
    Signal.FRAME_SUSPECT: _frame_suspect,
    Signal.CLOCK_FAR_OFF: _clock_far_off,
    Signal.REGISTERED_LATE: _registered_late,
}


# --- What they measure ---


def _is_steady(fixes: Sequence[SentFix]) -> bool:
    return len(fixes) >= STEADY_FIXES and _span(fixes) >= STEADY_SPAN


def _span(fixes: Sequence[SentFix]) -> timedelta:
    return max(fix.at for fix in fixes) - min(fix.at for fix in fixes)


def _places(fixes: Sequence[SentFix]) -> int:
    return len({(fix.lon, fix.lat) for fix in fixes})


def _is_at(fix: SentFix, centre: tuple[float, float]) -> bool:
    # Rounded, so that the limit itself is within it: 114.000001 - 114 is a little more than 1e-6.
    off_deg = max(abs(fix.lon - centre[0]), abs(fix.lat - centre[1]))
    return round(off_deg, 9) <= CENTRE_DEG


def _is_distinctive(deg: float) -> bool:
    return deg != round(deg, DISTINCTIVE_DECIMALS - 1)


def _usual_constants_m(platform: str) -> frozenset[float]:
    """A platform of which none was seen may do what any other does."""
    return USUAL_CONSTANTS_M.get(platform) or frozenset().union(*USUAL_CONSTANTS_M.values())


def _persons(others: int) -> Figures | None:
    return {"persons": others + 1} if others + 1 >= SEVERAL_PERSONS else None


def _distance_m(a: tuple[float, float], b: tuple[float, float]) -> float:
    """By haversine on a sphere: 0.5 % off, which is nothing against a speed's limit."""
    (lam_a, phi_a), (lam_b, phi_b) = [(radians(lon), radians(lat)) for lon, lat in (a, b)]
    h = sin((phi_b - phi_a) / 2) ** 2 + cos(phi_a) * cos(phi_b) * sin((lam_b - lam_a) / 2) ** 2
    return 2 * _EARTH_RADIUS_M * asin(min(1.0, sqrt(h)))
