"""Bearer tokens: ES256 JWTs of the configured issuer, checked before anything else is read."""

import time
from functools import lru_cache
from typing import Any

import jwt
from aiohttp import web

from checkin_service.adapters.token_keys import ALGORITHM, AUDIENCE, TokenKeys
from checkin_service.usecases.caller import Caller
from checkin_service.usecases.refusals import Refusal
from checkin_service.web.context import services

LEEWAY_S = 60
MAX_LIFETIME_S = 15 * 60
MAX_TOKEN = 8 * 1024
REMEMBERED_TOKENS = 4096
_REQUIRED = ["iss", "aud", "sub", "iat", "exp", "scope"]


async def authenticate(request: web.Request, scopes: frozenset[str]) -> Caller:
    """The caller, who has one of `scopes`. Raises `Refusal`: unauthenticated, scope_missing."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not 0 < len(token) <= MAX_TOKEN:
        raise Refusal("unauthenticated")
    caller = await _verify(services(request).token_keys, token.strip())
    if not scopes & caller.scopes:
        raise Refusal("scope_missing", needed=" / ".join(sorted(scopes)))
    return caller


async def _verify(token_keys: TokenKeys, token: str) -> Caller:
    try:
        for key in await token_keys.find(_key_id(token)):
            if verified := _verified(token, key):
                return _unexpired(*verified)
    except (jwt.PyJWTError, ValueError) as error:
        raise Refusal("unauthenticated") from error
    raise Refusal("unauthenticated")


# One token serves many requests, and its signature is a third of what a poll costs. The key object is part of what is
# remembered, so that a key set read anew forgets everything; only the time is asked again.


@lru_cache(maxsize=REMEMBERED_TOKENS)
def _key_id(token: str) -> str | None:
    key_id: str | None = jwt.get_unverified_header(token).get("kid")
    return key_id


@lru_cache(maxsize=REMEMBERED_TOKENS)
def _verified(token: str, key: jwt.PyJWK) -> tuple[Caller, float] | None:
    """The caller and the token's end (seconds since 1970); None when another key signed. Raises `jwt.PyJWTError` or
    `ValueError` for anything else."""
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            leeway=LEEWAY_S,
            options={"require": _REQUIRED},
        )
    except jwt.InvalidSignatureError:
        return None
    return _caller(claims), claims["exp"]


def _unexpired(caller: Caller, expires_at: float) -> Caller:
    if time.time() >= expires_at + LEEWAY_S:
        raise ValueError("the token has expired")
    return caller


def _caller(claims: dict[str, Any]) -> Caller:
    if not 0 < _seconds(claims["exp"]) - _seconds(claims["iat"]) <= MAX_LIFETIME_S:
        raise ValueError("the token lives too long")
    iss, sub, scope = (_word(claims[name]) for name in ("iss", "sub", "scope"))
    return Caller(iss, sub, frozenset(scope.split()))


def _seconds(claim: object) -> float:
    """Seconds since 1970 as a number: PyJWT takes text with digits as well."""
    if isinstance(claim, int | float):
        return claim
    raise ValueError("a claim is not a time")


def _word(claim: object) -> str:
    """Something that can be stored and logged as it is."""
    if not isinstance(claim, str) or not 0 < len(claim) <= 255 or not claim.isprintable():
        raise ValueError("a claim is not a printable text")
    return claim
