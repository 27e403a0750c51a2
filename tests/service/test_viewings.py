"""Whatever shows evidence of a person to somebody else is written down, whichever route it is."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from checkin_service.usecases import viewings
from tests.access import SERVED
from tests.service.reviewing import doubtful
from tests.service.stage import Stage
from tests.service.window import task_at_noon

# What tells of a face, a place, a phone, a qualification or a grievance, and belongs to one person.
EVIDENCE = {
    "score",
    "lon",
    "lat",
    "distance_m",
    "likeness",
    "live",
    "selfie",
    "stored",
    "device",
    "request_reason",
    "categories",
}
# Lists that name tasks, and figures.
LISTS = {"/v1/tasks", "/v1/reviews", "/v1/statistics"}
OF_OTHERS = {"tasks", "review", "operate"}
READING = [
    (path, min(scopes & OF_OTHERS))
    for (method, path), scopes in SERVED.items()
    if method == "GET" and scopes and scopes & OF_OTHERS
]
ASKED = {"/v1/statistics": {"from": "2026-03-01", "to": "2026-03-31"}}


def keys(value: Any) -> Iterator[str]:
    yield from value if isinstance(value, dict) else ()
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from keys(inner)


async def seen(stage: Stage, path: str, scope: str) -> bool:
    """Whether the answer shows evidence."""
    headers = {"Authorization": f"Bearer {stage.token('curious', scope)}"}
    async with stage.client.get(path, headers=headers, params=ASKED.get(path, {})) as reply:
        assert reply.status == 200, (path, reply.status)
        if "json" not in reply.content_type:
            return reply.content_type.startswith("image/")
        return bool(EVIDENCE & set(keys(json.loads(await reply.read()))))


async def written(stage: Stage) -> list[str]:
    rows = await stage.sql("SELECT action FROM audit WHERE actor = 'curious' ORDER BY seq")
    return [row["action"] for row in rows]


async def test_each_view_of_evidence_and_each_list_is_in_the_audit_and_nothing_else(stage: Stage) -> None:
    await task_at_noon(stage, "T1", "p-1")
    review_id = await doubtful(stage, "p-1", "T1")
    case_id = (await stage.status("T1"))["case_id"]
    names = {"task_id": "T1", "person_id": "p-1", "case_id": case_id, "review_id": review_id}
    views: dict[str, str] = {}
    for path, scope in READING:
        before = await written(stage)
        shows = await seen(stage, path.format(**names), scope) or path in LISTS
        new = (await written(stage))[len(before) :]
        assert len(new) == shows, path
        if shows:
            views[path] = new[0]
    assert views == {
        "/v1/persons/{person_id}/export": "export",
        "/v1/tasks": "view_tasks",
        "/v1/reviews": "view_reviews",
        "/v1/statistics": "view_statistics",
        "/v1/tasks/{task_id}/registration": "view_registration",
        "/v1/tasks/{task_id}/attempts": "view_attempts",
        "/v1/reviews/{review_id}": "view_review",
        "/v1/reviews/{review_id}/selfie": "view_selfie",
    }


async def listed(stage: Stage, sub: str, **asked: str) -> int:
    return (await stage.call("GET", "/v1/tasks", sub, "review", params=asked)).status


async def test_an_open_list_is_written_down_again_after_ten_minutes_or_for_another_question(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The console asks for an open list again at every event."""
    monkeypatch.setattr(viewings, "RENEWAL_S", 2.0)
    for sub, asked in (("r-1", ""), ("r-1", ""), ("r-1", "SZ-1"), ("r-2", ""), ("r-1", "")):
        assert await listed(stage, sub, q=asked) == 200
    await asyncio.sleep(2.0)
    assert await listed(stage, "r-1") == 200
    rows = await stage.sql(
        "SELECT actor, details->>'q' AS q FROM audit WHERE action = 'view_tasks' ORDER BY seq"
    )
    assert [tuple(row) for row in rows] == [("r-1", ""), ("r-1", "SZ-1"), ("r-2", ""), ("r-1", "")]


async def test_a_list_that_cannot_be_written_down_is_not_shown_nor_taken_for_written(stage: Stage) -> None:
    await stage.sql("ALTER TABLE audit RENAME TO audit_away")
    assert await listed(stage, "r-1") >= 500
    await stage.sql("ALTER TABLE audit_away RENAME TO audit")
    assert await listed(stage, "r-1") == 200
    assert len(await stage.sql("SELECT FROM audit WHERE action = 'view_tasks'")) == 1
