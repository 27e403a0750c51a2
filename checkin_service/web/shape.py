"""Parses JSON objects field by field, so that every fault is found at once and the rest is still checked.

pydantic judges each single value; a model's whole validation would stop at the first level that fails and
hide the domain faults behind it.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Annotated, Any

from annotated_types import Interval
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from checkin_service.usecases.refusals import FieldFault

Faults = list[FieldFault]


class Shape(BaseModel):
    """A JSON object of the contract: no other fields, no conversions between types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


# --- Words that many objects share ---

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
# Far enough from the calendar's ends that no offset and no month added leaves it.
_YEARS = range(1990, 2200)


def parse_instant(value: object) -> datetime:
    """An aware datetime from RFC 3339 text with an offset; a pydantic error otherwise."""
    if not isinstance(value, str):
        raise PydanticCustomError("wrong_type", "text expected", {"expected": "text"})
    try:
        instant = datetime.fromisoformat(value.upper()) if _RFC3339.fullmatch(value) else None
    except ValueError:
        instant = None
    if instant is None:
        raise PydanticCustomError("not_a_time", "RFC 3339 time with an offset expected")
    if instant.year not in _YEARS:
        raise PydanticCustomError("out_of_range", "year out of range", {"minimum": 1990, "maximum": 2199})
    return instant


Instant = Annotated[datetime, BeforeValidator(parse_instant)]
Id = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z0-9._-]{1,64}\z")]


def line(maximum: int) -> StringConstraints:
    """Text of 1 to `maximum` characters without control characters."""
    return StringConstraints(min_length=1, max_length=maximum, pattern=r"\A[^\x00-\x1f\x7f]*\z")


def lines(maximum: int) -> StringConstraints:
    """The same, of several lines if need be."""
    return StringConstraints(
        min_length=1, max_length=maximum, pattern=r"\A[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*\z"
    )


def _integral(value: object) -> object:
    """1.0 is the integer 1 in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_integral)]


def between(minimum: float, maximum: float) -> Interval:
    """A number in a closed range; JSON has no others than finite ones."""
    return Interval(ge=minimum, le=maximum)


# --- Parsing ---


def parse_fields(shape: type[Shape], value: object, pointer: str, faults: Faults) -> dict[str, Any]:
    """The fields of `value` that are right, with their defaults; what is wrong is added to `faults`."""
    if not isinstance(value, dict):
        faults.append(FieldFault(pointer, "wrong_type", {"expected": "object"}))
        return {}
    unknown = (name for name in value if name not in shape.model_fields)
    faults.extend(FieldFault(f"{pointer}/{escape(name)}", "unknown_field") for name in unknown)
    missing = (
        name for name, field in shape.model_fields.items() if field.is_required() and name not in value
    )
    faults.extend(FieldFault(f"{pointer}/{name}", "missing") for name in missing)
    fields = {
        name: f.default for name, f in shape.model_fields.items() if not f.is_required() and name not in value
    }
    for name in shape.model_fields.keys() & value.keys():
        try:
            fields[name] = _adapter(shape, name).validate_python(value[name])
        except ValidationError as error:
            faults.extend(_faults(error, f"{pointer}/{name}"))
    return fields


def escape(name: str) -> str:
    """A name as one step of a JSON pointer (RFC 6901).

    >>> escape("a/b~c")
    'a~1b~0c'
    """
    return name.replace("~", "~0").replace("/", "~1")


@cache
def _adapter(shape: type[Shape], name: str) -> TypeAdapter[Any]:
    return TypeAdapter(shape.model_fields[name].rebuild_annotation(), config=ConfigDict(strict=True))


# pydantic's kinds of error by the end of their names, as codes of the contract
_CODES = {
    "_type": "wrong_type",
    "too_short": "too_short",
    "too_long": "too_long",
    "pattern_mismatch": "bad_format",
    "string_unicode": "bad_format",
    "greater_than_equal": "out_of_range",
    "less_than_equal": "out_of_range",
    "finite_number": "not_finite",
    "literal_error": "not_allowed_value",
    "enum": "not_allowed_value",
}
# where pydantic keeps the figure that the message names
_PARAMS = {
    "min_length": "minimum",
    "max_length": "maximum",
    "ge": "minimum",
    "le": "maximum",
    "expected": "allowed",
}


def _faults(error: ValidationError, pointer: str) -> Iterator[FieldFault]:
    for detail in error.errors(include_url=False, include_input=False):
        steps = "".join(f"/{escape(str(step))}" for step in detail["loc"])
        context = detail.get("ctx", {})
        params = {_PARAMS.get(name, name): value for name, value in context.items()}
        yield FieldFault(pointer + steps, _code(detail["type"]), params)


def _code(kind: str) -> str:
    """The contract's code for a pydantic error; our own errors carry it already."""
    return next((code for ending, code in _CODES.items() if kind.endswith(ending)), kind)
