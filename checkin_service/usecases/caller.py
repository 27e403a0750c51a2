"""Who is calling."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """The verified token's issuer, subject and scopes."""

    iss: str
    sub: str
    scopes: frozenset[str]


SYSTEM = Caller("checkin_service", "system", frozenset())
"""Who answers for what no caller asked for. Tokens never name this issuer, see `adapters/token_keys.py`."""
