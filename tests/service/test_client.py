"""The Python client against the real service, and against one that is out of sorts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from checkin_service import client as module
from checkin_service.client import CheckInClient, FeedRestarted, Refused, Unreachable
from tests.service.stage import Stage, photo_of, registration


@asynccontextmanager
async def calling(stage: Stage) -> AsyncIterator[CheckInClient]:
    async def token() -> str:
        return stage.token("platform", "tasks")

    async with CheckInClient(str(stage.client.make_url("/")), token) as service:
        yield service


async def test_a_round_from_registration_to_completion(stage: Stage) -> None:
    async with calling(stage) as service:
        registered = await service.register_task("T1", registration("p-1"))
        assert (registered.state, registered.members[0].reference) == ("pending_material", "missing")
        assert registered.closes_at > registered.opens_at
        enrolment = await service.enrol("p-1", [photo_of("p-1")])
        assert (enrolment.person_id, len(enrolment.photos)) == ("p-1", 1)
        await stage.consent("p-1")
        assert (await stage.check_in("p-1", "T1")).body["outcome"] == "accepted"
        status = await service.task("T1")
        assert (status.state, status.members[0].method, status.progress.accepted) == ("completed", "face", 1)
        assert (await service.tasks(["T1", "T2"])).keys() == {"T1"}
        types = [change.type async for page in service.changes() for change in page.changes]
        assert types == ["task_registered", "material_ready", "member_accepted", "task_completed"]


async def test_a_status_that_did_not_change_is_the_one_that_is_known(stage: Stage) -> None:
    async with calling(stage) as service:
        known = await service.register_task("T1", registration("p-1"))
        assert await service.task("T1", known) is known
        extended = await service.command("T1", "suspend", "a complaint", seen=known)
        assert (await service.task("T1", known)).rev == extended.rev > known.rev
        with pytest.raises(Refused) as refused:
            await service.command("T1", "resume", "settled", seen=known)
        assert (refused.value.status, refused.value.code) == (412, "stale_revision")


async def test_a_refusal_names_every_fault(stage: Stage) -> None:
    async with calling(stage) as service:
        with pytest.raises(Refused) as refused:
            await service.register_task("T1", registration("p-1", round=0, flow="none"))
        assert {fault.pointer for fault in refused.value.faults} == {"/round", "/flow"}
        assert refused.value.request_id


async def test_the_feed_goes_on_where_it_was_left(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async with calling(stage) as service:
        await service.register_task("T1", registration("p-1"))
        [first] = [page async for page in service.changes()]
        assert [page async for page in service.changes(first.next)] == []
        pages = service.changes(first.next, pause_s=0.01)
        await service.register_task("T2", registration("p-1"))
        assert [change.task_id for change in (await anext(pages)).changes] == ["T2"]
        await pages.aclose()


async def test_a_cursor_of_before_a_restore_says_so(stage: Stage) -> None:
    async with calling(stage) as service:
        await service.register_task("T1", registration("p-1"))
        [page] = [page async for page in service.changes()]
        await stage.sql("UPDATE feed_epoch SET epoch = 'restored'")
        with pytest.raises(FeedRestarted):
            await anext(service.changes(page.next))


async def test_more_tasks_than_a_query_takes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_IN_A_QUERY", 2)
    async with calling(stage) as service:
        task_ids = [f"T{number}" for number in range(5)]
        for task_id in task_ids:
            await service.register_task(task_id, registration("p-1"))
        assert list(await service.tasks(task_ids)) == task_ids


# --- A service that is out of sorts ---


@dataclass(slots=True)
class Moody:
    """Answers as told, then well; keeps what it was sent. 0 hangs up."""

    moods: list[tuple[int, dict[str, str]]]
    heard: list[tuple[str, bytes]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        photo = b""
        if request.content_type.startswith("multipart/"):
            photo = bytes((await request.post())["photo"].file.read())  # type: ignore[union-attr]
        self.heard.append((request.headers.get("Idempotency-Key", ""), photo))
        if not self.moods:
            return web.json_response({"person_id": "p-1", "reference_id": "r-1", "photos": []})
        status, headers = self.moods.pop(0)
        if status == 0 and request.transport:
            request.transport.abort()
        return web.Response(status=status or 500, headers=headers, text="<html>a proxy's page</html>")


@asynccontextmanager
async def moody(*moods: tuple[int, dict[str, str]]) -> AsyncIterator[tuple[Moody, CheckInClient]]:
    async def token() -> str:
        return "a token"

    service, app = Moody(list(moods)), web.Application()
    app.router.add_route("*", "/{path:.*}", service.handle)
    async with (
        TestServer(app) as server,
        CheckInClient(str(server.make_url("/")), token, patience_s=5) as caller,
    ):
        yield service, caller


async def test_what_may_come_again_is_sent_again_as_it_was() -> None:
    now = {"Retry-After": "0"}
    async with moody((503, now), (0, {}), (429, now), (502, now)) as (service, caller):
        assert (await caller.enrol("p-1", [b"a photograph"])).reference_id == "r-1"
    [(key, photo)] = set(service.heard)
    assert (len(service.heard), photo) == (5, b"a photograph")
    assert key


async def test_whoever_is_told_to_wait_too_long_knows_that_nothing_is_known() -> None:
    async with moody((503, {"Retry-After": "60"})) as (service, caller):
        with pytest.raises(Unreachable):
            await caller.task("T1")
    assert len(service.heard) == 1


async def test_a_proxys_refusal_is_a_refusal() -> None:
    async with moody((413, {})) as (service, caller):
        with pytest.raises(Refused) as refused:
            await caller.task("T1")
    assert (refused.value.status, refused.value.code, len(service.heard)) == (413, "", 1)
