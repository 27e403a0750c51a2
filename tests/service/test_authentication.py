"""Who may call what: tokens as an attacker, a broken issuer and a rotating one send them."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from checkin_service.adapters import token_keys
from checkin_service.adapters.embedded import EmbeddedStores
from checkin_service.adapters.token_keys import KeySetError, TokenKeys, development_key_set
from checkin_service.web import auth
from checkin_service.web.routes import ROUTES
from tests.access import SERVED
from tests.service.stage import Json, Reply, Stage, running_service

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALLOWED = {call: scopes for call, scopes in SERVED.items() if scopes}
ROLES = ("tasks", "review", "operate", "checkin")
CALLS = [pytest.param(*call, id=f"{call[0]} {call[1]}") for call in ALLOWED]


async def test_the_table_knows_every_route() -> None:
    assert {(route.method, route.path) for route in ROUTES} == SERVED.keys()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_every_route_is_for_its_roles_only(
    shared_stage: Stage, method: str, path: str, role: str
) -> None:
    reply = await shared_stage.call(method, _filled(path), "somebody", role)
    if role in ALLOWED[method, path]:
        assert reply.status not in {401, 403}
    else:
        assert (reply.status, reply.code) == (403, "scope_missing")


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_nothing_is_told_without_a_token(shared_stage: Stage, method: str, path: str) -> None:
    reply = await _ask(shared_stage, method=method, path=_filled(path))
    assert (reply.status, reply.code) == (401, "unauthenticated")
    assert reply.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", [path for method, path in ALLOWED if method == "GET"])
async def test_asking_without_a_body_needs_the_same_token(shared_stage: Stage, path: str) -> None:
    async with shared_stage.client.head(_filled(path)) as response:
        assert response.status == 401


@pytest.mark.parametrize("path", [path for (_, path), scopes in SERVED.items() if scopes is None])
async def test_what_is_for_everyone_needs_no_token(shared_stage: Stage, path: str) -> None:
    assert (await _ask(shared_stage, path=path)).status == 200


async def test_several_scopes_are_told_apart_by_spaces(shared_stage: Stage) -> None:
    both = await shared_stage.call("GET", "/v1/changes", "platform", "checkin tasks")
    glued = await shared_stage.call("GET", "/v1/changes", "platform", "checkin,tasks")
    assert (both.status, glued.status) == (200, 403)


async def test_the_scheme_is_read_in_any_case(shared_stage: Stage) -> None:
    token = shared_stage.token("p-1", "checkin")
    assert (await _ask(shared_stage, f"bEARER {token}")).status == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "Basic cDp4",
        "Bearer x",
        "Bearer a.b.c",
        "Bearer ..",
        "Bearer é.é.é",
    ],
)
async def test_what_is_no_token_is_refused(shared_stage: Stage, header: str) -> None:
    await _assert_refused(shared_stage, header)


async def test_a_good_token_under_another_scheme_is_refused(shared_stage: Stage) -> None:
    await _assert_refused(shared_stage, f"Token {shared_stage.token('p-1', 'checkin')}")


# --- Claims ---

GOOD_CLAIMS: dict[str, Callable[[float], Json]] = {
    "as it should be": lambda now: {},
    "fifteen minutes exactly": lambda now: {"iat": int(now), "exp": int(now) + 900},
    "expired within the leeway": lambda now: {"iat": now - 600, "exp": now - 50},
    "issued a little ahead of our clock": lambda now: {"iat": now + 50, "exp": now + 600},
    "one audience of several": lambda now: {"aud": ["other", "checkin"]},
    "a subject in Chinese": lambda now: {"sub": "张三"},
    "a claim that we do not know": lambda now: {"jti": "1", "name": "x"},
}
BAD_CLAIMS: dict[str, Callable[[float], Json]] = {
    "expired": lambda now: {"iat": now - 600, "exp": now - 70},
    "issued in the future": lambda now: {"iat": now + 70, "exp": now + 600},
    "not valid yet": lambda now: {"nbf": now + 300},
    "lives a second too long": lambda now: {"iat": int(now), "exp": int(now) + 901},
    "lives for years": lambda now: {"exp": now + 1e8},
    "ends before it begins": lambda now: {"iat": now, "exp": now - 30},
    "ends as it begins": lambda now: {"iat": int(now), "exp": int(now)},
    "another audience": lambda now: {"aud": "other"},
    "audience by part of its name": lambda now: {"aud": "check"},
    "no audience at all": lambda now: {"aud": []},
    "audience of another type": lambda now: {"aud": {"checkin": True}},
    "exp as text": lambda now: {"exp": str(int(now) + 600)},
    "iat as text": lambda now: {"iat": str(int(now))},
    "exp is a list": lambda now: {"exp": [now + 600]},
    "exp is null": lambda now: {"exp": None},
    "exp infinite": lambda now: {"exp": float("inf")},
    "exp not a number": lambda now: {"exp": float("nan")},
    "iat minus infinite": lambda now: {"iat": float("-inf")},
    "exp astronomical": lambda now: {"exp": 10**300},
    "exp is true": lambda now: {"exp": True},
    "subject empty": lambda now: {"sub": ""},
    "subject a number": lambda now: {"sub": 7},
    "subject null": lambda now: {"sub": None},
    "subject too long": lambda now: {"sub": "x" * 256},
    "subject with a line break": lambda now: {"sub": "p-1\nx"},
    "subject with a NUL": lambda now: {"sub": "p-1\0"},
    "subject with half a surrogate": lambda now: {"sub": "p-\ud800"},
    "issuer empty": lambda now: {"iss": ""},
    "issuer the service itself": lambda now: {"iss": "checkin_service"},
    "issuer a list": lambda now: {"iss": ["a"]},
    "scope a list": lambda now: {"scope": ["checkin"]},
    "scope empty": lambda now: {"scope": ""},
}


@pytest.mark.parametrize("name", GOOD_CLAIMS)
async def test_claims_that_serve(shared_stage: Stage, name: str) -> None:
    token = _sign(shared_stage, _claims() | GOOD_CLAIMS[name](time.time()))
    assert (await _ask(shared_stage, f"Bearer {token}")).status == 200


@pytest.mark.parametrize("name", BAD_CLAIMS)
async def test_claims_that_do_not_serve(shared_stage: Stage, name: str) -> None:
    token = _sign(shared_stage, _claims() | BAD_CLAIMS[name](time.time()))
    await _assert_refused(shared_stage, f"Bearer {token}")


async def test_a_token_that_served_before_ends_all_the_same(
    shared_stage: Stage, stores: EmbeddedStores, tmp_path: Path
) -> None:
    now = time.time()
    clock = iter([now, now + auth.MAX_LIFETIME_S + auth.LEEWAY_S + 1])
    at = shared_stage.database_url, stores.redis_url or "", shared_stage.settings.data_dir
    async with running_service(*at, None, lambda: next(clock)) as stage:
        bearer = f"Bearer {stage.token('p-1', 'checkin')}"
        assert (await _ask(stage, bearer)).status == 200
        await _assert_refused(stage, bearer)


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "iat", "exp", "scope"])
async def test_every_claim_is_required(shared_stage: Stage, name: str) -> None:
    claims = {key: value for key, value in _claims().items() if key != name}
    await _assert_refused(shared_stage, f"Bearer {_sign(shared_stage, claims)}")


@pytest.mark.parametrize("payload", ["[]", '"text"', "null", "{", "[" * 2000, ""])
async def test_a_well_signed_payload_that_is_no_object(shared_stage: Stage, payload: str) -> None:
    token = _assemble(_header(shared_stage), payload.encode(), _key_of(shared_stage))
    await _assert_refused(shared_stage, f"Bearer {token}")


# --- Signatures and algorithms ---


def _unsigned(stage: Stage, alg: str) -> str:
    header = {**_header(stage), "alg": alg}
    return f"{_part(json.dumps(header).encode())}.{_part(json.dumps(_claims()).encode())}."


def _with_public_key_as_secret(stage: Stage, secret: bytes) -> str:
    signed = f"{_part(json.dumps({**_header(stage), 'alg': 'HS256'}).encode())}.{_part(json.dumps(_claims()).encode())}"
    return f"{signed}.{_part(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


def _public(stage: Stage, encoding: Encoding, form: PublicFormat) -> bytes:
    return _key_of(stage).public_key().public_bytes(encoding, form)


def _rs256(stage: Stage) -> str:
    key = rsa.generate_private_key(65537, 2048)
    return jwt.encode(_claims(), key, "RS256", headers={"kid": _kid_of(stage)})


def _es384(stage: Stage) -> str:
    key = ec.generate_private_key(ec.SECP384R1())
    return jwt.encode(_claims(), key, "ES384", headers={"kid": _kid_of(stage)})


def _foreign(stage: Stage, **header: Any) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    own = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    named = {name: own if value == "OWN" else value for name, value in header.items()}
    return jwt.encode(_claims(), key, "ES256", headers={k: v for k, v in named.items() if v is not None})


def _changed(stage: Stage) -> str:
    """Somebody else's claims under a signature that was made for these."""
    header, _, signature = _sign(stage, _claims()).split(".")
    return f"{header}.{_part(json.dumps(_claims() | {'sub': 'p-2'}).encode())}.{signature}"


def _resigned(stage: Stage, change: Callable[[bytes], bytes]) -> str:
    signed, _, signature = _sign(stage, _claims()).rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    return f"{signed}.{_part(change(raw))}"


def _kid_of(stage: Stage) -> str:
    return str(_header(stage)["kid"])


FORGERIES: dict[str, Callable[[Stage], str]] = {
    "alg none": lambda stage: _unsigned(stage, "none"),
    "alg None": lambda stage: _unsigned(stage, "None"),
    "alg empty": lambda stage: _unsigned(stage, ""),
    "ES256 without a signature": lambda stage: _unsigned(stage, "ES256"),
    "HS256 with the public key's PEM": lambda stage: _with_public_key_as_secret(
        stage, _public(stage, Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ),
    "HS256 with the public key's point": lambda stage: _with_public_key_as_secret(
        stage, _public(stage, Encoding.X962, PublicFormat.UncompressedPoint)
    ),
    "HS256 with the key set": lambda stage: _with_public_key_as_secret(
        stage, development_key_set(stage.settings.data_dir).read_bytes()
    ),
    "HS256 with an empty secret": lambda stage: _with_public_key_as_secret(stage, b""),
    "RS256": _rs256,
    "ES384": _es384,
    "another's key under our key id": lambda stage: _foreign(stage, kid=_kid_of(stage)),
    "another's key under its own key id": lambda stage: _foreign(stage, kid="foreign"),
    "another's key without a key id": lambda stage: _foreign(stage),
    "another's key in the header": lambda stage: _foreign(stage, kid=_kid_of(stage), jwk="OWN"),
    "another's key set in the header": lambda stage: _foreign(stage, jku="https://example.org/jwks.json"),
    "a key id that is a path": lambda stage: _foreign(stage, kid="../../../dev/null"),
    "a key id with a NUL": lambda stage: _foreign(stage, kid="dev\0"),
    "claims changed": _changed,
    "signature cut": lambda stage: _resigned(stage, lambda raw: raw[:-1]),
    "signature lengthened": lambda stage: _resigned(stage, lambda raw: raw + b"\0"),
    "signature of zeros": lambda stage: _resigned(stage, lambda raw: bytes(64)),
    "signature changed by a bit": lambda stage: _resigned(stage, lambda raw: bytes([raw[0] ^ 1]) + raw[1:]),
}
HEADERS: dict[str, bytes] = {
    "no object": b"[]",
    "broken": b"{",
    "not UTF-8": b"\xff\xfe",
    "deeply nested": b"[" * 5000,
    "key id a list": b'{"alg": "ES256", "kid": ["a"]}',
    "key id a number": b'{"alg": "ES256", "kid": 1}',
    "algorithm a list": b'{"alg": ["ES256"]}',
    "algorithm missing": b"{}",
    "something critical that we do not know": b'{"alg": "ES256", "crit": ["x"], "x": 1}',
    "detached payload": b'{"alg": "ES256", "b64": false, "crit": ["b64"]}',
}


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_token_is_refused(shared_stage: Stage, name: str) -> None:
    await _assert_refused(shared_stage, f"Bearer {FORGERIES[name](shared_stage)}")


@pytest.mark.parametrize("name", HEADERS)
async def test_a_token_with_a_hostile_header_is_refused(shared_stage: Stage, name: str) -> None:
    payload = json.dumps(_claims()).encode()
    if name == "detached payload":
        payload = b""
    token = _assemble(HEADERS[name], payload, _key_of(shared_stage))
    await _assert_refused(shared_stage, f"Bearer {token}")


async def test_a_token_that_names_no_key_is_tried_with_all(shared_stage: Stage) -> None:
    token = jwt.encode(_claims(), _key_of(shared_stage), "ES256")
    assert (await _ask(shared_stage, f"Bearer {token}")).status == 200


# --- Key sets ---


async def test_a_new_signing_key_is_found_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_set = _write_keys(tmp_path, "old")
    monkeypatch.setattr(token_keys, "REFRESH_INTERVAL_S", 0.1)
    keys = TokenKeys(str(key_set))
    await keys.load()
    _write_keys(tmp_path, "old", "new")
    # a moment after the last look as well, which made-up tokens can have made us take
    assert [key.key_id for key in await keys.find("new")] == ["new"]
    assert [key.key_id for key in await keys.find("old")] == ["old"]


async def test_many_made_up_tokens_make_us_look_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_keys, "REFRESH_INTERVAL_S", 0.1)
    keys, looks = TokenKeys(str(_write_keys(tmp_path, "old"))), 0
    await keys.load()
    look = keys._read

    async def counted() -> None:
        nonlocal looks
        looks += 1
        await look()

    monkeypatch.setattr(keys, "_read", counted)
    found = await asyncio.gather(*(keys.find(f"made-up-{n}") for n in range(100)))
    assert (looks, {len(keys) for keys in found}) == (1, {0})


async def test_a_withdrawn_signing_key_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_keys, "REFRESH_INTERVAL_S", 0)
    keys = TokenKeys(str(_write_keys(tmp_path, "old")))
    await keys.load()
    _write_keys(tmp_path, "new")
    await keys.find("new")
    assert len(await keys.find("old")) == 0


async def test_only_p256_signing_keys_of_a_set_count(tmp_path: Path) -> None:
    others = [
        json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048).public_key())),
        json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()).public_key())),
        {**_jwk("encrypting"), "use": "enc"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
    ]
    key_set = tmp_path / "jwks.json"
    key_set.write_text(json.dumps({"keys": [*others, _jwk("good")]}))
    keys = TokenKeys(str(key_set))
    await keys.load()
    assert [key.key_id for key in await keys.find(None)] == ["good"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"keys": 1}', '{"keys": []}', '{"keys": [{"kty": "EC"}]}'])
async def test_a_key_set_without_a_usable_key_stops_the_start(tmp_path: Path, text: str) -> None:
    key_set = tmp_path / "jwks.json"
    key_set.write_text(text)
    with pytest.raises(KeySetError):
        await TokenKeys(str(key_set)).load()


async def test_a_key_set_is_fetched_by_url_and_its_failure_spares_known_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(token_keys, "REFRESH_INTERVAL_S", 0)
    issuer = web.Application()
    issuer.router.add_get("/jwks.json", _serve_one_key)
    server = TestServer(issuer)
    await server.start_server()
    keys = TokenKeys(str(server.make_url("/jwks.json")))
    await keys.load()
    await server.close()
    with pytest.raises(KeySetError):
        await keys.find("unknown")
    assert [key.key_id for key in await keys.find("served")] == ["served"]


async def test_an_unknown_key_with_the_issuer_away_is_our_failure(
    shared_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: TokenKeys) -> None:
        raise KeySetError("away")

    monkeypatch.setattr(TokenKeys, "load", away)
    monkeypatch.setattr(token_keys, "REFRESH_INTERVAL_S", 0)
    unknown = await _ask(shared_stage, f"Bearer {_foreign(shared_stage, kid='rotated')}")
    assert (unknown.status, unknown.code) == (503, "unavailable")
    assert "Retry-After" in unknown.headers
    assert (await shared_stage.person("p-1", "GET", "/v1/me")).status == 200


# --- Making tokens ---


def _filled(path: str) -> str:
    """With what is not there under any name."""
    return re.sub(r"\{\w+\}", "0", path)


async def _ask(
    stage: Stage, authorization: str | None = None, method: str = "GET", path: str = "/v1/consent-notice"
) -> Reply:
    headers = {"Authorization": authorization} if authorization is not None else {}
    async with stage.client.request(method, path, headers=headers) as response:
        is_json = "json" in response.content_type
        return Reply(
            response.status, await response.json(content_type=None) if is_json else None, response.headers
        )


async def _assert_refused(stage: Stage, authorization: str) -> None:
    reply = await _ask(stage, authorization)
    assert (reply.status, reply.code) == (401, "unauthenticated")


def _claims() -> Json:
    now = int(time.time())
    return {
        "iss": "tests",
        "aud": "checkin",
        "sub": "p-1",
        "iat": now,
        "exp": now + 600,
        "scope": "checkin",
    }


def _key_of(stage: Stage) -> ec.EllipticCurvePrivateKey:
    pem = (stage.settings.data_dir / "keys" / "development-key.pem").read_bytes()
    key = load_pem_private_key(pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _header(stage: Stage) -> Json:
    return jwt.get_unverified_header(stage.token("p-1", "checkin"))


def _sign(stage: Stage, claims: Json) -> str:
    """Signed as it should be, whatever the claims: the library that reads tokens would refuse to write some."""
    return _assemble(_header(stage), json.dumps(claims).encode(), _key_of(stage))


def _assemble(header: Json | bytes, payload: bytes, key: ec.EllipticCurvePrivateKey) -> str:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    signed = f"{_part(head)}.{_part(payload)}"
    signature = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).sign(signed.encode(), key)
    return f"{signed}.{_part(signature)}"


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _jwk(key_id: str) -> Json:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    return {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(public)), "kid": key_id}


def _write_keys(folder: Path, *key_ids: str) -> Path:
    path = folder / "jwks.json"
    path.write_text(json.dumps({"keys": [_jwk(key_id) for key_id in key_ids]}))
    return path


async def _serve_one_key(_: web.Request) -> web.Response:
    return web.json_response({"keys": [_jwk("served")]})
