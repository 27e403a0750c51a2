"""Sealing: encryption that also proves what a ciphertext belongs to, by AES-256-GCM or SM4-GCM (RFC 8998).

Which of the two, a key says by its length: 32 bytes are a key of AES-256, 16 bytes one of SM4. So either is read at any
time, whichever new keys are of.
"""

import json
import secrets
from collections.abc import Mapping
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
TAG_BYTES = 16


class SealBroken(RuntimeError):
    """A ciphertext does not belong to what it is opened for, or was altered."""


class _Aead(Protocol):
    def __init__(self, key: bytes) -> None: ...

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes: ...


class Sm4Gcm:
    """SM4 in Galois/counter mode, called like `AESGCM`: the tag of 16 bytes is the ciphertext's end."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        encryptor = Cipher(algorithms.SM4(self._key), modes.GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(associated_data or b"")
        return encryptor.update(data) + encryptor.finalize() + encryptor.tag

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Raises `InvalidTag`, also for what is too short, as `AESGCM` does."""
        ciphertext, tag = data[:-TAG_BYTES], data[-TAG_BYTES:]
        if len(tag) < TAG_BYTES:
            raise InvalidTag
        decryptor = Cipher(algorithms.SM4(self._key), modes.GCM(nonce, tag)).decryptor()
        decryptor.authenticate_additional_data(associated_data or b"")
        return decryptor.update(ciphertext) + decryptor.finalize()


KEY_BYTES: Mapping[str, int] = {"AES-256-GCM": 32, "SM4-GCM": 16}
_CIPHERS: Mapping[int, type[_Aead]] = {KEY_BYTES["AES-256-GCM"]: AESGCM, KEY_BYTES["SM4-GCM"]: Sm4Gcm}


def new_key(length: int) -> bytes:
    """A fresh key. `length`: one of `KEY_BYTES`."""
    return secrets.token_bytes(length)


def seal(key: bytes, plain: bytes, *binding: str) -> bytes:
    """Nonce and ciphertext that opens under the same key and for the same binding only."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + _CIPHERS[len(key)](key).encrypt(nonce, plain, json.dumps(binding).encode())


def unseal(key: bytes, sealed: bytes, *binding: str) -> bytes:
    """The plain bytes. Raises `SealBroken` for another key or binding, or an altered ciphertext."""
    nonce, ciphertext = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    try:
        return _CIPHERS[len(key)](key).decrypt(nonce, ciphertext, json.dumps(binding).encode())
    except (InvalidTag, ValueError) as error:  # ValueError: too short to hold a nonce
        raise SealBroken("a ciphertext does not belong to what it is opened for, or was altered") from error
