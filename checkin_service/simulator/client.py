"""The callers' side of HTTP: tokens, patience with a service that is busy, and what came back."""

import json
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from checkin_service import client
from checkin_service.adapters.token_keys import development_token
from checkin_service.client import Sender, Unreachable

Json = dict[str, Any]
Form = tuple[bytes, dict[str, str]]
"""A body and its headers."""
_TOKEN_S = 600
_ANSWER_S = 30
# How long a caller goes on trying where the service asks to come back, or can't be reached.
_PATIENCE_S = 60
_NO_REPLY = client.Reply(0, {}, b'{"code": "unreachable"}')


class SimulationError(RuntimeError):
    """The simulation can't go on: the service refuses what it must take; the message has its answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back in the end; status 0 and the code `unreachable` when nothing did."""

    status: int
    body: Json

    @property
    def code(self) -> str:
        return str(self.body.get("code", ""))

    def granted(self) -> Json:
        """The body of a success. Raises `SimulationError` for anything else."""
        if not 200 <= self.status < 300:
            raise SimulationError(f"the service answered {self.status}: {self.body}")
        return self.body


@dataclass(slots=True)
class Client:
    """All callers. `retries` counts the requests that were sent again, by why."""

    session: aiohttp.ClientSession
    url: str
    data_dir: Path
    retries: dict[str, int] = field(default_factory=dict)
    _tokens: dict[tuple[str, str, int], str] = field(default_factory=dict)

    async def platform(self, method: str, path: str, **request: Any) -> Reply:
        return await self.call(method, path, "simulated-platform", "tasks", **request)

    async def person(self, person_id: str, method: str, path: str, **request: Any) -> Reply:
        return await self.call(method, path, person_id, "checkin", **request)

    async def call(self, method: str, path: str, sub: str, scope: str, **request: Any) -> Reply:
        """The first answer that does not ask to come back, or the last one within a minute."""
        sender = Sender(self.session, self.url, _PATIENCE_S, _ANSWER_S, self._count)
        try:
            found = await sender.send(method, path, partial(self._token, sub, scope), **request)
        except Unreachable as unreachable:
            found = unreachable.reply or _NO_REPLY
        return Reply(found.status, found.json())

    def _count(self, why: str) -> None:
        self.retries[why] = self.retries.get(why, 0) + 1

    async def _token(self, sub: str, scope: str) -> str:
        """One of the last ten minutes."""
        owner = sub, scope, int(time.monotonic() // _TOKEN_S)
        if owner not in self._tokens:
            self._tokens[owner] = development_token(self.data_dir, sub, scope, 15)
        return self._tokens[owner]


def multipart(fields: Json, files: list[tuple[str, bytes]]) -> Form:
    """The same at every sending. Values that are no text are written as JSON."""
    boundary = "simulated-phone"
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    parts = [(f'name="{name}"', text.encode()) for name, text in texts.items()]
    parts += [(f'name="{name}"; filename="{name}.jpg"', content) for name, content in files]
    body = b"".join(
        b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n"
        % (boundary.encode(), head.encode(), content)
        for head, content in parts
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return body + f"--{boundary}--\r\n".encode(), headers
