"""Who is let in while more comes than can be done: the figures by themselves, and what callers see of them."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from checkin_service import app
from checkin_service.adapters.postgres.deferred import ReceiptKey, receipts_among
from checkin_service.metrics import Metrics
from checkin_service.settings import read_settings
from checkin_service.usecases.refusals import Refusal
from checkin_service.web import admission
from checkin_service.web.admission import BEGUN_BYTES, BODIES_LIMIT, Admission, Urgency
from checkin_service.web.draining import DRAIN
from face import PoolStats
from tests.faults.raw_connections import connected, say
from tests.service.fixed_engine import FixedEngine
from tests.service.situations import services_of
from tests.service.stage import Json, Reply, Stage, check_in_fields, photo_of, until

ANALYSIS_S = 0.1


@dataclass(slots=True)
class Faces:
    """As much of an engine as is looked at."""

    stats: PoolStats = field(default_factory=lambda: replace(FixedEngine.stats, analysis_s=ANALYSIS_S))


def admission_of(**settings: str) -> Admission:
    """Two workers, ten connections, and a photograph takes 0.1 s: 60 in the house make three seconds."""
    read = read_settings({"CHECKIN_FACE_WORKERS": "2", **settings})
    return Admission(read, cast(Any, Faces()), cast(Any, SimpleNamespace(waiting=0)), Metrics())


def let_in_at(number: int) -> list[Urgency]:
    """The classes for which there is room beside so many photographs."""
    busy = admission_of()
    busy.admitted = number
    return [urgency for urgency in Urgency if busy.admits(urgency)]


@pytest.fixture
def even_handed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is told an earlier or later time by chance."""
    monkeypatch.setattr(admission, "_jitter", SimpleNamespace(uniform=lambda *_: 1.0))


# --- The figures ---


def test_the_expected_wait_is_what_workers_need_for_all_that_is_ahead() -> None:
    busy = admission_of()
    assert busy.expected_wait_s == 0
    busy.admitted = 20
    assert busy.expected_wait_s == pytest.approx(1.0)
    # who has been let in comes to wait for a worker, and is one and not two
    cast(Any, busy.faces).stats = replace(busy.faces.stats, waiting=18, busy=2)
    assert busy.expected_wait_s == pytest.approx(1.0)
    busy.backlog = 20
    assert busy.expected_wait_s == pytest.approx(2.0)


@pytest.mark.parametrize(("cpu_s", "most"), [(ANALYSIS_S, 4800), (None, 480)])
def test_what_may_be_deferred_is_what_workers_with_processors_to_themselves_judge_in_time(
    cpu_s: float | None, most: int
) -> None:
    busy = admission_of(CHECKIN_LONGEST_DEFERRAL_S="240")
    cast(Any, busy.faces).stats = replace(busy.faces.stats, analysis_s=10 * ANALYSIS_S, cpu_s=cpu_s)
    busy.closing = frozenset({"p-1"})
    busy.backlog = most
    assert busy.defers("p-1")
    busy.backlog += 1
    assert not busy.defers("p-1")


@pytest.mark.parametrize(
    ("ahead", "room_for"),
    [
        (30, ["retry", "submission", "enrolment", "poll"]),
        (31, ["retry", "submission", "poll"]),
        (60, ["retry", "submission", "poll"]),
        (61, ["retry", "poll"]),
        (120, ["retry", "poll"]),
        (121, ["poll"]),
    ],
)
def test_the_longer_the_wait_the_fewer_classes(ahead: int, room_for: Sequence[str]) -> None:
    assert let_in_at(ahead) == room_for


def test_no_more_photographs_than_may_wait() -> None:
    busy = admission_of(CHECKIN_FACE_QUEUE="8", CHECKIN_LONGEST_WAIT_S="1000")
    busy.admitted = 9
    assert busy.admits(Urgency.RETRY)
    busy.admitted = 10
    assert not busy.admits(Urgency.RETRY)


@pytest.mark.parametrize(
    ("lag_s", "queue", "shed"),
    [
        (0.5, 20, []),
        (0.0, 21, ["poll"]),
        (0.51, 0, ["enrolment", "poll"]),
        (0.0, 51, ["enrolment", "poll"]),
        (1.01, 0, ["submission", "enrolment", "poll"]),
        (0.0, 101, ["submission", "enrolment", "poll"]),
        (2.01, 0, ["retry", "submission", "enrolment", "poll"]),
        (0.0, 201, ["retry", "submission", "enrolment", "poll"]),
    ],
)
def test_a_strained_process_sheds_polls_first_and_retries_last(
    lag_s: float, queue: int, shed: Sequence[str]
) -> None:
    strained = admission_of()
    strained.lag_s, cast(Any, strained.database).waiting = lag_s, queue
    assert [urgency for urgency in Urgency if not strained.admits(urgency)] == shed


async def test_bodies_have_room_in_memory_and_count_until_they_are_answered() -> None:
    busy = admission_of()
    with busy.enter(Urgency.SUBMISSION) as place:
        place.received(BODIES_LIMIT)
        assert (busy.admitted, busy.admits(Urgency.SUBMISSION)) == (1, True)
        place.received(BODIES_LIMIT + 1)
        assert (busy.admitted, busy.admits(Urgency.SUBMISSION)) == (1, False)
    assert (busy.admitted, busy.bodies) == (0, 0)


async def test_who_sends_a_head_and_next_to_nothing_takes_nobodys_place() -> None:
    busy = admission_of()
    with busy.enter(Urgency.SUBMISSION) as place:
        place.received(BEGUN_BYTES - 1)
        assert (busy.admitted, busy.bodies) == (0, 0)
        place.received(BEGUN_BYTES)
        assert (busy.admitted, busy.bodies) == (1, BEGUN_BYTES)
    with busy.enter(Urgency.SUBMISSION) as small:
        small.received(100)
        small.arrived()
        assert (busy.admitted, busy.bodies) == (1, 100)


async def test_who_sends_slowly_takes_nobodys_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "UPLOAD_S", 0.01)
    busy = admission_of()
    with busy.enter(Urgency.SUBMISSION) as place:
        place.received(BEGUN_BYTES)
        await asyncio.sleep(0.05)
        place.received(BEGUN_BYTES + 1000)
        assert (busy.admitted, busy.bodies) == (0, 0)
        place.arrived()
        assert (busy.admitted, busy.bodies) == (1, BEGUN_BYTES + 1000)
    assert (busy.admitted, busy.bodies) == (0, 0)


async def test_what_is_judged_later_waits_for_no_worker_and_goes_before_the_judging() -> None:
    busy = admission_of()
    busy.closing = frozenset({"p-1"})
    busy.backlog = 61
    assert not busy.is_taking
    with busy.enter(Urgency.SUBMISSION, "p-1") as place:
        place.received(1000)
        place.arrived()
        assert (busy.admitted, busy.bodies, busy.is_taking) == (0, 1000, True)
        # but those that are there must not wait for ever
        busy.oldest_s = 30.0
        assert not busy.is_taking


async def test_who_begins_when_others_have_taken_the_room_is_judged_later_or_sent_away() -> None:
    busy = admission_of(CHECKIN_FACE_QUEUE="1")
    busy.closing = frozenset({"p-1"})
    with ExitStack() as stack:
        places = [stack.enter_context(busy.enter(Urgency.SUBMISSION)) for _ in range(4)]
        near = stack.enter_context(busy.enter(Urgency.SUBMISSION, "p-1"))
        for place in places[:3]:
            place.received(BEGUN_BYTES)
        with pytest.raises(Refusal, match="unavailable"):
            places[3].received(BEGUN_BYTES)
        near.received(BEGUN_BYTES)
        assert (near.deferred, busy.admitted) == (True, 3)
    assert (busy.admitted, busy.bodies) == (0, 0)


async def test_who_took_long_to_send_a_body_is_treated_as_who_comes_again() -> None:
    busy = admission_of()
    with busy.enter(Urgency.SUBMISSION) as place, busy.enter(Urgency.SUBMISSION) as another:
        busy.admitted = 120
        place.arrived()
        assert busy.admitted == 121
        with pytest.raises(Refusal, match="unavailable"):
            another.arrived()


def test_only_who_is_near_a_deadline_is_taken_and_only_what_can_be_judged_in_time() -> None:
    busy = admission_of()
    busy.closing = frozenset({"p-1"})
    busy.backlog = 4800
    assert (busy.defers("p-1"), busy.defers("p-2")) == (True, False)
    busy.backlog = 4801
    assert not busy.defers("p-1")


@pytest.mark.usefixtures("even_handed")
def test_each_who_is_refused_is_told_a_later_time() -> None:
    busy = admission_of()
    busy.admitted = 100
    told = [refused(busy).params["retry_after_s"] for _ in range(100)]
    assert told == sorted(told)
    # five seconds for those in the house, and 0.05 s for each who was refused before
    assert (told[0], told[-1]) == (6, 10)
    assert max(refused(busy).params["retry_after_s"] for _ in range(5000)) == 60


@pytest.mark.usefixtures("even_handed")
def test_who_is_near_a_deadline_is_told_to_come_back_soon() -> None:
    busy = admission_of()
    busy.admitted, busy.closing = 1000, frozenset({"p-1"})
    told = [refused(busy, "p-1").params["retry_after_s"] for _ in range(5000)]
    assert (told[0], max(told)) == (1, 10)
    assert refused(busy, "p-2").params["retry_after_s"] == 51


@pytest.mark.usefixtures("even_handed")
def test_who_is_told_to_come_back_can_do_so_twice_before_the_end() -> None:
    busy = admission_of()
    busy.closing, busy.next_end = frozenset({"p-1"}), time.monotonic() + 15
    told = [refused(busy, "p-1").params["retry_after_s"] for _ in range(5000)]
    assert max(told) == 5
    busy.next_end = time.monotonic() - 1
    assert refused(busy, "p-1").params["retry_after_s"] == 1


def test_not_all_are_told_the_same_time() -> None:
    busy = admission_of()
    busy.admitted = 400
    told = {refused(busy).params["retry_after_s"] for _ in range(50)}
    assert min(told) < 20 < max(told)


def refused(busy: Admission, person_id: str = "") -> Refusal:
    return busy.refusal(Urgency.SUBMISSION, person_id)


# --- What callers see ---


@pytest.fixture(autouse=True)
def nothing_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures are those that a test sets."""
    monkeypatch.setattr(app, "run_beside", lambda *_: None)


def make_wait(stage: Stage, photographs: int) -> None:
    """So many photographs of 0.1 s are ahead, of `CHECKIN_FACE_WORKERS`."""
    workers = stage.settings.face_workers
    stage.engine.stats = replace(stage.engine.stats, waiting=photographs * workers, analysis_s=ANALYSIS_S)


def head_of(path: str, method: str = "POST", **headers: str) -> bytes:
    """Of a request that announces a photograph of 5 MB."""
    lines = {"Host": "s", "Content-Length": "5000000", "Content-Type": "multipart/form-data; boundary=b"}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in (lines | headers).items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode()


async def test_a_refusal_waits_for_no_body_and_uses_up_nothing(stage: Stage) -> None:
    await stage.ready_task("T1", "p-1")
    fields = check_in_fields("T1", await stage.challenge("p-1", "T1"))
    make_wait(stage, 31)
    token = stage.token("p-1", "checkin")
    head = head_of("/v1/check-ins", Authorization=f"Bearer {token}", Idempotency_Key="k")
    heard = await say(port_of(stage), head)
    assert heard.status == 503
    assert "retry-after" in heard.fields
    assert await stage.sql("SELECT FROM receipt") == []
    make_wait(stage, 0)
    assert (await stage.submit("p-1", fields, photo_of("p-1", shot=1), "k")).status == 201


@pytest.mark.parametrize(("begun_bytes", "status"), [(BEGUN_BYTES, 201), (1, 503)], ids=["kept", "control"])
async def test_one_who_sends_beginnings_of_bodies_keeps_nobody_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, begun_bytes: int, status: int
) -> None:
    """In the control a byte takes a place: the wait that is expected then is that of 31 photographs a worker."""
    monkeypatch.setattr(admission, "BEGUN_BYTES", begun_bytes)
    await stage.ready_task("T1", "p-1")
    make_wait(stage, 0)
    token, workers = stage.token("p-2", "checkin"), stage.settings.face_workers
    head = head_of("/v1/check-ins", Authorization=f"Bearer {token}", Idempotency_Key="k")
    receiving = stage.client.app[DRAIN]._receiving
    async with AsyncExitStack() as stack:
        for _ in range(40 * workers):
            _, writer = await stack.enter_async_context(connected(port_of(stage)))
            writer.write(head + b"-")
        await until(lambda: len(receiving) > 30 * workers)
        assert (await stage.check_in("p-1", "T1")).status == status


def port_of(stage: Stage) -> int:
    return int(stage.client.port or 0)


async def test_a_retry_of_a_receipt_goes_before_a_new_submission(stage: Stage) -> None:
    await stage.ready_task("T1", "p-1", "p-2")
    fields = check_in_fields("T1", await stage.challenge("p-1", "T1"))
    first = await stage.submit("p-1", fields, photo_of("p-1", shot=1), "k")
    make_wait(stage, 31)
    assert (await stage.submit("p-1", fields, photo_of("p-1", shot=1), "k")).body == first.body
    shed(await stage.check_in("p-2", "T1"))
    make_wait(stage, 61)
    shed(await stage.submit("p-1", fields, photo_of("p-1", shot=1), "k"))


async def test_who_comes_together_is_looked_up_together(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.ready_task("T1", "p-1")
    assert (await stage.check_in("p-1", "T1")).status == 201
    [row] = await stage.sql("SELECT iss, person_id, idempotency_key FROM receipt")
    looks: list[set[ReceiptKey]] = []

    async def look(connection: Any, keys: set[ReceiptKey]) -> set[ReceiptKey]:
        looks.append(keys)
        return await receipts_among(connection, keys)

    monkeypatch.setattr(admission, "receipts_among", look)
    known, busy = tuple(row), services_of(stage).admission
    others = [("another", *known[1:]), (known[0], "p-2", known[2]), (*known[:2], "another")]
    found = await asyncio.gather(*map(busy.has_receipt, [known, *others]))
    assert (found, looks) == ([True, False, False, False], [{known, *others}])
    assert (await busy.has_receipt(known), len(looks)) == (True, 2)


async def test_an_enrolment_and_a_burst_are_shed_unread_too(stage: Stage) -> None:
    await stage.ready_task("T1", "p-1")
    challenge_id = await stage.challenge("p-1", "T1")
    make_wait(stage, 16)
    shed(await stage.enrol("p-9"))
    make_wait(stage, 31)
    frame: Json = {"data": photo_of("p-1"), "headers": {"Content-Type": "image/jpeg"}}
    shed(await stage.call("PUT", f"/v1/challenges/{challenge_id}/burst/0", "p-1", "checkin", **frame))
    assert stage.engine.analysed == ["p-1"], "of the enrolment before"


async def test_polls_are_shed_before_anything_else(stage: Stage) -> None:
    await stage.ready_task("T1", "p-1")
    make_wait(stage, 1000)
    assert (await stage.platform("GET", "/v1/tasks/T1")).status == 200, "they need no worker"
    services_of(stage).admission.lag_s = 0.6
    make_wait(stage, 0)
    for method, path, body in (
        ("GET", "/v1/tasks/T1", None),
        ("GET", "/v1/changes", None),
        ("POST", "/v1/tasks/query", {"task_ids": ["T1"]}),
    ):
        shed(await stage.platform(method, path, body))
    assert (await stage.check_in("p-1", "T1")).status == 201
    assert (await stage.client.get("/livez")).status == 200
    assert b'checkin_shed_total{urgency="poll"} 3.0' in services_of(stage).metrics.render()


def shed(reply: Reply) -> None:
    assert (reply.status, reply.code) == (503, "unavailable"), reply.body
    assert int(reply.headers["Retry-After"]) >= 1
