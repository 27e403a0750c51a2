"""Encryption of templates: one data key a person, wrapped by a key-encryption key with an id (AES-256-GCM).

The associated data binds a ciphertext to its person and model, so that a row copied to another person or relabelled
as another model's does not decrypt. Erasing the wrapped data key makes every template of the person unreadable.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12


class KeyFileError(RuntimeError):
    """The key file can't be used; the message says which and what to do."""


class SealBroken(RuntimeError):
    """A ciphertext does not belong to this person and model, or was altered."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    wrapping_key_id: str
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class TemplateKeys:
    """The keys that wrap data keys (the current one wraps new ones), and the key of the pseudonyms."""

    current: str
    wrapping: Mapping[str, bytes]
    pseudonym_key: bytes

    def new_data_key(self, person_id: str) -> tuple[bytes, WrappedKey]:
        """A fresh data key, plain (32 bytes) and wrapped."""
        plain = AESGCM.generate_key(KEY_BYTES * 8)
        return plain, WrappedKey(
            self.current, _seal(self.wrapping[self.current], plain, _key_binding(person_id))
        )

    def unwrap(self, person_id: str, key: WrappedKey) -> bytes:
        """The plain data key. Raises `SealBroken` when it is not this person's."""
        return _open(self.wrapping[key.wrapping_key_id], key.wrapped, _key_binding(person_id))

    def pseudonym(self, person_id: str) -> bytes:
        """32 bytes that stand for the person in the processing record once nothing else does."""
        return hmac.digest(self.pseudonym_key, person_id.encode(), hashlib.sha256)


def seal_template(data_key: bytes, person_id: str, model_id: str, vector: bytes) -> bytes:
    """Nonce and ciphertext of a vector."""
    return _seal(data_key, vector, _template_binding(person_id, model_id))


def open_template(data_key: bytes, person_id: str, model_id: str, sealed: bytes) -> bytes:
    """The vector's bytes. Raises `SealBroken` for another person's, another model's or an altered ciphertext."""
    return _open(data_key, sealed, _template_binding(person_id, model_id))


def load_template_keys(path: Path, *, may_create: bool) -> TemplateKeys:
    """Reads the key file, `{"current": id, "keys": {id: base64 of 32 bytes}, "pseudonym_key": base64}`.

    With `may_create` an absent file is made, readable by its owner only.
    """
    if may_create and not path.exists():
        _create(path)
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


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key_id = f"key-{secrets.token_hex(4)}"
    content = {"current": key_id, "keys": {key_id: _fresh()}, "pseudonym_key": _fresh()}
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(content, file, indent=1)
    try:
        # never over a file that another process made meanwhile
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _fresh() -> str:
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def _decode(text: str) -> bytes:
    key = base64.b64decode(text, validate=True)
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {len(key)} bytes instead of {KEY_BYTES}")
    return key


def _seal(key: bytes, plain: bytes, binding: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, binding)


def _open(key: bytes, sealed: bytes, binding: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], binding)
    except (InvalidTag, ValueError) as error:  # ValueError: too short to hold a nonce
        raise SealBroken("a ciphertext does not belong to this person and model, or was altered") from error


def _key_binding(person_id: str) -> bytes:
    return json.dumps(["data-key", person_id]).encode()


def _template_binding(person_id: str, model_id: str) -> bytes:
    return json.dumps(["template", person_id, model_id]).encode()
