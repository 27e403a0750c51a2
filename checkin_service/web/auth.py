"""Bearer tokens: ES256 JWTs of the configured issuer, checked before anything else is read."""

import re
from functools import lru_cache
from typing import Any, NamedTuple

import jwt
from aiohttp import web
from jwt.types import Options

from checkin_service.adapters.token_keys import ALGORITHM, AUDIENCE, TokenKeys
from checkin_service.usecases.caller import SYSTEM, Caller, WeChatAccount
from checkin_service.usecases.refusals import Refusal
from checkin_service.web.context import TOKEN_ENDS_AT, services

LEEWAY_S = 60
MAX_LIFETIME_S = 15 * 60
MAX_TOKEN = 8 * 1024
REMEMBERED_TOKENS = 4096
# The times are ours to judge, by our clock and at every call.
_OPTIONS: Options = {
    "require": ["iss", "aud", "sub", "iat", "exp", "scope"],
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
}
_LATEST = 2**53
_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Verified(NamedTuple):
    """Whose a token is, and when it serves, in seconds since 1970."""

    caller: Caller
    begins_at: float
    ends_at: float


async def authenticate(request: web.Request, scopes: frozenset[str]) -> Caller:
    """The caller, who has one of `scopes`; the request knows until when. Raises `Refusal`: unauthenticated,
    scope_missing."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not 0 < len(token) <= MAX_TOKEN:
        raise Refusal("unauthenticated")
    wired = services(request)
    caller, request[TOKEN_ENDS_AT] = await _verify(wired.token_keys, token.strip(), wired.clock())
    if not scopes & caller.scopes:
        raise Refusal("scope_missing", needed=" / ".join(sorted(scopes)))
    return caller


def token_ends_at(request: web.Request) -> float:
    """In seconds since 1970, without leeway."""
    return request[TOKEN_ENDS_AT]


async def _verify(token_keys: TokenKeys, token: str, now: float) -> tuple[Caller, float]:
    try:
        for key in await token_keys.find(_key_id(token)):
            if verified := _verified(token, key):
                return _in_its_time(verified, now)
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
def _verified(token: str, key: jwt.PyJWK) -> _Verified | None:
    """None when another key signed. Raises `jwt.PyJWTError` or `ValueError` for anything else."""
    try:
        claims = jwt.decode(token, key, algorithms=[ALGORITHM], audience=AUDIENCE, options=_OPTIONS)
    except jwt.InvalidSignatureError:
        return None
    issued_at, ends_at = _seconds(claims["iat"]), _seconds(claims["exp"])
    if not 0 < ends_at - issued_at <= MAX_LIFETIME_S:
        raise ValueError("the token lives too long")
    return _Verified(_caller(claims), max(issued_at, _seconds(claims.get("nbf", issued_at))), ends_at)


def _in_its_time(verified: _Verified, now: float) -> tuple[Caller, float]:
    if not verified.begins_at - LEEWAY_S <= now < verified.ends_at + LEEWAY_S:
        raise ValueError("the token has expired, or does not serve yet")
    return verified.caller, verified.ends_at


def _caller(claims: dict[str, Any]) -> Caller:
    iss, sub, scope = (_word(claims[name]) for name in ("iss", "sub", "scope"))
    if iss == SYSTEM.iss:
        raise ValueError("this issuer is the service itself")
    return Caller(iss, sub, frozenset(scope.split()), _wechat(claims))


def _wechat(claims: dict[str, Any]) -> WeChatAccount | None:
    if "wechat_openid" not in claims:
        return None
    openid, cert_hash = _word(claims["wechat_openid"]), _word(claims.get("wechat_cert_hash"))
    if not _SHA256.fullmatch(cert_hash):
        raise ValueError("a claim is not a digest")
    return WeChatAccount(openid, cert_hash)


def _seconds(claim: object) -> float:
    """Seconds since 1970 as a number that others can be taken from."""
    if isinstance(claim, int | float) and abs(claim) < _LATEST:
        return claim
    raise ValueError("a claim is not a time")


def _word(claim: object) -> str:
    """Something that can be stored and logged as it is."""
    if not isinstance(claim, str) or not 0 < len(claim) <= 255 or not claim.isprintable():
        raise ValueError("a claim is not a printable text")
    return claim
