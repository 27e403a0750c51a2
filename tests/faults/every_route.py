"""Every route with a call that it would take: for faults that no route may be spared."""

import re
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from checkin_service.web.messages import NOTICE_VERSION
from tests.access import SERVED
from tests.faults.clients import BOUNDARY, form
from tests.service.stage import (
    ALL_SCOPES,
    Json,
    Reply,
    Stage,
    check_in_fields,
    photo_of,
    place,
    registration,
)

ABSENT = UUID(int=7)
FOREVER = "2099-01-01T00:00:00+08:00"
# What routes are filled in with where a test names nothing else.
IDS = {"task_id": "T1", "person_id": "p-1", "case_id": "C1", "n": "0"}
REASON: Json = {"reason": "for the test"}
BODIES: dict[tuple[str, str], Json] = {
    ("PUT", "/v1/tasks/{task_id}"): registration("p-1"),
    ("POST", "/v1/tasks/query"): {"task_ids": ["T1"]},
    ("POST", "/v1/tasks/{task_id}/void"): REASON,
    ("POST", "/v1/tasks/{task_id}/extend"): {**REASON, "deadline_at": FOREVER, "document_no": "1"},
    ("POST", "/v1/tasks/{task_id}/fence"): {**REASON, "place": place(buffer_m=50)},
    ("POST", "/v1/tasks/{task_id}/suspend"): REASON,
    ("POST", "/v1/tasks/{task_id}/resume"): REASON,
    ("POST", "/v1/tasks/{task_id}/members/{person_id}/revoke"): REASON,
    ("POST", "/v1/tasks/{task_id}/close"): REASON,
    ("PUT", "/v1/me/consent"): {"notice_version": NOTICE_VERSION, "scopes": ALL_SCOPES},
    ("POST", "/v1/challenges"): {"task_id": "T1"},
    ("POST", "/v1/manual-requests"): {"task_id": "T1", "reason": "for the test"},
    ("POST", "/v1/reviews/{review_id}/decision"): {"decision": "reject", "note": "for the test"},
}
QUERIES = {"/v1/statistics": {"from": "2026-03-01", "to": "2026-03-31"}}
# These answer from what the process holds already.
WITHOUT_DATABASE = {"/v1/consent-notice", "/v1/receipt-keys", "/livez", "/metrics", "/openapi.yaml"}


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    path: str
    scope: str
    options: Json = field(default_factory=dict)

    async def send(self, stage: Stage, sub: str = "p-1") -> Reply:
        headers = {"Idempotency-Key": uuid4().hex, **self.options.get("headers", {})}
        return await stage.call(
            self.method, self.path, sub, self.scope, **{**self.options, "headers": headers}
        )


def every_call(**ids: str) -> dict[str, Call]:
    """A whole call of every route by its name, "GET /v1/me"; `ids` fill in the paths."""
    return {f"{method} {path}": _call(method, path, ids) for method, path in SERVED}


def _call(method: str, path: str, ids: dict[str, str]) -> Call:
    filled = re.sub(r"{(\w+)}", lambda name: (IDS | ids).get(name[1], str(ABSENT)), path)
    scope = min(SERVED[method, path] or {"tasks"})
    return Call(method, filled, scope, {**_body(method, path), "params": QUERIES.get(path, {})})


def _body(method: str, path: str) -> Json:
    if (method, path) in BODIES:
        return {"json": BODIES[method, path]}
    if path.endswith("/reference") and method == "PUT":
        return _form({}, b"photo")
    if path == "/v1/check-ins":
        return _form(check_in_fields("T1", str(ABSENT)), b"selfie")
    if "/burst/" in path:
        return {"data": photo_of("p-1"), "headers": {"Content-Type": "image/jpeg"}}
    return {}


def _form(fields: Json, picture: bytes) -> Json:
    body = form(fields, photo_of("p-1")).replace(b'name="selfie"', b'name="%b"' % picture)
    return {"data": body, "headers": {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}}
