"""Rows of results, frozen dataclasses of one kind, as a table for people and as JSON for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import isnan
from typing import Any

from face.evaluation.rates import Rate
from face.evaluation.report import aligned, shown


def as_table(rows: Sequence[Any]) -> str:
    """In Markdown, headed by the fields' names."""
    if not rows:
        return "nothing to measure in this set"
    names = [field.name for field in fields(rows[0])]
    header = tuple(name.replace("_", " ") for name in names)
    return aligned([header, *(tuple(_cell(getattr(row, name)) for name in names) for row in rows)])


def _cell(value: Any) -> str:
    match value:
        case Rate():
            return shown(value)
        case float():
            return f"{value:.4f}"
        case None:
            return "-"
    return str(value)


def as_records(rows: Sequence[Any]) -> list[Mapping[str, Any]]:
    """A rate is ``k`` of ``n``, its ``value`` (None of nothing) and its 95 % interval ``low``-``high``."""
    return [{field.name: _plain(getattr(row, field.name)) for field in fields(row)} for row in rows]


def _plain(value: Any) -> Any:
    if not isinstance(value, Rate):
        return value
    share = None if isnan(value.value) else value.value
    return {"k": value.errors, "n": value.pairs, "value": share, "low": value.low, "high": value.high}
