"""The service takes in what openapi.yaml says: the same fields and limits, the same verdict on every value tried."""

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from checkin_service.settings import read_settings
from checkin_service.usecases.refusals import FieldFault, Refusal
from checkin_service.usecases.register_task import RefusedRegistration
from checkin_service.web import schema
from checkin_service.web.shape import Faults, Shape
from geofence import Box
from tests.contract.document import SCHEMAS, resolved

Json = dict[str, Any]
BOX = Box(*read_settings({}).service_box)

DESCRIBED: dict[str, type[Shape]] = {
    "TaskRegistration": schema.TaskShape,
    "Enterprise": schema.EnterpriseShape,
    "Place": schema.PlaceShape,
    "Requirement": schema.RequirementShape,
    "RosterMember": schema.MemberShape,
    "VoidCommand": schema.VoidShape,
    "ExtendCommand": schema.ExtendShape,
    "FenceCommand": schema.FenceShape,
    "ResumeCommand": schema.ResumeShape,
    "ReasonCommand": schema.ReasonShape,
    "TaskQuery": schema.QueryShape,
    "ConsentForm": schema.ConsentShape,
    "ChallengeRequest": schema.ChallengeShape,
    "IdentityCard": schema.IdentityShape,
    "Basis": schema.BasisShape,
    "CheckInForm": schema.CheckInShape,
    "Fix": schema.FixShape,
    "Device": schema.DeviceShape,
    "ManualRequestForm": schema.ManualRequestShape,
    "ReviewDecision": schema.DecisionShape,
}
FILES = {"selfie", "burst"}


# --- Field by field ---


def test_every_shape_is_described() -> None:
    of_the_api = {shape for shape in Shape.__subclasses__() if shape.__module__ == schema.__name__}
    assert set(DESCRIBED.values()) == of_the_api


@pytest.mark.parametrize(("component", "shape"), DESCRIBED.items(), ids=DESCRIBED)
def test_fields_are_the_documented_ones(component: str, shape: type[Shape]) -> None:
    documented, taken = SCHEMAS[component], shape.model_json_schema()
    assert documented["properties"].keys() - FILES == taken["properties"].keys()
    assert set(documented.get("required", [])) - FILES == set(taken.get("required", []))


def fields() -> Iterator[Any]:
    for component, shape in DESCRIBED.items():
        for name, field in shape.model_json_schema()["properties"].items():
            # Its pattern is a rule of the domain here, which says what is wrong (`uscc_…`).
            if (component, name) != ("Enterprise", "uscc"):
                yield pytest.param(SCHEMAS[component]["properties"][name], field, id=f"{component} {name}")


@pytest.mark.parametrize(("documented", "taken"), list(fields()))
def test_limits_are_the_documented_ones(documented: Json, taken: Json) -> None:
    assert limits(documented) == limits(taken)


SAME_WORD = {"ge": "minimum", "le": "maximum"}
LIMITS = {
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "enum",
    "default",
    "format",
    "pattern",
}


def limits(node: Json) -> Json:
    """What a schema of ours or of pydantic's bounds a value by, in the same words."""
    node = resolved(node)
    node = node | resolved(node.get("contentSchema", {}))
    for choice in node.get("oneOf") or node.get("anyOf") or []:
        node = resolved(choice) | node
    said = {SAME_WORD.get(word, word): value for word, value in node.items()}
    # null is what an optional field is when it is left out
    found = {word: said[word] for word in LIMITS & said.keys() if said[word] is not None}
    if "pattern" in found:
        found["pattern"] = found["pattern"].replace("\\A", "^").replace("\\z", "$").lower()
    if found.get("format") == "date-time":
        # the pattern says again what the format and the years are
        found.pop("pattern", None)
    return found


def test_ends_of_texts_are_exact() -> None:
    """`$` would let a line feed in at the end."""
    patterns = [found.values[1]["pattern"] for found in fields() if "pattern" in found.values[1]]
    assert patterns
    assert [pattern for pattern in patterns if not pattern.endswith("\\z")] == []


# --- Value by value ---

# Codes that say "not of the documented form"; every other code is a rule that no schema can state.
OF_FORM = {
    "missing",
    "unknown_field",
    "wrong_type",
    "out_of_range",
    "too_short",
    "too_long",
    "bad_format",
    "not_allowed_value",
    "not_finite",
    "duplicate_field",
    "not_a_time",
}

REGISTRATION: Json = {
    "case_id": "SZ-1",
    "round": 1,
    "flow": "first_application",
    "rectifies": None,
    "enterprise": {"uscc": "91440300MA5DEM012D", "name": "深圳"},
    "approved_at": "2026-11-03T10:00:00+08:00",
    "deadline_at": None,
    "place": {
        "registered_address": "深圳",
        "frame": "wgs84",
        "fence": {"type": "Circle", "coordinates": [114.06, 22.54], "radius_m": 150},
        "buffer_m": 100,
    },
    "requirement": {"registered": 1, "titled": 0, "has_safety_permit": True},
    "roster": [{"person_id": "p-1", "name": "张*", "categories": ["registered"], "technical_lead": True}],
}
RING = [[114.059, 22.543], [114.061, 22.543], [114.061, 22.545], [114.059, 22.543]]
PLACE = REGISTRATION["place"] | {"fence": {"type": "Polygon", "coordinates": [RING]}}
FIX = {
    "lon": 114.06,
    "lat": 22.54,
    "accuracy_m": 15,
    "at": "2026-11-20T09:12:00+08:00",
    "speed_mps": 0.5,
    "altitude_m": None,
}
CHECK_IN = {
    "task_id": "T1",
    "challenge_id": "0d5c2f6e-9a1b-4f0e-8c3d-7b6a5e4f3d2c",
    "frame": "gcj02",
    "fixes": [FIX],
    "captured_at": "2026-11-20T09:12:01+08:00",
    "device": {"platform": "ios", "model": "x", "device_id": None, "reduced_accuracy": False},
}

Judge = Callable[[Any], Iterable[FieldFault]]


def _refused_by(parse: Callable[[Any], object]) -> Judge:
    """The faults for which a parser refuses a value."""

    def judge(value: Any) -> Iterable[FieldFault]:
        try:
            parse(value)
        except Refusal as refusal:
            return refusal.faults
        return ()

    return judge


def _registration(body: Any) -> Iterable[FieldFault]:
    parsed = schema.parse_registration("T1", body, BOX)
    return parsed.faults if isinstance(parsed, RefusedRegistration) else ()


def _basis(basis: Any) -> Faults:
    faults: Faults = []
    schema.parse_basis(json.dumps(basis), "separate_consent", faults)
    return faults


def _check_in(values: Any) -> Faults:
    faults: Faults = []
    # the parts of a form are an object, whatever was sent
    schema.parse_check_in(values if isinstance(values, dict) else {}, faults)
    return faults


def _form_as_parsed() -> Json:
    """The check-in's form without its files, with the JSON that its texts hold in their place."""
    form: Json = SCHEMAS["CheckInForm"]
    kept = {name: field for name, field in form["properties"].items() if name not in FILES}
    return form | {
        "properties": {name: field.get("contentSchema", field) for name, field in kept.items()},
        "required": [name for name in form["required"] if name not in FILES],
    }


CASES: dict[str, tuple[Json, Json, Judge]] = {
    "registration": (SCHEMAS["TaskRegistration"], REGISTRATION, _registration),
    "void": (
        SCHEMAS["VoidCommand"],
        {"reason": "x", "superseded_by": "T2"},
        _refused_by(partial(schema.parse_void, _=BOX)),
    ),
    "extend": (
        SCHEMAS["ExtendCommand"],
        {"reason": "x", "deadline_at": "2026-12-18T00:00:00+08:00", "document_no": "1"},
        _refused_by(partial(schema.parse_extend, _=BOX)),
    ),
    "resume": (
        SCHEMAS["ResumeCommand"],
        {"reason": "x", "deadline_at": "2026-12-18T00:00:00+08:00", "document_no": "1"},
        _refused_by(partial(schema.parse_resume, _=BOX)),
    ),
    "suspend": (
        SCHEMAS["ReasonCommand"],
        {"reason": "x"},
        _refused_by(partial(schema.parse_suspend, _=BOX)),
    ),
    "fence": (
        SCHEMAS["FenceCommand"],
        {"reason": "x", "place": PLACE, "effective_at": "2026-12-18T00:00:00+08:00"},
        _refused_by(partial(schema.parse_new_fence, box=BOX)),
    ),
    "query": (
        SCHEMAS["TaskQuery"],
        {"task_ids": ["T1"]},
        _refused_by(partial(schema.parse_object, schema.QueryShape)),
    ),
    "consent": (
        SCHEMAS["ConsentForm"],
        {"notice_version": "2026-11", "scopes": ["face", "location"]},
        _refused_by(schema.parse_consent),
    ),
    "challenge": (
        SCHEMAS["ChallengeRequest"],
        {"task_id": "T1"},
        _refused_by(schema.parse_challenge),
    ),
    "basis": (SCHEMAS["Basis"], {"kind": "separate_consent", "document": "x"}, _basis),
    "check-in": (_form_as_parsed(), CHECK_IN, _check_in),
    "manual request": (
        SCHEMAS["ManualRequestForm"],
        {"task_id": "T1", "reason": "x", "fixes": [FIX], "frame": "gcj02"},
        _refused_by(schema.parse_manual_request),
    ),
    "decision": (
        SCHEMAS["ReviewDecision"],
        {"decision": "accept", "note": "x"},
        _refused_by(schema.parse_decision),
    ),
}

# Beside these come the numbers and lengths next to each limit that the document names.
TRIED: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2.0,
    0.5,
    10**300,
    -1e308,
    "",
    " ",
    "T1",
    "a/b",
    "é",
    "a\tb",
    "\x7f",
    "\u2028",
    "1",
    "null",
    "wgs84",
    "registered",
    "2026-11-31T00:00:00+08:00",
    "2026-11-30T24:00:00+08:00",
    "2026-11-30T00:00:60+08:00",
    "2026-11-30T00:00:00+24:00",
    "2026-11-30T00:00:00",
    "2026-11-30 00:00:00Z",
    "2026-11-30t00:00:00.123456789z",
    "1989-12-31T00:00:00Z",
    "2200-01-01T00:00:00Z",
    "２026-11-30T00:00:00Z",
    "20261130T000000Z",
    [],
    {},
    [None],
    {"a": 1},
    ["face", "face"],
    [114.06, 22.54, 1, 2],
]


def expanded(node: Any) -> Any:
    """A schema with everything that it refers to put in its place."""
    if isinstance(node, dict):
        return {word: expanded(value) for word, value in resolved(node).items()}
    return [expanded(child) for child in node] if isinstance(node, list) else node


def beside_limits(node: Any) -> set[Any]:
    """Values on and on either side of each limit of an expanded schema."""
    if not isinstance(node, dict | list):
        return set()
    children = list(node.values() if isinstance(node, dict) else node)
    bounds, lengths = said(node, "minimum", "maximum"), said(node, "minLength", "maxLength")
    found = {bound + beside for bound in bounds for beside in (-1, -0.5, 0, 0.5, 1)}
    texts = {"深" * (length + beside) for length in lengths for beside in (-1, 0, 1)}
    return found.union(texts, *map(beside_limits, children))


def said(node: Any, *words: str) -> set[Any]:
    return {node[word] for word in words if word in node}


def counts_within(node: Any) -> set[int]:
    """One less, as many and one more than each number of items that an expanded schema names."""
    if not isinstance(node, dict | list):
        return set()
    children = node.values() if isinstance(node, dict) else node
    counts = {limit + beside for limit in said(node, "minItems", "maxItems") for beside in (-1, 0, 1)}
    return counts.union(*map(counts_within, children))


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every place within a value, with what is there."""
    yield path, value
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for step, child in children:
        yield from places(child, (*path, step))


def with_another(value: Any, path: tuple[str | int, ...], other: Any) -> Any:
    """A copy of the value with another one at a place; nothing is there where that is `...`."""
    if not path:
        return other
    copied = copy.copy(value)
    child = with_another(value[path[0]], path[1:], other)
    if child is ...:
        del copied[path[0]]
    else:
        copied[path[0]] = child
    return copied


def variants(example: Json, form: Json) -> Iterator[Json]:
    """The example with one thing changed, left out, added or repeated, at every place within it."""
    limits, counts = list(beside_limits(form)), sorted(counts_within(form))
    for path, value in places(example):
        alike = [limit for limit in limits if isinstance(limit, str) == isinstance(value, str)]
        others = [*TRIED, *(alike if isinstance(value, str | float | int) else [])]
        if isinstance(value, dict):
            others.append(value | {"unknown": 1})
        elif isinstance(value, list):
            others += [value[:1] * count for count in counts]
        yield from (with_another(example, path, other) for other in others)
        if path:
            yield with_another(example, path, ...)


def shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:400]


def disagreements(form: Json, example: Json, judge: Judge) -> list[tuple[str, str]]:
    """Values on which the service and an expanded schema don't agree, and which of them takes it."""
    validator = Draft202012Validator(form, format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert validator.is_valid(example)
    assert not list(judge(example))
    found = []
    for value in variants(example, form):
        codes = {fault.code for fault in judge(value)}
        if validator.is_valid(value):
            found += [("only documented", shown(value))] if codes & OF_FORM else []
        elif not codes:
            found.append(("only taken", shown(value)))
    return found


@pytest.mark.parametrize("case", CASES)
def test_verdicts_are_the_documented_ones(case: str) -> None:
    documented, example, judge = CASES[case]
    assert disagreements(expanded(documented), example, judge) == []


@pytest.mark.parametrize(
    ("change", "side"),
    [
        ({"additionalProperties": True}, "only documented"),
        ({"required": []}, "only documented"),
        ({"properties": {"reason": {"type": "string", "maxLength": 501}}}, "only documented"),
        ({"properties": {"reason": {"type": "string", "maxLength": 499}}}, "only taken"),
        ({"properties": {"superseded_by": {"type": "string"}}}, "only taken"),
    ],
)
def test_a_document_that_says_otherwise_would_be_found(change: Json, side: str) -> None:
    """The control: one word of the document is not true."""
    documented, example, judge = CASES["void"]
    form = expanded(documented)
    untrue = form | change | {"properties": form["properties"] | change.get("properties", {})}
    assert side in {which for which, _ in disagreements(untrue, example, judge)}
