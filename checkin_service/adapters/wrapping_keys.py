"""The keys that wrap data keys, and the key of the pseudonyms: from a file, or the directory of a mounted secret."""

import asyncio
import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkin_service.adapters.key_file import KeyFileError, create_key_file
from checkin_service.adapters.sealing import KEY_BYTES, SealBroken, new_key, seal, unseal
from checkin_service.ports import KeysUnavailable, WrappedKey

# From about a millisecond on, unwrapping is not for the event loop.
_MANY = 100
_PREFIX = "key."


@dataclass(frozen=True, slots=True)
class LocalKeys:
    """The `WrappingKeys` that lie in this process; the current one wraps new data keys."""

    current: str
    keys: Mapping[str, bytes]

    @property
    def key_ids(self) -> list[str]:
        return list(self.keys)

    @property
    def key_bytes(self) -> int:
        return len(self.keys[self.current])

    async def wrap(self, owner: str, data_key: bytes) -> WrappedKey:
        return WrappedKey(self.current, seal(self.keys[self.current], data_key, "data-key", owner))

    async def unwrap(self, wrapped: Mapping[str, WrappedKey]) -> Mapping[str, bytes]:
        if len(wrapped) > _MANY:
            return await asyncio.to_thread(self._unwrapped, wrapped)
        return self._unwrapped(wrapped)

    def _unwrapped(self, wrapped: Mapping[str, WrappedKey]) -> Mapping[str, bytes]:
        found = {owner: self._opened(owner, key) for owner, key in wrapped.items()}
        return {owner: key for owner, key in found.items() if key is not None}

    def _opened(self, owner: str, key: WrappedKey) -> bytes | None:
        if key.wrapping_key_id not in self.keys:
            # added since this process started: whoever was given it reads it
            raise KeysUnavailable(f"no wrapping key is called {key.wrapping_key_id!r} here")
        try:
            return unseal(self.keys[key.wrapping_key_id], key.wrapped, "data-key", owner)
        except SealBroken:
            return None


def load_wrapping_keys(path: Path, *, may_create: bool) -> tuple[LocalKeys, bytes]:
    """The wrapping keys and the key of the pseudonyms, of a file
    `{"current": id, "keys": {id: key}, "pseudonym_key": key}`, or of a directory with the files `current`,
    `pseudonym_key` and `key.<id>`. A key is the base64 of 32 bytes (AES-256-GCM) or 16 bytes (SM4-GCM).

    With `may_create` an absent file is made, readable by its owner only. Raises `KeyFileError`.
    """
    if may_create:
        create_key_file(path, _fresh_keys)
    try:
        content = _mounted(path) if path.is_dir() else json.loads(path.read_text("utf-8"))
        keys = {name: _decode(text) for name, text in content["keys"].items()}
        loaded, pseudonym_key = LocalKeys(content["current"], keys), _decode(content["pseudonym_key"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise KeyFileError(
            f"the keys in {path} can't be read ({error}); restore them from their backup"
        ) from error
    if loaded.current not in keys:
        raise KeyFileError(f"{path} names {loaded.current!r} as current but does not hold it")
    return loaded, pseudonym_key


def _mounted(directory: Path) -> dict[str, Any]:
    """The same content as a file's, of a directory in which each value is a file (and other files are not read)."""
    keys = {
        path.name.removeprefix(_PREFIX): path.read_text("utf-8") for path in directory.glob(f"{_PREFIX}*")
    }
    named = {name: (directory / name).read_text("utf-8").strip() for name in ("current", "pseudonym_key")}
    return {"keys": keys, **named}


def _fresh_keys() -> dict[str, Any]:
    key_id = f"key-{secrets.token_hex(4)}"
    return {"current": key_id, "keys": {key_id: _fresh()}, "pseudonym_key": _fresh()}


def _fresh() -> str:
    return base64.b64encode(new_key(KEY_BYTES["AES-256-GCM"])).decode()


def _decode(text: str) -> bytes:
    key = base64.b64decode(text.strip(), validate=True)
    if len(key) not in KEY_BYTES.values():
        raise ValueError(f"a key has {len(key)} bytes instead of 32 or 16")
    return key
