"""How a use case says no to a call. (A check-in that is judged and refused is a result, not an exception.)"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldFault:
    """One broken rule at one place of the request: JSON pointer (or field name), code, figures for the message."""

    pointer: str
    code: str
    params: Mapping[str, Any] = field(default_factory=dict)


class Refusal(Exception):
    """The call is refused with one of the contract's problem codes; nothing was changed."""

    def __init__(self, code: str, faults: Iterable[FieldFault] = (), **params: Any) -> None:
        super().__init__(code)
        self.code = code
        self.faults = tuple(faults)
        self.params = params


def invalid(pointer: str, code: str, **params: Any) -> Refusal:
    """A 422 for a single fault."""
    return Refusal("invalid", [FieldFault(pointer, code, params)])
