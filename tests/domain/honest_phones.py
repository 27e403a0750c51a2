"""Honest persons with ordinary phones, and how often a signal is raised against them all the same.

A simulation, not a population: the shares below are guesses, meant to lie on the unkind side. What the phones do was
seen on phones or stands in the makers' documents; how many do it, nobody has counted. `python -m
tests.domain.honest_phones` prints the table of docs/signals.md.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import cos, exp, radians, sqrt, tau
from random import Random

from checkin_service.domain.signals import (
    LocatedAttempt,
    Signal,
    SignalFacts,
    distinctive_places,
    signals,
)
from face.evaluation.exact import exact_rate
from face.evaluation.rates import Rate
from geofence import CircleFence, Fix, Frame, Zone, from_wgs84, locate, r95_factor

SEED = 20261123
FIRMS = 400
FRAME = Frame.GCJ02
DEGREE_M = 111_195.0
APPROVED_AT = datetime(2026, 11, 3, 2, tzinfo=UTC)

NETWORK = 0.4  # of submissions: indoors, placed by Wi-Fi and cells
WIFI_POINT = 0.03  # of those: at one point for the whole building, as the provider's database has it
WIFI_ASTRAY = 0.004  # of those: at a router's former place, somewhere in the country
SAME_GEOCODER = 0.1  # of firms: that point is the very one that the platform drew its fence around
STUCK = 0.1  # of phones: seven fixes in ten repeat the one before, where others repeat one in seven
WHOLE_METRES = 0.12  # of Android and Harmony phones: older chips that round what they claim
HAND_SET_CLOCK = 0.03  # of phones, some minutes off
WRONG_DAY = 0.001  # of phones, hours or days off
CONSTANT = 0.4  # of phones: always claim the same when the network places them
BORROWED = 0.08  # of persons: check in by the phone of the colleague before them, one after the other
CACHED = 0.3  # of those: the first fix is the colleague's last one
TOO_EARLY = 0.4  # of persons: try before they have arrived
JOB_CHANGED = 0.01  # of persons: on the roster of another enterprise too
Point = tuple[float, float]


@dataclass(frozen=True)
class Submission:
    """What the signals see, and what the rates are counted by; `held_s` is 0 for a phone placed by GNSS."""

    facts: SignalFacts
    task: int
    person: str
    outside: bool
    held_s: float


@dataclass(frozen=True)
class Phone:
    """How one phone reports: for how long the network's answer holds, how many decimals it gives, its clock's error."""

    device_id: str
    platform: str
    repeats: float
    decimals: int
    whole_metres: bool
    constant_m: float | None
    holds_s: float
    clock: timedelta


@dataclass(frozen=True)
class Firm:
    """One task: where its address lies (WGS-84), how wide the fence is and how late the platform told of it."""

    task: int
    centre: Point
    radius_m: float
    building: Point
    wifi_point: Point
    registered_at: datetime
    persons: int


@dataclass(frozen=True)
class Visit:
    """One attempt: who, by which phone, truly where, placed by the network or by GNSS, when."""

    person: str
    phone: Phone
    place: Point
    network: bool
    at: datetime


def submissions(seed: int = SEED, firms: int = FIRMS) -> list[Submission]:
    """All attempts of all members of so many firms, with what the database would add of earlier ones."""
    random = Random(seed)
    return [made for task in range(firms) for made in _of_firm(random, _firm(random, task))]


# --- Firms, persons, phones ---


def moved(place: Point, east_m: float, north_m: float) -> Point:
    """(lon, lat) so many metres away; right to 1 % near Shenzhen, rougher across the country."""
    lon, lat = place
    return lon + east_m / (DEGREE_M * cos(radians(lat))), lat + north_m / DEGREE_M


def _astray(random: Random, place: Point, distance_m: float) -> Point:
    bearing = random.random() * tau
    return moved(place, distance_m * cos(bearing), distance_m * cos(bearing - tau / 4))


def _scattered(random: Random, place: Point, sigma_m: float) -> Point:
    return moved(place, random.gauss(0, sigma_m), random.gauss(0, sigma_m))


def _firm(random: Random, task: int) -> Firm:
    centre = (random.uniform(113.9, 114.3), random.uniform(22.5, 22.75))
    building = _scattered(random, centre, 15)
    return Firm(
        task,
        centre,
        radius_m=random.choice([60.0, 100.0, 150.0]),
        building=building,
        wifi_point=centre if random.random() < SAME_GEOCODER else _scattered(random, building, 10),
        registered_at=APPROVED_AT + _registration_lag(random),
        persons=min(200, 5 + round(random.lognormvariate(2.3, 0.9))),
    )


def _registration_lag(random: Random) -> timedelta:
    """At once; after a weekend; after a long holiday; after a failure that took somebody long to notice."""
    days = random.choices(
        [0.01, random.uniform(1, 4), random.uniform(7, 9.9), random.uniform(9, 25)], [85, 12, 2, 1]
    )
    return timedelta(days=days[0])


def _phone(random: Random, device_id: str) -> Phone:
    platform = random.choices(["android", "ios", "harmony"], [60, 30, 10])[0]
    # 15, 25 and 35 m: constants that the signal does not know as usual
    constants_m = [5.0, 10.0, 65.0, 35.0] if platform == "ios" else [20.0, 30.0, 25.0, 15.0]
    return Phone(
        device_id,
        platform,
        repeats=0.7 if random.random() < STUCK else 0.15,
        decimals=random.choices([5, 6, 14], [30, 40, 30])[0],
        whole_metres=platform != "ios" and random.random() < WHOLE_METRES,
        constant_m=random.choices(constants_m, [10, 10, 1, 1])[0] if random.random() < CONSTANT else None,
        holds_s=random.choice([3.0, 8.0, 20.0]),
        clock=_clock_error(random),
    )


def _clock_error(random: Random) -> timedelta:
    drawn = random.random()
    if drawn < WRONG_DAY:
        return timedelta(hours=random.choice([-8, -1, 1, 8, 24, 24 * 365]))
    return timedelta(seconds=random.gauss(0, 240 if drawn < WRONG_DAY + HAND_SET_CLOCK else 1))


# --- Where people are when they try ---


def _visits(random: Random, firm: Firm) -> Iterator[Visit]:
    phone, at = _phone(random, f"{firm.task}-0"), APPROVED_AT
    for n in range(firm.persons):
        person, borrowed = f"{firm.task}-{n}", n > 0 and random.random() < BORROWED
        phone = phone if borrowed else _phone(random, person)
        at = at + timedelta(seconds=90) if borrowed else APPROVED_AT + timedelta(days=random.uniform(0, 30))
        desk, network = _scattered(random, firm.building, 12), random.random() < NETWORK
        last = Visit(person, phone, desk, network, at)
        if not borrowed:
            yield from _earlier(random, last)
        yield last


def _earlier(random: Random, last: Visit) -> Iterator[Visit]:
    """An attempt on the way: in the next street, by car or metro, by fast train, or before a flight."""
    if random.random() >= TOO_EARLY:
        return
    way = random.choices(["walk", "drive", "train", "flight"], [70, 24, 5, 1])[0]
    before_s = random.expovariate(1 / 900) + 20
    speed_mps = {"walk": 1.3, "drive": random.uniform(5, 33), "train": random.uniform(50, 97)}.get(way, 230.0)
    if way == "flight":
        before_s = random.uniform(5400, 10800)
    distance_m = speed_mps * (before_s - (5400 if way == "flight" else 0))
    place = _astray(random, last.place, min(distance_m, 2_000_000))
    network = random.random() < NETWORK
    yield replace(last, place=place, network=network, at=last.at - timedelta(seconds=before_s))


# --- What the phone sends ---


def _fixes(random: Random, firm: Firm, visit: Visit, cached: Fix | None) -> list[Fix]:
    """One to ten fixes in half a minute or less, the noise a correlated walk about where the person is."""
    count, every_s = random.choice([1, 1, 3, 5, 8, 10]), random.choice([1.0, 2.0, 3.0])
    network = visit.network
    at_wifi_point = network and random.random() < WIFI_POINT
    sigma_m = random.lognormvariate(2.9, 0.5) if network else random.lognormvariate(1.6, 0.5)
    place = firm.wifi_point if at_wifi_point else visit.place
    if network and random.random() < WIFI_ASTRAY:
        place = _astray(random, place, random.uniform(2_000, 1_500_000))
    at = visit.at - timedelta(seconds=every_s * count)
    walk = _Walk(random, sigma_m, 0.0 if at_wifi_point else 1.0)
    fixes = [replace(cached, at=at + visit.phone.clock)] if cached else []
    for _ in range(count - len(fixes)):
        at += timedelta(seconds=every_s)
        # the network's answer holds for a while, GNSS gives a new one every second
        held = exp(-every_s / visit.phone.holds_s) if network else 0.0
        again = random.random() < max(visit.phone.repeats, held)
        sent_at = at + visit.phone.clock
        if fixes and again:
            fixes.append(replace(fixes[-1], at=sent_at))
        else:
            fixes.append(_fix(visit.phone, moved(place, *walk.step(every_s)), walk, network, sent_at))
    return fixes


class _Walk:
    """A noise that forgets itself in a minute (first order Gauss-Markov), and the accuracy claimed with it."""

    def __init__(self, random: Random, sigma_m: float, scale: float) -> None:
        self._random, self._sigma_m, self._scale = random, sigma_m, scale
        self._off_m = [random.gauss(0, sigma_m), random.gauss(0, sigma_m)]
        self._claim_log = random.gauss(0, 0.3)

    def step(self, seconds: float) -> Point:
        kept = exp(-seconds / 60)
        fresh = self._sigma_m * sqrt(1 - kept**2)
        self._off_m = [kept * off + self._random.gauss(0, fresh) for off in self._off_m]
        self._claim_log = kept * self._claim_log + self._random.gauss(0, 0.3 * sqrt(1 - kept**2))
        return self._off_m[0] * self._scale, self._off_m[1] * self._scale

    @property
    def claim_m(self) -> float:
        return max(3.0, 1.5 * self._sigma_m * exp(self._claim_log))


def _fix(phone: Phone, place: Point, walk: _Walk, network: bool, at: datetime) -> Fix:
    claim_m = float(round(walk.claim_m)) if phone.whole_metres else walk.claim_m
    if network and phone.constant_m is not None:
        claim_m = phone.constant_m
    lon, lat = from_wgs84(*place, FRAME)
    return Fix(round(lon, phone.decimals), round(lat, phone.decimals), at, claim_m)


# --- What the database adds ---


def _of_firm(random: Random, firm: Firm) -> Iterator[Submission]:
    """The firm's attempts in the order in which they arrive. Firms share nobody and no place."""
    last: dict[str, LocatedAttempt] = {}
    sent: dict[Point, set[str]] = defaultdict(set)
    used: dict[str, set[str]] = defaultdict(set)
    elsewhere: dict[str, bool] = {}
    cached: dict[str, tuple[str, Fix]] = {}
    for visit in sorted(_visits(random, firm), key=lambda visit: visit.at):
        lender, fix = cached.get(visit.phone.device_id, (visit.person, None))
        lent = fix if lender != visit.person and random.random() < CACHED else None
        fixes = _fixes(random, firm, visit, lent)
        places = distinctive_places(fixes)
        others = set().union(*(sent[place] for place in places)) - {visit.person}
        changed = elsewhere.setdefault(visit.person, random.random() < JOB_CHANGED)
        facts, outside = _facts(random, firm, visit, fixes)
        facts = replace(
            facts,
            previous=last.get(visit.person),
            others_with_fix=len(others),
            others_with_device=len(used[visit.phone.device_id] - {visit.person}),
            enterprises=1 + changed,
        )
        held_s = visit.phone.holds_s if visit.network else 0.0
        yield Submission(facts, firm.task, visit.person, outside, held_s)
        for place in places:
            sent[place].add(visit.person)
        used[visit.phone.device_id].add(visit.person)
        cached[visit.phone.device_id] = visit.person, fixes[-1]
        if facts.position is not None:
            last[visit.person] = LocatedAttempt(*facts.position, facts.received_at)


def _facts(random: Random, firm: Firm, visit: Visit, fixes: list[Fix]) -> tuple[SignalFacts, bool]:
    captured_at = visit.at + visit.phone.clock
    located = locate(
        CircleFence.around(*firm.centre, Frame.WGS84, firm.radius_m),
        100.0,
        fixes,
        FRAME,
        captured_at,
        r95_factor=r95_factor(visit.phone.platform),
        reduced_accuracy=False,
    )
    position = (located.lon, located.lat) if located.lon is not None and located.lat is not None else None
    facts = SignalFacts(
        received_at=visit.at + timedelta(seconds=min(60.0, random.lognormvariate(1.2, 0.8))),
        captured_at=captured_at,
        platform=visit.phone.platform,
        fixes=fixes,
        fence_centre=from_wgs84(*firm.centre, FRAME),
        frame_suspect=located.frame_suspect,
        position=position,
        previous=None,
        others_with_fix=0,
        others_with_device=0,
        enterprises=1,
        approved_at=APPROVED_AT,
        registered_at=firm.registered_at,
    )
    return facts, located.zone is Zone.OUTSIDE


# --- How often honest ones are reported ---


def _is_long(made: Submission) -> bool:
    ats = [fix.at for fix in made.facts.fixes]
    return len(ats) >= 5 and max(ats) - min(ats) >= timedelta(seconds=10)


def _any(made: Submission) -> bool:
    return True


@dataclass(frozen=True)
class Trial:
    """What one trial of a signal is, in which submissions it could be raised at all, and the rate that the upper end
    of its interval must stay below."""

    counted: str
    bound: float
    unit: Callable[[Submission], object] = id
    could: Callable[[Submission], bool] = _any


def _person(made: Submission) -> object:
    return made.person


TRIALS: dict[Signal, Trial] = {
    Signal.ZERO_VARIANCE: Trial("submissions of five fixes over 10 s", 0.12, could=_is_long),
    Signal.FENCE_CENTRE: Trial("submissions", 0.005),
    Signal.ROUND_ACCURACY: Trial("submissions of five fixes over 10 s", 0.05, could=_is_long),
    Signal.IMPOSSIBLE_SPEED: Trial(
        "submissions after another",
        0.01,
        could=lambda made: made.facts.previous is not None and made.facts.position is not None,
    ),
    Signal.SHARED_FIX: Trial(
        "submissions of six decimals or more",
        0.005,
        could=lambda made: bool(distinctive_places(made.facts.fixes)),
    ),
    Signal.SHARED_DEVICE: Trial("persons", 0.02, _person),
    Signal.SEVERAL_ENTERPRISES: Trial("persons", 0.02, _person),
    Signal.FRAME_SUSPECT: Trial("submissions from outside the fence", 0.05, could=lambda made: made.outside),
    Signal.CLOCK_FAR_OFF: Trial("persons", 0.005, _person),
    Signal.REGISTERED_LATE: Trial("tasks", 0.03, lambda made: made.task),
}


def false_alarms(made: list[Submission]) -> dict[Signal, Rate]:
    """Of the trials in which a signal could be raised, those in which it was; exact interval, trials as independent."""
    raised = [(one, {finding.code for finding in signals(one.facts)}) for one in made]
    return {signal: _rate(signal, trial, raised) for signal, trial in TRIALS.items()}


def _rate(signal: Signal, trial: Trial, raised: list[tuple[Submission, set[Signal]]]) -> Rate:
    tried = {trial.unit(one) for one, _ in raised if trial.could(one)}
    alarmed = {trial.unit(one) for one, codes in raised if signal in codes}
    return exact_rate(len(alarmed & tried), len(tried))


def still_by_hold(made: list[Submission]) -> dict[float, Rate]:
    """`zero_variance` by how many seconds the network's answer holds."""
    return {
        held_s: false_alarms([one for one in made if one.held_s == held_s])[Signal.ZERO_VARIANCE]
        for held_s in sorted({one.held_s for one in made})
    }


def tables(made: list[Submission]) -> list[str]:
    """The rows of docs/signals.md: every signal's rate and bound, then `zero_variance` by kind of phone."""
    by_signal = [
        f"| `{signal}` | {_share(rate, ' ' + TRIALS[signal].counted)} | {100 * TRIALS[signal].bound:g} % |"
        for signal, rate in false_alarms(made).items()
    ]
    by_hold = [
        f"| {f'the network, {held_s:g} s' if held_s else 'GNSS'} | {_share(rate)} |"
        for held_s, rate in still_by_hold(made).items()
    ]
    return by_signal + by_hold


def _share(rate: Rate, counted: str = "") -> str:
    interval = f"{100 * rate.value:.2f} % [{100 * rate.low:.2f}, {100 * rate.high:.2f}]"
    return f"{rate.errors:,} of {rate.pairs:,}{counted} | {interval}"


if __name__ == "__main__":
    print("\n".join(tables(submissions())))
