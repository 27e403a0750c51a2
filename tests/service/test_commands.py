"""The platform's commands one by one, twice, stale and at once; and the `Idempotency-Key` of changing calls."""

import asyncio
import json
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from checkin_service.adapters.postgres import tasks
from checkin_service.adapters.postgres.database import Connection, open_database
from checkin_service.adapters.postgres.feed import FEED_LOCK
from checkin_service.usecases import command_task
from checkin_service.usecases.sweep import sweep
from checkin_service.web.messages import NOTICE_VERSION
from tests.service.conftest import SetClock
from tests.service.situations import Situation, assert_conflict, expired, invalidated, new_id, traces
from tests.service.stage import ALL_SCOPES, FAR, INSIDE, Json, Reply, Stage, photo_of, place, registration
from tests.service.window import CLOSES_AT, MICROSECOND, NOON, OPENS_AT

pytestmark = pytest.mark.asyncio(loop_scope="module")
# for tests with a service of their own, because they take its defences away or sweep everything
OWN_SERVICE = pytest.mark.asyncio(loop_scope="function")

APPROVED = {"approved_at": OPENS_AT.isoformat()}
HOLD_FEED = f"SELECT pg_advisory_xact_lock({FEED_LOCK})"
LATER = "2026-05-01T00:00:00+08:00"
VOID = {"reason": "名单有误"}
EXTEND = {"reason": "不可抗力", "deadline_at": LATER, "document_no": "深建〔2026〕1号"}
# a kilometre away from the first fence, around FAR
ELSEWHERE = place(
    fence={"type": "Circle", "coordinates": list(FAR), "radius_m": 100}, registered_address="新址"
)
FENCE_COMMAND = {"reason": "迁址", "place": ELSEWHERE}
BODIES: dict[str, Json] = {"void": VOID, "extend": EXTEND, "fence": FENCE_COMMAND}
EVERY_COMMAND = pytest.mark.parametrize("command", BODIES)


async def order(
    stage: Stage, task_id: str, command: str, body: Json | None = None, if_match: str | None = None
) -> Reply:
    headers = {} if if_match is None else {"If-Match": if_match}
    path = f"/v1/tasks/{task_id}/{command}"
    return await stage.platform("POST", path, BODIES[command] if body is None else body, headers=headers)


# --- Every command (in every state: test_task_life.py) ---


@EVERY_COMMAND
async def test_the_same_command_twice_changes_nothing(
    shared_stage: Stage, shared_clock: SetClock, command: str
) -> None:
    await shared_clock(NOON)
    task_id = new_id()
    await shared_stage.register(task_id, new_id("p"), **APPROVED)
    await shared_clock(NOON + MICROSECOND)
    first = await order(shared_stage, task_id, command)
    left = await traces(shared_stage, task_id)
    for body in (BODIES[command], BODIES[command] | {"reason": "another wording"}):
        again = await order(shared_stage, task_id, command, body)
        assert (again.status, again.body) == (200, first.body)
        assert again.headers["ETag"] == first.headers["ETag"]
    assert await traces(shared_stage, task_id) == left


@pytest.mark.parametrize("command", ["extend", "fence"])
async def test_a_repeated_command_is_answered_whatever_happened_since(
    shared_stage: Stage, shared_clock: SetClock, command: str
) -> None:
    """Its answer was lost, and the retry comes when the state would no longer allow it."""
    await shared_clock(NOON)
    task_id = new_id()
    await shared_stage.register(task_id, new_id("p"), **APPROVED)
    await shared_clock(NOON + MICROSECOND)
    await order(shared_stage, task_id, command)
    await order(shared_stage, task_id, "void")
    left = await traces(shared_stage, task_id)
    again = await order(shared_stage, task_id, command)
    assert (again.status, again.body["state"]) == (200, "voided")
    assert await traces(shared_stage, task_id) == left


@EVERY_COMMAND
async def test_an_absent_task_takes_no_command(shared_stage: Stage, command: str) -> None:
    for if_match in (None, "*"):
        reply = await order(shared_stage, "T-none", command, if_match=if_match)
        assert (reply.status, reply.code) == (404, "not_found")


async def test_a_command_is_written_down_with_who_and_why(shared_stage: Stage) -> None:
    task_id = new_id()
    await shared_stage.register(task_id)
    path = f"/v1/tasks/{task_id}/void"
    reply = await shared_stage.call("POST", path, "officer-7", "tasks", json=VOID | {"superseded_by": "T-2"})
    assert reply.status == 200
    query = "SELECT iss, actor, action, details FROM audit WHERE task_id = $1 ORDER BY seq DESC LIMIT 1"
    row = (await shared_stage.sql(query, task_id))[0]
    assert (row["iss"], row["actor"], row["action"]) == ("checkin-development", "officer-7", "void")
    assert json.loads(row["details"]) == VOID | {"superseded_by": "T-2"}


# --- Void ---


async def test_a_voided_task_keeps_what_superseded_it(shared_stage: Stage) -> None:
    task_id = new_id()
    await shared_stage.register(task_id)
    assert (await order(shared_stage, task_id, "void", VOID | {"superseded_by": "T-2"})).status == 200
    assert (await order(shared_stage, task_id, "void", VOID | {"superseded_by": "T-2"})).status == 200
    for other in (VOID, VOID | {"superseded_by": "T-3"}):
        assert_conflict(await order(shared_stage, task_id, "void", other), "voided")


# --- Extend ---


async def test_an_extension_is_an_order(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOON)
    task_id = new_id()
    registered = await shared_stage.register(task_id, new_id("p"), **APPROVED)
    extended = await order(shared_stage, task_id, "extend")
    window = registered.body["window"]
    assert extended.body | {"rev": 1} == registered.body | {
        "closes_at": LATER,
        "window": window | {"basis": "order", "last_day": "2026-04-30", "rolled_over": []},
    }


@pytest.mark.parametrize(
    "same", ["2026-04-03T00:00:00+08:00", "2026-04-02T16:00:00Z", "2026-04-02T11:00:00-05:00"]
)
async def test_an_extension_to_the_present_end_changes_nothing(
    shared_stage: Stage, shared_clock: SetClock, same: str
) -> None:
    await shared_clock(NOON)
    task_id = new_id()
    before = await shared_stage.register(task_id, new_id("p"), **APPROVED)
    reply = await order(shared_stage, task_id, "extend", EXTEND | {"deadline_at": same})
    assert (reply.status, reply.body) == (200, before.body)


@pytest.mark.parametrize(
    ("deadline_at", "code"),
    [
        ("2026-04-02T00:00:00+08:00", "deadline_too_early"),
        ("2004-01-01T00:00:00+08:00", "deadline_too_early"),
        ("2026-04-30T00:00:00Z", "deadline_not_day_end"),
        ("2026-04-30T23:59:59.999999+08:00", "deadline_not_day_end"),
    ],
)
async def test_an_extension_ends_a_day_and_never_earlier(
    shared_stage: Stage, shared_clock: SetClock, deadline_at: str, code: str
) -> None:
    await shared_clock(NOON)
    task_id = new_id()
    before = await shared_stage.register(task_id, new_id("p"), **APPROVED)
    reply = await order(shared_stage, task_id, "extend", EXTEND | {"deadline_at": deadline_at})
    assert (reply.status, reply.faults) == (422, {("/deadline_at", code)})
    assert await shared_stage.status(task_id) == before.body


async def test_an_accepted_member_stays_accepted_when_the_end_moves(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    await shared_clock(NOON)
    task_id, first, second = new_id(), new_id("p"), new_id("p")
    await shared_stage.ready_task(task_id, first, second, **APPROVED)
    await shared_stage.check_in(first, task_id)
    before = await shared_stage.status(task_id)
    after = (await order(shared_stage, task_id, "extend")).body
    assert (after["members"], after["progress"]) == (before["members"], before["progress"])
    moved = await shared_stage.sql("SELECT closes_at FROM acceptance WHERE task_id = $1", task_id)
    assert moved[0]["closes_at"] == datetime.fromisoformat(LATER)


async def swept(stage: Stage, instant: datetime) -> int:
    await stage.set_clock(instant)
    async with open_database(stage.service_url, max_connections=1) as database:
        return await sweep(database)


@OWN_SERVICE
@pytest.mark.parametrize("was", [expired, invalidated], ids=["expired", "invalidated"])
async def test_an_extension_opens_an_ended_task_and_its_end_is_announced_again(
    stage: Stage, was: Situation
) -> None:
    await was(stage, "T1", "p-1", "p-2")
    assert await swept(stage, CLOSES_AT) == 1
    extended = await order(stage, "T1", "extend")
    assert (extended.status, extended.body["state"]) == (200, "open")
    again = datetime.fromisoformat(LATER)
    assert await swept(stage, again - MICROSECOND) == 0
    assert await swept(stage, again) == 1
    assert await swept(stage, again) == 0
    ends = await stage.sql("SELECT type, at FROM change WHERE type LIKE 'task\\_expired%' ORDER BY seq")
    assert [tuple(row) for row in ends] == [("task_expired", CLOSES_AT), ("task_expired", again)]
    assert (await stage.status("T1"))["state"] == was.__name__


async def test_a_person_checks_in_to_an_extended_task(shared_stage: Stage, shared_clock: SetClock) -> None:
    task_id, person_id = new_id(), new_id("p")
    await expired(shared_stage, task_id, new_id("p"), person_id)
    assert (await shared_stage.check_in(person_id, task_id)).reasons == ["window_closed"]
    await order(shared_stage, task_id, "extend")
    assert (await shared_stage.check_in(person_id, task_id)).body["outcome"] == "accepted"
    assert (await shared_stage.status(task_id))["state"] == "completed"


# --- Fence ---


async def zone_of(stage: Stage, task_id: str, person_id: str, at: tuple[float, float]) -> str:
    """Where a check-in at a position is judged to be; with somebody else's face, so that the task stays open."""
    reply = await stage.check_in(person_id, task_id, at=at, selfie=photo_of("nobody"))
    return str(reply.body["location"]["zone"])


async def test_a_new_fence_judges_from_now_on(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOON)
    task_id, person_id = new_id(), new_id("p")
    await shared_stage.ready_task(task_id, person_id, **APPROVED)
    assert await zone_of(shared_stage, task_id, person_id, INSIDE) == "inside"
    await shared_clock(NOON + MICROSECOND)
    reply = await order(shared_stage, task_id, "fence")
    assert (reply.status, reply.body["fence_version"]) == (200, 2)
    assert await zone_of(shared_stage, task_id, person_id, INSIDE) == "outside"
    assert await zone_of(shared_stage, task_id, person_id, FAR) == "inside"
    judged = "SELECT fence_version FROM attempt WHERE task_id = $1 ORDER BY judged_at, fence_version"
    assert [row[0] for row in await shared_stage.sql(judged, task_id)] == [1, 2, 2]


async def test_several_future_fences_take_turns(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOON)
    task_id, person_id = new_id(), new_id("p")
    await shared_stage.ready_task(task_id, person_id, **APPROVED)
    first, second = NOON + timedelta(days=1), NOON + timedelta(days=2)
    # the later one is announced first
    for version, (instant, there) in enumerate([(second, place(buffer_m=1)), (first, ELSEWHERE)], start=2):
        body = {"reason": "x", "place": there, "effective_at": instant.isoformat()}
        assert (await order(shared_stage, task_id, "fence", body)).body["fence_version"] == version
    for instant, inside in (
        (NOON, INSIDE),
        (first - MICROSECOND, INSIDE),
        (first, FAR),
        (second - MICROSECOND, FAR),
        (second, INSIDE),
    ):
        await shared_clock(instant)
        assert await zone_of(shared_stage, task_id, person_id, inside) == "inside"


async def test_a_fence_from_now_on_stands_until_the_next_planned_one(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    await shared_clock(NOON)
    task_id, person_id = new_id(), new_id("p")
    await shared_stage.ready_task(task_id, person_id, **APPROVED)
    tomorrow = NOON + timedelta(days=1)
    planned = {"reason": "x", "place": place(buffer_m=1), "effective_at": tomorrow.isoformat()}
    await order(shared_stage, task_id, "fence", planned)
    await shared_clock(NOON + MICROSECOND)
    assert (await order(shared_stage, task_id, "fence")).body["fence_version"] == 3
    assert await zone_of(shared_stage, task_id, person_id, FAR) == "inside"
    await shared_clock(tomorrow)
    assert await zone_of(shared_stage, task_id, person_id, INSIDE) == "inside"


async def test_one_instant_takes_one_fence(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOON)
    task_id = new_id()
    await shared_stage.register(task_id, new_id("p"), **APPROVED)
    instant = NOON + timedelta(days=1)
    planned = FENCE_COMMAND | {"effective_at": instant.isoformat()}
    first = await order(shared_stage, task_id, "fence", planned)
    same = await order(
        shared_stage, task_id, "fence", FENCE_COMMAND | {"effective_at": "2026-03-21T04:00:00.000Z"}
    )
    assert (same.status, same.body) == (200, first.body)
    other = await order(shared_stage, task_id, "fence", planned | {"place": place(buffer_m=1)})
    assert_conflict(other, "pending_material")
    await shared_clock(instant + timedelta(hours=1))
    assert (await order(shared_stage, task_id, "fence", planned)).body["rev"] == first.body["rev"]


async def test_a_fence_at_the_instant_of_another_is_in_conflict(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    await shared_clock(NOON)
    task_id = new_id()
    await shared_stage.register(task_id, new_id("p"), **APPROVED)
    assert_conflict(await order(shared_stage, task_id, "fence"), "pending_material")


async def test_no_fence_takes_force_in_the_past(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOON)
    task_id = new_id()
    before = await shared_stage.register(task_id, new_id("p"), **APPROVED)
    past = FENCE_COMMAND | {"effective_at": (NOON - MICROSECOND).isoformat()}
    reply = await order(shared_stage, task_id, "fence", past)
    assert (reply.status, reply.faults) == (422, {("/effective_at", "effective_at_in_past")})
    assert await shared_stage.status(task_id) == before.body


async def test_the_fence_in_force_again_changes_nothing(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOON)
    task_id = new_id()
    before = await shared_stage.register(task_id, new_id("p"), **APPROVED)
    there = place()
    del there["buffer_m"]
    reply = await order(shared_stage, task_id, "fence", {"reason": "x", "place": there})
    assert (reply.status, reply.body) == (200, before.body)


# --- If-Match ---


@EVERY_COMMAND
@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("{tag}", 200),
        ("*", 200),
        ('"a", {tag}', 200),
        ("W/{tag}", 412),
        ('"a"', 412),
        ("nonsense", 412),
        ("", 412),
    ],
)
async def test_a_command_may_say_which_revision_it_means(
    shared_stage: Stage, command: str, header: str, status: int
) -> None:
    task_id = new_id()
    registered = await shared_stage.register(task_id)
    left = await traces(shared_stage, task_id)
    tag = registered.headers["ETag"]
    body = EXTEND | {"deadline_at": "2099-01-01T00:00:00+08:00"} if command == "extend" else None
    reply = await order(shared_stage, task_id, command, body, if_match=header.replace("{tag}", tag))
    assert reply.status == status
    if status == 412:
        assert reply.code == "stale_revision"
        assert await traces(shared_stage, task_id) == left


@EVERY_COMMAND
async def test_a_command_on_an_older_revision_is_refused(
    shared_stage: Stage, shared_clock: SetClock, command: str
) -> None:
    await shared_clock(NOON)
    task_id, person_id = new_id(), new_id("p")
    registered = await shared_stage.register(task_id, person_id, **APPROVED)
    await shared_stage.enrol(person_id)
    stale = await order(shared_stage, task_id, command, if_match=registered.headers["ETag"])
    assert (stale.status, stale.code) == (412, "stale_revision")


async def test_time_alone_makes_a_revision_stale(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOON)
    task_id = new_id()
    registered = await shared_stage.register(task_id, new_id("p"), **APPROVED)
    await shared_clock(CLOSES_AT)
    assert (await order(shared_stage, task_id, "extend", if_match=registered.headers["ETag"])).status == 412


# --- Two commands at once ---


async def voided_twice_at_once(stage: Stage) -> list[str]:
    """The feed after two voids that both began before either ended."""
    await stage.register("T1")
    async with stage.holding(HOLD_FEED):
        racing = [asyncio.create_task(order(stage, "T1", "void")) for _ in range(2)]
        await stage.until_waiting(2)
    assert [reply.status for reply in await asyncio.gather(*racing)] == [200, 200]
    return (await traces(stage, "T1"))[0]


@OWN_SERVICE
async def test_two_voids_at_once_are_one(stage: Stage) -> None:
    assert await voided_twice_at_once(stage) == ["task_registered", "task_voided"]


@OWN_SERVICE
async def test_without_the_task_locked_two_voids_would_be_two(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_lock(_: Connection, __: str) -> bool:
        return True

    monkeypatch.setattr(tasks, "lock_task", not_lock)
    assert await voided_twice_at_once(stage) == ["task_registered", "task_voided", "task_voided"]


# --- Idempotency-Key ---


def _photos(*photos: bytes, basis: Json | None = None, name: str = "a.jpg") -> aiohttp.FormData:
    form = aiohttp.FormData()
    if basis:
        form.add_field("basis", json.dumps(basis))
    for photo in photos:
        form.add_field("photo", photo, filename=name)
    return form


class Keyed:
    """One changing call with its key, on a task and a person of its own."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.key = stage, uuid4().hex
        self.task_id, self.person_id = new_id(), new_id("p")
        self.body = registration(self.person_id)

    async def prepare(self) -> None:
        await self.stage.register(self.task_id, self.person_id)
        await self.stage.enrol(self.person_id)
        await self.stage.consent(self.person_id)

    async def send(self, method: str, path: str, body: Any = None, **options: Any) -> Reply:
        path = path.format(task=self.task_id, person=self.person_id)
        sub, scope = (self.person_id, "checkin") if "/me" in path or "chal" in path else ("platform", "tasks")
        headers = {"Idempotency-Key": options.pop("key", self.key), **options.pop("headers", {})}
        if body is not None:
            options["json"] = body
        return await self.stage.call(method, path, options.pop("sub", sub), scope, headers=headers, **options)

    async def void(self, body: Json = VOID, **options: Any) -> Reply:
        return await self.send("POST", "/v1/tasks/{task}/void", body, **options)

    async def enrol(self, form: aiohttp.FormData) -> Reply:
        return await self.send("PUT", "/v1/persons/{person}/reference", data=form)


CONSENT = {"notice_version": NOTICE_VERSION, "scopes": ALL_SCOPES}
KEYED_CALLS: dict[str, tuple[str, str, Json | None, Json | None]] = {
    # method, path, body, another body that would be taken as well
    "void": ("POST", "/v1/tasks/{task}/void", VOID, VOID | {"reason": "y"}),
    "extend": (
        "POST",
        "/v1/tasks/{task}/extend",
        EXTEND | {"deadline_at": "2098-01-01T00:00:00+08:00"},
        EXTEND | {"deadline_at": "2099-01-01T00:00:00+08:00"},
    ),
    "fence": ("POST", "/v1/tasks/{task}/fence", FENCE_COMMAND, {"reason": "x", "place": place(buffer_m=3)}),
    "suspend": ("POST", "/v1/tasks/{task}/suspend", {"reason": "x"}, {"reason": "y"}),
    "challenge": ("POST", "/v1/challenges", None, None),
    "consent": ("PUT", "/v1/me/consent", CONSENT, CONSENT | {"scopes": ["location"]}),
    "withdrawal": ("DELETE", "/v1/me/consent", None, None),
    "erasure": ("DELETE", "/v1/persons/{person}", None, None),
}


@pytest.mark.parametrize("name", KEYED_CALLS)
async def test_the_same_call_under_its_key_gets_the_stored_answer(shared_stage: Stage, name: str) -> None:
    keyed = Keyed(shared_stage)
    await keyed.prepare()
    method, path, body, other = KEYED_CALLS[name]
    if name == "challenge":
        body = {"task_id": keyed.task_id}
    first = await keyed.send(method, path, body)
    assert first.status in {200, 201, 204}, first.body
    rows = await _rows(shared_stage)
    # something else happens in between, which a fresh answer would show
    await keyed.void(key="another")
    again = await keyed.send(method, path, body)
    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers.get("ETag") == first.headers.get("ETag")
    assert {table: n for table, n in (await _rows(shared_stage)).items() if n != rows[table]}.keys() <= {
        "change",
        "audit",
        "idempotency_key",
    }
    if other:
        reused = await keyed.send(method, path, other)
        assert (reused.status, reused.code) == (422, "idempotency_key_reused")


async def _rows(stage: Stage) -> dict[str, int]:
    tables = (
        "task",
        "fence_version",
        "challenge",
        "consent",
        "reference",
        "processing_record",
        "change",
        "audit",
    )
    counts = ", ".join(f"(SELECT count(*) FROM {table}) AS {table}" for table in (*tables, "idempotency_key"))
    return dict((await stage.sql(f"SELECT {counts}"))[0])


async def test_a_registration_under_its_key_stays_new(shared_stage: Stage) -> None:
    keyed = Keyed(shared_stage)
    first = await keyed.send("PUT", "/v1/tasks/{task}", keyed.body)
    await keyed.void()
    same = {name: keyed.body[name] for name in reversed(keyed.body)}
    again = await keyed.send("PUT", "/v1/tasks/{task}", same)
    assert (again.status, again.body, again.headers["ETag"]) == (201, first.body, first.headers["ETag"])
    fresh = await keyed.send("PUT", "/v1/tasks/{task}", keyed.body, key="fresh")
    assert (fresh.status, fresh.body["state"]) == (200, "voided")
    reused = await keyed.send("PUT", "/v1/tasks/{task}", keyed.body | {"round": 2})
    assert (reused.status, reused.code) == (422, "idempotency_key_reused")


async def test_an_enrolment_is_the_same_by_its_values_and_pictures(shared_stage: Stage) -> None:
    keyed, basis = Keyed(shared_stage), {"kind": "statutory_duty"}
    first = await keyed.enrol(_photos(photo_of("a"), photo_of("b"), basis=basis))
    assert first.status == 201
    # aiohttp gives every form a boundary of its own
    again = await keyed.enrol(_photos(photo_of("a"), photo_of("b"), basis=basis, name="other.jpg"))
    assert (again.status, again.body) == (201, first.body)
    others = [
        _photos(photo_of("a"), photo_of("b")),
        _photos(photo_of("a"), basis=basis),
        _photos(photo_of("a"), photo_of("c"), basis=basis),
    ]
    for other in others:
        reused = await keyed.enrol(other)
        assert (reused.status, reused.code) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    "same", [b'{"reason":"x","superseded_by":null}', b' {"superseded_by" : null, "reason": "\\u0078"}']
)
async def test_a_body_is_the_same_by_its_json(shared_stage: Stage, same: bytes) -> None:
    keyed = Keyed(shared_stage)
    await shared_stage.register(keyed.task_id)
    first = await keyed.void({"reason": "x", "superseded_by": None})
    again = await keyed.send(
        "POST", "/v1/tasks/{task}/void", data=same, headers={"Content-Type": "application/json"}
    )
    assert (again.status, again.body) == (200, first.body)


async def test_a_key_belongs_to_caller_and_operation(shared_stage: Stage) -> None:
    keyed, other = Keyed(shared_stage), Keyed(shared_stage)
    for task_id in (keyed.task_id, other.task_id):
        await shared_stage.register(task_id)
    assert (await keyed.void(VOID)).status == 200
    elsewhere = await other.void({"reason": "other"}, key=keyed.key)
    assert (elsewhere.status, elsewhere.body["state"]) == (200, "voided")
    somebody = await keyed.void({"reason": "other"}, sub="another-platform")
    assert somebody.status == 200


async def test_a_refusal_is_not_stored(shared_stage: Stage) -> None:
    keyed = Keyed(shared_stage)
    absent = await keyed.void()
    assert absent.status == 404
    await shared_stage.register(keyed.task_id)
    stale = await keyed.void({"reason": "other"}, headers={"If-Match": '"a"'})
    assert stale.status == 412
    assert (await keyed.void()).body["state"] == "voided"


async def test_a_failure_of_ours_is_not_stored(shared_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    keyed = Keyed(shared_stage)
    await shared_stage.register(keyed.task_id)

    async def away(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(command_task, "command_task", away)
        failed = await keyed.void()
        assert (failed.status, failed.code) == (503, "unavailable")
    assert (await keyed.void()).status == 200


async def test_a_command_that_cannot_be_answered_has_changed_nothing(
    shared_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that its retry may name the same revision."""
    task_id = new_id()
    tag = (await shared_stage.register(task_id)).headers["ETag"]
    left = await traces(shared_stage, task_id)

    async def away(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(tasks, "read_status", away)
        assert (await order(shared_stage, task_id, "void", if_match=tag)).status == 503
    assert await traces(shared_stage, task_id) == left
    assert (await order(shared_stage, task_id, "void", if_match=tag)).status == 200


async def test_a_call_that_still_runs_is_not_run_again(shared_stage: Stage) -> None:
    keyed = Keyed(shared_stage)
    await shared_stage.register(keyed.task_id)
    async with shared_stage.holding(HOLD_FEED):
        first = asyncio.create_task(keyed.void())
        await shared_stage.until_waiting(1)
        running = await keyed.void()
        assert (running.status, running.code) == (409, "idempotency_in_progress")
        assert int(running.headers["Retry-After"]) >= 1
        other = await keyed.void({"reason": "other"})
        assert (other.status, other.code) == (422, "idempotency_key_reused")
    finished = await first
    assert (finished.status, (await keyed.void()).body) == (200, finished.body)
    assert (await traces(shared_stage, keyed.task_id))[1] == ["register", "void"]


async def test_a_key_whose_owner_died_is_taken_over_after_half_a_minute(
    shared_stage: Stage, shared_clock: SetClock
) -> None:
    await shared_clock(NOON)
    keyed = Keyed(shared_stage)
    await shared_stage.register(keyed.task_id, keyed.person_id, **APPROVED)
    await keyed.void()
    dead = "UPDATE idempotency_key SET status = NULL, answer = NULL WHERE idempotency_key = $1"
    await shared_stage.sql(dead, keyed.key)
    await shared_clock(NOON + timedelta(seconds=30))
    assert (await keyed.void()).code == "idempotency_in_progress"
    await shared_clock(NOON + timedelta(seconds=30) + MICROSECOND)
    assert (await keyed.void({"reason": "other"})).code == "idempotency_key_reused"
    assert (await keyed.void()).status == 200


async def test_a_key_ends_after_a_day(shared_stage: Stage, shared_clock: SetClock) -> None:
    await shared_clock(NOON)
    keyed = Keyed(shared_stage)
    await shared_stage.register(keyed.task_id, keyed.person_id, **APPROVED)
    await keyed.void()
    await shared_clock(NOON + timedelta(days=1))
    assert (await keyed.void({"reason": "other"})).code == "idempotency_key_reused"
    await shared_clock(NOON + timedelta(days=1) + MICROSECOND)
    assert (await keyed.void({"reason": "other"})).status == 200


@OWN_SERVICE
async def test_a_reason_may_have_several_lines(stage: Stage) -> None:
    await stage.register("T1")
    answer = await stage.platform("POST", "/v1/tasks/T1/void", {"reason": "registered twice\nsee the other"})
    assert (answer.status, answer.body["state"]) == (200, "voided")
