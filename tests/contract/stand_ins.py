"""What the identifiers in openapi.yaml's examples stand for while the document is tried out on a live service.

The examples name a task, a person, a challenge. As they stand they would name nothing, and nearly every call would only
be refused; so each is replaced, just before it is sent, by something that is really there.
"""

import copy
import re
from collections.abc import MutableMapping
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from itertools import cycle
from typing import Any
from uuid import uuid4

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from checkin_service.domain.calendar import day_of, end_of
from checkin_service.web.messages import NOTICE_VERSION
from tests.contract.document import DOCUMENT, SCHEMAS
from tests.contract.live_service import LiveService
from tests.service.reviewing import asked, doubtful
from tests.service.stage import FENCE, USCC, Json, photo_of, place, registration

PERSON, TASK = "p-1", "T1"
OWN = "own-"
LONG_AGO = "2024-01-05T09:00:00+08:00"
EARLIER_TASK, EARLIER_CASE = "T0", "SZ-2026-000045"
EXAMPLES = DOCUMENT["components"]["examples"]
EXAMPLE_CHALLENGE = DOCUMENT["components"]["parameters"]["ChallengeId"]["example"]
EXAMPLE_ETAG = DOCUMENT["components"]["parameters"]["IfMatch"]["example"]
EXAMPLE_PHOTO = "(the bytes of a JPEG)"
FAR_AWAY = {"type": "Circle", "coordinates": [113.95, 22.54], "radius_m": 100}
_TASK_PART = re.compile(rb'(name="task_id"\r\n(?:[^\r\n]+\r\n)*\r\n)T1(?=\r\n)')

REGISTER = "PUT /v1/tasks/{task_id}"
VOID, EXTEND, NEW_FENCE, SUSPEND, RESUME, REVOKE, CLOSE = (
    f"POST /v1/tasks/{{task_id}}/{name}"
    for name in ("void", "extend", "fence", "suspend", "resume", "members/{person_id}/revoke", "close")
)
CASE = "GET /v1/cases/{case_id}"
ENROL, ERASE = "PUT /v1/persons/{person_id}/reference", "DELETE /v1/persons/{person_id}"
BURST = "PUT /v1/challenges/{challenge_id}/burst/{n}"
CONSENT = "PUT /v1/me/consent"
ASK, DECIDE = "POST /v1/manual-requests", "POST /v1/reviews/{review_id}/decision"
# The JSON that these calls take. Of another form it is refused before anything is looked up.
BODIES = {
    REGISTER: "TaskRegistration",
    VOID: "VoidCommand",
    EXTEND: "ExtendCommand",
    NEW_FENCE: "FenceCommand",
    SUSPEND: "ReasonCommand",
    RESUME: "ResumeCommand",
    REVOKE: "ReasonCommand",
    CLOSE: "ReasonCommand",
    CONSENT: "ConsentForm",
    ASK: "ManualRequestForm",
    DECIDE: "ReviewDecision",
}
ON_A_TASK = BODIES.keys() - {CONSENT, ASK, DECIDE}


class Things:
    """What is there from the beginning: one person with tasks in many states, enrolled and consented."""

    def __init__(self, live: LiveService) -> None:
        self.live = live
        live.do(self._set_up())
        self._tasks = cycle(
            [TASK, "T-open-1", "T-far", "T-closed", "T-early", "T-open-2", "T-void", "T-open-3"]
        )

        self._pictures = cycle(
            photo_of(shown) for shown in (PERSON, PERSON, "somebody", PERSON, "dark", "nobody")
        )

    async def _set_up(self) -> None:
        stage, now = self.live.stage, datetime.now(UTC)
        await stage.platform("PUT", f"/v1/tasks/{TASK}", first_application(now))
        await stage.ready_task("T-open-1", PERSON)
        self.case_id = (await stage.status("T-open-1"))["case_id"]
        in_other_states: dict[str, Json] = {
            "T-open-2": {},
            "T-open-3": {},
            "T-far": {"place": place(fence=FAR_AWAY)},
            "T-closed": {"approved_at": LONG_AGO},
            "T-early": {"approved_at": (now + timedelta(minutes=4)).isoformat()},
            "T-void": {},
        }
        for task_id, changes in in_other_states.items():
            assert (await stage.register(task_id, PERSON, **changes)).status == 201
        await stage.platform("POST", "/v1/tasks/T-void/void", {"reason": "x"})
        self.check_in_id = (await stage.check_in(PERSON, "T-far")).body["check_in_id"]
        await stage.register("T-doubt", PERSON)
        self.review_id = await doubtful(stage, PERSON, "T-doubt")
        self.manual_request_id = await asked(stage, PERSON, "T-doubt")

    def challenge(self, task_id: str) -> str:
        return self.live.do(self.live.stage.challenge(PERSON, task_id))

    def put_headers(self, path: str, headers: MutableMapping[str, Any]) -> None:
        """A key that was not used for another body before, and the task's ETag for that of the example."""
        if conforms("IdempotencyKey", headers.get("Idempotency-Key")):
            headers["Idempotency-Key"] = uuid4().hex
        for name in ("If-Match", "If-None-Match"):
            if headers.get(name) == EXAMPLE_ETAG:
                task = "/".join(path.split("/")[:4])
                status = self.live.do(self.live.stage.platform("GET", task))
                headers[name] = status.headers.get("ETag", EXAMPLE_ETAG)

    def bytes_for(self, path: str, body: bytes) -> bytes:
        """A body with real pictures, a fresh challenge and its task where the examples have words."""
        # Schemathesis' own samples are no photographs, and it looks up none for a body that is nothing else.
        if "/burst/" in path:
            return next(self._pictures)
        if EXAMPLE_CHALLENGE.encode() in body:
            task_id = next(self._tasks)
            body = body.replace(EXAMPLE_CHALLENGE.encode(), self.challenge(task_id).encode())
            body = _TASK_PART.sub(rb"\g<1>" + task_id.encode(), body)
        return re.sub(re.escape(EXAMPLE_PHOTO.encode()), lambda _: next(self._pictures), body)


def conforms(component: str, value: Any) -> bool:
    return bool(_validator(component).is_valid(value))


@cache
def _validator(component: str) -> Any:
    form = SCHEMAS[component] | {"components": DOCUMENT["components"]}
    return Draft202012Validator(form, format_checker=Draft202012Validator.FORMAT_CHECKER)


def _acceptable_place(drawn: Json) -> Json:
    """The place with a fence of the drawn kind that lies in Shenzhen and is closed."""
    ring = FENCE["coordinates"][0]
    fences = {
        "Polygon": {"type": "Polygon", "coordinates": [ring]},
        "MultiPolygon": {"type": "MultiPolygon", "coordinates": [[ring]]},
        "Circle": FAR_AWAY | {"radius_m": min(drawn["fence"].get("radius_m", 100), 1200)},
    }
    return drawn | {"fence": fences[drawn["fence"]["type"]]}


def first_application(now: datetime) -> Json:
    body: Json = copy.deepcopy(EXAMPLES["FirstApplication"]["value"])
    return body | {"approved_at": (now - timedelta(days=1)).isoformat()}


class StandIn:
    """What the examples' identifiers and instants stand for in one call of an operation."""

    def __init__(self, things: Things, operation: str, body: Any) -> None:
        self.things, self.operation, self.now = things, operation, datetime.now(UTC)
        self.live = things.live
        self.well_formed = operation not in BODIES or conforms(BODIES[operation], body)

    def path(self, path: Json, *, chained: bool) -> Json:
        """Its parameters. A call that alters what they name gets something of its own there, whatever was drawn.

        In a chain of calls something that an earlier one has made is kept.
        """
        self.addressed = {name: self.put(value) for name, value in path.items()}
        if self.operation in {*ON_A_TASK, BURST, ENROL, ERASE}:
            drawn = [name for name, value in path.items() if name != "n" and conforms("Id", value)]
            kept = [name for name in drawn if chained and str(path[name]).startswith(OWN)]
            self.addressed |= {name: getattr(self, name) for name in drawn if name not in kept}
        return self.addressed

    def body(self, body: Any) -> Any:
        """A JSON body with its examples replaced, and in a well-formed one also what only rules can judge."""
        body = self.put(body)
        return body | self._settled(body) if self.operation in BODIES and self.well_formed else body

    def _settled(self, body: Json) -> Json:
        if self.operation == REGISTER:
            return self._registration(body) | (self._order() if body["flow"] == "rectification" else {})
        if self.operation == NEW_FENCE:
            effective_at = self.tomorrow if body.get("effective_at") else None
            return {"place": _acceptable_place(body["place"]), "effective_at": effective_at}
        if self.operation in {EXTEND, RESUME}:
            return {"deadline_at": self.far_deadline} if body.get("deadline_at") else {}
        if self.operation == ASK:
            return {"task_id": self.new_task}
        return {"notice_version": NOTICE_VERSION} if self.operation == CONSENT else {}

    def _registration(self, body: Json) -> Json:
        return {
            "case_id": self.case_id,
            "enterprise": body["enterprise"] | {"uscc": USCC},
            "approved_at": self.yesterday,
            "place": _acceptable_place(body["place"]),
            "requirement": None,
            "roster": list({member["person_id"]: member for member in body["roster"]}.values()),
        }

    def _order(self) -> Json:
        return {"rectifies": self.earlier_task, "deadline_at": self.far_deadline, "round": 2}

    def put(self, value: Any) -> Any:
        """The value with each example in it replaced."""
        if isinstance(value, dict):
            return {name: self.put(member) for name, member in value.items()}
        if isinstance(value, list):
            return [self.put(member) for member in value]
        return getattr(self, MEANING[value]) if isinstance(value, str) and value in MEANING else value

    @cached_property
    def task_id(self) -> str:
        """An id that is free for a registration, and a new task for a command, which changes it."""
        if self.operation not in ON_A_TASK or not self.well_formed:
            return TASK
        task_id = f"{OWN}T-{uuid4().hex}"
        if self.operation != REGISTER:
            self.live.do(self._prepare(task_id))
        return task_id

    async def _prepare(self, task_id: str) -> None:
        """A task that takes the command."""
        stage = self.live.stage
        await stage.register(task_id, PERSON, flow="routine")
        if self.operation == REVOKE:
            await stage.check_in(PERSON, task_id)
        earlier = {RESUME: "suspend", CLOSE: "void"}.get(self.operation)
        if earlier:
            await stage.platform("POST", f"/v1/tasks/{task_id}/{earlier}", {"reason": "x"})

    @cached_property
    def person_id(self) -> str:
        """Nobody's reference is replaced or erased whom another call needs."""
        if self.operation.startswith("GET ") or self.operation == REVOKE:
            return PERSON
        person_id = f"{OWN}p-{uuid4().hex}"
        if self.operation == ERASE:
            self.live.do(self.live.stage.enrol(person_id))
        return person_id

    @cached_property
    def case_id(self) -> str:
        """One that is free for a registration, and one that is there to be read."""
        return str(self.things.case_id) if self.operation == CASE else f"SZ-{uuid4().hex}"

    @cached_property
    def earlier_task(self) -> str:
        """An expired round, which the example of a rectification follows."""
        task_id = f"{OWN}T-{uuid4().hex}"
        changes = {"case_id": self.case_id, "flow": "routine", "approved_at": LONG_AGO}
        self.live.do(self.live.stage.platform("PUT", f"/v1/tasks/{task_id}", registration(PERSON, **changes)))
        return task_id

    @cached_property
    def challenge_id(self) -> str:
        return self.things.challenge(TASK)

    @cached_property
    def new_task(self) -> str:
        task_id = f"{OWN}T-{uuid4().hex}"
        self.live.do(self.live.stage.register(task_id, PERSON))
        return task_id

    @property
    def check_in_id(self) -> str:
        return str(self.things.check_in_id)

    @property
    def manual_request_id(self) -> str:
        return str(self.things.manual_request_id)

    @cached_property
    def review_id(self) -> str:
        """One that nobody has decided for a decision, and one with a selfie to be looked at."""
        if self.operation != DECIDE:
            return str(self.things.review_id)
        return str(self.live.do(asked(self.live.stage, PERSON, self.new_task)))

    @cached_property
    def cursor(self) -> str:
        page = self.live.do(self.live.stage.platform("GET", "/v1/changes", params={"limit": "1"}))
        return str(page.body["next"])

    @property
    def yesterday(self) -> str:
        return (self.now - timedelta(days=1)).isoformat()

    @property
    def tomorrow(self) -> str:
        return (self.now + timedelta(days=1)).isoformat()

    @property
    def far_deadline(self) -> str:
        return end_of(day_of(self.now + timedelta(days=90))).isoformat()


# The attribute of a `StandIn` that replaces each example.
MEANING = {
    TASK: "task_id",
    PERSON: "person_id",
    EARLIER_TASK: "earlier_task",
    EARLIER_CASE: "case_id",
    EXAMPLE_CHALLENGE: "challenge_id",
    EXAMPLES["FirstApplication"]["value"]["case_id"]: "case_id",
    DOCUMENT["components"]["parameters"]["CheckInId"]["example"]: "check_in_id",
    DOCUMENT["components"]["parameters"]["ManualRequestId"]["example"]: "manual_request_id",
    DOCUMENT["components"]["parameters"]["ReviewId"]["example"]: "review_id",
    DOCUMENT["components"]["parameters"]["After"]["example"]: "cursor",
    "2026-11-03T10:00:00+08:00": "yesterday",
    "2026-11-25T00:00:00+08:00": "tomorrow",
    "2026-11-19T00:00:00+08:00": "far_deadline",
    "2026-12-18T00:00:00+08:00": "far_deadline",
}
