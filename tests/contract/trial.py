"""Tries an OpenAPI document out on a live service with Schemathesis, and keeps what came of it."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

import jwt
import schemathesis
from requests import PreparedRequest
from requests.auth import AuthBase
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.engine import events, from_schema
from schemathesis.hooks import GLOBAL_HOOK_DISPATCHER
from schemathesis.openapi.checks import AllowHeaderMismatch

from checkin_service.web.routes import ROUTES, Route
from tests.contract.stand_ins import PERSON, StandIn, Things

Json = dict[str, Any]
# Who consents and withdraws again, so that the person who checks in can go on.
WAVERER = "p-waverer"
PHASES = ("examples", "coverage", "fuzzing", "stateful")
NOBODY = "no token"


class Callers(AuthBase):
    """Signs each request as somebody with one of the scopes chosen for its route, each in its turn."""

    def __init__(self, things: Things, scopes_of: Callable[[Route], Iterable[str]]) -> None:
        self._things = things
        self._turns = {
            (route.method, route.path): cycle(sorted(scopes_of(route))) for route in ROUTES if route.scopes
        }

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        path = urlsplit(str(request.url)).path
        turn = self._turns.get(_route(str(request.method), path))
        if turn is not None:
            request.headers["Authorization"] = f"Bearer {self._token(path, next(turn))}"
        self._things.put_headers(path, request.headers)
        if isinstance(request.body, bytes):
            request.body = self._things.bytes_for(path, request.body)
        return request

    def _token(self, path: str, scope: str) -> str:
        person = WAVERER if path == "/v1/me/consent" else PERSON
        return self._things.live.stage.token(person if scope == "checkin" else "platform", scope)


def _route(method: str, path: str) -> tuple[str, str]:
    """The route of a request; for a method that the path does not have, another one of the path."""
    found = [route for route in ROUTES if re.fullmatch(re.sub(r"{\w+}", "[^/]+", route.path), path)]
    found.sort(key=lambda route: (route.method != method, "{" in route.path))
    return (found[0].method, found[0].path) if found else ("", "")


@dataclass(slots=True)
class Trial:
    """`answers` are counted by operation, scope and status."""

    answers: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    failures: dict[str, list[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    phases: dict[str, str] = field(default_factory=dict)
    checks: set[str] = field(default_factory=set)
    links: Counter[tuple[str, int]] = field(default_factory=Counter)

    def statuses(self, operation: str, scope: str) -> set[int]:
        return {status for name, by, status in self.answers if (name, by) == (operation, scope)}


def try_out(
    things: Things,
    document: Json,
    *,
    examples: int,
    phases: Iterable[str],
    checks: Mapping[str, Any],
    scopes_of: Callable[[Route], Iterable[str]] = lambda route: route.scopes,
    **only: Any,
) -> Trial:
    """Runs every operation, or `only` those of a name or tag, in the given phases with all of Schemathesis' checks.

    `examples` bounds what is drawn for an operation while fuzzing, and the number of stateful scenarios; the
    coverage phase takes what the document has. Drawn is always the same, so that a failure can be repeated.
    """
    schema = schemathesis.openapi.from_dict(document, config=_config(things, examples, phases, checks))
    schema.auth.set_from_requests(Callers(things, scopes_of))
    schema.hook(filter_failure)
    trial = Trial()
    with _stand_ins(things):
        for event in from_schema(schema.include(**only) if only else schema).execute():
            _note(trial, event)
    return trial


def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """Whether what a check found is to be told; two things are right as they are."""
    operation = case.operation.label
    if isinstance(failure, AllowHeaderMismatch):
        # A task may be called "query": then its status and registration have this path, too, and `Allow` says so.
        return bool(operation != "POST /v1/tasks/query")
    if isinstance(failure, AcceptedNegativeData) and operation == "POST /v1/check-ins":
        # A number or null for an id is text in a part of a form, and so the id of no challenge.
        return bool(response.status_code != 409)
    return True


def _config(
    things: Things, examples: int, phases: Iterable[str], checks: Mapping[str, Any]
) -> SchemathesisConfig:
    drawn = {
        "max-examples": examples,
        "deterministic": True,
        "no-shrink": True,
        "database": "none",
        # `Callers` sign every request, also one whose drawn token was left out; `ignored_auth` sends some unsigned
        "with-security-parameters": False,
    }
    tried: dict[str, Json] = {phase: {"enabled": phase in phases} for phase in PHASES}
    # a step that is refused leads nowhere
    tried["stateful"] |= {"max-steps": 5, "generation": drawn | {"mode": "positive"}}
    return SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "base-url": things.live.base_url,
            "continue-on-failure": True,
            # it draws lists of files with many misses
            "suppress-health-check": ["filter_too_much"],
            "generation": drawn,
            "phases": tried,
            "checks": checks,
        }
    )


@contextmanager
def _stand_ins(things: Things) -> Iterator[None]:
    """Puts what is there in the place of the examples, in every request that Schemathesis sends meanwhile."""

    def before_call(context: Any, case: Any, kwargs: Any) -> None:
        stand_in = StandIn(things, case.operation.label, case.body)
        chained = case.meta is not None and case.meta.phase.name == "stateful"
        case.path_parameters.update(stand_in.path(case.path_parameters, chained=chained))
        case.query.update({name: stand_in.put(value) for name, value in case.query.items()})
        if case.media_type == "application/json":
            case.body = stand_in.body(case.body)

    GLOBAL_HOOK_DISPATCHER.register_hook_with_name(before_call, "before_call")
    try:
        yield
    finally:
        GLOBAL_HOOK_DISPATCHER.unregister(before_call)


# --- What came of it ---


def _note(trial: Trial, event: object) -> None:
    if isinstance(event, events.ScenarioFinished):
        _note_scenario(trial, event.recorder)
    elif isinstance(event, events.PhaseFinished):
        trial.phases[event.phase.name.value] = event.status.value
    elif isinstance(event, events.NonFatalError):
        trial.errors.append(f"{event.label}: {event.value}")
    elif isinstance(event, events.FatalError):
        trial.errors.append(repr(event.exception))


def _note_scenario(trial: Trial, recorder: Any) -> None:
    for case_id, interaction in recorder.interactions.items():
        if interaction.response is not None:
            step, status = recorder.cases[case_id], interaction.response.status_code
            trial.answers[step.value.operation.label, _scope(interaction.request), status] += 1
            if step.transition is not None:
                trial.links[step.transition.id, status] += 1
    for case_id, checks in recorder.checks.items():
        for check in checks:
            trial.checks.add(check.name)
            if check.failure_info is not None:
                operation = recorder.cases[case_id].value.operation.label
                trial.failures.setdefault(operation, []).append(_told(check.name, check.failure_info))


def _told(check: str, found: Any) -> str:
    return f"{check}: {found.failure.title}. {found.failure.message}\n{found.code_sample}"


def _scope(request: Any) -> str:
    (authorization,) = request.headers.get("Authorization", [NOBODY])
    try:
        claims = jwt.decode(authorization.removeprefix("Bearer "), options={"verify_signature": False})
    except jwt.PyJWTError:
        return NOBODY
    return str(claims["scope"])
