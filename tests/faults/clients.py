"""Callers that never give up: they send the same request again until it is answered, and log every answer to disk."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp

from checkin_service.adapters.token_keys import development_token
from tests.faults.engines import FIXED, Engine
from tests.service.stage import INSIDE, Json, check_in_fields

PAUSE_S, LONGEST_PAUSE_S = 0.03, 0.3
BOUNDARY = "fault-test"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole."""

    status: int
    body: Json

    @property
    def code(self) -> str | None:
        return self.body.get("code")

    @property
    def reasons(self) -> list[str]:
        return [reason["code"] for reason in self.body["reasons"]]


@dataclass(frozen=True, slots=True)
class Submission:
    """A request for a check-in, to be sent as often as needed."""

    person_id: str
    task_id: str
    key: str
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
            "Idempotency-Key": self.key,
        }


@dataclass(frozen=True, slots=True)
class Told:
    """An answer to a check-in, as the client has logged it."""

    person_id: str
    task_id: str
    key: str
    status: int
    body: Json


@dataclass(frozen=True, slots=True)
class AnswerLog:
    """What every client was told, in a file of its own: appended before anybody acts on it, and there for whoever looks
    when the test itself was killed."""

    folder: Path

    def append(self, told: Told) -> None:
        self.folder.mkdir(exist_ok=True)
        with (self.folder / f"{told.person_id}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(told)) + "\n")

    def read(self) -> list[Told]:
        """Every client's answers in their order."""
        logs = [file.read_text("utf-8").splitlines() for file in sorted(self.folder.glob("*.jsonl"))]
        return [Told(**json.loads(line)) for log in logs for line in log]

    def judged(self) -> list[Told]:
        """Those that said a verdict."""
        return [told for told in self.read() if told.status == 201]


@dataclass(slots=True)
class Caller:
    """All persons' phones. `judged` counts the verdicts that they were told, `retries` what they sent again, of which
    `unanswered` had no answer at all; `sent` has each submission by its key."""

    session: aiohttp.ClientSession
    bases: Sequence[str]
    data_dir: Path
    log: AnswerLog
    photo_of: Callable[[str, int], bytes]
    judged: int = 0
    retries: int = 0
    unanswered: int = 0
    sent: dict[str, Submission] = field(default_factory=dict)
    _tokens: dict[tuple[str, int], str] = field(default_factory=dict)
    _turn: Any = field(default_factory=count)
    _shots: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))

    async def check_in(self, person_id: str, task_id: str, at: tuple[float, float] = INSIDE) -> Json:
        """A check-in of the right face to its verdict, with a new challenge when one ran out on the way."""
        while True:
            answer = await self.insist(await self.submission(person_id, task_id, at))
            if answer.status == 201:
                return answer.body
            assert answer.code == "challenge_invalid", answer

    async def submission(
        self, person_id: str, task_id: str, at: tuple[float, float] = INSIDE, shot: int | None = None
    ) -> Submission:
        """A new one, with a challenge of its own and by default the photograph that the person has for the task."""
        body, headers = json.dumps({"task_id": task_id}).encode(), {"Content-Type": "application/json"}
        challenge = await self._until_answered(person_id, "/v1/challenges", body, headers)
        assert challenge.status == 201, challenge
        fields = check_in_fields(task_id, challenge.body["challenge_id"], at)
        shots = self._shots[person_id]
        photo = self.photo_of(person_id, shot or shots.setdefault(task_id, len(shots) + 1))
        return Submission(person_id, task_id, uuid4().hex, form(fields, photo))

    async def insist(self, submission: Submission) -> Answer:
        """Sends it until it is judged or refused for good."""
        answer = await self._until_answered(
            submission.person_id, "/v1/check-ins", submission.body, submission.headers
        )
        return self._logged(submission, answer)

    async def send_once(self, submission: Submission) -> Answer:
        answer = await self._post(submission.person_id, "/v1/check-ins", submission.body, submission.headers)
        return self._logged(submission, answer)

    def _logged(self, submission: Submission, answer: Answer) -> Answer:
        self.log.append(
            Told(submission.person_id, submission.task_id, submission.key, answer.status, answer.body)
        )
        self.sent[submission.key] = submission
        self.judged += answer.status == 201
        return answer

    async def _until_answered(
        self, person_id: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        """The first answer that is not to be tried again."""
        pause_s = PAUSE_S
        while True:
            try:
                answer = await self._post(person_id, path, body, headers)
                # 202: taken, and the same again is answered with the verdict once there is one
                if answer.status < 500 and answer.status != 202 and answer.code != "idempotency_in_progress":
                    return answer
            except (aiohttp.ClientError, ConnectionError):
                self.unanswered += 1
            self.retries += 1
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _post(self, person_id: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        base = self.bases[next(self._turn) % len(self.bases)]
        authorization = {"Authorization": f"Bearer {self._token(person_id)}"}
        async with self.session.post(
            base + path, data=body, headers={**authorization, **headers}
        ) as response:
            return Answer(response.status, await response.json(content_type=None))

    def _token(self, person_id: str) -> str:
        """A token of the last five minutes."""
        owner = person_id, int(time.monotonic() // 300)
        if owner not in self._tokens:
            self._tokens[owner] = development_token(self.data_dir, person_id, "checkin", 15)
        return self._tokens[owner]


@asynccontextmanager
async def calling(bases: Sequence[str], data_dir: Path, engine: Engine = FIXED) -> AsyncIterator[Caller]:
    """Callers of these services by turns; their logs lie in the folder `answers` of the services' data."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield Caller(session, bases, data_dir, AnswerLog(data_dir / "answers"), engine.photo_of)


def form(fields: Json, selfie: bytes) -> bytes:
    """The multipart body of a check-in, byte for byte the same at every sending."""
    parts = [
        _part(f'name="{name}"', (value if isinstance(value, str) else json.dumps(value)).encode())
        for name, value in fields.items()
    ]
    parts.append(_part('name="selfie"; filename="selfie.jpg"', selfie))
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def _part(disposition: str, content: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
    return head.encode() + content + b"\r\n"
