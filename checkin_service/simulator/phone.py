"""A person with a phone, who lives through the steps of a behaviour."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from checkin_service.domain.decision import Outcome
from checkin_service.simulator.behaviours import WINDOW_CLOSED, Step, Withdrawal, judged, refused
from checkin_service.simulator.client import Client, Form, Reply, multipart
from checkin_service.simulator.photographs import Picture
from checkin_service.simulator.positions import position_fields
from checkin_service.simulator.scenario import Person

Json = dict[str, Any]
_CUT_AFTER_S = 0.2
# Whoever was taken near a deadline is promised a verdict in five minutes.
_PENDING = "pending"
_ASK_AGAIN_S, _VERDICT_S = 1.0, 300


@dataclass(slots=True)
class Life:
    """What a person was answered. `latencies_s`: of each submission, from its first sending to its answer.

    `acknowledged`: the ids of the check-ins that the person was told are accepted, each with its receipt; `held`:
    whether one is in review.
    """

    person: Person
    differences: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    held: bool = False
    has_reference: bool = True


class Phone:
    """Plays one person's part; `closes_at` is the end of their task's window."""

    def __init__(self, client: Client, person: Person, closes_at: datetime) -> None:
        self._client, self._person, self._closes_at = client, person, closes_at
        self._life = Life(person, has_reference=person.behaviour.enrolled)
        self._challenges: list[Json] = []

    async def live(self) -> Life:
        for number, step in enumerate(self._person.behaviour.steps, 1):
            replies = await self._take(step)
            self._note(f"{self._person.person_id}, step {number}", step, replies)
        return self._life

    # --- doing ---

    async def _take(self, step: Step) -> Sequence[Reply]:
        if step.consents:
            await give_consent(self._client, self._person.person_id)
        if step.withdraws is Withdrawal.BEFORE_CHALLENGE:
            await self._withdraw()
        if not step.reuses and (refusal := await self._ask_for_challenges(step)):
            return [refusal]
        if step.withdraws is Withdrawal.AFTER_CHALLENGE:
            await self._withdraw()
        if step.waits:
            expires_at = datetime.fromisoformat(self._challenges[0]["expires_at"])
            await asyncio.sleep((expires_at - datetime.now(UTC)).total_seconds() + 1)
        forms = [self._form(step, challenge["challenge_id"]) for challenge in self._challenges]
        keys = [uuid4().hex for _ in step.sending.value]
        return await asyncio.gather(
            *(self._submit(forms[challenge], keys[key], step.cut) for challenge, key in step.sending.value)
        )

    async def _ask_for_challenges(self, step: Step) -> Reply | None:
        """The refusal, where there is one."""
        self._challenges.clear()
        body = {"task_id": self._person.task.task_id}
        for _ in range(1 + max(challenge for challenge, _ in step.sending.value)):
            reply = await self._client.person(self._person.person_id, "POST", "/v1/challenges", json=body)
            if reply.status != 201:
                return reply
            self._challenges.append(reply.body)
        return None

    def _form(self, step: Step, challenge_id: str) -> Form:
        person, now = self._person, datetime.now(UTC)
        position = position_fields(step.reading, person.task.ground, person.platform, now, person.random)
        fields = {
            "task_id": person.task.task_id,
            "challenge_id": challenge_id,
            "captured_at": now.isoformat(),
            "device": {"platform": person.platform, "reduced_accuracy": step.reading.reduced},
            **position,
        }
        return multipart(fields, [("selfie", self._selfie(step.picture))])

    def _selfie(self, picture: Picture) -> bytes:
        if picture is Picture.OWN:
            return self._person.random.choice(self._person.face.selfies)
        if picture is Picture.COLLEAGUES:
            return self._person.colleague.selfies[0]
        return self._person.face.altered[picture]

    async def _submit(self, form: Form, key: str, cut: bool) -> Reply:
        body, headers = form
        request = {"data": body, "headers": headers | {"Idempotency-Key": key}}
        send = self._client.person
        started = time.perf_counter()
        if cut:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._person.random.uniform(0, _CUT_AFTER_S)):
                    await send(self._person.person_id, "POST", "/v1/check-ins", **request)
        reply = await send(self._person.person_id, "POST", "/v1/check-ins", **request)
        if reply.status == 202:
            reply = await self._await_verdict(reply.body["status_url"])
        self._life.latencies_s.append(time.perf_counter() - started)
        return reply

    async def _await_verdict(self, status_url: str) -> Reply:
        """Asks until it is there; what was answered last when it does not come."""
        given_up = time.monotonic() + _VERDICT_S
        while True:
            await asyncio.sleep(_ASK_AGAIN_S)
            reply = await self._client.person(self._person.person_id, "GET", status_url)
            if reply.body.get("outcome") != _PENDING or time.monotonic() > given_up:
                return reply

    async def _withdraw(self) -> None:
        (await self._client.person(self._person.person_id, "DELETE", "/v1/me/consent")).granted()
        self._life.has_reference = False

    # --- noting ---

    def _note(self, where: str, step: Step, replies: Sequence[Reply]) -> None:
        for reply in replies:
            outcome = reply.body.get("outcome")
            if outcome == Outcome.ACCEPTED:
                self._life.acknowledged[reply.body["check_in_id"]] = reply.body.get("receipt", "")
            self._life.held |= outcome == Outcome.REVIEW
        got = sorted(in_a_line(reply) for reply in replies)
        is_late = any(map(self._is_late, replies))
        expected = [WINDOW_CLOSED] if is_late else sorted(step.expects)
        if not (WINDOW_CLOSED in got if is_late else got in (expected, sorted(step.otherwise))):
            self._life.differences.append(f"{where}: expected {', '.join(expected)}; got {', '.join(got)}")

    def _is_late(self, reply: Reply) -> bool:
        """Whether the window closed while this one was on its way, by the time that it is answered with."""
        received_at = reply.body.get("received_at")
        return received_at is not None and datetime.fromisoformat(received_at) >= self._closes_at


async def give_consent(client: Client, person_id: str) -> None:
    """Consents to the notice in force, in all its scopes. Raises `SimulationError`."""
    notice = (await client.person(person_id, "GET", "/v1/consent-notice")).granted()
    body = {"notice_version": notice["notice_version"], "scopes": notice["scopes"]}
    (await client.person(person_id, "PUT", "/v1/me/consent", json=body)).granted()


def in_a_line(reply: Reply) -> str:
    """An answer as the table of behaviours writes it.

    >>> in_a_line(Reply(201, {"outcome": "rejected", "reasons": [{"code": "no_face"}]}))
    'rejected no_face'
    >>> in_a_line(Reply(409, {"code": "challenge_invalid"}))
    '409 challenge_invalid'
    """
    if "outcome" not in reply.body:
        return refused(reply.status, reply.code)
    return judged(reply.body["outcome"], *(reason["code"] for reason in reply.body.get("reasons", ())))
