"""How a task comes into each of its states, over HTTP and by the judging clock alone.

Each brings about a routine task of two: the first has an accepted check-in that is not revoked.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

from checkin_service.web.context import SERVICES, Services
from face import WorkerFailed
from tests.service.stage import Json, Reply, Stage
from tests.service.window import CLOSES_AT, NOON, OPENS_AT, PROVISIONAL_CLOSES_AT, PROVISIONAL_OPENS_AT

ROUTINE: Json = {"flow": "routine", "approved_at": OPENS_AT.isoformat()}
LATER = "2027-06-01T00:00:00+08:00"
Situation = Callable[[Stage, str, str, str], Awaitable[None]]


def new_id(kind: str = "T") -> str:
    return f"{kind}-{uuid4().hex[:12]}"


async def order(stage: Stage, task_id: str, command: str, body: Json | None = None, **more: Any) -> Reply:
    """A command, with a reason where it takes nothing else."""
    path = f"/v1/tasks/{task_id}/{command}"
    return await stage.platform("POST", path, {"reason": "x"} if body is None else body, **more)


async def ordered(stage: Stage, task_id: str, command: str, body: Json | None = None) -> Json:
    """The status after a command that is taken."""
    reply = await order(stage, task_id, command, body)
    assert reply.status == 200, reply.body
    status: Json = reply.body
    return status


async def traces(stage: Stage, task_id: str) -> tuple[list[str], list[str]]:
    """What a change leaves: feed entries and audit rows."""
    changes = await stage.sql("SELECT type FROM change WHERE task_id = $1 ORDER BY rev", task_id)
    audit = await stage.sql("SELECT action FROM audit WHERE task_id = $1 ORDER BY seq", task_id)
    return [row["type"] for row in changes], [row["action"] for row in audit]


def assert_conflict(reply: Reply, state: str) -> None:
    assert (reply.status, reply.code) == (409, "state_conflict")
    assert state in reply.body["detail"]


async def accept(stage: Stage, task_id: str, person_id: str) -> None:
    reply = await stage.check_in(person_id, task_id)
    assert reply.body["outcome"] == "accepted", reply.body


def services_of(stage: Stage) -> Services:
    served = stage.client.app
    assert served is not None
    wired: Services = served[SERVICES]
    return wired


@contextmanager
def breakdown(stage: Stage) -> Iterator[None]:
    """While it lasts the engine judges nothing."""

    async def break_down(_: bytes) -> None:
        raise WorkerFailed("it crashed")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.engine, "analyse", break_down)
        yield


async def pending_material(stage: Stage, task_id: str, first: str, second: str) -> None:
    await stage.set_clock(NOON)
    assert (await stage.register(task_id, first, second, **ROUTINE)).status == 201
    await stage.enrol(first)
    await stage.consent(first)
    await accept(stage, task_id, first)


async def open_(stage: Stage, task_id: str, first: str, second: str) -> None:
    await stage.set_clock(NOON)
    await stage.ready_task(task_id, first, second, **ROUTINE)
    await accept(stage, task_id, first)


async def suspended(stage: Stage, task_id: str, first: str, second: str) -> None:
    await open_(stage, task_id, first, second)
    await ordered(stage, task_id, "suspend")


async def suspended_and_over(stage: Stage, task_id: str, first: str, second: str) -> None:
    await suspended(stage, task_id, first, second)
    await stage.set_clock(CLOSES_AT)


async def completed(stage: Stage, task_id: str, first: str, second: str) -> None:
    await open_(stage, task_id, first, second)
    await accept(stage, task_id, second)


async def completed_and_over(stage: Stage, task_id: str, first: str, second: str) -> None:
    await completed(stage, task_id, first, second)
    await stage.set_clock(CLOSES_AT)


async def unjudged_at_the_end(stage: Stage, task_id: str, first: str, second: str) -> None:
    await open_(stage, task_id, first, second)
    with breakdown(stage):
        assert (await stage.check_in(second, task_id)).status == 503
    await stage.set_clock(CLOSES_AT)


async def provisional_end(stage: Stage, task_id: str, first: str, second: str) -> None:
    await stage.set_clock(PROVISIONAL_OPENS_AT)
    approved_at = PROVISIONAL_OPENS_AT.isoformat()
    await stage.ready_task(task_id, first, second, **ROUTINE | {"approved_at": approved_at})
    await accept(stage, task_id, first)
    await stage.set_clock(PROVISIONAL_CLOSES_AT)


async def invalidated(stage: Stage, task_id: str, first: str, second: str) -> None:
    await completed(stage, task_id, first, second)
    await ordered(stage, task_id, f"members/{second}/revoke")
    await stage.set_clock(CLOSES_AT)


async def expired(stage: Stage, task_id: str, first: str, second: str) -> None:
    await open_(stage, task_id, first, second)
    await stage.set_clock(CLOSES_AT)


async def voided(stage: Stage, task_id: str, first: str, second: str) -> None:
    await open_(stage, task_id, first, second)
    await ordered(stage, task_id, "void")


async def closed(stage: Stage, task_id: str, first: str, second: str) -> None:
    await expired(stage, task_id, first, second)
    await ordered(stage, task_id, "close")
