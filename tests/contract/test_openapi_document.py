"""openapi.yaml is valid, strict, complete, speaks the codes of the code, and its examples are true."""

import copy
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import OpenAPIV31SpecValidator

import geofence
from checkin_service.domain.case import Follows
from checkin_service.domain.consent import CONSENT_SCOPES
from checkin_service.domain.decision import Outcome
from checkin_service.domain.reasons import Doubt, Missing, NextStep, PhotoWarning, Reason
from checkin_service.domain.review import Likeness, ReviewDecision, ReviewKind, ReviewState
from checkin_service.domain.roster import Category
from checkin_service.domain.signals import Signal
from checkin_service.domain.task import Flow, MemberState, MemberStatus, TaskState, members_digest
from checkin_service.web.error_codes import RETRY_LATER, ErrorCode, FaultCode
from checkin_service.web.messages import NOTICE_VERSION, Language
from tests.access import SERVED
from tests.contract.document import DOCUMENT, PATH, SCHEMAS, operations, resolved

OPERATIONS = list(operations())
V1 = [(method, path, operation) for method, path, operation in OPERATIONS if operation["security"]]
# What nobody should send without a key.
KEYED = {
    ("POST", path) for path in ("/v1/check-ins", "/v1/manual-requests", "/v1/reviews/{review_id}/decision")
}
COMMANDS = {path for method, path, _ in V1 if method == "POST" and path.startswith("/v1/tasks/{task_id}/")}


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    """Judges values by a schema of the document, formats included."""
    return Draft202012Validator(
        schema | {"components": DOCUMENT["components"]}, format_checker=Draft202012Validator.FORMAT_CHECKER
    )


def faults(schema: dict[str, Any], value: object) -> list[str]:
    """What is wrong with a value, looking also into form fields that hold JSON."""
    found = [f"{error.json_path}: {error.message}" for error in validator(schema).iter_errors(value)]
    for name, field in resolved(schema).get("properties", {}).items():
        if isinstance(field, dict) and "contentSchema" in field and isinstance(value, dict) and name in value:
            found += [f"{name} {fault}" for fault in faults(field["contentSchema"], json.loads(value[name]))]
    return found


def messages_with_schema() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every media type of every request and response, under a readable name."""
    for method, path, operation in OPERATIONS:
        bodies = {"request": operation.get("requestBody", {})} | operation["responses"]
        for part, body in bodies.items():
            for media_type, message in body.get("content", {}).items():
                yield f"{method} {path} {part} {media_type}", message


def examples() -> Iterator[Any]:
    for name, message in messages_with_schema():
        for title, example in message.get("examples", {}).items():
            yield pytest.param(message["schema"], resolved(example)["value"], id=f"{name} {title}")


def subschemas(node: object) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from subschemas(child)


def names(operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {parameter["name"]: parameter for parameter in operation["parameters"]}


def test_is_valid_openapi() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_the_package_serves_this_very_document() -> None:
    assert (PATH.parent / "checkin_service" / "openapi.yaml").samefile(PATH)


def test_holds_nothing_that_json_has_not() -> None:
    assert json.loads(json.dumps(DOCUMENT, allow_nan=False)) == DOCUMENT


def test_what_is_served_and_to_whom() -> None:
    scopes = {
        (method, path): {scope for need in operation["security"] for scope in need["bearer"]} or None
        for method, path, operation in OPERATIONS
    }
    assert scopes == SERVED


def test_operations_have_names_of_their_own() -> None:
    ids = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(ids)) == len(ids) == len(SERVED)


def test_every_object_is_closed() -> None:
    objects = [node for node in subschemas(SCHEMAS) if node.get("type") == "object"]
    # Four are maps, from names that nobody lists to values of one type.
    maps = [node for node in objects if isinstance(node.get("additionalProperties"), dict)]
    assert len(maps) == 4
    assert [
        node for node in objects if node not in maps and node.get("additionalProperties") is not False
    ] == []


def test_every_component_is_used() -> None:
    used = {node["$ref"] for node in subschemas(DOCUMENT) if isinstance(node.get("$ref"), str)}
    kinds = {kind: of for kind, of in DOCUMENT["components"].items() if kind != "securitySchemes"}
    assert {f"#/components/{kind}/{name}" for kind, of in kinds.items() for name in of} == used


@pytest.mark.parametrize(
    ("component", "codes"),
    [
        ("ReasonCode", Reason),
        ("ErrorCode", ErrorCode),
        ("FaultCode", FaultCode),
        ("NextStep", NextStep),
        ("MissingCode", Missing),
        ("DoubtCode", Doubt),
        ("PhotoWarningCode", PhotoWarning),
        ("MemberState", MemberState),
        ("Flow", Flow),
        ("Follows", Follows),
        ("Language", Language),
        ("Frame", geofence.Frame),
        ("ReviewState", ReviewState),
        ("ReviewKind", ReviewKind),
        ("Likeness", Likeness),
        ("SignalCode", Signal),
    ],
)
def test_enums_are_those_of_the_code_in_its_order(component: str, codes: Iterable[str]) -> None:
    assert SCHEMAS[component]["enum"] == [str(code) for code in codes]


@pytest.mark.parametrize(
    ("listed", "codes"),
    [
        (SCHEMAS["Location"]["properties"]["zone"]["enum"], geofence.Zone),
        (SCHEMAS["CheckIn"]["properties"]["outcome"]["enum"], Outcome),
        (SCHEMAS["RosterMember"]["properties"]["categories"]["items"]["enum"], Category),
        (SCHEMAS["ConsentScopes"]["items"]["enum"], CONSENT_SCOPES),
        (SCHEMAS["ReviewDecision"]["properties"]["decision"]["enum"], ReviewDecision),
        (SCHEMAS["SeenLocation"]["properties"]["zone"]["enum"], geofence.Zone),
    ],
    ids=["zone", "outcome", "category", "scope", "decision", "seen zone"],
)
def test_inline_enums_are_those_of_the_code(listed: list[str], codes: Iterable[str]) -> None:
    assert sorted(listed) == sorted(str(code) for code in codes)


def test_all_states_are_listed() -> None:
    assert {str(state) for state in TaskState} <= set(SCHEMAS["TaskState"]["enum"])


def problems() -> Iterator[tuple[str, int, dict[str, Any]]]:
    for method, path, operation in OPERATIONS:
        for status, answer in operation["responses"].items():
            if int(status) >= 400 and path != "/readyz":
                yield f"{method} {path} {status}", int(status), answer


def test_every_refusal_is_a_problem_with_the_codes_of_its_status() -> None:
    for name, status, answer in problems():
        (narrowed,) = answer["content"]["application/problem+json"]["schema"]["allOf"][1:]
        assert narrowed["properties"]["status"]["const"] == status, name
        codes = {code.value for code in ErrorCode if code.status == status}
        assert set(narrowed["properties"]["code"]["enum"]) == codes, name


def test_no_code_is_out_of_reach() -> None:
    assert {status for _, status, _ in problems()} == {code.status for code in ErrorCode}


def test_refusals_carry_the_headers_they_must() -> None:
    required = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
    for name, status, answer in problems():
        if status in required:
            assert resolved(answer["headers"][required[status]])["required"], name
        if status in {code.status for code in RETRY_LATER}:
            assert "Retry-After" in answer["headers"], name


@pytest.mark.parametrize(("method", "path", "operation"), V1, ids=[f"{m} {p}" for m, p, _ in V1])
def test_operations_keep_the_general_rules(method: str, path: str, operation: dict[str, Any]) -> None:
    answers = set(operation["responses"])
    assert {"400", "401", "403", "503"} <= answers
    assert "Accept-Language" in names(operation)
    assert ({"408", "413", "415"} <= answers) == ("requestBody" in operation)
    # A path that names nothing is 404; whatever else has a form can be of the wrong form.
    formed = any(p["in"] == "query" or p["name"] == "Idempotency-Key" for p in operation["parameters"])
    assert ("422" in answers) == (formed or "requestBody" in operation)
    changes = method != "GET" and path != "/v1/tasks/query"
    assert ("Idempotency-Key" in names(operation)) == changes
    assert ("409" in answers) == changes


def test_which_calls_need_a_key_and_which_know_revisions() -> None:
    for method, path, operation in V1:
        key = names(operation).get("Idempotency-Key", {})
        assert key.get("required", False) == ((method, path) in KEYED)
        assert ("If-Match" in names(operation)) == (path in COMMANDS) == ("412" in operation["responses"])
        reads_status = (method, path) == ("GET", "/v1/tasks/{task_id}")
        assert ("If-None-Match" in names(operation)) == reads_status == ("304" in operation["responses"])


def test_every_status_answer_has_an_etag() -> None:
    for method, path, operation in V1:
        for status, answer in operation["responses"].items():
            content = answer.get("content", {}).get("application/json", {})
            if content.get("schema") == {"$ref": "#/components/schemas/TaskStatus"} or status == "304":
                assert resolved(answer["headers"]["ETag"])["required"], f"{method} {path} {status}"


@pytest.mark.parametrize(("schema", "value"), list(examples()))
def test_examples_conform(schema: dict[str, Any], value: object) -> None:
    assert faults(schema, value) == []


def test_examples_name_the_notice_in_force() -> None:
    """Who tries them as they stand is not told that the notice is outdated."""
    named = {
        node["notice_version"] for node in subschemas(DOCUMENT) if isinstance(node.get("notice_version"), str)
    }
    assert named == {NOTICE_VERSION}


def test_every_json_message_and_form_has_an_example() -> None:
    spoken = ("application/json", "application/problem+json", "multipart/form-data")
    lacking = [
        name
        for name, message in messages_with_schema()
        if name.endswith(spoken) and not message.get("examples")
    ]
    assert lacking == []


def test_parameter_and_header_examples_conform() -> None:
    components = DOCUMENT["components"]
    for named in (*components["parameters"].values(), *components["headers"].values()):
        assert faults(named["schema"], named["example"]) == []


@pytest.mark.parametrize("example", ["TaskStatus", "QueryAnswer"])
def test_example_digests_are_what_the_service_computes(example: str) -> None:
    value = DOCUMENT["components"]["examples"][example]["value"]
    for status in value.get("tasks", [value]):
        members = [
            MemberStatus(
                person_id=member["person_id"],
                state=MemberState(member["state"]),
                has_reference=member["reference"] == "ready",
                accepted_at=datetime.fromisoformat(member["accepted_at"])
                if "accepted_at" in member
                else None,
                check_in_id=member.get("check_in_id"),
            )
            for member in status["members"]
        ]
        assert status["members_digest"] == members_digest(members)


# --- What the schemas must refuse: each value is a good example with one thing made wrong ---


def example(name: str) -> dict[str, Any]:
    value: dict[str, Any] = DOCUMENT["components"]["examples"][name]["value"]
    return copy.deepcopy(value)


def altered(value: dict[str, Any], place: str, by: object) -> dict[str, Any]:
    """The value with another member at a place like `roster/0/name`, or without it when `by` is None."""
    *parents, last = [int(part) if part.isdigit() else part for part in place.split("/")]
    target: Any = value
    for part in parents:
        target = target[part]
    if by is None:
        del target[last]
    else:
        target[last] = by
    return value


RING = [[114.059, 22.543], [114.061, 22.543], [114.061, 22.545], [114.059, 22.543]]


@pytest.mark.parametrize(
    ("place", "by"),
    [
        ("colour", "blue"),
        ("place/fence/properties", {}),
        ("case_id", ""),
        ("case_id", "a\x00b"),
        ("round", 0),
        ("round", "1"),
        ("flow", "annual"),
        ("rectifies", "T0"),
        ("deadline_at", "2026-12-18T00:00:00+08:00"),
        ("approved_at", "2026-11-03T10:00:00"),
        ("approved_at", "2026-11-31T10:00:00+08:00"),
        ("approved_at", "1066-10-14T09:00:00Z"),
        ("approved_at", "3 November 2026"),
        ("enterprise/uscc", "91440300MA5DEM012"),
        ("enterprise/uscc", "91440300ma5dem012d"),
        ("place/frame", "utm"),
        ("place/buffer_m", 501),
        ("place/fence", {"type": "Circle", "coordinates": [114.06, 22.54], "radius_m": 0.5}),
        ("place/fence", {"type": "Polygon", "coordinates": []}),
        ("place/fence", {"type": "Polygon", "coordinates": [RING[:3]]}),
        ("place/fence", {"type": "MultiPolygon", "coordinates": [RING]}),
        ("place/fence", {"type": "LineString", "coordinates": RING}),
        ("requirement/titled", -1),
        ("roster", []),
        ("roster/0/technical_lead", False),
        ("roster/0/categories", []),
        ("roster/0/categories", ["registered", "registered"]),
        ("roster/0/person_id", "p/1"),
        ("roster/0/name", None),
    ],
)
def test_registrations_that_are_refused(place: str, by: object) -> None:
    assert faults(SCHEMAS["TaskRegistration"], altered(example("FirstApplication"), place, by))


@pytest.mark.parametrize("missing", ["rectifies", "deadline_at"])
def test_rectifications_name_task_and_deadline(missing: str) -> None:
    assert faults(SCHEMAS["TaskRegistration"], altered(example("Rectification"), missing, None))


@pytest.mark.parametrize(
    ("component", "name", "place", "by"),
    [
        ("TaskStatus", "TaskStatus", "state", "closed"),
        ("TaskStatus", "TaskStatus", "closes_at", "2026-12-03T16:00:00Z"),
        ("TaskStatus", "TaskStatus", "members/0/check_in_id", None),
        ("TaskStatus", "TaskStatus", "members/1/method", "face"),
        ("TaskStatus", "TaskStatus", "members_digest", "ee32"),
        ("CheckIn", "OutsideCheckIn", "location/distance_m", 312),
        ("CheckIn", "OutsideCheckIn", "outcome", "pending"),
        ("CheckIn", "OutsideCheckIn", "reasons/0/code", "too_far"),
        ("CheckIn", "OutsideCheckIn", "retry_at", "2026-11-21T00:00:00+08:00"),
        ("CheckIn", "TooManyAttempts", "retry_at", None),
        ("CheckIn", "AcceptedCheckIn", "location", None),
        ("Me", "Me", "tasks/0/next", "run"),
    ],
)
def test_answers_that_would_be_wrong(component: str, name: str, place: str, by: object) -> None:
    assert faults(SCHEMAS[component], altered(example(name), place, by))


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("fixes", '[{"lon": 114.06, "lat": 22.54}]'),
        ("fixes", '[{"lon": "114.06", "lat": 22.54, "at": "2026-11-20T09:12:00+08:00"}]'),
        ("fixes", json.dumps([{"lon": 114.06, "lat": 22.54, "at": "2026-11-20T09:12:00+08:00"}] * 11)),
        ("device", '{"platform": "symbian"}'),
        ("device", '{"imei": "1"}'),
    ],
)
def test_form_fields_that_are_refused(field: str, text: str) -> None:
    form = DOCUMENT["paths"]["/v1/check-ins"]["post"]["requestBody"]["content"]["multipart/form-data"]
    value = form["examples"]["android"]["value"]
    assert faults(form["schema"], value | {field: text})


def test_a_problem_about_fields_names_them() -> None:
    problem = {
        "type": "about:blank",
        "title": "Something is not right",
        "status": 422,
        "detail": "Correct it.",
        "code": "invalid",
        "request_id": "1",
    }
    fault = {"pointer": "/round", "code": "out_of_range", "message": "Out of range."}
    assert faults(SCHEMAS["Problem"], problem)
    assert faults(SCHEMAS["Problem"], problem | {"errors": []})
    assert faults(SCHEMAS["Problem"], problem | {"errors": [fault | {"pointer": "roster/0"}]})
    assert faults(SCHEMAS["Problem"], problem | {"errors": [fault]}) == []
