"""Place and face of a check-in, one submission by a member of their own each, judged by one service."""

from dataclasses import dataclass
from datetime import timedelta
from math import ceil
from typing import Any
from uuid import uuid4

import pytest
from pyproj import Geod

from geofence import Frame, from_wgs84
from tests.service.stage import FAR, INSIDE, NEAR, Json, Reply, Stage, photo_of
from tests.service.window import NOON, task_at_noon

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHOT_AT = NOON
# the fence's eastern edge at the latitude of its middle
EDGE = (114.0610, 22.5440)


def fix(at: tuple[float, float] = INSIDE, age_s: float = 0, **changes: Any) -> Json:
    taken_at = (SHOT_AT - timedelta(seconds=age_s)).isoformat()
    return {"lon": at[0], "lat": at[1], "accuracy_m": 15, "at": taken_at, **changes}


def shot(*fixes: Json, **changes: Any) -> Json:
    return {"captured_at": SHOT_AT.isoformat(), "fixes": list(fixes), **changes}


def east_of_the_edge(distance_m: float) -> tuple[float, float]:
    lon, lat, _ = Geod(ellps="WGS84").fwd(*EDGE, 90, distance_m)
    return lon, lat


@dataclass(frozen=True, slots=True)
class Judged:
    """A judged submission, what is stored of it, and whose pictures were analysed for it."""

    reply: Reply
    attempt: Any
    analysed: list[str]

    @property
    def outcome(self) -> tuple[str, list[str]]:
        return self.reply.body["outcome"], self.reply.reasons


async def judged(stage: Stage, selfie: str | None = None, **fields: Any) -> Judged:
    """A new member's only submission."""
    task_id, person_id = f"T-{uuid4().hex}", f"p-{uuid4().hex}"
    await task_at_noon(stage, task_id, person_id)
    stage.engine.analysed.clear()
    reply = await stage.check_in(person_id, task_id, selfie=photo_of(selfie or person_id, 1), **fields)
    assert reply.status == 201, reply.body
    [attempt] = await stage.sql("SELECT * FROM attempt WHERE task_id = $1", task_id)
    return Judged(reply, attempt, stage.engine.analysed)


# --- Position ---

EXCHANGED = (INSIDE[1], INSIDE[0])
IN_GCJ02 = from_wgs84(*INSIDE, Frame.GCJ02)
FAILING_POSITIONS: dict[str, tuple[Json, list[str], str]] = {
    "no fix": (shot(), ["position_missing"], "unusable"),
    "no fix and reduced accuracy": (
        shot(device={"reduced_accuracy": True}),
        ["position_missing"],
        "unusable",
    ),
    "longitude off the globe": (shot(fix((180.1, 22.5))), ["position_implausible"], "unusable"),
    "latitude off the globe": (shot(fix((114.06, 90.1))), ["position_implausible"], "unusable"),
    "null island": (shot(fix((0, 0))), ["position_implausible"], "unusable"),
    "lon and lat exchanged": (shot(fix(EXCHANGED)), ["position_implausible"], "unusable"),
    "stale": (shot(fix(age_s=60.001)), ["position_uncertain"], "unusable"),
    "from the future": (shot(fix(age_s=-5.001)), ["position_uncertain"], "unusable"),
    "of no accuracy": (shot(fix(accuracy_m=None)), ["position_uncertain"], "unusable"),
    "of accuracy nought": (shot(fix(accuracy_m=0)), ["position_uncertain"], "unusable"),
    "of a negative accuracy": (shot(fix(accuracy_m=-1)), ["position_uncertain"], "unusable"),
    "inaccurate": (shot(fix(accuracy_m=100.1)), ["position_uncertain"], "unusable"),
    "reduced accuracy": (
        shot(fix(), device={"platform": "ios", "reduced_accuracy": True}),
        ["position_uncertain"],
        "unusable",
    ),
    "one implausible and one stale": (
        shot(fix(EXCHANGED), fix(age_s=61)),
        ["position_implausible", "position_uncertain"],
        "unusable",
    ),
    "perhaps inside": (shot(fix(NEAR)), ["position_uncertain"], "possible"),
    "outside": (shot(fix(FAR)), ["outside_geofence"], "outside"),
    "far outside the city": (shot(fix((116.4, 39.9))), ["outside_geofence"], "outside"),
    "the disc touches the fence": (
        shot(fix(east_of_the_edge(280), accuracy_m=100)),
        ["outside_geofence"],
        "outside",
    ),
    "another frame's numbers": (
        shot(fix(IN_GCJ02)),
        ["outside_geofence", "position_frame_suspect"],
        "outside",
    ),
    "one fresh outside, one stale inside": (
        shot(fix(age_s=61), fix(FAR)),
        ["outside_geofence"],
        "outside",
    ),
}


@pytest.mark.parametrize("failing", FAILING_POSITIONS)
async def test_a_position_that_fails_is_refused_before_any_face_is_looked_at(
    shared_stage: Stage, failing: str
) -> None:
    fields, reasons, zone = FAILING_POSITIONS[failing]
    refused = await judged(shared_stage, **fields)
    assert refused.outcome == ("rejected", reasons)
    assert refused.reply.body["location"]["zone"] == refused.attempt["zone"] == zone
    assert refused.analysed == []
    assert (refused.attempt["score"], refused.attempt["model_id"]) == (None, None)
    assert refused.attempt["counted"] == ("outside_geofence" in reasons)


PASSING_POSITIONS: dict[str, Json] = {
    "exactly 60 s old": shot(fix(age_s=60)),
    "exactly 5 s ahead": shot(fix(age_s=-5)),
    "just accurate enough": shot(fix(accuracy_m=100)),
    "one good fix among stale, inaccurate and impossible ones": shot(
        fix(FAR, age_s=61), fix(FAR, accuracy_m=101), fix(EXCHANGED), fix()
    ),
    "the median of three, one of them far": shot(fix(), fix(), fix(FAR)),
    "in the buffer": shot(fix(east_of_the_edge(99.5))),
    "the right numbers for gcj02": shot(fix(IN_GCJ02), frame="gcj02"),
    "the right numbers for bd09": shot(fix(from_wgs84(*INSIDE, Frame.BD09)), frame="bd09"),
    "cgcs2000 is wgs84": shot(fix(), frame="cgcs2000"),
    "the phone's clock a year off": {
        "captured_at": "2025-01-01T00:00:00Z",
        "fixes": [{"lon": INSIDE[0], "lat": INSIDE[1], "accuracy_m": 15, "at": "2025-01-01T00:00:00Z"}],
    },
}


@pytest.mark.parametrize("passing", PASSING_POSITIONS)
async def test_a_position_that_passes_is_inside(shared_stage: Stage, passing: str) -> None:
    accepted = await judged(shared_stage, **PASSING_POSITIONS[passing])
    assert accepted.outcome == ("accepted", [])
    assert accepted.reply.body["location"] == {"zone": "inside", "distance_m": 0}


@pytest.mark.parametrize("beyond_m", [0.5, 9.5, 10.5, 123.4, 1999])
async def test_the_distance_outside_is_rounded_up_to_ten_metres(shared_stage: Stage, beyond_m: float) -> None:
    refused = await judged(shared_stage, **shot(fix(east_of_the_edge(100 + beyond_m), accuracy_m=0.2)))
    assert refused.reply.body["location"] == {"zone": "outside", "distance_m": ceil(beyond_m / 10) * 10}
    assert refused.attempt["distance_m"] == pytest.approx(beyond_m, abs=0.05)


async def test_the_distance_of_a_possible_position_is_rounded_up_too(shared_stage: Stage) -> None:
    refused = await judged(shared_stage, **shot(fix(east_of_the_edge(105), accuracy_m=15)))
    assert refused.reply.body["location"] == {"zone": "possible", "distance_m": 10}


async def test_an_unusable_position_has_no_distance(shared_stage: Stage) -> None:
    refused = await judged(shared_stage, **shot())
    assert refused.reply.body["location"] == {"zone": "unusable", "distance_m": None}
    assert refused.attempt["distance_m"] is None


@pytest.mark.parametrize(
    ("platform", "factor"), [("android", 1.62), ("ios", 1.73), ("harmony", 1.73), ("devtools", 1.73)]
)
async def test_the_claimed_accuracy_is_widened_by_platform(
    shared_stage: Stage, platform: str, factor: float
) -> None:
    accepted = await judged(shared_stage, **shot(fix(accuracy_m=20), device={"platform": platform}))
    assert accepted.attempt["r95_m"] == pytest.approx(factor * 20)


# --- Face ---


@pytest.mark.parametrize(
    ("picture", "reason"),
    [("nobody", "no_face"), ("crowd", "multiple_faces"), ("dark", "poor_quality"), ("p-other", "non_match")],
)
async def test_a_face_that_fails_is_refused(shared_stage: Stage, picture: str, reason: str) -> None:
    refused = await judged(shared_stage, selfie=picture)
    assert refused.outcome == ("rejected", [reason])
    assert refused.reply.body["location"] == {"zone": "inside", "distance_m": 0}
    assert refused.analysed == [picture]
    assert refused.attempt["counted"] == (reason == "non_match")
