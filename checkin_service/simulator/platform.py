"""The main platform: registers and enrols, polls, and compares what it is told with what the persons were."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import jwt

from checkin_service.domain.task import MemberState, TaskState
from checkin_service.simulator.client import Client, multipart
from checkin_service.simulator.phone import Life
from checkin_service.simulator.scenario import Person, Task

Json = dict[str, Any]
_POLL_S = 1.0
_MOST_IN_A_QUERY = 500


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
        status = (await self.client.platform("PUT", path, json=task.registration)).granted()
        return datetime.fromisoformat(status["closes_at"])

    async def enrol(self, person: Person) -> None:
        body, headers = multipart({}, [("photo", person.face.reference)])
        path = f"/v1/persons/{person.person_id}/reference"
        (await self.client.platform("PUT", path, data=body, headers=headers)).granted()

    # --- polling ---

    async def poll(self) -> None:
        """Reads the feed to its end."""
        while True:
            query = {"after": self.cursor, "limit": "500"}
            page = (await self.client.platform("GET", "/v1/changes", params=query)).granted()
            for change in page["changes"]:
                self.changes.setdefault(change["task_id"], []).append(change)
            self.cursor = page["next"]
            if not page["has_more"]:
                return

    @asynccontextmanager
    async def polling(self) -> AsyncIterator[None]:
        """Reads it every second until the block ends."""
        poller = asyncio.create_task(self._keep_polling())
        try:
            yield
        finally:
            poller.cancel()
            with suppress(asyncio.CancelledError):
                await poller

    async def _keep_polling(self) -> None:
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
        found = [
            f"{task_id}: {difference}"
            for task_id, of_task in members.items()
            for difference in self._of_task(of_task, statuses.get(task_id), self.changes.get(task_id, []))
        ]
        keys = jwt.PyJWKSet.from_dict((await self.client.platform("GET", "/v1/receipt-keys")).granted())
        return found + [fault for life in lives for fault in _of_receipts(life, keys)]

    async def _statuses(self, task_ids: Sequence[str]) -> dict[str, Json]:
        found: list[Json] = []
        for first in range(0, len(task_ids), _MOST_IN_A_QUERY):
            asked = {"task_ids": task_ids[first : first + _MOST_IN_A_QUERY]}
            found += (await self.client.platform("POST", "/v1/tasks/query", json=asked)).granted()["tasks"]
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
        held = sum(life.held for life in lives)
        yield from _of_counts(expected, held, status, [change["type"] for change in changes])
        revisions = [change["rev"] for change in changes]
        if revisions != list(range(1, len(revisions) + 1)) or len(revisions) < status["rev"]:
            yield f"the feed tells revisions {revisions} of {status['rev']}"


Member = tuple[str, str, str]
"""State, check-in id or nothing, and reference."""


def _of_counts(
    expected: Mapping[str, Member], held: int, status: Json, types: Sequence[str]
) -> Iterator[str]:
    """`held`: how many members had a check-in in review at any time."""
    states = [state for state, _, _ in expected.values()]
    accepted = states.count(MemberState.ACCEPTED)
    completed = accepted == len(expected)
    facts = {
        "accepted": (accepted, status["progress"]["accepted"]),
        "in_review": (states.count(MemberState.IN_REVIEW), status["progress"]["in_review"]),
        "total": (len(expected), status["progress"]["total"]),
        "digest": (_digest(expected), status["members_digest"]),
        "completed": (completed, status["state"] == TaskState.COMPLETED),
        "member_accepted in the feed": (accepted, types.count("member_accepted")),
        "member_in_review in the feed": (held, types.count("member_in_review")),
        "task_completed in the feed": (int(completed), types.count("task_completed")),
    }
    for name, (right, told) in facts.items():
        if right != told:
            yield f"{name} is {told}, must be {right}"


def _of_receipts(life: Life, keys: jwt.PyJWKSet) -> Iterator[str]:
    """Receipts that do not say, under a published key, what the person was told."""
    person = life.person
    for check_in_id, receipt in life.acknowledged.items():
        right = {"sub": person.person_id, "task_id": person.task.task_id, "check_in_id": check_in_id}
        try:
            key = keys[jwt.get_unverified_header(receipt)["kid"]]
            claims = jwt.decode(receipt, key, algorithms=["ES256"], options={"verify_iat": False})
        except (jwt.PyJWTError, KeyError) as error:
            yield f"{person.person_id}: no receipt that can be verified: {error}"
            continue
        if claims != claims | right:
            yield f"{person.person_id}: the receipt says {claims}, must say {right}"


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
