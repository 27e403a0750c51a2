"""The published document as the tests read it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PATH = Path(__file__).resolve().parents[2] / "openapi.yaml"
DOCUMENT: dict[str, Any] = yaml.safe_load(PATH.read_text("utf-8"))
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]

_METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """The node, or what its $ref points to; keys beside the $ref win, as OpenAPI 3.1 has it."""
    if "$ref" not in node:
        return node
    target: Any = DOCUMENT
    for part in node["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return resolved(target) | {key: value for key, value in node.items() if key != "$ref"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(METHOD, path, operation), with the path's parameters joined to its own; these and answers resolved."""
    for path, item in DOCUMENT["paths"].items():
        for method in _METHODS:
            if method in item:
                operation = item[method]
                own = [*item.get("parameters", []), *operation.get("parameters", [])]
                responses = {status: resolved(answer) for status, answer in operation["responses"].items()}
                yield (
                    method.upper(),
                    path,
                    operation | {"parameters": [resolved(p) for p in own], "responses": responses},
                )
