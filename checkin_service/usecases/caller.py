"""Who is calling."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """The verified token's issuer, subject and scopes."""

    iss: str
    sub: str
    scopes: frozenset[str]
