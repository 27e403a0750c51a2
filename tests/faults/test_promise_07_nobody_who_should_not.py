"""Promise 7: nobody is accepted from outside the fence, off the roster or for another person; nobody inside is refused
for the place. Fences and points are drawn, and judged anew in exact fractions of the numbers as they were sent."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import cos, hypot, pi, sin
from random import Random
from typing import Any

import pytest
import pytest_asyncio

from checkin_service.usecases import submit_check_in
from geofence import Frame, Location, Zone, from_wgs84, locate
from tests.access import SERVED
from tests.faults.every_route import Call, every_call
from tests.faults.record import Record
from tests.geofence.ground import GEOD, Point
from tests.service.reviewing import asked
from tests.service.stage import FAR, NEAR, Json, Reply, Stage, check_in_fields, photo_of, place

pytestmark = pytest.mark.asyncio(loop_scope="module")

PERSONS = tuple(f"p-{number}" for number in range(8))
# What is nearer to an edge than this is drawn again: an edge that is straight as drawn bends by a millimetre on Earth.
EDGE_M = 0.005
LON, LAT = 114.06, 22.544
LON_M = GEOD.inv(LON, LAT, LON + 0.001, LAT)[2] * 1000
LAT_M = GEOD.inv(LON, LAT, LON, LAT + 0.001)[2] * 1000
FOR_THE_PLACE = {
    "position_missing",
    "position_implausible",
    "position_uncertain",
    "outside_geofence",
    "position_frame_suspect",
}

Ring = list[Point]


# --- The oracle ---


@dataclass(frozen=True, slots=True)
class Drawn:
    """A polygon with its holes in degrees of a frame, as it is registered."""

    frame: Frame
    rings: Sequence[Ring]
    buffer_m: int

    def place(self) -> Json:
        closed = [[list(corner) for corner in [*ring, ring[0]]] for ring in self.rings]
        fence = {"type": "Polygon", "coordinates": closed}
        return place(frame=str(self.frame), fence=fence, buffer_m=self.buffer_m)

    def is_inside(self, point: Point) -> bool | None:
        """None where an edge is too near to say."""
        gap_m = min(_apart_m(point, a, b) for ring in self.rings for a, b in _edges(ring))
        inside = sum(_is_within(point, ring) for ring in self.rings) % 2 == 1
        if inside and gap_m > EDGE_M:
            return True
        return None if abs(gap_m - self.buffer_m) <= EDGE_M else gap_m < self.buffer_m


def _is_within(point: Point, ring: Ring) -> bool:
    """Whether a ray to the east crosses the ring an odd number of times: no rounding anywhere."""
    x, y = map(Fraction, point)
    within = False
    for a, b in _edges(ring):
        (ax, ay), (bx, by) = map(Fraction, a), map(Fraction, b)
        if (ay > y) != (by > y) and x < ax + (y - ay) * (bx - ax) / (by - ay):
            within = not within
    return within


def _edges(ring: Ring) -> Iterator[tuple[Point, Point]]:
    return zip(ring, [*ring[1:], ring[0]], strict=True)


def _apart_m(point: Point, a: Point, b: Point) -> float:
    """Metres from a point to an edge."""
    (px, py), (ax, ay), (bx, by) = (((x - LON) * LON_M, (y - LAT) * LAT_M) for x, y in (point, a, b))
    along = ((px - ax) * (bx - ax) + (py - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2)
    along = max(0.0, min(1.0, along))
    return hypot(px - ax - along * (bx - ax), py - ay - along * (by - ay))


# --- What is drawn ---


def _fence(dice: Random) -> Drawn:
    """A star, rarely convex, often with a hole; with a buffer where degrees are as wide as on Earth."""
    frame = dice.choice(list(Frame))
    centre = from_wgs84(LON, LAT, frame)
    outer = [dice.uniform(40, 200) for _ in range(dice.randint(3, 9))]
    rings = [_star(centre, outer)]
    if dice.random() < 0.5 and len(outer) > 4:
        rings.append(_star(centre, [min(outer) * dice.uniform(0.1, 0.6) for _ in outer]))
    buffer_m = dice.choice([0, 0, 50]) if frame is Frame.WGS84 else 0
    return Drawn(frame, rings, buffer_m)


def _star(centre: Point, reaches_m: Sequence[float]) -> Ring:
    turn = 2 * pi / len(reaches_m)
    return [
        (
            round(centre[0] + reach * cos(i * turn) / LON_M, 7),
            round(centre[1] + reach * sin(i * turn) / LAT_M, 7),
        )
        for i, reach in enumerate(reaches_m)
    ]


def _point(dice: Random, fence: Drawn) -> tuple[Point, bool]:
    """A point beside an edge, one centimetre to a hundred metres off it, and whether it is inside."""
    while True:
        a, b = dice.choice([edge for ring in fence.rings for edge in _edges(ring)])
        along, off_m, bearing = dice.random(), 10 ** dice.uniform(-2, 2), dice.uniform(0, 2 * pi)
        point = (
            a[0] + along * (b[0] - a[0]) + off_m * cos(bearing) / LON_M,
            a[1] + along * (b[1] - a[1]) + off_m * sin(bearing) / LAT_M,
        )
        if (inside := fence.is_inside(point)) is not None:
            return point, inside


# --- The place ---


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(shared_stage: Stage) -> Stage:
    """With everybody enrolled and two tasks."""
    await shared_stage.ready_task("T1", *PERSONS)
    assert (await shared_stage.register("T-alone", PERSONS[1])).status == 201
    return shared_stage


async def _tried(stage: Stage, name: str, fences: int) -> Counter[tuple[bool, str]]:
    """What came of everybody's check-in at a point of their own: (inside, outcome or "for the place")."""
    outcomes: Counter[tuple[bool, str]] = Counter()
    dice = Random(7)
    for number in range(fences):
        fence = _fence(dice)
        task_id = f"T-{name}-{number}"
        registered = await stage.register(task_id, *PERSONS, place=fence.place())
        assert registered.status == 201, registered.body
        for person_id in PERSONS:
            point, inside = _point(dice, fence)
            outcomes[inside, await _place_outcome(stage, person_id, task_id, point, fence.frame)] += 1
    return outcomes


async def _place_outcome(stage: Stage, person_id: str, task_id: str, at: Point, frame: Frame) -> str:
    reply = await stage.check_in(person_id, task_id, at=at, frame=str(frame))
    assert reply.status == 201, reply.body
    if set(reply.reasons) & FOR_THE_PLACE:
        return "refused"
    assert reply.body["outcome"] == "accepted", reply.body
    return "accepted"


async def test_who_is_inside_is_accepted_and_nobody_else(stage: Stage, full: bool, record: Record) -> None:
    fences = 200 if full else 15
    outcomes = await _tried(stage, "drawn", fences)
    assert set(outcomes) == {(True, "accepted"), (False, "refused")}
    record.kept(
        f"{fences} fences, {outcomes[True, 'accepted']} inside accepted, "
        f"{outcomes[False, 'refused']} outside refused, 0 wrong"
    )


async def test_if_the_accuracy_were_enough_others_would_get_in(
    stage: Stage, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: a disc of the claimed accuracy that touches the fence is taken for being inside."""
    _judge_by(monkeypatch, lambda found: {"distance_m": (found.distance_m or 0) - (found.r95_m or 0)})
    outcomes = await _tried(stage, "disc", 4)
    assert outcomes[False, "accepted"] > 0
    record.control(f"by the disc of the accuracy {outcomes[False, 'accepted']} from outside get in")


async def test_a_zone_that_contradicts_its_distance_is_not_stored(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same mistake by half: the database does not take it, and nobody is let in."""
    _judge_by(monkeypatch, lambda _: {})
    reply = await stage.check_in("p-0", "T1", at=NEAR)
    assert reply.status == 500
    monkeypatch.undo()
    assert (await stage.status("T1"))["progress"]["accepted"] == 0


def _judge_by(monkeypatch: pytest.MonkeyPatch, and_more: Callable[[Location], dict[str, Any]]) -> None:
    """Makes the service take for inside whoever may be."""

    def by_the_disc(*args: Any, **kw: Any) -> Location:
        found = locate(*args, **kw)
        return replace(found, zone=Zone.INSIDE, **and_more(found)) if found.zone is Zone.POSSIBLE else found

    monkeypatch.setattr(submit_check_in, "locate", by_the_disc)


WRONG_FIXES: dict[str, tuple[str, list[Json], set[str]]] = {
    "swapped": ("wgs84", [{"lon": LAT, "lat": LON}], {"position_implausible"}),
    "zero": ("wgs84", [{"lon": 0, "lat": 0}], {"position_implausible"}),
    "nothing": ("wgs84", [], {"position_missing"}),
    "far away": ("wgs84", [{"lon": FAR[0], "lat": FAR[1]}], {"outside_geofence"}),
    "another frame's name": (
        "gcj02",
        [{"lon": LON, "lat": LAT}],
        {"outside_geofence", "position_frame_suspect"},
    ),
    "no accuracy": ("wgs84", [{"lon": LON, "lat": LAT, "accuracy_m": None}], {"position_uncertain"}),
    "a kilometre's accuracy": (
        "wgs84",
        [{"lon": LON, "lat": LAT, "accuracy_m": 1000}],
        {"position_uncertain"},
    ),
}


@pytest.mark.parametrize("name", WRONG_FIXES)
async def test_a_position_that_says_nothing_lets_nobody_in(stage: Stage, name: str) -> None:
    frame, fixes, reasons = WRONG_FIXES[name]
    dated = check_in_fields("T1", "")["fixes"][0]
    sent = [{k: v for k, v in (dated | fix).items() if v is not None} for fix in fixes]
    reply = await stage.check_in("p-0", "T1", frame=frame, fixes=sent)
    assert (reply.status, reply.body["outcome"]) == (201, "rejected")
    assert set(reply.reasons) == reasons


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("field", ["lon", "lat", "accuracy_m"])
async def test_what_is_no_number_is_no_check_in(stage: Stage, field: str, number: str) -> None:
    fix = json.dumps(check_in_fields("T1", "")["fixes"][0] | {field: "HERE"}).replace('"HERE"', number)
    reply = await stage.check_in("p-0", "T1", fixes=f"[{fix}]")
    assert (reply.status, reply.code) == (400, "malformed")


# --- The roster and the person ---


async def test_who_is_not_on_the_roster_gets_no_challenge_and_needs_one(stage: Stage) -> None:
    off_roster = await stage.person("p-2", "POST", "/v1/challenges", {"task_id": "T-alone"})
    assert (off_roster.status, off_roster.code) == (404, "not_found")
    for owner, task_id in (("p-2", "T1"), ("p-1", "T-alone")):
        challenge_id = await stage.challenge(owner, task_id)
        with_another_s = await stage.check_in("p-2", "T-alone", challenge_id=challenge_id)
        assert (with_another_s.status, with_another_s.code) == (409, "challenge_invalid")
    assert (await stage.status("T-alone"))["progress"]["accepted"] == 0


async def test_another_persons_face_is_nobodys_check_in(stage: Stage) -> None:
    reply = await stage.check_in("p-3", "T1", selfie=photo_of("p-4"))
    assert (reply.body["outcome"], reply.reasons) == ("rejected", ["non_match"])
    fields = check_in_fields("T1", await stage.challenge("p-3", "T1"), person_id="p-4")
    named = await stage.submit("p-3", fields, photo_of("p-3"))
    assert (named.status, named.faults) == (422, {("/person_id", "unknown_field")})
    states = {member["person_id"]: member["state"] for member in (await stage.status("T1"))["members"]}
    assert (states["p-3"], states["p-4"]) == ("not_started", "not_started")


# --- Every route, every role, somebody else's ids ---


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def theirs(stage: Stage) -> Mapping[str, str]:
    """The ids of what belongs to p-1, who is alone on T-alone."""
    rejected = await stage.check_in("p-1", "T-alone", at=FAR)
    review = await stage.check_in("p-1", "T-alone", selfie=photo_of("p-1", 1, live=0.0))
    return {
        "task_id": "T-alone",
        "person_id": "p-1",
        "case_id": (await stage.status("T-alone"))["case_id"],
        "challenge_id": await stage.challenge("p-1", "T-alone"),
        "check_in_id": rejected.body["check_in_id"],
        "manual_request_id": (request := await asked(stage, "p-1", "T-alone")),
        "review_id": review.body["check_in_id"] if review.body["outcome"] == "review" else request,
        "n": "0",
    }


async def _everything(stage: Stage) -> dict[str, Any]:
    """How many rows every table has, and what the status of everybody's tasks says."""
    tables = await stage.sql(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'person'"
    )
    counts = {name: (await stage.sql(f"SELECT count(*) FROM {name}"))[0][0] for (name,) in tables}
    return {**counts, **{task: await stage.status(task) for task in ("T1", "T-alone")}}


def _by(role: str, call: Call, ids: Mapping[str, str]) -> Call:
    """The call by another role, and with these ids where its body has any."""
    text = json.dumps(call.options.get("json"))
    body = json.loads(re.sub(r'"T1"', f'"{ids["task_id"]}"', text))
    options = {**call.options, "json": body} if body is not None else call.options
    return replace(call, scope=role, options=options)


async def test_no_route_serves_another_role(stage: Stage, theirs: Mapping[str, str], record: Record) -> None:
    before, tried = await _everything(stage), 0
    for (route, call), scopes in zip(every_call(**theirs).items(), SERVED.values(), strict=True):
        for role in {"tasks", "review", "operate", "checkin"} - (
            scopes or {"tasks", "review", "operate", "checkin"}
        ):
            for sub in ("p-1", "p-2", "platform"):
                reply = await _by(role, call, theirs).send(stage, sub)
                assert (reply.status, reply.code) == (403, "scope_missing"), (route, role, sub)
                tried += 1
    assert await _everything(stage) == before
    record.kept(f"{tried} calls by other roles refused, nothing changed")


async def test_to_another_person_everything_is_as_if_it_were_not(
    stage: Stage, theirs: Mapping[str, str], record: Record
) -> None:
    """p-2 and a person whom no roster names ask for what is p-1's, and for what nobody has."""
    absent = {**theirs, "task_id": "T-none"} | {
        name: "00000000-0000-0000-0000-000000000007"
        for name in theirs
        if name.endswith("_id") and len(theirs[name]) == 36
    }
    before, tried = await _everything(stage), 0
    personal = [
        name for (name, _), s in zip(every_call().items(), SERVED.values(), strict=True) if s == {"checkin"}
    ]
    mine = [name for name in personal if "/v1/me" in name or "consent" in name]
    for name in set(personal) - set(mine):
        for sub in ("p-2", "p-unknown"):
            replies = [
                await _by("checkin", every_call(**ids)[name], ids).send(stage, sub)
                for ids in (theirs, absent)
            ]
            assert _shown(replies[0]) == _shown(replies[1]), (name, sub)
            assert replies[0].status in {404, 409, 415}, (name, replies[0].body)
            tried += 1
    assert await _everything(stage) == before
    record.kept(f"{tried} calls for another person's things answered as for none")


async def test_what_is_asked_about_oneself_names_nobody_else(stage: Stage, theirs: Mapping[str, str]) -> None:
    for path in ("/v1/me", "/v1/me/export"):
        told = json.dumps((await stage.person("p-2", "GET", path)).body)
        assert "T-alone" not in told
        assert theirs["check_in_id"] not in told
        assert not re.search(r'"p-[01345]"', told)


def _shown(reply: Reply) -> tuple[int, Json]:
    return reply.status, {name: value for name, value in reply.body.items() if name != "request_id"}
