"""A reviewer's calls, and what gives them something to decide."""

from typing import Any
from uuid import uuid4

from tests.service.stage import Json, Reply, Stage, photo_of

REVIEWER, SECOND = "r-1", "r-2"
# the passive model takes it for an attack: doubtful, and nothing else
DOUBTFUL = 0.1


async def doubtful(stage: Stage, person_id: str, task_id: str, shot: int = 90) -> str:
    """A check-in that people are to decide on; its id is the review's."""
    reply = await stage.check_in(person_id, task_id, selfie=photo_of(person_id, shot, live=DOUBTFUL))
    assert reply.body["outcome"] == "review", reply.body
    return str(reply.body["check_in_id"])


async def ask(stage: Stage, person_id: str, task_id: str, key: str | None = None, **more: Any) -> Reply:
    """A manual request."""
    body = {"task_id": task_id, "reason": "我不想用人脸识别", **more}
    headers = {"Idempotency-Key": key or uuid4().hex}
    return await stage.person(person_id, "POST", "/v1/manual-requests", body, headers=headers)


async def asked(stage: Stage, person_id: str, task_id: str, **more: Any) -> str:
    """The id of a manual request that is taken; it is the review's."""
    reply = await ask(stage, person_id, task_id, **more)
    assert (reply.status, reply.body["state"]) == (201, "pending"), reply.body
    return str(reply.body["manual_request_id"])


async def decide(
    stage: Stage,
    review_id: str,
    decision: str = "accept",
    reviewer: str = REVIEWER,
    key: str | None = None,
    **options: Any,
) -> Reply:
    path, headers = f"/v1/reviews/{review_id}/decision", {"Idempotency-Key": key or uuid4().hex}
    body = {"decision": decision, "note": "与证件照片相符"}
    return await stage.call("POST", path, reviewer, "review", json=body, headers=headers, **options)


async def review(stage: Stage, path: str = "", reviewer: str = REVIEWER, **options: Any) -> Reply:
    """Something under /v1/reviews, as a reviewer reads it."""
    return await stage.call("GET", f"/v1/reviews{path}", reviewer, "review", **options)


async def queue(stage: Stage, **params: str) -> list[Json]:
    reply = await review(stage, params=params)
    assert reply.status == 200, reply.body
    reviews: list[Json] = reply.body["reviews"]
    return reviews


async def told(stage: Stage, task_id: str) -> list[str]:
    """What the feed was told of a task since its material was ready, in the order of its revisions."""
    rows = await stage.sql("SELECT type FROM change WHERE task_id = $1 ORDER BY rev", task_id)
    return [row["type"] for row in rows if row["type"] not in {"task_registered", "material_ready"}]
