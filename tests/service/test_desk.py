"""What the reviewing officer's console asks for: the list of tasks, what was registered, attempts, and what happens."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.postgres import watch
from checkin_service.web import events
from checkin_service.web.context import SERVICES
from geofence import Frame, from_wgs84
from tests.service.reviewing import REVIEWER, asked, doubtful
from tests.service.situations import ordered
from tests.service.stage import FAR, INSIDE, NEAR, Json, Reply, Stage, place, running_service, until
from tests.service.window import CLOSES_AT, NOON, OPENS_AT, task_at_noon


async def ask(stage: Stage, path: str, **params: Any) -> Reply:
    return await stage.call("GET", path, REVIEWER, "review", params=params)


async def listed(stage: Stage, **params: Any) -> list[Json]:
    reply = await ask(stage, "/v1/tasks", **params)
    assert reply.status == 200, reply.body
    tasks: list[Json] = reply.body["tasks"]
    return tasks


async def ids(stage: Stage, **params: Any) -> list[str]:
    return [task["task_id"] for task in await listed(stage, **params)]


async def audited(stage: Stage, action: str) -> list[tuple[str, str, Json]]:
    rows = await stage.sql("SELECT actor, task_id, details FROM audit WHERE action = $1 ORDER BY seq", action)
    return [(row["actor"], row["task_id"], json.loads(row["details"])) for row in rows]


async def three_tasks(stage: Stage) -> None:
    """T-many has five members and the latest end, T-soon ends first, T-done is completed."""
    await stage.set_clock(NOON)
    for task_id, persons, days_earlier in (("T-many", 5, 0), ("T-soon", 1, 8), ("T-done", 1, 4)):
        names = [f"{task_id}-{number}" for number in range(persons)]
        approved_at = (OPENS_AT - timedelta(days=days_earlier)).isoformat()
        assert (await stage.register(task_id, *names, approved_at=approved_at)).status == 201
    await stage.enrol("T-done-0")
    await stage.consent("T-done-0")
    assert (await stage.check_in("T-done-0", "T-done")).body["outcome"] == "accepted"


# --- The list ---


async def test_tasks_come_by_deadline_or_by_what_is_needed_a_day(stage: Stage) -> None:
    await three_tasks(stage)
    assert await ids(stage) == ["T-soon", "T-done", "T-many"]
    by_risk = await listed(stage, order="risk")
    assert [task["task_id"] for task in by_risk] == ["T-many", "T-soon", "T-done"]
    many = by_risk[0]
    # 20 March to 2 April, both included, are 14 days
    assert (many["missing"], many["days_left"], many["missing_a_day"]) == (5, 13, round(5 / 14, 3))
    assert (many["state"], many["lacking_material"]) == ("pending_material", 5)
    assert (by_risk[2]["missing"], by_risk[2]["state"]) == (0, "completed")


@pytest.mark.parametrize("order", ["deadline", "risk"])
async def test_pages_lead_through_all_tasks(stage: Stage, order: str) -> None:
    await three_tasks(stage)
    found: list[str] = []
    after: Any = ""
    for _ in range(3):
        reply = await ask(stage, "/v1/tasks", order=order, limit="1", after=after)
        found += [task["task_id"] for task in reply.body["tasks"]]
        after = reply.body["next"]
    assert after is None
    assert found == await ids(stage, order=order)


async def test_tasks_are_found_by_what_is_asked(stage: Stage) -> None:
    await three_tasks(stage)
    case_id = (await stage.status("T-many"))["case_id"]
    assert await ids(stage, q="T-soon") == ["T-soon"]
    assert await ids(stage, q=case_id) == ["T-many"]
    assert len(await ids(stage, q="建筑工程")) == 3
    assert await ids(stage, q="别的") == []
    assert await ids(stage, within_days="5") == ["T-soon"]
    review_id = await asked(stage, "T-many-1", "T-many")
    assert await ids(stage, in_review="true") == ["T-many"]
    reviews = await stage.call("GET", "/v1/reviews", REVIEWER, "review", params={"task_id": "T-many"})
    assert [review["review_id"] for review in reviews.body["reviews"]] == [review_id]
    none = await stage.call("GET", "/v1/reviews", REVIEWER, "review", params={"task_id": "T-soon"})
    assert none.body["reviews"] == []


async def test_what_is_over_is_listed_while_something_waits(stage: Stage) -> None:
    await three_tasks(stage)
    await asked(stage, "T-many-1", "T-many")
    await stage.set_clock(CLOSES_AT)
    assert await ids(stage) == []
    assert await ids(stage, window="waiting") == ["T-many"]
    await ordered(stage, "T-soon", "void")
    assert await ids(stage, window="all") == ["T-soon", "T-done", "T-many"]
    await stage.set_clock(NOON)
    assert await ids(stage) == ["T-done", "T-many"]


@pytest.mark.parametrize(
    ("params", "fault"),
    [
        ({"window": "past"}, ("window", "not_allowed_value")),
        ({"order": ""}, ("order", "not_allowed_value")),
        ({"in_review": "yes"}, ("in_review", "not_allowed_value")),
        ({"within_days": "-1"}, ("within_days", "out_of_range")),
        ({"within_days": "367"}, ("within_days", "out_of_range")),
        ({"q": "x" * 101}, ("q", "too_long")),
        ({"q": "\0"}, ("q", "bad_format")),
        ({"after": "1.2"}, ("after", "bad_format")),
        ({"limit": "501"}, ("limit", "out_of_range")),
    ],
)
async def test_a_wrong_question_is_told(stage: Stage, params: dict[str, str], fault: tuple[str, str]) -> None:
    reply = await ask(stage, "/v1/tasks", **params)
    assert (reply.status, reply.faults) == (422, {fault})


# --- One task ---


async def test_what_was_registered_is_shown_and_audited(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    await stage.check_in("p-1", "T1", at=FAR)
    later = (NOON + timedelta(days=1)).isoformat()
    moved = {"reason": "x", "place": place(frame="gcj02"), "effective_at": later}
    await ordered(stage, "T1", "fence", moved)
    reply = await ask(stage, "/v1/tasks/T1/registration")
    assert [(p["fence_version"], p["frame"]) for p in reply.body["places"]] == [(1, "wgs84"), (2, "gcj02")]
    assert [(m["person_id"], m["attempts"], m["technical_lead"]) for m in reply.body["members"]] == [
        ("p-1", 1, True),
        ("p-2", 0, False),
    ]
    assert reply.body["members"][0]["last_attempt_at"] == NOON.isoformat()
    assert await audited(stage, "view_registration") == [(REVIEWER, "T1", {})]
    absent = await ask(stage, "/v1/tasks/T2/registration")
    assert (absent.status, absent.code) == (404, "not_found")


async def test_attempts_come_the_latest_first_with_what_is_kept_of_each(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2", place=place(frame="gcj02", fence=gcj02_fence()))
    far = (await stage.check_in("p-1", "T1", at=FAR)).body["check_in_id"]
    await stage.set_clock(NOON + timedelta(hours=1))
    held = await doubtful(stage, "p-2", "T1")
    reply = await ask(stage, "/v1/tasks/T1/attempts")
    second, first = reply.body["attempts"]
    assert (second["check_in_id"], second["outcome"], second["review"]) == (held, "review", "pending")
    assert (second["location"]["lon"], second["location"]["lat"]) == pytest.approx(
        from_wgs84(*INSIDE, Frame.GCJ02), abs=1e-9
    )
    assert (first["check_in_id"], first["outcome"], first["counted"]) == (far, "rejected", True)
    assert first["location"]["distance_m"] > 800
    assert (first["location"]["lon"], first["review"]) == (None, None)
    assert [reason["code"] for reason in first["reasons"]] == ["outside_geofence"]
    assert await audited(stage, "view_attempts") == [(REVIEWER, "T1", {"attempts": 2})]


def gcj02_fence() -> Json:
    """The usual fence, as a map of that frame has it."""
    ring = [
        [114.0590, 22.5430],
        [114.0610, 22.5430],
        [114.0610, 22.5450],
        [114.0590, 22.5450],
        [114.0590, 22.5430],
    ]
    return {
        "type": "Polygon",
        "coordinates": [[list(from_wgs84(lon, lat, Frame.GCJ02)) for lon, lat in ring]],
    }


async def test_attempts_of_one_member_and_their_pages(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    for minutes in range(3):
        await stage.set_clock(NOON + timedelta(minutes=minutes))
        await stage.check_in("p-1", "T1", at=NEAR)
    await stage.check_in("p-2", "T1", at=FAR)
    whole = (await ask(stage, "/v1/tasks/T1/attempts", person_id="p-1")).body["attempts"]
    assert [attempt["person_id"] for attempt in whole] == ["p-1"] * 3
    page = await ask(stage, "/v1/tasks/T1/attempts", person_id="p-1", limit="2")
    rest = await ask(stage, "/v1/tasks/T1/attempts", person_id="p-1", after=page.body["next"])
    assert page.body["attempts"] + rest.body["attempts"] == whole
    assert (await audited(stage, "view_attempts"))[0] == (REVIEWER, "T1", {"person_id": "p-1", "attempts": 3})
    assert (await ask(stage, "/v1/tasks/T2/attempts")).code == "not_found"


async def test_what_is_gone_of_an_attempt_is_not_shown(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    await stage.check_in("p-1", "T1")
    assert (await stage.platform("DELETE", "/v1/persons/p-1")).status == 204
    (attempt,) = (await ask(stage, "/v1/tasks/T1/attempts")).body["attempts"]
    assert (attempt["outcome"], attempt["location"], attempt["device"]) == ("accepted", None, None)


# --- What happens ---


class Heard:
    """A console's stream, event by event."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response

    async def next(self) -> tuple[str, str, Json]:
        """Kind, id and data of the next event; comments are passed over."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(10):
            while True:
                line = (await self.response.content.readline()).decode()
                if line == "":
                    raise EOFError
                if line == "\n" and "event" in fields:
                    return fields["event"], fields.get("id", ""), json.loads(fields["data"])
                name, _, value = line.rstrip("\n").partition(": ")
                fields[name] = value


@asynccontextmanager
async def listening(stage: Stage, after: str = "", minutes: int = 15) -> AsyncIterator[Heard]:
    headers = {"Authorization": f"Bearer {stage.token(REVIEWER, 'review')}", "Accept": "text/event-stream"}
    async with stage.client.get("/v1/events", headers=headers, params={"after": after}) as response:
        assert response.status == 200, await response.text()
        yield Heard(response)


async def test_who_listens_hears_of_attempts_and_changes(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    async with listening(stage) as heard:
        assert (await heard.next())[0] == "hello"
        await stage.check_in("p-1", "T1", at=FAR)
        kind, _, data = await heard.next()
        assert (kind, data["task_id"], data["outcome"]) == ("attempt", "T1", "rejected")
        assert set(data) == {"type", "task_id", "at", "outcome"}
        await stage.check_in("p-1", "T1")
        told = [await heard.next() for _ in range(3)]
    assert [(kind, data["type"]) for kind, _, data in told] == [
        ("change", "member_accepted"),
        ("change", "task_completed"),
        ("attempt", "attempt"),
    ]


async def test_who_comes_again_hears_what_was_missed_and_nothing_twice(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1", "p-2")
    async with listening(stage) as heard:
        _, first, _ = await heard.next()
    await stage.check_in("p-1", "T1", at=FAR)
    await stage.check_in("p-1", "T1")
    async with listening(stage, after=first) as heard:
        assert (await heard.next())[0] == "hello"
        missed = [await heard.next() for _ in range(3)]
    assert [data["type"] for _, _, data in missed] == ["member_accepted", "attempt", "attempt"]
    async with listening(stage, after=missed[1][1]) as heard:
        await heard.next()
        assert await heard.next() == missed[2]
        await stage.check_in("p-2", "T1", at=FAR)
        assert (await heard.next())[2]["outcome"] == "rejected"


@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_happens_as_one_begins_to_listen_is_heard_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """On either side of the look at what was missed."""
    await task_at_noon(stage, "T1", "p-1")
    async with listening(stage) as heard:
        _, first, _ = await heard.next()
        look = watch.Watch.missed

        async def meanwhile(self: watch.Watch, since: watch.Position | None) -> Any:
            if when == "before":
                await stage.check_in("p-1", "T1", at=FAR)
            seen = await look(self, since)
            if when == "after":
                await stage.check_in("p-1", "T1", at=FAR)
            assert (await heard.next())[0] == "attempt"  # the reader has told everybody
            return seen

        monkeypatch.setattr(watch.Watch, "missed", meanwhile)
        async with listening(stage, after=first) as other:
            assert (await other.next())[0] == "hello"
            assert (await other.next())[2]["outcome"] == "rejected"
            await stage.check_in("p-1", "T1")
            assert (await other.next())[2]["type"] == "member_accepted"


async def test_who_does_not_stay_is_given_what_there_is(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    async with listening(stage) as heard:
        _, first, _ = await heard.next()
    await stage.check_in("p-1", "T1", at=FAR)
    reply = await ask(stage, "/v1/events", after=first)
    assert reply.headers["Content-Type"].startswith("text/event-stream")
    assert reply.body.count("event: attempt\n") == 1
    assert (await ask(stage, "/v1/events")).body == ""
    assert (await ask(stage, "/v1/events", after="x")).faults == {("after", "bad_format")}


async def test_a_restored_service_says_that_all_is_to_be_read_anew(stage: Stage) -> None:
    reply = await ask(stage, "/v1/events", after=f"{'0' * 32}.7.9")
    assert reply.body == "event: reset\ndata: {}\n\n"


async def test_who_does_not_keep_up_is_let_go(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await task_at_noon(stage, "T1", "p-1")
    async with listening(stage) as heard:
        await heard.next()
        monkeypatch.setattr(watch, "MOST_AT_ONCE", 1)
        for _ in range(3):
            await stage.check_in("p-1", "T1", at=FAR)
        kinds = []
        with contextlib.suppress(EOFError):
            while True:
                kinds.append((await heard.next())[0])
    assert kinds[-1] == "reset"


async def test_a_stream_ends_after_a_while(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "STREAM_S", 0.2)
    async with listening(stage) as heard:
        await heard.next()
        with pytest.raises(EOFError):
            await heard.next()


async def test_a_stream_ends_with_the_token(
    database_url: str, stores: EmbeddedStores, tmp_path: Path
) -> None:
    assert stores.redis_url is not None

    def nearly_over() -> float:
        return time.time() + 15 * 60 - 0.5

    running = running_service(database_url, stores.redis_url, tmp_path, None, nearly_over)
    async with running as stage, listening(stage) as heard:
        await heard.next()
        with pytest.raises(EOFError):
            await heard.next()


async def test_who_reads_nothing_is_cut_and_leaves_room(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PATIENCE_S", 0.2)
    monkeypatch.setattr(events, "_text", lambda *_: f": {'x' * 2_000_000}\n\n")
    await task_at_noon(stage, "T1", "p-1")
    _, writer = await asyncio.open_connection("127.0.0.1", stage.client.port, limit=1)
    token = stage.token(REVIEWER, "review")
    lines = (
        "GET /v1/events HTTP/1.1",
        "Host: x",
        "Accept: text/event-stream",
        f"Authorization: Bearer {token}",
    )
    writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
    served: Any = stage.client.app
    watched = served[SERVICES].watch
    await until(lambda: watched.listeners == 1)
    for minute in range(6):
        await stage.set_clock(NOON + timedelta(minutes=minute))
        await stage.check_in("p-1", "T1", at=FAR)
    await until(lambda: watched.listeners == 0)
    writer.close()
    told = await stage.call("GET", "/metrics", "operator", "operate")
    assert 'checkin_connections_cut_total{why="answer"} 1.0' in told.body


async def test_only_so_many_listen(database_url: str, stores: EmbeddedStores, tmp_path: Path) -> None:
    assert stores.redis_url is not None
    limited = running_service(database_url, stores.redis_url, tmp_path, None, CHECKIN_EVENT_STREAMS="1")
    async with limited as stage, listening(stage) as heard:
        await heard.next()
        headers = {"Accept": "text/event-stream"}
        refused = await stage.call("GET", "/v1/events", REVIEWER, "review", headers=headers)
        assert (refused.status, refused.code) == (503, "unavailable")
        assert "Retry-After" in refused.headers


async def test_a_stop_waits_for_nobody_who_listens(
    database_url: str, stores: EmbeddedStores, tmp_path: Path
) -> None:
    assert stores.redis_url is not None
    async with contextlib.AsyncExitStack() as stack:
        running = running_service(database_url, stores.redis_url, tmp_path, None)
        stage = await stack.enter_async_context(running)
        heard = await stack.enter_async_context(listening(stage))
        await heard.next()
        # sooner than handlers that go on are cut
        async with asyncio.timeout(10):
            await stage.client.server.close()
        with pytest.raises(EOFError):
            await heard.next()
