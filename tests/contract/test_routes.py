"""What is routed is what openapi.yaml documents: methods, paths, scopes, and every refusal that a handler can give."""

import ast
import re
from typing import get_args

import pytest

import geofence
from checkin_service.domain.enterprise import USCCFault
from checkin_service.domain.roster import RosterFaultCode
from checkin_service.domain.window import DeadlineFault
from checkin_service.web.error_codes import ErrorCode, FaultCode
from checkin_service.web.routes import ROUTES, Route
from face import ImageError, QualityFault
from tests.contract import source
from tests.contract.document import operations

DOCUMENTED = {(method, path): operation for method, path, operation in operations()}
GUARDED = [route for route in ROUTES if route.scopes]
# What may befall every call of ours: aiohttp can't read it, the token or its scope won't do, a store is away.
EVERYWHERE = {
    ErrorCode.MALFORMED,
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.SCOPE_MISSING,
    ErrorCode.UNAVAILABLE,
}


def name(route: Route) -> str:
    return f"{route.method} {route.path}"


def test_routes_are_the_documented_operations() -> None:
    assert len(ROUTES) == len(DOCUMENTED)
    assert {(route.method, route.path) for route in ROUTES} == DOCUMENTED.keys()


@pytest.mark.parametrize("route", ROUTES, ids=name)
def test_scopes_are_the_documented_ones(route: Route) -> None:
    security = DOCUMENTED[route.method, route.path]["security"]
    assert [len(need["bearer"]) for need in security] == [1] * len(route.scopes)
    assert {scope for need in security for scope in need["bearer"]} == route.scopes


@pytest.mark.parametrize("route", ROUTES, ids=name)
def test_parameters_of_the_path_are_documented(route: Route) -> None:
    parameters = DOCUMENTED[route.method, route.path]["parameters"]
    assert {p["name"] for p in parameters if p["in"] == "path"} == set(re.findall(r"{(\w+)}", route.path))


def codes_of(route: Route) -> set[ErrorCode]:
    """Every code that the handler, or a function it uses, can refuse with."""
    functions = source.reached(f"{route.handler.__module__}.{route.handler.__name__}")
    assert functions
    nodes = [node for function in functions for node in ast.walk(function)]
    said = {node.value for node in nodes if isinstance(node, ast.Constant)}
    passed_on = {kind.code for kind in ImageError.__subclasses__() if any(map(_refuses_the_picture, nodes))}
    return {code for code in ErrorCode if code.value in said | passed_on}


def _refuses_the_picture(node: ast.AST) -> bool:
    """`Refusal(error.code)`, where the error is one of the face library."""
    return isinstance(node, ast.Call) and ast.unparse(node) == "Refusal(error.code)"


@pytest.mark.parametrize("route", GUARDED, ids=name)
def test_every_refusal_is_documented_and_none_else(route: Route) -> None:
    documented = {int(status) for status in DOCUMENTED[route.method, route.path]["responses"]}
    possible = {code.status for code in codes_of(route) | EVERYWHERE}
    assert {status for status in documented if status >= 400} == possible


@pytest.mark.parametrize("route", [route for route in ROUTES if not route.scopes], ids=name)
def test_operators_calls_refuse_nothing(route: Route) -> None:
    assert codes_of(route) == set()


@pytest.mark.parametrize("route", GUARDED, ids=name)
def test_conflicts_are_named_each_by_its_code(route: Route) -> None:
    conflict = DOCUMENTED[route.method, route.path]["responses"].get("409", {"description": ""})
    named = set(re.findall(r"`(\w+)`", conflict["description"]))
    assert named == {code.value for code in codes_of(route) if code.status == 409}


def test_codes_can_be_followed_through_the_source() -> None:
    """The control: were the functions not followed, nearly nothing would be found."""
    (submit,) = (route for route in ROUTES if (route.method, route.path) == ("POST", "/v1/check-ins"))
    deep = {
        ErrorCode.CHALLENGE_INVALID,
        ErrorCode.IMAGE_UNREADABLE,
        ErrorCode.TOO_SLOW,
    }
    assert deep <= codes_of(submit)
    assert ErrorCode.ROUND_EXISTS not in codes_of(submit)


# --- Codes in the source ---


def literals(argument: int, *called: str) -> set[tuple[str, str]]:
    """Place and value of an argument that is a text in the source, in all calls of these names."""
    return {
        (place, text) for place, call in source.calls(*called) for text in source.texts(call.args[argument])
    }


def test_every_refusal_has_a_listed_code() -> None:
    found = literals(0, "Refusal")
    assert len(found) > 40
    assert {(place, code) for place, code in found if code not in set(ErrorCode)} == set()


def test_every_fault_has_a_listed_code() -> None:
    found = literals(1, "FieldFault", "invalid") | literals(0, "PydanticCustomError")
    assert len(found) > 20
    assert {(place, code) for place, code in found if code not in set(FaultCode)} == set()


@pytest.mark.parametrize(
    "codes",
    [
        get_args(USCCFault),
        get_args(RosterFaultCode),
        get_args(DeadlineFault),
        [f"{word}_{end}" for word in ("rectifies", "deadline") for end in ("required", "refused")],
        geofence.FaultCode,
        QualityFault,
    ],
    ids=["uscc", "roster", "deadline", "flow", "fence", "quality"],
)
def test_codes_that_rules_and_libraries_give_are_listed(codes: list[str]) -> None:
    assert set(map(str, codes)) <= set(FaultCode)


def test_no_listed_code_is_unused() -> None:
    """A code that nothing says would promise callers something that never comes."""
    said = {
        node.value
        for module, tree in source.modules().items()
        if module != "checkin_service.web.error_codes"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
    }
    elsewhere = {*map(str, geofence.FaultCode), *map(str, QualityFault), "deadline_refused"}
    elsewhere |= {"deadline_required", "rectifies_required", "rectifies_refused"}
    assert {str(code) for code in (*ErrorCode, *FaultCode)} - said - elsewhere == set()
