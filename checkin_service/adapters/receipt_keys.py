"""Receipts of accepted check-ins: what they are signed with, what they are verified by, and how.

A receipt is a compact JWS by ES256 with a type of its own (RFC 8725, 3.11), so that none passes for a token nor a token
for one. It is signed by RFC 6979: the same claims under the same key are the same receipt, so none has to be stored.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from jwt.utils import der_to_raw_signature

from checkin_service.adapters.key_file import KeyFileError, create_key_file

ISSUER = "checkin"
RECEIPT_TYPE = "checkin-receipt+jwt"
ALGORITHM = "ES256"
# between the clock that signed and that of whoever verifies
LEEWAY_S = 60
CLAIMS = ["iss", "sub", "task_id", "check_in_id", "accepted_at", "method", "iat"]


class ReceiptInvalid(ValueError):
    """What was shown is no receipt of this service; the message says why."""


@dataclass(frozen=True, slots=True)
class ReceiptKeys:
    """The key that signs, and the public halves of all that ever did, as a JSON Web Key Set (RFC 7517)."""

    key_id: str
    signing: ec.EllipticCurvePrivateKey
    published: Mapping[str, Any]

    @property
    def key_ids(self) -> list[str]:
        return [key["kid"] for key in self.published["keys"]]


class _Repeatable(ECAlgorithm):
    def sign(self, msg: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
        der = key.sign(msg, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        return der_to_raw_signature(der, key.curve)


_jws = jwt.PyJWS(algorithms=[])
_jws.register_algorithm(ALGORITHM, _Repeatable(ECAlgorithm.SHA256, ec.SECP256R1))


def sign_receipt(keys: ReceiptKeys, claims: Mapping[str, Any]) -> str:
    """The receipt of these claims, which are `CLAIMS` without `iss`."""
    payload = json.dumps({"iss": ISSUER, **claims}, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {"kid": keys.key_id, "typ": RECEIPT_TYPE}
    return _jws.encode(payload, keys.signing, algorithm=ALGORITHM, headers=headers)


def receipt_key_id(receipt: str) -> str:
    """The id of the key that it says it was signed by. Raises `ReceiptInvalid`."""
    try:
        header = jwt.get_unverified_header(receipt)
    except jwt.PyJWTError as error:
        raise ReceiptInvalid("this is not a signed receipt, or was cut") from error
    if header.get("typ") != RECEIPT_TYPE:
        raise ReceiptInvalid(f"this is signed, but not as a receipt: its type is {header.get('typ')!r}")
    if not isinstance(header.get("kid"), str):
        raise ReceiptInvalid("it names no key")
    return str(header["kid"])


def verify_receipt(keys: Sequence[jwt.PyJWK], receipt: str) -> dict[str, Any]:
    """The claims. `keys`: the one of the published set that has its key id, or none. Raises `ReceiptInvalid`."""
    key_id = receipt_key_id(receipt)
    if not keys:
        raise ReceiptInvalid(f"no published key is called {key_id!r}")
    try:
        return jwt.decode(receipt, keys[0], [ALGORITHM], {"require": CLAIMS}, issuer=ISSUER, leeway=LEEWAY_S)
    except jwt.InvalidSignatureError as error:
        raise ReceiptInvalid("its signature is not that of its content: it was altered") from error
    except jwt.PyJWTError as error:
        raise ReceiptInvalid(str(error)) from error


def load_receipt_keys(path: Path, *, may_create: bool) -> ReceiptKeys:
    """Reads the key file, a JSON Web Key Set with the member `current` beside `keys`: the id of the key that signs.

    A key without its private part `d` signs no more, but what it signed stays good. With `may_create` an absent file
    is made, readable by its owner only. Raises `KeyFileError`.
    """
    if may_create:
        create_key_file(path, _fresh_keys)
    try:
        content = json.loads(path.read_text("utf-8"))
        keys = {_key_id(entry): ECAlgorithm.from_jwk(entry) for entry in content["keys"]}
        signing = keys[content["current"]]
        published = {"keys": [_public(key_id, key) for key_id, key in keys.items()]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
        raise KeyFileError(
            f"the key file {path} can't be read ({error}); restore it from its backup"
        ) from error
    if len(keys) != len(content["keys"]) or not isinstance(signing, ec.EllipticCurvePrivateKey):
        raise KeyFileError(f"the key file {path} has two keys of one id, or its current key can't sign")
    return ReceiptKeys(content["current"], signing, published)


def _key_id(entry: Mapping[str, Any]) -> str:
    if entry["crv"] != "P-256" or not isinstance(entry["kid"], str):
        raise ValueError("a key is not of P-256, or has no text for an id")
    return entry["kid"]


def _public(key_id: str, key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> dict[str, Any]:
    public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
    shown = ECAlgorithm.to_jwk(public, as_dict=True)
    return {**shown, "kid": key_id, "use": "sig", "alg": ALGORITHM}


def _fresh_keys() -> dict[str, Any]:
    key_id = f"receipt-{secrets.token_hex(4)}"
    key = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    return {"current": key_id, "keys": [{**key, "kid": key_id}]}
