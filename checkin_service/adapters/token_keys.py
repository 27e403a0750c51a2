"""The issuer's public keys (JWKS), and the development key that stands in for an issuer on embedded stores."""

import asyncio
import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

DEVELOPMENT_ISSUER = "checkin-development"
AUDIENCE = "checkin"
ALGORITHM = "ES256"
# An unknown key id makes us look again, but no sender of made-up tokens can make us look more often than this. Whoever
# comes in between waits: the issuer may have signed with a key that it published a moment ago.
REFRESH_INTERVAL_S = 1


class KeySetError(RuntimeError):
    """The key set can't be read or holds no usable key; the message says which."""


class TokenKeys:
    """Verification keys by key id, read anew when a token names one that is not known yet, and by every sweep."""

    def __init__(self, source: str) -> None:
        """`source`: a file path or an http(s) URL."""
        self._source = source
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._text: str | None = None
        self._looked_at = -float(REFRESH_INTERVAL_S)
        self._failure: KeySetError | None = None
        self._refreshing = asyncio.Lock()

    async def load(self) -> None:
        """Reads the set. Raises `KeySetError`; keys known before stay known then."""
        self._looked_at, self._failure = time.monotonic(), None
        try:
            await self._read()
        except KeySetError as error:
            self._failure = error
            raise

    async def _read(self) -> None:
        text = await _fetch(self._source) if _is_url(self._source) else _read(Path(self._source))
        if text != self._text:
            # only then: what was verified is remembered by the key
            self._keys, self._text = _usable_keys(self._source, text), text

    async def find(self, key_id: str | None) -> Sequence[jwt.PyJWK]:
        """The keys that may have signed: the named one, or all when the token names none."""
        if key_id is not None and key_id not in self._keys:
            await self._refresh()
        if key_id is None:
            return tuple(self._keys.values())
        return (self._keys[key_id],) if key_id in self._keys else ()

    async def _refresh(self) -> None:
        """Looks once for all who ask meanwhile. Raises `KeySetError`."""
        asked_at = time.monotonic()
        async with self._refreshing:
            if self._looked_at <= asked_at:
                await asyncio.sleep(self._looked_at + REFRESH_INTERVAL_S - asked_at)
                await self.load()
            elif self._failure:
                raise self._failure


def development_key_set(data_dir: Path) -> Path:
    """The file with the development key's public half; made, like the key, when absent."""
    key_set = data_dir / "keys" / "development-jwks.json"
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(_development_key(data_dir).public_key()))
    content = json.dumps(
        {"keys": [{**public, "kid": _key_id(public), "use": "sig", "alg": ALGORITHM}]}, indent=1
    )
    if not key_set.exists() or key_set.read_text("utf-8") != content:
        key_set.write_text(content, "utf-8")
    return key_set


def development_token(data_dir: Path, subject: str, scope: str, minutes: int) -> str:
    """A token signed by the development key."""
    key = _development_key(data_dir)
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    now = datetime.now(UTC)
    claims = {
        "iss": DEVELOPMENT_ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "iat": now,
        "exp": now + timedelta(minutes=minutes),
        "scope": scope,
    }
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": _key_id(public)})


def _development_key(data_dir: Path) -> ec.EllipticCurvePrivateKey:
    path = data_dir / "keys" / "development-key.pem"
    if not path.exists():
        _create_key(path)
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeySetError(f"{path} holds no elliptic-curve key; delete it and a new one is made")
    return key


def _create_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
    draft.rename(path)


def _key_id(public: dict[str, Any]) -> str:
    return f"dev-{public['x'][:8]}"


def _is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KeySetError(f"the key set {path} can't be read: {error}") from error


async def _fetch(url: str) -> str:
    try:
        timeout = aiohttp.ClientTimeout(total=5)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            response.raise_for_status()
            return await response.text()
    except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError) as error:
        raise KeySetError(f"the key set {url} can't be fetched: {error}") from error


def _usable_keys(source: str, text: str) -> dict[str | None, jwt.PyJWK]:
    """ES256 keys only, whatever else the set holds."""
    try:
        entries = [entry for entry in json.loads(text)["keys"] if _is_es256(entry)]
        keys = {entry.get("kid"): jwt.PyJWK(entry, algorithm=ALGORITHM) for entry in entries}
    except (ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
        raise KeySetError(f"the key set {source} is not a JSON Web Key Set: {error}") from error
    if not keys:
        raise KeySetError(f"the key set {source} holds no ES256 key (kty EC, crv P-256)")
    return keys


def _is_es256(entry: dict[str, Any]) -> bool:
    return entry.get("kty") == "EC" and entry.get("crv") == "P-256" and entry.get("use", "sig") == "sig"
