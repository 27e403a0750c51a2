"""Receipts: whoever has the published keys can tell a genuine one, and nothing else passes for one."""

import base64
import hashlib
import hmac
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from checkin_service.adapters import receipt_keys
from checkin_service.adapters.key_file import KeyFileError
from checkin_service.adapters.postgres.check_ins import Accepted
from checkin_service.adapters.receipt_keys import (
    ReceiptInvalid,
    ReceiptKeys,
    load_receipt_keys,
    receipt_key_id,
    verify_receipt,
)
from checkin_service.usecases.receipts import signed_receipt
from tests.service.stage import Stage

Json = dict[str, Any]
ACCEPTED_AT = datetime(2026, 11, 20, 1, 12, 3, 120000, tzinfo=UTC)
CHECK_IN = "0199f0d2-3c1a-7a55-9d0e-0a7f5a1c2b3d"
ACCEPTANCE = {
    "sub": "p-1",
    "task_id": "T1",
    "check_in_id": CHECK_IN,
    "accepted_at": "2026-11-20T09:12:03.120+08:00",
    "method": "face",
}


def receipt(keys: ReceiptKeys, method: str = "face", issued_at: datetime = ACCEPTED_AT) -> str:
    return signed_receipt(keys, "p-1", "T1", Accepted(UUID(CHECK_IN), ACCEPTED_AT, method, issued_at))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "receipt-keys.json"


@pytest.fixture
def keys(path: Path) -> ReceiptKeys:
    return load_receipt_keys(path, may_create=True)


def found(keys: ReceiptKeys, shown: str) -> list[jwt.PyJWK]:
    """The published key that a receipt names, as whoever verifies finds it."""
    return [jwt.PyJWK(e) for e in keys.published["keys"] if e["kid"] == receipt_key_id(shown)]


def b64(content: bytes | Json) -> str:
    plain = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(plain).rstrip(b"=").decode()


def plain(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def header_of(shown: str) -> Json:
    return dict(json.loads(plain(shown.split(".")[0])))


def claims_of(shown: str) -> Json:
    return dict(json.loads(plain(shown.split(".")[1])))


# --- what a receipt is ---


def test_a_receipt_says_who_what_when_and_how_and_nothing_else(keys: ReceiptKeys) -> None:
    shown = receipt(keys)
    assert header_of(shown) == {"alg": "ES256", "kid": keys.key_id, "typ": "checkin-receipt+jwt"}
    assert claims_of(shown) == {"iss": "checkin", **ACCEPTANCE, "iat": int(ACCEPTED_AT.timestamp())}
    assert set(claims_of(shown)) == set(receipt_keys.CLAIMS)


def test_the_way_without_a_face_has_the_same_receipt(keys: ReceiptKeys) -> None:
    shown = receipt(keys, method="manual")
    assert verify_receipt(found(keys, shown), shown)["method"] == "manual"


def test_the_same_acceptance_has_the_same_receipt(keys: ReceiptKeys, path: Path) -> None:
    assert receipt(keys) == receipt(load_receipt_keys(path, may_create=False))
    assert receipt(keys) != receipt(keys, method="manual")


def test_the_published_key_verifies_it_without_any_code_of_ours(keys: ReceiptKeys) -> None:
    header, payload, signature = receipt(keys).split(".")
    (shown,) = keys.published["keys"]
    x, y = (int.from_bytes(plain(shown[name])) for name in ("x", "y"))
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    r, s = (int.from_bytes(half) for half in (plain(signature)[:32], plain(signature)[32:]))
    der, signed = encode_dss_signature(r, s), f"{header}.{payload}".encode()
    public.verify(der, signed, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(der, signed + b"x", ec.ECDSA(hashes.SHA256()))


def test_a_library_that_knows_key_sets_verifies_it(keys: ReceiptKeys) -> None:
    shown = receipt(keys)
    key = jwt.PyJWKSet.from_dict(dict(keys.published))[keys.key_id]
    assert jwt.decode(shown, key, algorithms=["ES256"])["check_in_id"] == CHECK_IN
    assert verify_receipt([key], shown) == claims_of(shown)


# --- what is none ---


@pytest.mark.parametrize(
    ("claim", "by"),
    [
        ("sub", "p-2"),
        ("task_id", "T2"),
        ("accepted_at", "2026-11-19T09:12:03.120+08:00"),
        ("method", "manual"),
    ],
)
def test_an_altered_claim_shows(keys: ReceiptKeys, claim: str, by: str) -> None:
    header, _, signature = receipt(keys).split(".")
    altered = f"{header}.{b64(claims_of(receipt(keys)) | {claim: by})}.{signature}"
    with pytest.raises(ReceiptInvalid, match="altered"):
        verify_receipt(found(keys, altered), altered)


def signed(keys: ReceiptKeys, header: Json, claims: Json) -> str:
    """By the service's own key, whatever the header says."""
    content = f"{b64(header)}.{b64(claims)}"
    key = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
    return f"{content}.{b64(key.sign(content.encode(), keys.signing))}"


def public_text(keys: ReceiptKeys) -> bytes:
    return json.dumps(keys.published["keys"][0]).encode()


def none_at_all(keys: ReceiptKeys, header: Json, claims: Json) -> str:
    return f"{b64(header | {'alg': 'none'})}.{b64(claims)}."


def signed_by_what_everyone_has(keys: ReceiptKeys, header: Json, claims: Json) -> str:
    content = f"{b64(header | {'alg': 'HS256'})}.{b64(claims)}"
    return f"{content}.{b64(hmac.digest(public_text(keys), content.encode(), hashlib.sha256))}"


def signed_by_another(keys: ReceiptKeys, header: Json, claims: Json) -> str:
    other = ReceiptKeys(keys.key_id, ec.generate_private_key(ec.SECP256R1()), keys.published)
    return signed(other, header, claims)


FORGERIES: dict[str, Callable[[ReceiptKeys, Json, Json], str]] = {
    "algorithm none": none_at_all,
    "algorithm HS256 by the public key": signed_by_what_everyone_has,
    "another's signature": signed_by_another,
    "unknown key": lambda keys, header, claims: signed(keys, header | {"kid": "receipt-0"}, claims),
    "no key": lambda keys, header, claims: signed(keys, {**header, "kid": None}, claims),
    "key is a number": lambda keys, header, claims: signed(keys, header | {"kid": 1}, claims),
    "a token": lambda keys, header, claims: signed(keys, header | {"typ": "JWT"}, claims),
    "no type": lambda keys, header, claims: signed(keys, {"alg": "ES256", "kid": keys.key_id}, claims),
    "ES384": lambda keys, header, claims: signed(keys, header | {"alg": "ES384"}, claims),
    "another issuer": lambda keys, header, claims: signed(keys, header, claims | {"iss": "somebody"}),
    "of tomorrow": lambda keys, header, claims: signed(
        keys, header, claims | {"iat": int(time.time()) + 86_400}
    ),
    "unknown critical header": lambda keys, header, claims: signed(
        keys, header | {"crit": ["exp"], "exp": 1}, claims
    ),
    "cut": lambda keys, header, claims: signed(keys, header, claims)[:-9],
    "two parts": lambda keys, header, claims: signed(keys, header, claims).rpartition(".")[0],
    "empty": lambda keys, header, claims: "",
    "words": lambda keys, header, claims: "she was there",
} | {
    f"without {claim}": lambda keys, header, claims, claim=claim: signed(
        keys, header, {name: value for name, value in claims.items() if name != claim}
    )
    for claim in receipt_keys.CLAIMS
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_is_refused(keys: ReceiptKeys, forgery: str) -> None:
    genuine = receipt(keys)
    forged = FORGERIES[forgery](keys, header_of(genuine), claims_of(genuine))
    with pytest.raises(ReceiptInvalid):
        verify_receipt(found(keys, forged), forged)


def test_what_the_forger_signs_with_nothing_changed_is_genuine(keys: ReceiptKeys) -> None:
    """The control: it is the change that is refused."""
    genuine = receipt(keys)
    again = signed(keys, header_of(genuine), claims_of(genuine))
    assert verify_receipt(found(keys, again), again) == claims_of(genuine)


# --- the key file ---


def write(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def entries(path: Path) -> list[Json]:
    return list(json.loads(path.read_text())["keys"])


def another(tmp_path: Path) -> Json:
    (entry,) = entries(made(tmp_path / "another.json"))
    return entry


def made(path: Path) -> Path:
    load_receipt_keys(path, may_create=True)
    return path


def test_a_made_file_is_for_its_owner_only_and_stays(keys: ReceiptKeys, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_receipt_keys(path, may_create=True).key_id == keys.key_id
    assert [name.name for name in path.parent.iterdir()] == [path.name]


def test_nothing_secret_is_published(keys: ReceiptKeys, path: Path) -> None:
    (entry,) = entries(path)
    assert entry["d"] not in json.dumps(keys.published)
    assert [set(key) for key in keys.published["keys"]] == [{"kty", "crv", "x", "y", "kid", "use", "alg"}]


def test_rotation_has_no_gap(keys: ReceiptKeys, path: Path, tmp_path: Path) -> None:
    old, next_one = receipt(keys), another(tmp_path)
    write(path, keys=[*entries(path), next_one])
    announced = load_receipt_keys(path, may_create=False)
    assert announced.key_id == keys.key_id
    write(path, current=next_one["kid"])
    rotated = load_receipt_keys(path, may_create=False)
    new = receipt(rotated)
    assert receipt_key_id(new) == next_one["kid"]
    for published in (announced, rotated):
        for shown in (old, new):
            assert verify_receipt(found(published, shown), shown) == claims_of(shown)


def test_a_key_without_its_private_part_still_verifies(keys: ReceiptKeys, path: Path, tmp_path: Path) -> None:
    old, next_one = receipt(keys), another(tmp_path)
    (entry,) = entries(path)
    del entry["d"]
    write(path, keys=[entry, next_one], current=next_one["kid"])
    retired = load_receipt_keys(path, may_create=False)
    assert verify_receipt(found(retired, old), old) == claims_of(old)
    write(path, current=entry["kid"])
    with pytest.raises(KeyFileError, match="receipt-keys"):
        load_receipt_keys(path, may_create=False)


P384 = jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP384R1()), as_dict=True)
BROKEN: dict[str, Callable[[Json], Any]] = {
    "not there": lambda content: None,
    "no JSON": lambda content: "{",
    "a list": lambda content: [],
    "no current": lambda content: {"keys": content["keys"]},
    "unknown current": lambda content: content | {"current": "receipt-0"},
    "current is a list": lambda content: content | {"current": []},
    "no keys": lambda content: content | {"keys": []},
    "twice": lambda content: content | {"keys": content["keys"] * 2},
    "no id": lambda content: content | {"keys": [content["keys"][0] | {"kid": None}]},
    "half": lambda content: content | {"keys": [{**content["keys"][0], "x": "AA"}]},
    "not on the curve": lambda content: (
        content | {"keys": [content["keys"][0] | {"y": content["keys"][0]["x"]}]}
    ),
    "other curve": lambda content: content | {"keys": [P384 | {"kid": content["current"]}]},
    "symmetric": lambda content: (
        content | {"keys": [{"kty": "oct", "k": "AA", "crv": "P-256", "kid": content["current"]}]}
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_key_file_that_cannot_be_used_is_named(keys: ReceiptKeys, path: Path, broken: str) -> None:
    content = BROKEN[broken](json.loads(path.read_text()))
    path.unlink()
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(KeyFileError, match=r"receipt-keys\.json"):
        load_receipt_keys(path, may_create=False)


# --- the service and the command ---


async def test_everyone_may_have_the_keys_and_keep_them_for_a_while(stage: Stage) -> None:
    async with stage.client.get("/v1/receipt-keys") as response:
        assert response.status == 200
        assert response.content_type == "application/jwk-set+json"
        assert response.headers["Cache-Control"] == "public, max-age=3600"
        published = json.loads(await response.text())
    keys = load_receipt_keys(stage.settings.receipt_key_path, may_create=False)
    assert published == keys.published
    assert (
        jwt.decode(receipt(keys), jwt.PyJWKSet.from_dict(published)[keys.key_id], ["ES256"])["sub"] == "p-1"
    )


def verified(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, whose data directory would be in this folder."""
    return subprocess.run(
        [sys.executable, "-m", "checkin_service", "verify-receipt", *arguments],
        env={"PATH": os.environ["PATH"], "CHECKIN_DATA_DIR": str(folder / "data"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_command_says_what_a_receipt_says(keys: ReceiptKeys, path: Path, tmp_path: Path) -> None:
    published = tmp_path / "published.json"
    published.write_text(json.dumps(keys.published))
    by_anyone = verified(tmp_path, "--keys", str(published), receipt(keys))
    by_the_service = verified(tmp_path, receipt(keys), CHECKIN_RECEIPT_KEY_FILE=str(path))
    assert not (tmp_path / "data").exists()
    for run in (by_anyone, by_the_service):
        assert run.returncode == 0, run.stderr
        assert all(claim in run.stdout for claim in ACCEPTANCE.values())


def test_the_command_says_what_is_wrong_with_one(keys: ReceiptKeys, path: Path, tmp_path: Path) -> None:
    stranger = receipt(load_receipt_keys(tmp_path / "other.json", may_create=True))
    for shown, where in (
        (stranger, str(path)),
        (receipt(keys)[:-9], str(path)),
        (receipt(keys), "absent.json"),
    ):
        run = verified(tmp_path, "--keys", where, shown)
        assert (run.returncode, run.stdout) == (1, "")
        assert run.stderr.startswith("checkin_service verify-receipt: ")
        assert "Traceback" not in run.stderr
