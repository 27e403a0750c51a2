"""openapi.yaml tried out on the live service by Schemathesis: every operation, every scope, every check that it has.

`CHECKIN_SCHEMATHESIS_EXAMPLES` says how much is drawn; what is drawn is the same in every run.
"""

import copy
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import CHECKS

from checkin_service.web.error_codes import ErrorCode
from checkin_service.web.routes import ROUTES, Route
from tests.contract.document import DOCUMENT
from tests.contract.live_service import ForgivingEngine, LiveService, live_service
from tests.contract.stand_ins import EXAMPLE_PHOTO, Things
from tests.contract.test_shapes import FIX, OF_FORM
from tests.contract.trial import NOBODY, PHASES, Trial, try_out

Json = dict[str, Any]
EXAMPLES = int(os.environ.get("CHECKIN_SCHEMATHESIS_EXAMPLES", "4"))
SCOPES = {"tasks", "review", "checkin", "operate"}

# --- The document as it is tried ---

TEXTS: dict[tuple[str, str], list[Any]] = {
    ("CheckInForm", "fixes"): [[FIX], [FIX, FIX | {"accuracy_m": 400}], [FIX | {"lon": 500}], []],
    ("CheckInForm", "device"): [{}, {"platform": "ios", "model": "x"}, {"reduced_accuracy": True}],
    ("EnrolmentForm", "basis"): [{"kind": "separate_consent"}, {"kind": "statutory_duty", "document": "1"}],
}
LINKED_BODIES = {
    ("/v1/me", "get", "200", "createChallenge"): {"task_id": "$response.body#/tasks/0/task_id"},
    ("/v1/challenges", "post", "201", "submitCheckIn"): {
        "task_id": "$request.body#/task_id",
        "challenge_id": "$response.body#/challenge_id",
    },
    ("/v1/consent-notice", "get", "200", "giveConsent"): {
        "notice_version": "$response.body#/notice_version",
        "scopes": "$response.body#/scopes",
    },
}


def tried_document() -> Json:
    """The published document, with what Schemathesis can't read in it said in its own way."""
    document = copy.deepcopy(DOCUMENT)
    forms = document["components"]["schemas"]
    for form, field in TEXTS:
        # It draws any text where there is a `contentSchema`, but a format as it is told.
        forms[form]["properties"][field]["format"] = f"json-{field}"
    # It would draw thousands of members to find out how many are too many; test_shapes.py does that.
    del forms["TaskRegistration"]["properties"]["roster"]["maxItems"]
    del forms["TaskQuery"]["properties"]["task_ids"]["maxItems"]
    for (path, method, status, link), body in LINKED_BODIES.items():
        # OpenAPI has no words for a part of a body that comes from an answer; Schemathesis has.
        document["paths"][path][method]["responses"][status]["links"][link]["requestBody"] = body
    return document


for (_, name), values in TEXTS.items():
    schemathesis.openapi.format(f"json-{name}", st.sampled_from([json.dumps(value) for value in values]))
# As text: a body that holds bytes counts as a wrong one as soon as a link has set a part of it.
schemathesis.openapi.format("binary", st.sampled_from([EXAMPLE_PHOTO, EXAMPLE_PHOTO, "GIF89a", ""]))


# --- What is checked ---

PICTURES_TAKEN = {
    "PUT /v1/persons/{person_id}/reference",
    "PUT /v1/challenges/{challenge_id}/burst/{n}",
    "POST /v1/check-ins",
}
# What a well-formed call of the right caller may be refused with: what is there, not what was sent, is against it.
RULES = {
    ErrorCode.CONSENT_REQUIRED,
    ErrorCode.NOT_FOUND,
    ErrorCode.TASK_CONFLICT,
    ErrorCode.ROUND_EXISTS,
    ErrorCode.STATE_CONFLICT,
    ErrorCode.DEADLINE_REQUIRED,
    ErrorCode.CHALLENGE_INVALID,
    ErrorCode.NOTICE_OUTDATED,
    ErrorCode.FEED_EPOCH_CHANGED,
    ErrorCode.STALE_REVISION,
    ErrorCode.INVALID,
    ErrorCode.IMAGE_UNREADABLE,
    ErrorCode.IDEMPOTENCY_KEY_REUSED,
}


@schemathesis.check
def only_rules_refuse_what_is_well_formed(ctx: Any, response: Any, case: Any) -> None:
    """Never `missing`, `wrong_type` and the like, for a request that the document allows."""
    if response.status_code < 400 or case.meta is None or case.meta.generation.mode.is_negative:
        return
    problem = response.json()
    pictures = {ErrorCode.UNSUPPORTED_MEDIA_TYPE} if case.operation.label in PICTURES_TAKEN else set()
    assert problem["code"] in RULES | pictures, problem
    assert not {error["code"] for error in problem["errors"]} & OF_FORM, problem


# All of Schemathesis' checks are on, but `max_response_time`: no test here is decided by a clock.
# `object_level_authorization` finds nothing to do, as it knows logins only; another person's things are asked for in
# tests/service/test_bad_input.py.
TRIED = {
    "positive_data_acceptance": {
        "expected-statuses": ["2xx", "304", *sorted({str(c.status) for c in RULES}), "415"]
    },
    "negative_data_rejection": {"expected-statuses": ["400", "401", "404", "405", "415", "422"]},
}
REFUSED = {
    "positive_data_acceptance": {"expected-statuses": ["403"]},
    "negative_data_rejection": {"expected-statuses": ["401", "403", "404", "405"]},
    "only_rules_refuse_what_is_well_formed": {"enabled": False},
}


@pytest.fixture(scope="module")
def live() -> Iterator[LiveService]:
    with live_service() as running:
        yield running


@pytest.fixture(scope="module")
def things(live: LiveService) -> Things:
    return Things(live)


def label(route: Route) -> str:
    return f"{route.method} {route.path}"


# --- Every operation by who may call it ---


@pytest.fixture(scope="module")
def trial(things: Things) -> Trial:
    return try_out(
        things, tried_document(), examples=EXAMPLES, checks=TRIED, phases=["examples", "coverage", "fuzzing"]
    )


@pytest.mark.parametrize("route", ROUTES, ids=label)
def test_operations_do_what_the_document_says(trial: Trial, route: Route) -> None:
    found = trial.failures.get(label(route), [])
    assert not found, "\n\n".join(found)


@pytest.mark.parametrize(
    ("route", "scope"),
    [
        pytest.param(r, scope, id=f"{label(r)} {scope}")
        for r in ROUTES
        for scope in sorted(r.scopes or {NOBODY})
    ],
)
def test_operations_were_carried_out(trial: Trial, route: Route, scope: str) -> None:
    """Else the rest would only show how well the service refuses."""
    assert any(200 <= status < 300 for status in trial.statuses(label(route), scope))


def test_the_trial_was_whole(trial: Trial) -> None:
    assert trial.errors == []
    assert {phase: trial.phases[phase] for phase in PHASES} == {
        "examples": "success",
        "coverage": "success",
        "fuzzing": "success",
        "stateful": "skip",
    }
    assert trial.checks == set(CHECKS.get_all_names()) - {"max_response_time"}


# --- One call after another ---


@pytest.mark.parametrize("tag", ["tasks", "persons", "check-in", "reviews"])
def test_links_lead_on(things: Things, tag: str) -> None:
    trial = try_out(things, tried_document(), examples=EXAMPLES, checks=TRIED, phases=["stateful"], tag=tag)
    assert trial.failures == {}
    assert trial.errors == []
    assert trial.phases["stateful"] == "success"
    assert any(200 <= status < 300 for _, status in trial.links)


# --- Every operation by who may not ---


@pytest.fixture(scope="module")
def foreign(things: Things) -> Trial:
    return try_out(
        things,
        tried_document(),
        examples=EXAMPLES,
        scopes_of=lambda route: SCOPES - route.scopes,
        checks=REFUSED,
        phases=["examples", "fuzzing"],
        # what is for everyone is tried above
        path_regex="^/v1/(?!receipt-keys)",
    )


@pytest.mark.parametrize("route", [route for route in ROUTES if route.scopes], ids=label)
def test_other_scopes_are_refused(foreign: Trial, route: Route) -> None:
    found = foreign.failures.get(label(route), [])
    assert not found, "\n\n".join(found)
    for scope in SCOPES - route.scopes:
        assert 403 in foreign.statuses(label(route), scope), scope


def test_the_foreign_trial_was_whole(foreign: Trial) -> None:
    assert foreign.errors == []
    assert not any(200 <= status < 300 for _, _, status in foreign.answers)


# --- The controls: one thing is not true, and the check that is there for it says so ---


def _rev_is_text(document: Json) -> None:
    document["components"]["schemas"]["TaskStatus"]["properties"]["rev"] = {"type": "string"}


def _etag_is_weak(document: Json) -> None:
    document["components"]["headers"]["ETag"]["schema"]["pattern"] = "^W/"


def _answer_is_html(document: Json) -> None:
    answer = document["components"]["responses"]["TaskStatus"]
    answer["content"] = {"text/html": answer["content"]["application/json"]}


def _never_found(document: Json) -> None:
    del document["paths"]["/v1/tasks/{task_id}"]["get"]["responses"]["200"]


def _reasons_are_short(document: Json) -> None:
    document["components"]["schemas"]["CommandReason"]["maxLength"] = 10


def _reasons_are_long(document: Json) -> None:
    document["components"]["schemas"]["CommandReason"]["maxLength"] = 501


def _probes_need_a_token(document: Json) -> None:
    document["paths"]["/livez"]["get"]["security"] = [{"bearer": []}]


def _consent_is_for_ever(document: Json) -> None:
    del document["paths"]["/v1/me/consent"]["delete"]


def _a_language_is_needed(document: Json) -> None:
    document["components"]["parameters"]["AcceptLanguage"]["required"] = True


STATUS, VOID = "GET /v1/tasks/{task_id}", "POST /v1/tasks/{task_id}/void"


@pytest.mark.parametrize(
    ("untruth", "operation", "check"),
    [
        (_rev_is_text, STATUS, "response_schema_conformance"),
        (_etag_is_weak, STATUS, "response_headers_conformance"),
        (_answer_is_html, STATUS, "content_type_conformance"),
        (_never_found, STATUS, "status_code_conformance"),
        (_reasons_are_short, VOID, "negative_data_rejection"),
        (_reasons_are_long, VOID, "only_rules_refuse_what_is_well_formed"),
        (_probes_need_a_token, "GET /livez", "ignored_auth"),
        (_consent_is_for_ever, "PUT /v1/me/consent", "unsupported_method"),
        (_a_language_is_needed, "GET /v1/me", "missing_required_header"),
    ],
)
def test_an_untrue_document_would_be_found_out(
    things: Things, untruth: Callable[[Json], None], operation: str, check: str
) -> None:
    document = tried_document()
    untruth(document)
    trial = try_out(things, document, examples=1, checks=TRIED, phases=["coverage"], name=operation)
    assert any(told.startswith(f"{check}:") for told in trial.failures[operation])


def test_a_defect_would_be_found_out(things: Things, monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_down(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ForgivingEngine, "analyse", break_down)
    operation = "PUT /v1/persons/{person_id}/reference"
    trial = try_out(things, tried_document(), examples=1, checks=TRIED, phases=["examples"], name=operation)
    assert any(told.startswith("not_a_server_error:") for told in trial.failures[operation])
