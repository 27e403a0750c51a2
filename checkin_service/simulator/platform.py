"""The main platform: registers and enrols, polls, and compares what it is told with what the persons were."""

import asyncio
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from checkin_service.domain.task import MemberState, TaskState
from checkin_service.simulator.client import Client, Reply, multipart
from checkin_service.simulator.phone import Life
from checkin_service.simulator.scenario import Person, Task

Json = dict[str, Any]
_POLL_S = 1.0
_MOST_IN_A_QUERY = 500


class PlatformError(RuntimeError):
    """The simulation can't begin or be judged: the service refuses what it must take; the message has its answer."""


@dataclass(slots=True)
class Platform:
    """Keeps every change of the feed that came after `start`, by task, in the order in which it was told."""

    client: Client
    cursor: str = ""
    changes: dict[str, list[Json]] = field(default_factory=dict)

    # --- preparing ---

    async def start(self) -> None:
        """Goes to the end of the feed as it is now."""
        await self.poll()
        self.changes.clear()

    async def register(self, task: Task) -> datetime:
        """The end of its window."""
        path = f"/v1/tasks/{task.task_id}"
        status = _done(await self.client.platform("PUT", path, json=task.registration))
        return datetime.fromisoformat(status["closes_at"])

    async def enrol(self, person: Person) -> None:
        body, headers = multipart({}, [("photo", person.face.reference)])
        path = f"/v1/persons/{person.person_id}/reference"
        _done(await self.client.platform("PUT", path, data=body, headers=headers))

    # --- polling ---

    async def poll(self) -> None:
        """Reads the feed to its end."""
        while True:
            query = {"after": self.cursor, "limit": "500"}
            page = _done(await self.client.platform("GET", "/v1/changes", params=query))
            for change in page["changes"]:
                self.changes.setdefault(change["task_id"], []).append(change)
            self.cursor = page["next"]
            if not page["has_more"]:
                return

    async def keep_polling(self) -> None:
        """Until it is cancelled."""
        while True:
            await self.poll()
            await asyncio.sleep(_POLL_S)

    # --- comparing ---

    async def differences(self, lives: Sequence[Life]) -> list[str]:
        """What status and feed say that does not follow from what the members were answered."""
        members: dict[str, list[Life]] = {}
        for life in lives:
            members.setdefault(life.person.task.task_id, []).append(life)
        statuses = await self._statuses(list(members))
        # after the statuses: a change that one of them shows is in the feed by now
        await self.poll()
        return [
            f"{task_id}: {difference}"
            for task_id, of_task in members.items()
            for difference in self._of_task(of_task, statuses.get(task_id), self.changes.get(task_id, []))
        ]

    async def _statuses(self, task_ids: Sequence[str]) -> dict[str, Json]:
        found: list[Json] = []
        for first in range(0, len(task_ids), _MOST_IN_A_QUERY):
            asked = {"task_ids": task_ids[first : first + _MOST_IN_A_QUERY]}
            found += _done(await self.client.platform("POST", "/v1/tasks/query", json=asked))["tasks"]
        return {status["task_id"]: status for status in found}

    def _of_task(self, lives: Sequence[Life], status: Json | None, changes: Sequence[Json]) -> Iterator[str]:
        if status is None:
            yield "the task is gone"
            return
        expected = {life.person.person_id: _expected_member(life) for life in lives}
        told = {m["person_id"]: _told_member(m) for m in status["members"]}
        for person_id in expected.keys() | told.keys():
            if expected.get(person_id) != told.get(person_id):
                yield f"{person_id} is {told.get(person_id)}, was answered {expected.get(person_id)}"
        yield from _of_counts(expected, status, [change["type"] for change in changes])
        revisions = [change["rev"] for change in changes]
        if revisions != list(range(1, len(revisions) + 1)) or len(revisions) < status["rev"]:
            yield f"the feed tells revisions {revisions} of {status['rev']}"


Member = tuple[str, str, str]
"""State, check-in id or nothing, and reference."""


def _of_counts(expected: Mapping[str, Member], status: Json, types: Sequence[str]) -> Iterator[str]:
    accepted = sum(state == MemberState.ACCEPTED for state, _, _ in expected.values())
    completed = accepted == len(expected)
    facts = {
        "accepted": (accepted, status["progress"]["accepted"]),
        "total": (len(expected), status["progress"]["total"]),
        "digest": (_digest(expected), status["members_digest"]),
        "completed": (completed, status["state"] == TaskState.COMPLETED),
        "member_accepted in the feed": (accepted, types.count("member_accepted")),
        "task_completed in the feed": (int(completed), types.count("task_completed")),
    }
    for name, (right, told) in facts.items():
        if right != told:
            yield f"{name} is {told}, must be {right}"


def _expected_member(life: Life) -> Member:
    """Somebody with acknowledgements of two check-ins equals no member."""
    state = MemberState.IN_REVIEW if life.held else MemberState.NOT_STARTED
    if life.acknowledged:
        state = MemberState.ACCEPTED
    return state, " ".join(sorted(life.acknowledged)), "ready" if life.has_reference else "missing"


def _told_member(member: Json) -> Member:
    return member["state"], member.get("check_in_id", ""), member["reference"]


def _digest(members: Mapping[str, Member]) -> str:
    """By the contract's words: lines of person, state and check-in, sorted bytewise."""
    lines = sorted(
        f"{person}\t{state}\t{check_in}\n".encode() for person, (state, check_in, _) in members.items()
    )
    return "sha256:" + hashlib.sha256(b"".join(lines)).hexdigest()


def _done(reply: Reply) -> Json:
    if reply.status not in {200, 201}:
        raise PlatformError(f"the service answered {reply.status}: {reply.body}")
    return reply.body
