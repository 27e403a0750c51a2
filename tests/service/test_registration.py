"""`PUT /v1/tasks/{task_id}`: what is new, the same or in conflict, every rule of a registration, and races."""

import asyncio
import copy
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from checkin_service.adapters.postgres import tasks
from checkin_service.adapters.postgres.database import Connection
from checkin_service.adapters.postgres.feed import FEED_LOCK
from tests.service.conftest import SetClock
from tests.service.stage import FENCE, USCC, Json, Reply, Stage, member, members_digest, place, registration

pytestmark = pytest.mark.asyncio(loop_scope="module")
# for tests with a service of their own, mostly because they take its defences away
OWN_SERVICE = pytest.mark.asyncio(loop_scope="function")

# Approved so long ago that the window, which ends on 2026-02-05, is over: registering it gives an expired task.
LONG_AGO = "2026-01-05T10:00:00+08:00"
NOW = datetime.fromisoformat("2026-03-20T12:00:00+08:00")
OTHER_USCC = "91350100M000100Y43"
HOLD_FEED = f"SELECT pg_advisory_xact_lock({FEED_LOCK})"


def new_id() -> str:
    return f"T-{uuid4().hex[:12]}"


async def put(stage: Stage, task_id: str, body: Json) -> Reply:
    return await stage.platform("PUT", f"/v1/tasks/{task_id}", body)


async def revisions(stage: Stage, task_id: str) -> list[Any]:
    """What every change of a task leaves: its feed entries."""
    return [
        tuple(row)
        for row in await stage.sql("SELECT rev, type FROM change WHERE task_id = $1 ORDER BY seq", task_id)
    ]


# --- A new task ---


async def test_a_new_task_answers_with_its_status(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOW)
    task_id = new_id()
    body = registration("p-1", "p-2", approved_at="2026-03-19T10:00:00+08:00", case_id="SZ-1")
    reply = await put(shared_stage, task_id, body)
    assert reply.status == 201
    assert reply.headers["ETag"] == f'"{task_id}-1-pending_material"'
    assert reply.body == {
        "task_id": task_id,
        "case_id": "SZ-1",
        "round": 1,
        "flow": "first_application",
        "state": "pending_material",
        "registered_at": "2026-03-20T12:00:00+08:00",
        "opens_at": "2026-03-19T10:00:00+08:00",
        "closes_at": "2026-04-21T00:00:00+08:00",
        "window": {
            "basis": "one_month",
            "start_day": "2026-03-19",
            "nominal_day": "2026-04-19",
            "last_day": "2026-04-20",
            "rolled_over": ["2026-04-19"],
            "provisional": False,
            "calendar_version": "cn-2026.1",
        },
        "fence_version": 1,
        "progress": {"total": 2, "accepted": 0, "in_review": 0},
        "members": [
            {"person_id": "p-1", "state": "not_started", "reference": "missing"},
            {"person_id": "p-2", "state": "not_started", "reference": "missing"},
        ],
        "rev": 1,
        "members_digest": members_digest(reply.body),
    }
    assert reply.body == await shared_stage.status(task_id)


async def test_a_registration_is_one_entry_of_feed_and_audit(shared_stage: Stage) -> None:
    task_id = new_id()
    await shared_stage.register(task_id)
    await shared_stage.register(task_id)
    assert await revisions(shared_stage, task_id) == [(1, "task_registered")]
    audit = await shared_stage.sql("SELECT iss, actor, action FROM audit WHERE task_id = $1", task_id)
    assert [tuple(row) for row in audit] == [("checkin-development", "platform", "register")]


async def test_a_window_that_is_over_can_still_be_registered(shared_stage: Stage) -> None:
    reply = await shared_stage.register(new_id(), approved_at=LONG_AGO)
    assert (reply.status, reply.body["state"]) == (201, "expired")
    assert reply.body["registered_at"] > reply.body["closes_at"]


@pytest.mark.parametrize("frame", ["wgs84", "gcj02", "bd09", "cgcs2000"])
async def test_every_frame_is_taken(shared_stage: Stage, frame: str) -> None:
    assert (await shared_stage.register(new_id(), place=place(frame=frame))).status == 201


HOLED = [[[114.050, 22.540], [114.060, 22.540], [114.060, 22.550], [114.050, 22.550], [114.050, 22.540]]]
HOLE = [[114.052, 22.542], [114.054, 22.542], [114.054, 22.544], [114.052, 22.544], [114.052, 22.542]]


@pytest.mark.parametrize(
    "fence",
    [
        {"type": "Circle", "coordinates": [114.06, 22.544], "radius_m": 1},
        {"type": "Circle", "coordinates": [114.06, 22.544], "radius_m": 5000},
        {"type": "Polygon", "coordinates": [*HOLED, HOLE]},
        {"type": "MultiPolygon", "coordinates": [HOLED, [FENCE["coordinates"][0][:]]]},
    ],
    ids=["small circle", "large circle", "hole", "several parts"],
)
async def test_every_kind_of_fence_is_taken(shared_stage: Stage, fence: Json) -> None:
    far = [[lon + 0.01, lat] for lon, lat in FENCE["coordinates"][0]]
    if fence["type"] == "MultiPolygon":
        fence = {**fence, "coordinates": [fence["coordinates"][0], [far]]}
    assert (await shared_stage.register(new_id(), place=place(fence=fence))).status == 201


@pytest.mark.parametrize("buffer_m", [0, 0.5, 500])
async def test_a_buffer_reaches_from_nothing_to_500_m(shared_stage: Stage, buffer_m: float) -> None:
    assert (await shared_stage.register(new_id(), place=place(buffer_m=buffer_m))).status == 201


async def test_a_roster_of_a_thousand_is_taken(shared_stage: Stage) -> None:
    reply = await shared_stage.register(new_id(), *(f"p-{n}" for n in range(1000)))
    assert (reply.status, reply.body["progress"]["total"]) == (201, 1000)


# --- The same body ---


def _without(body: Json, *names: str) -> Json:
    return {name: value for name, value in body.items() if name not in names}


def _reversed_members(value: Any) -> Any:
    """The same JSON with the members of every object in another order."""
    if isinstance(value, dict):
        return {name: _reversed_members(value[name]) for name in reversed(value)}
    return [_reversed_members(item) for item in value] if isinstance(value, list) else value


FULL = registration(
    "p-1",
    "p-2",
    round=2,
    approved_at="2026-03-19T10:00:00+08:00",
    rectifies=None,
    deadline_at=None,
    requirement={"registered": 2, "titled": 1, "has_safety_permit": True},
    roster=[
        member("p-1", lead=True, categories=("registered", "titled")),
        member("p-2", categories=("titled",)),
    ],
    place=place(fence={"type": "Circle", "coordinates": [114.06, 22.544], "radius_m": 150}),
)
SAME: dict[str, Callable[[Json], Json]] = {
    "as it was": lambda body: body,
    "members in another order": _reversed_members,
    "roster in another order": lambda body: body | {"roster": body["roster"][::-1]},
    "categories in another order": lambda body: (
        body | {"roster": [m | {"categories": m["categories"][::-1]} for m in body["roster"]]}
    ),
    "instant in another offset": lambda body: body | {"approved_at": "2026-03-18T19:00:00-07:00"},
    "instant in UTC": lambda body: body | {"approved_at": "2026-03-19T02:00:00Z"},
    "instant in small letters": lambda body: body | {"approved_at": "2026-03-19t02:00:00z"},
    "instant with a fraction of nothing": lambda body: body | {"approved_at": "2026-03-19T02:00:00.000Z"},
    "nulls left out": lambda body: _without(body, "rectifies", "deadline_at"),
    "default buffer left out": lambda body: body | {"place": _without(body["place"], "buffer_m")},
    "whole numbers as fractions": lambda body: (
        body
        | {
            "round": 2.0,
            "requirement": {"registered": 2.0, "titled": 1.0, "has_safety_permit": True},
            "place": body["place"]
            | {"buffer_m": 100.0, "fence": body["place"]["fence"] | {"radius_m": 150.0}},
        }
    ),
}


@pytest.mark.parametrize("name", SAME)
async def test_the_same_body_changes_nothing(shared_stage: Stage, name: str) -> None:
    task_id, body = new_id(), FULL | {"case_id": new_id()}
    first = await put(shared_stage, task_id, body)
    again = await put(shared_stage, task_id, SAME[name](copy.deepcopy(body)))
    assert (first.status, again.status) == (201, 200)
    assert again.body == first.body
    assert len(await revisions(shared_stage, task_id)) == 1


async def test_the_same_body_with_other_escapes_changes_nothing(shared_stage: Stage) -> None:
    task_id, body = new_id(), FULL | {"case_id": new_id()}
    headers = {"Content-Type": "application/json"}
    for ascii_only, status in ((True, 201), (False, 200)):
        data = json.dumps(body, ensure_ascii=ascii_only, indent=2).encode()
        reply = await shared_stage.platform("PUT", f"/v1/tasks/{task_id}", data=data, headers=headers)
        assert reply.status == status


# --- Another body ---

OTHER: dict[str, Callable[[Json], Json]] = {
    "case": lambda body: body | {"case_id": new_id()},
    "round": lambda body: body | {"round": 3},
    "flow": lambda body: body | {"flow": "routine"},
    "enterprise": lambda body: body | {"enterprise": body["enterprise"] | {"uscc": OTHER_USCC}},
    "enterprise's name": lambda body: body | {"enterprise": body["enterprise"] | {"name": "另一家"}},
    "approval by a microsecond": lambda body: body | {"approved_at": "2026-03-19T10:00:00.000001+08:00"},
    "address": lambda body: body | {"place": body["place"] | {"registered_address": "x"}},
    "frame": lambda body: body | {"place": body["place"] | {"frame": "gcj02"}},
    "buffer": lambda body: body | {"place": body["place"] | {"buffer_m": 99.9}},
    "fence": lambda body: body | {"place": body["place"] | {"fence": FENCE}},
    "requirement": lambda body: body | {"requirement": body["requirement"] | {"titled": 2}},
    "no requirement": lambda body: _without(body, "requirement"),
    "a person more": lambda body: body | {"roster": [*body["roster"], member("p-3")]},
    "a person less": lambda body: body | {"roster": body["roster"][:1], "requirement": None},
    "another lead": lambda body: (
        body | {"roster": [m | {"technical_lead": m["person_id"] == "p-2"} for m in body["roster"]]}
    ),
    "another name": lambda body: body | {"roster": [m | {"name": "李*"} for m in body["roster"]]},
    "other categories": lambda body: (
        body | {"roster": [m | {"categories": ["registered", "titled"]} for m in body["roster"]]}
    ),
}


@pytest.mark.parametrize("name", OTHER)
async def test_another_body_is_in_conflict_and_changes_nothing(shared_stage: Stage, name: str) -> None:
    task_id, body = new_id(), FULL | {"case_id": new_id()}
    first = await put(shared_stage, task_id, body)
    other = await put(shared_stage, task_id, OTHER[name](copy.deepcopy(body)))
    assert (other.status, other.code) == (409, "task_conflict")
    assert await shared_stage.status(task_id) == first.body
    assert len(await revisions(shared_stage, task_id)) == 1


COMMANDS: dict[str, Json] = {
    "void": {"reason": "x"},
    "extend": {"reason": "x", "deadline_at": "2099-01-01T00:00:00+08:00", "document_no": "1"},
    "fence": {"reason": "x", "place": place(buffer_m=7)},
}


@pytest.mark.parametrize("command", COMMANDS)
async def test_the_same_body_never_undoes_a_command(shared_stage: Stage, command: str) -> None:
    task_id, body = new_id(), registration()
    await put(shared_stage, task_id, body)
    commanded = await shared_stage.platform("POST", f"/v1/tasks/{task_id}/{command}", COMMANDS[command])
    assert commanded.status == 200, commanded.body
    again = await put(shared_stage, task_id, body)
    assert (again.status, again.body) == (200, commanded.body)
    assert len(await revisions(shared_stage, task_id)) == 2


# --- Rounds ---


async def test_a_round_of_a_case_exists_once_until_it_is_voided(shared_stage: Stage) -> None:
    first, second, third, body = new_id(), new_id(), new_id(), registration()
    assert (await put(shared_stage, first, body)).status == 201
    twice = await put(shared_stage, second, body)
    assert (twice.status, twice.code) == (409, "round_exists")
    assert (await put(shared_stage, second, body | {"round": 2})).status == 201
    await shared_stage.platform("POST", f"/v1/tasks/{first}/void", {"reason": "x"})
    assert (await put(shared_stage, third, body)).status == 201
    assert (await put(shared_stage, first, body)).body["state"] == "voided"


# --- Rectification ---


def rectification(earlier: Json, rectifies: str, **changes: Any) -> Json:
    """The round after an earlier one, ordered to be done by the end of April."""
    return (
        registration(case_id=earlier["case_id"], round=earlier["round"] + 1)
        | {"flow": "rectification", "rectifies": rectifies, "enterprise": earlier["enterprise"]}
        | {"approved_at": "2026-03-19T10:00:00+08:00", "deadline_at": "2026-05-01T00:00:00+08:00"}
        | changes
    )


async def expired_task(stage: Stage, **changes: Any) -> tuple[str, Json]:
    task_id, body = new_id(), registration(approved_at=LONG_AGO, flow="routine") | changes
    assert (await put(stage, task_id, body)).body["state"] == "expired"
    return task_id, body


async def test_a_rectification_follows_an_expired_routine_round(shared_stage: Stage) -> None:
    task_id, earlier = await expired_task(shared_stage, round=3)
    reply = await put(shared_stage, new_id(), rectification(earlier, task_id))
    assert reply.status == 201, reply.body
    assert reply.body["closes_at"] == "2026-05-01T00:00:00+08:00"
    assert reply.body["window"] | {"calendar_version": ""} == {
        "basis": "order",
        "start_day": "2026-03-19",
        "nominal_day": "2026-04-30",
        "last_day": "2026-04-30",
        "rolled_over": [],
        "provisional": False,
        "calendar_version": "",
    }


async def test_a_deadline_on_a_rest_day_is_not_moved(shared_stage: Stage) -> None:
    task_id, earlier = await expired_task(shared_stage)
    body = rectification(earlier, task_id, deadline_at="2026-05-03T16:00:00Z")
    reply = await put(shared_stage, new_id(), body)
    assert (reply.status, reply.body["closes_at"]) == (201, "2026-05-04T00:00:00+08:00")
    again = await put(
        shared_stage, reply.body["task_id"], body | {"deadline_at": "2026-05-04T00:00:00+08:00"}
    )
    assert again.status == 200


async def test_a_rectification_follows_an_expired_rectification(shared_stage: Stage) -> None:
    first, earlier = await expired_task(shared_stage)
    second = new_id()
    over = rectification(earlier, first, approved_at=LONG_AGO, deadline_at="2026-02-01T00:00:00+08:00")
    assert (await put(shared_stage, second, over)).body["state"] == "expired"
    assert (await put(shared_stage, new_id(), rectification(over, second))).status == 201


async def test_a_rectification_follows_an_invalidated_round(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    await shared_clock(datetime.fromisoformat("2026-01-20T12:00:00+08:00"))
    task_id, person_id = new_id(), uuid4().hex
    await shared_stage.ready_task(task_id, person_id, approved_at=LONG_AGO, flow="routine", case_id=task_id)
    assert (await shared_stage.check_in(person_id, task_id)).body["outcome"] == "accepted"
    await shared_stage.sql("UPDATE acceptance SET revoked_at = checkin_now() WHERE task_id = $1", task_id)
    await shared_clock(NOW)
    assert (await shared_stage.status(task_id))["state"] == "invalidated"
    earlier = registration(case_id=task_id)
    assert (await put(shared_stage, new_id(), rectification(earlier, task_id))).status == 201


WRONG_RECTIFICATION: list[tuple[Json, str]] = [
    ({"rectifies": "T-none"}, "rectifies_unknown"),
    ({"case_id": "another-case"}, "rectifies_unknown"),
    ({"enterprise": {"uscc": OTHER_USCC, "name": "x"}}, "rectifies_wrong_enterprise"),
    ({"round": 1}, "rectifies_wrong_round"),
    ({"round": 3}, "rectifies_wrong_round"),
    ({"rectifies": None}, "rectifies_required"),
]


@pytest.mark.parametrize(("changes", "code"), WRONG_RECTIFICATION)
async def test_a_rectification_names_the_round_before_it(
    shared_stage: Stage, changes: Json, code: str
) -> None:
    task_id, earlier = await expired_task(shared_stage)
    reply = await put(shared_stage, new_id(), rectification(earlier, task_id) | changes)
    assert (reply.status, reply.code) == (422, "invalid")
    assert reply.faults == {("/rectifies", code)}


@pytest.mark.parametrize(
    "changes",
    [
        {"approved_at": LONG_AGO},
        {"approved_at": "2026-12-10T10:00:00+08:00", "flow": "routine"},
        {"flow": "routine"},
    ],
    ids=["expired first application", "provisional", "still open"],
)
async def test_only_an_expired_or_invalidated_round_is_rectified(
    shared_stage: Stage, shared_clock: SetClock, changes: Json
) -> None:
    await shared_clock(datetime.fromisoformat("2027-03-01T12:00:00+08:00"))
    task_id, earlier = new_id(), registration(approved_at="2027-02-20T10:00:00+08:00") | changes
    await put(shared_stage, task_id, earlier)
    reply = await put(shared_stage, new_id(), rectification(earlier, task_id))
    assert reply.faults == {("/rectifies", "rectifies_wrong_state")}


async def test_a_voided_round_is_not_rectified(shared_stage: Stage) -> None:
    task_id, earlier = await expired_task(shared_stage)
    await shared_stage.platform("POST", f"/v1/tasks/{task_id}/void", {"reason": "x"})
    reply = await put(shared_stage, new_id(), rectification(earlier, task_id))
    assert reply.faults == {("/rectifies", "rectifies_wrong_state")}


async def test_a_rectification_stands_when_the_round_before_it_is_extended(shared_stage: Stage) -> None:
    """The same body stays the same registration, whatever became of the rectified task."""
    task_id, earlier = await expired_task(shared_stage)
    rectifying, body = new_id(), rectification(earlier, task_id)
    assert (await put(shared_stage, rectifying, body)).status == 201
    await shared_stage.platform("POST", f"/v1/tasks/{task_id}/extend", COMMANDS["extend"])
    assert (await put(shared_stage, rectifying, body)).status == 200


async def test_no_task_rectifies_itself(shared_stage: Stage) -> None:
    task_id = new_id()
    reply = await put(shared_stage, task_id, rectification(registration(), task_id))
    assert reply.faults == {("/rectifies", "rectifies_unknown")}


@pytest.mark.parametrize(
    ("deadline_at", "code"),
    [
        (None, "deadline_required"),
        ("2026-05-01T00:00:01+08:00", "deadline_not_day_end"),
        ("2026-05-01T00:00:00Z", "deadline_not_day_end"),
        ("2026-04-30T23:59:59+08:00", "deadline_not_day_end"),
        ("2026-05-01T00:00:00.000001+08:00", "deadline_not_day_end"),
        ("2026-03-19T00:00:00+08:00", "deadline_not_after_approval"),
    ],
)
async def test_an_ordered_deadline_is_the_end_of_a_day_after_the_approval(
    shared_stage: Stage, deadline_at: str | None, code: str
) -> None:
    task_id, earlier = await expired_task(shared_stage)
    reply = await put(shared_stage, new_id(), rectification(earlier, task_id, deadline_at=deadline_at))
    assert reply.faults == {("/deadline_at", code)}


@pytest.mark.parametrize("flow", ["first_application", "routine"])
async def test_only_a_rectification_has_a_deadline_and_an_earlier_round(
    shared_stage: Stage, flow: str
) -> None:
    task_id, earlier = await expired_task(shared_stage)
    reply = await put(shared_stage, new_id(), rectification(earlier, task_id, flow=flow))
    assert reply.faults == {("/deadline_at", "deadline_refused"), ("/rectifies", "rectifies_refused")}


# --- The approval ---


@pytest.mark.parametrize(
    ("approved_at", "code"),
    [
        (NOW + timedelta(minutes=5), None),
        (NOW + timedelta(minutes=5, microseconds=1), "approved_at_in_future"),
        (NOW + timedelta(days=36500), "approved_at_in_future"),
        (datetime.fromisoformat("2004-01-01T00:00:00+08:00"), None),
        (datetime.fromisoformat("2003-12-31T23:59:59.999999+08:00"), "approved_at_too_early"),
        (datetime.fromisoformat("2003-12-31T16:00:00+00:00"), None),
    ],
)
async def test_an_approval_is_of_2004_at_the_earliest_and_five_minutes_ahead_at_the_latest(
    shared_stage: Stage, shared_clock: SetClock, approved_at: datetime, code: str | None
) -> None:
    await shared_clock(NOW)
    reply = await shared_stage.register(new_id(), approved_at=approved_at.isoformat())
    if code:
        assert reply.faults == {("/approved_at", code)}
    else:
        assert reply.status == 201


async def test_an_approval_ahead_opens_later(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOW)
    approved_at = NOW + timedelta(minutes=4)
    reply = await shared_stage.register(new_id(), approved_at=approved_at.isoformat())
    assert (reply.body["opens_at"], reply.body["state"]) == (approved_at.isoformat(), "pending_material")


# --- Enterprise, roster and quota ---


@pytest.mark.parametrize(
    ("uscc", "code"),
    [
        ("", "uscc_length"),
        (USCC[:-1], "uscc_length"),
        (USCC + "0", "uscc_length"),
        (USCC.lower(), "uscc_character"),
        (f"I{USCC[1:]}", "uscc_character"),
        ("９1440300MA5DEM012D", "uscc_character"),
        (f"{USCC[:-1]}0", "uscc_check_digit"),
        ("91440300MA5DEM021D", "uscc_check_digit"),
    ],
)
async def test_a_uscc_is_checked(shared_stage: Stage, uscc: str, code: str) -> None:
    reply = await shared_stage.register(new_id(), enterprise={"uscc": uscc, "name": "x"})
    assert reply.faults == {("/enterprise/uscc", code)}


async def test_a_person_is_named_once(shared_stage: Stage) -> None:
    roster = [member("p-1", lead=True), member("p-2"), member("p-1"), member("p-2"), member("p-1")]
    reply = await shared_stage.register(new_id(), roster=roster)
    assert reply.faults == {(f"/roster/{row}/person_id", "person_twice") for row in (2, 3, 4)}


@pytest.mark.parametrize("requirement", [None, {"registered": 1, "titled": 0, "has_safety_permit": False}])
async def test_a_roster_has_a_technical_lead_always(shared_stage: Stage, requirement: Json | None) -> None:
    reply = await shared_stage.register(new_id(), roster=[member("p-1")], requirement=requirement)
    assert reply.faults == {("/roster", "technical_lead_missing")}


async def test_two_technical_leads_are_allowed(shared_stage: Stage) -> None:
    roster = [member("p-1", lead=True), member("p-2", lead=True)]
    assert (await shared_stage.register(new_id(), roster=roster)).status == 201


async def test_the_quota_is_judged_as_by_the_vectors(shared_stage: Stage, shared: Path) -> None:
    vectors = json.loads((shared / "data" / "vectors" / "roster_quota.json").read_text("utf-8"))
    assert len(vectors) > 10
    for vector in vectors:
        case = vector["args"]
        kinds = {
            "registered_only": ["registered"],
            "titled_only": ["titled"],
            "dual": ["registered", "titled"],
        }
        roster = [
            member(f"p-{kind}-{n}", categories=categories)
            for kind, categories in kinds.items()
            for n in range(case[kind])
        ]
        roster[0]["technical_lead"] = case.get("tech_lead", True)
        requirement = {"registered": case["R"], "titled": case["T"], "has_safety_permit": case["permit"]}
        reply = await shared_stage.register(new_id(), roster=roster, requirement=requirement)
        assert reply.status == (422 if vector["violations"] else 201), case
        found = {code for _, code in reply.faults} if reply.status == 422 else set()
        assert found == set(vector["violations"]), case


# --- Every fault at once ---


async def test_shape_and_domain_faults_come_together(shared_stage: Stage) -> None:
    _, earlier = await expired_task(shared_stage)
    swapped = [[lat, lon] for lon, lat in FENCE["coordinates"][0]]
    body = rectification(earlier, "T-none") | {
        "approved_at": "2099-01-01T00:00:00+08:00",
        "deadline_at": "2099-02-01T12:00:00+08:00",
        "surprise": 1,
        "round": 0,
        "enterprise": {"uscc": f"{USCC[:-1]}0", "name": ""},
        "place": place(
            buffer_m=501, colour="red", fence={"type": "Polygon", "coordinates": [swapped], "crs": 1}
        ),
        "requirement": {"registered": 4, "titled": 4, "has_safety_permit": True},
        "roster": [member("p-1"), member("p-1", categories=("registered",)), member("p-2")],
    }
    reply = await put(shared_stage, new_id(), body)
    assert (reply.status, reply.code) == (422, "invalid")
    assert reply.faults == {
        ("/surprise", "unknown_field"),
        ("/round", "out_of_range"),
        ("/approved_at", "approved_at_in_future"),
        ("/deadline_at", "deadline_not_day_end"),
        ("/rectifies", "rectifies_unknown"),
        ("/enterprise/uscc", "uscc_check_digit"),
        ("/enterprise/name", "too_short"),
        ("/place/buffer_m", "out_of_range"),
        ("/place/colour", "unknown_field"),
        ("/place/fence/crs", "fence_unknown_member"),
        ("/place/fence/coordinates", "fence_swapped"),
        ("/roster", "technical_lead_missing"),
        ("/roster/1/person_id", "person_twice"),
        ("/roster", "quota_total"),
        ("/roster", "quota_titled"),
    }


async def test_every_fault_of_a_rectification_comes_at_once(shared_stage: Stage) -> None:
    task_id, earlier = await expired_task(shared_stage, flow="first_application")
    body = rectification(earlier, task_id, round=9, approved_at="2099-01-01T00:00:00+08:00")
    body |= {"deadline_at": "2099-02-01T00:00:00+08:00", "enterprise": {"uscc": OTHER_USCC, "name": "x"}}
    reply = await put(shared_stage, new_id(), body)
    assert reply.faults == {
        ("/approved_at", "approved_at_in_future"),
        ("/rectifies", "rectifies_wrong_enterprise"),
        ("/rectifies", "rectifies_wrong_state"),
        ("/rectifies", "rectifies_wrong_round"),
    }


async def test_one_bad_row_hides_no_other(shared_stage: Stage) -> None:
    roster = [member("p-1", lead=True), {"person_id": 5}, member("p-1")]
    reply = await shared_stage.register(new_id(), roster=roster)
    assert {("/roster/2/person_id", "person_twice"), ("/roster/1/person_id", "wrong_type")} < reply.faults


async def test_a_refused_registration_leaves_nothing(shared_stage: Stage) -> None:
    task_id = new_id()
    for changes in ({"round": 0}, {"approved_at": "2099-01-01T00:00:00+08:00"}):
        assert (await shared_stage.register(task_id, uuid4().hex, **changes)).status == 422
    assert (await shared_stage.platform("GET", f"/v1/tasks/{task_id}")).status == 404
    assert await revisions(shared_stage, task_id) == []


# --- Several at once ---

RACERS = 6


async def race(stage: Stage, *calls: tuple[str, Json]) -> list[tuple[int, str]]:
    """Registrations that all look before the first of them commits; status and code of each, sorted."""
    async with stage.holding(HOLD_FEED):
        racing = [asyncio.create_task(put(stage, task_id, body)) for task_id, body in calls]
        await stage.until_waiting(len(calls))
    replies = await asyncio.gather(*racing)
    return sorted((r.status, r.code if r.status >= 400 else "") for r in replies)


async def test_the_same_registration_at_once_is_new_once(shared_stage: Stage) -> None:
    task_id, body = new_id(), registration()
    assert await race(shared_stage, *[(task_id, body)] * RACERS) == [(200, "")] * (RACERS - 1) + [(201, "")]
    assert await revisions(shared_stage, task_id) == [(1, "task_registered")]


async def test_different_registrations_of_one_id_at_once_are_in_conflict(shared_stage: Stage) -> None:
    task_id = new_id()
    calls = [(task_id, registration(case_id=f"{task_id}-{n}")) for n in range(RACERS)]
    found = await race(shared_stage, *calls)
    assert found == [(201, "")] + [(409, "task_conflict")] * (RACERS - 1)
    assert await revisions(shared_stage, task_id) == [(1, "task_registered")]


async def test_one_round_registered_under_several_ids_at_once_exists_once(shared_stage: Stage) -> None:
    body = registration()
    found = await race(shared_stage, *((new_id(), body) for _ in range(RACERS)))
    assert found == [(201, "")] + [(409, "round_exists")] * (RACERS - 1)


@OWN_SERVICE
async def test_without_its_index_a_round_would_exist_several_times(stage: Stage) -> None:
    await stage.sql("DROP INDEX task_round_once")
    body = registration()
    assert await race(stage, *((new_id(), body) for _ in range(RACERS))) == [(201, "")] * RACERS


@OWN_SERVICE
async def test_without_the_second_look_the_losers_of_a_race_would_fail(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unseen(_: Connection, __: str) -> None:
        return None

    monkeypatch.setattr(tasks, "registration_digest", unseen)
    found = await race(stage, *[(new_id(), registration())] * 2)
    assert found == [(201, ""), (409, "round_exists")]


async def withdraw_while_registering(stage: Stage) -> tuple[Json, Json]:
    """A task's status when registered and afterwards, when a member's withdrawal overlaps with its registration.

    The withdrawal has looked up the member's tasks when the registration begins, and commits when that has answered,
    or when it waits.
    """
    person_id, other = uuid4().hex, uuid4().hex
    earlier, task_id = new_id(), new_id()
    await stage.ready_task(earlier, person_id)
    async with stage.holding(f"SELECT FROM task WHERE task_id = '{earlier}' FOR UPDATE"):
        withdrawing = asyncio.create_task(stage.person(person_id, "DELETE", "/v1/me/consent"))
        await stage.until_waiting(1)
        registering = asyncio.create_task(stage.register(task_id, person_id, other))
        waiting = asyncio.create_task(stage.until_waiting(2))
        await asyncio.wait({registering, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
    assert (await withdrawing).status == 204
    return (await registering).body, await stage.status(task_id)


async def test_a_withdrawal_and_a_registration_at_once_leave_no_change_untold(shared_stage: Stage) -> None:
    registered, afterwards = await withdraw_while_registering(shared_stage)
    assert registered == afterwards
    assert afterwards["members"][0]["reference"] == "missing"


@OWN_SERVICE
async def test_without_the_persons_locked_a_withdrawal_would_go_untold(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_hold(connection: Connection, person_ids: list[str]) -> None:
        insert = "INSERT INTO person (person_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING"
        await connection.execute(insert, person_ids)

    monkeypatch.setattr(tasks, "hold_persons", not_hold)
    registered, afterwards = await withdraw_while_registering(stage)
    assert registered["rev"] == afterwards["rev"]
    assert registered["members"] != afterwards["members"]
