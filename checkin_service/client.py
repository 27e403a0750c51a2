"""The main platform's side of the API in Python: typed answers, retries that are safe, the feed page by page.

It needs aiohttp and pydantic and nothing else of this project. docs/integrate.md shows it at work.

    async with CheckInClient("https://checkin.example", token) as service:
        status = await service.register_task("T1", registration)
        async for page in service.changes(after=read_cursor(), pause_s=5):
            ...
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import aiohttp
from pydantic import BaseModel, ConfigDict

Json = dict[str, Any]
TokenSource = Callable[[], Awaitable[str]]
"""Gives a token that is valid now; it is asked before every sending, so it should keep what it has."""

MOST_IN_A_QUERY = 500
_ANSWER_S = 70.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
# What asks to come back, whatever was asked for; other refusals stay what they are.
_COME_BACK = frozenset({429, 502, 503, 504})
_IN_PROGRESS = "idempotency_in_progress"


# --- Answers ---


class Answer(BaseModel):
    """What the service tells. Times carry their offset. Fields of later versions are kept and do no harm."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Window(Answer):
    basis: str
    start_day: date
    nominal_day: date
    last_day: date
    rolled_over: Sequence[date]
    provisional: bool
    calendar_version: str


class Progress(Answer):
    total: int
    accepted: int
    in_review: int


class Member(Answer):
    person_id: str
    state: str
    reference: str
    accepted_at: datetime | None = None
    decided_at: datetime | None = None
    method: str | None = None
    check_in_id: str | None = None


class TaskStatus(Answer):
    """`etag` is what `CheckInClient.task` and commands compare with; `closes_at` itself is too late."""

    task_id: str
    case_id: str
    round: int
    flow: str
    state: str
    registered_at: datetime
    opens_at: datetime
    closes_at: datetime
    window: Window
    fence_version: int
    progress: Progress
    members: Sequence[Member]
    rev: int
    members_digest: str
    closed_at: datetime | None = None
    etag: str = ""


class Change(Answer):
    seq: int
    task_id: str
    rev: int
    type: str
    at: datetime


class ChangePage(Answer):
    """Store `next` once the page's changes are dealt with, and never before: so none is missed."""

    feed_epoch: str
    changes: Sequence[Change]
    next: str
    has_more: bool


class Enrolment(Answer):
    person_id: str
    reference_id: str
    photos: Sequence[Json]


class Fault(Answer):
    pointer: str
    code: str
    message: str


class Refused(Exception):
    """The service refuses, for the reason `code`; sending the same again would not help.

    `faults` name every field that is wrong, by JSON pointer.
    """

    def __init__(self, status: int, problem: Json) -> None:
        super().__init__(f"{status} {problem.get('code', '')}: {problem.get('detail', '')}")
        self.status = status
        self.code: str = problem.get("code", "")
        self.request_id: str = problem.get("request_id", "")
        self.faults = [Fault.model_validate(fault) for fault in problem.get("errors", [])]


class FeedRestarted(Refused):
    """The cursor is of before a restore. Read the feed from its start (`after=""`) and every status anew: what was
    told since the restored moment may not have happened."""


class Unreachable(Exception):
    """Nobody answered, or only that it is too busy, for as long as this client is patient. Whether a change was made
    is not known; the same call again is safe. `reply`: the last one, when there was any."""

    def __init__(self, call: str, reply: "Reply | None") -> None:
        super().__init__(f"{call}: {_why(reply)}")
        self.reply = reply


# --- Sending ---


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: any status, the headers that matter, the body's bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Json:
        """The body as an object; empty for what is none, as a proxy's page of HTML."""
        try:
            found = json.loads(self.body or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def code(self) -> str:
        return str(self.json().get("code", ""))


@dataclass(slots=True)
class Sender:
    """Sends until there is an answer that stands, for `patience_s` at most. `retried` is told why something is sent
    again: a code of the service or `unreachable`."""

    session: aiohttp.ClientSession
    url: str
    patience_s: float = 60.0
    answer_s: float = _ANSWER_S
    retried: Callable[[str], None] = field(default=lambda _: None)

    async def send(self, method: str, path: str, token: TokenSource, **request: Any) -> Reply:
        """The first answer that does not ask to come back. Raises `Unreachable`.

        Each sending carries the same bytes and keys, so that the service counts it once.
        """
        until, failed = time.monotonic() + self.patience_s, 0
        while True:
            reply = await self._send(method, path, await token(), **request)
            if reply and not _asks_to_come_back(reply):
                return reply
            pause_s = _pause_s(reply, failed)
            if time.monotonic() + pause_s > until:
                raise Unreachable(f"{method} {path}", reply)
            self.retried(_why(reply))
            failed += 1
            await asyncio.sleep(pause_s)

    async def _send(
        self,
        method: str,
        path: str,
        token: str,
        form: Callable[[], aiohttp.FormData] | None = None,
        **request: Any,
    ) -> Reply | None:
        """`form` makes a form anew, for aiohttp sends each but once."""
        request["headers"] = {"Authorization": f"Bearer {token}", **request.get("headers", {})}
        request |= {"data": form()} if form else {}
        timeout = aiohttp.ClientTimeout(total=self.answer_s)
        try:
            async with self.session.request(method, self.url + path, timeout=timeout, **request) as answer:
                return Reply(answer.status, answer.headers, await answer.read())
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            return None


def _asks_to_come_back(reply: Reply) -> bool:
    return reply.status in _COME_BACK or reply.code == _IN_PROGRESS


def _why(reply: Reply | None) -> str:
    return (reply.code or str(reply.status)) if reply else "unreachable"


def _pause_s(reply: Reply | None, failed: int) -> float:
    """As long as the service says; otherwise longer each time, and never all callers at once."""
    if reply and reply.headers.get("Retry-After", "").isdigit():
        return float(reply.headers["Retry-After"])
    longest: float = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**failed)
    return random.uniform(longest / 2, longest)  # noqa: S311  spreads callers, keeps no secret


# --- Calls ---


class CheckInClient:
    """The service to a caller of scope `tasks`. A call raises `Refused` or `Unreachable`, and returns what is so."""

    def __init__(
        self,
        url: str,
        token: TokenSource,
        *,
        patience_s: float = 60.0,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        """`url`: without a path. `patience_s`: for how long a call is tried. `session` stays open at the end."""
        self._url, self._token, self._patience_s = url.rstrip("/"), token, patience_s
        self._session, self._owned = session, session is None

    async def __aenter__(self) -> Self:
        self._session = self._session or aiohttp.ClientSession()
        self._sender = Sender(self._session, self._url, self._patience_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owned and self._session:
            await self._session.close()

    # --- tasks ---

    async def register_task(self, task_id: str, registration: Mapping[str, Any]) -> TaskStatus:
        """Registers one round of verification; the same again changes nothing. `registration`: TaskRegistration of
        openapi.yaml."""
        return _status(await self._call("PUT", f"/v1/tasks/{task_id}", json=registration))

    async def task(self, task_id: str, known: TaskStatus | None = None) -> TaskStatus:
        """The status now; `known` itself when nothing has changed since, which costs the service next to nothing."""
        headers = {"If-None-Match": known.etag} if known else {}
        reply = await self._call("GET", f"/v1/tasks/{task_id}", headers=headers)
        return known if known and reply.status == 304 else _status(reply)

    async def tasks(self, task_ids: Sequence[str]) -> Mapping[str, TaskStatus]:
        """Those that there are, by task id; however many are asked for. Without ETags."""
        found: list[TaskStatus] = []
        for first in range(0, len(task_ids), MOST_IN_A_QUERY):
            asked = {"task_ids": list(task_ids[first : first + MOST_IN_A_QUERY])}
            reply = await self._call("POST", "/v1/tasks/query", json=asked)
            found += map(TaskStatus.model_validate, reply.json()["tasks"])
        return {status.task_id: status for status in found}

    async def command(
        self, task_id: str, command: str, reason: str, *, seen: TaskStatus | None = None, **more: Any
    ) -> TaskStatus:
        """Carries out `void`, `extend`, `fence`, `suspend`, `resume`, `close` or `members/{person_id}/revoke`, with
        the fields that the contract lists. `seen`: refused with `stale_revision` unless the task is still as that."""
        headers = {"If-Match": seen.etag} if seen else {}
        body = {"reason": reason, **more}
        return _status(
            await self._change("POST", f"/v1/tasks/{task_id}/{command}", json=body, headers=headers)
        )

    async def changes(
        self, after: str = "", pause_s: float | None = None
    ) -> AsyncGenerator[ChangePage, None]:
        """The feed from a cursor on, page by page; empty pages are left out. `pause_s`: goes on for ever and waits so
        long at the feed's end; None: ends there. Raises `FeedRestarted` for a cursor of before a restore."""
        while True:
            query = {"after": after, "limit": "500"}
            page = ChangePage.model_validate((await self._call("GET", "/v1/changes", params=query)).json())
            if page.changes:
                yield page
            after = page.next
            if page.has_more:
                continue
            if pause_s is None:
                return
            await asyncio.sleep(pause_s)

    # --- persons ---

    async def enrol(self, person_id: str, photos: Sequence[bytes], **fields: str) -> Enrolment:
        """Replaces the person's references by these 1 to 5 photographs, JPEG or PNG. `Refused` says for each what is
        wrong with it, and the earlier references stay."""
        path, form = f"/v1/persons/{person_id}/reference", partial(_form, fields, photos)
        return Enrolment.model_validate((await self._change("PUT", path, form=form)).json())

    async def erase(self, person_id: str) -> None:
        """Deletes references, evidence and content for good; completed check-ins stay as bare facts."""
        await self._call("DELETE", f"/v1/persons/{person_id}")

    async def receipt_keys(self) -> Json:
        """The JWKS that signs persons' receipts."""
        return (await self._call("GET", "/v1/receipt-keys")).json()

    # --- sending ---

    async def _change(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, **request: Any
    ) -> Reply:
        """With one key for all its sendings, so that it is carried out once."""
        keyed = {"Idempotency-Key": uuid4().hex, **(headers or {})}
        return await self._call(method, path, headers=keyed, **request)

    async def _call(self, method: str, path: str, **request: Any) -> Reply:
        reply = await self._sender.send(method, path, self._token, **request)
        if reply.status >= 400:
            refusal = FeedRestarted if reply.code == "feed_epoch_changed" else Refused
            raise refusal(reply.status, reply.json())
        return reply


def _form(fields: Mapping[str, str], photos: Sequence[bytes]) -> aiohttp.FormData:
    form = aiohttp.FormData()
    for name, value in fields.items():
        form.add_field(name, value)
    for photo in photos:
        form.add_field("photo", photo, filename="photo")
    return form


def _status(reply: Reply) -> TaskStatus:
    return TaskStatus.model_validate(reply.json() | {"etag": reply.headers.get("ETag", "")})
