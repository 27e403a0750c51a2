"""Encryption of templates and evidence under data keys, each wrapped by a key-encryption key with an id (AES-256-GCM).

The associated data binds a ciphertext to its person and model, so that a row copied to another person or relabelled
as another model's does not decrypt. Erasing the wrapped data key makes every template of the person unreadable.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from checkin_service.adapters.key_file import KeyFileError, create_key_file

KEY_BYTES = 32
NONCE_BYTES = 12


class SealBroken(RuntimeError):
    """A ciphertext does not belong to what it is opened for, or was altered."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    wrapping_key_id: str
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class SealedObject:
    """Evidence as the object store has it. `address`: the SHA-256 of the ciphertext in hexadecimal. It says nothing
    of the content, and the same content sealed again has another."""

    address: str
    key: WrappedKey
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class TemplateKeys:
    """The keys that wrap data keys (the current one wraps new ones), and the key of the pseudonyms."""

    current: str
    wrapping: Mapping[str, bytes]
    pseudonym_key: bytes

    def new_data_key(self, owner: str) -> tuple[bytes, WrappedKey]:
        """A fresh data key, plain (32 bytes) and wrapped. `owner`: a person_id, or a name that can't be one."""
        plain = AESGCM.generate_key(KEY_BYTES * 8)
        return plain, WrappedKey(self.current, seal(self.wrapping[self.current], plain, "data-key", owner))

    def unwrap(self, owner: str, key: WrappedKey) -> bytes:
        """The plain data key. Raises `SealBroken` when it is not this owner's."""
        return unseal(self.wrapping[key.wrapping_key_id], key.wrapped, "data-key", owner)

    def pseudonym(self, person_id: str) -> bytes:
        """32 bytes that stand for the person in the processing record once nothing else does."""
        return hmac.digest(self.pseudonym_key, person_id.encode(), hashlib.sha256)


def seal(key: bytes, plain: bytes, *binding: str) -> bytes:
    """Nonce and ciphertext that opens under the same key and for the same binding only."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, json.dumps(binding).encode())


def unseal(key: bytes, sealed: bytes, *binding: str) -> bytes:
    """The plain bytes. Raises `SealBroken` for another key or binding, or an altered ciphertext."""
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], json.dumps(binding).encode())
    except (InvalidTag, ValueError) as error:  # ValueError: too short to hold a nonce
        raise SealBroken("a ciphertext does not belong to what it is opened for, or was altered") from error


def seal_template(data_key: bytes, person_id: str, model_id: str, vector: bytes) -> bytes:
    """Nonce and ciphertext of a vector."""
    return seal(data_key, vector, "template", person_id, model_id)


def open_template(data_key: bytes, person_id: str, model_id: str, sealed: bytes) -> bytes:
    """The vector's bytes. Raises `SealBroken` for another person's, another model's or an altered ciphertext."""
    return unseal(data_key, sealed, "template", person_id, model_id)


def load_template_keys(path: Path, *, may_create: bool) -> TemplateKeys:
    """Reads the key file, `{"current": id, "keys": {id: base64 of 32 bytes}, "pseudonym_key": base64}`.

    With `may_create` an absent file is made, readable by its owner only.
    """
    if may_create:
        create_key_file(path, _fresh_keys)
    try:
        content = json.loads(path.read_text("utf-8"))
        keys = {name: _decode(text) for name, text in content["keys"].items()}
        loaded = TemplateKeys(content["current"], keys, _decode(content["pseudonym_key"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise KeyFileError(
            f"the key file {path} can't be read ({error}); restore it from its backup"
        ) from error
    if loaded.current not in keys:
        raise KeyFileError(f"the key file {path} names {loaded.current!r} as current but does not hold it")
    return loaded


def _fresh_keys() -> dict[str, Any]:
    key_id = f"key-{secrets.token_hex(4)}"
    return {"current": key_id, "keys": {key_id: _fresh()}, "pseudonym_key": _fresh()}


def _fresh() -> str:
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _decode(text: str) -> bytes:
    key = base64.b64decode(text, validate=True)
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {len(key)} bytes instead of {KEY_BYTES}")
    return key
