"""The service's source as the tests read it: which function mentions which, and the codes they say."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "checkin_service"
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the service by its dotted name."""
    return {_dotted(path): ast.parse(path.read_text("utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def calls(*names: str) -> Iterator[tuple[str, ast.Call]]:
    """(place, call) of every call of a plain name, anywhere in the service."""
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                yield f"{module}:{node.lineno}", node


def texts(node: ast.expr) -> Iterator[str]:
    """The texts that an expression may be, as far as they stand there."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*texts(node.body), *texts(node.orelse))


def reached(function: str) -> list[Function]:
    """A module's function and all that it mentions, directly or not, callbacks included.

    Methods of objects are not followed: no refusal is made in one.
    """
    seen: dict[str, Function] = {}
    waiting = [function]
    while waiting:
        name = waiting.pop()
        if name in _functions() and name not in seen:
            seen[name] = _functions()[name]
            waiting += _mentioned(name)
    return list(seen.values())


@cache
def _functions() -> dict[str, Function]:
    return {
        f"{module}.{node.name}": node
        for module, tree in modules().items()
        for node in tree.body
        if isinstance(node, Function)
    }


@cache
def _imported(module: str) -> dict[str, str]:
    """The module's names for what it imports, as dotted names."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(modules()[module])
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def _mentioned(function: str) -> Iterator[str]:
    module = function.rpartition(".")[0]
    nodes = list(ast.walk(_functions()[function]))
    own = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in nodes:
        if isinstance(node, ast.Name) and node.id not in own:
            yield _imported(module).get(node.id, f"{module}.{node.id}")
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{_imported(module).get(node.value.id)}.{node.attr}"


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
