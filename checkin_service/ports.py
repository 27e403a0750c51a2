"""Interfaces with more than one implementation."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from face import Analysis, PoolStats

Clock = Callable[[], float]
"""Our own time, in seconds since 1970. Tokens and the rate limit go by it; every verdict goes by the database's."""


class FaceEngine(Protocol):
    """Analyses photographs; the worker pool in service, a fixed-answer one in tests."""

    @property
    def model_id(self) -> str:
        """The model whose score decides."""
        ...

    @property
    def stats(self) -> PoolStats:
        """Workers and queue as they are now."""
        ...

    async def analyse(self, photo: bytes) -> Analysis:
        """Faces, quality and templates of one photograph (JPEG or PNG).

        Raises `face.ImageError` for a picture that can't be used; `PoolFull`, `PoolTimeout` or `WorkerFailed`
        when no worker could.
        """
        ...


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom another provider is to look for: its own name of the person (`account`), and what stands on their identity
    card. It goes through and is not kept; nor is it printed."""

    account: str = field(repr=False)
    name: str = field(repr=False)
    number: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class LivenessTest:
    """What a challenge asks for. `verify_id`: what the phone tells the provider. `session`: what the provider has to be
    told again for its result; it is personal, and sealed wherever it lies."""

    provider: str
    actions: Sequence[str]
    verify_id: str | None = None
    session: bytes | None = field(default=None, repr=False)


class Liveness(Protocol):
    """What a challenge asks of a person, and whether it was done; turns of the head, or another provider's test."""

    async def ask(self, challenge_id: UUID, holder: Holder | None) -> LivenessTest:
        """A new challenge's test, of a person whose identity is known only where there is a `holder`."""
        ...

    async def judge(
        self, frames: Sequence[Sequence[Sequence[float]]], actions: Sequence[str], session: bytes | None
    ) -> str:
        """`passed`, `unknown` where the person is not to blame, or a code that says what was not seen. `frames`: five
        landmarks each (x, y in pixels); `actions` and `session` as they were asked for. Takes 5 s at most."""
        ...


class KeysUnavailable(Exception):
    """What wraps data keys can't be reached, or lacks a key: nobody's fault but ours, 503."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it is stored."""

    wrapping_key_id: str
    wrapped: bytes


class WrappingKeys(Protocol):
    """What wraps data keys: keys that this process holds, or a service that lets none of its own out (KMS, HSM).

    Both calls may take as long as such a service takes, and raise `KeysUnavailable`. `owner` is bound to what is
    wrapped. One whose calls cost something may remember what it has unwrapped: a wrapped key is read from the key
    store each time that it is needed, so nothing deleted comes back by that.
    """

    @property
    def current(self) -> str:
        """The id of the key that wraps from now on."""
        ...

    @property
    def key_ids(self) -> Sequence[str]:
        """The ids of all keys that unwrap."""
        ...

    @property
    def key_bytes(self) -> int:
        """How long new data keys are, see `adapters/sealing.py`."""
        ...

    async def wrap(self, owner: str, data_key: bytes) -> WrappedKey:
        """The data key under the current key."""
        ...

    async def unwrap(self, wrapped: Mapping[str, WrappedKey]) -> Mapping[str, bytes]:
        """Plain data keys by owner, without those that are not their owner's or were altered."""
        ...


class StoreUnavailable(Exception):
    """The object store can't be reached, is full or too slow: nobody's fault but ours, 503."""


class ObjectMissing(Exception):
    """There is no object at this address."""


class ObjectStore(Protocol):
    """Encrypted objects by the digest of what they hold: a directory, or a bucket.

    Every call raises `StoreUnavailable` when the store does not do its part in time.
    """

    async def put(self, address: str, content: bytes) -> None:
        """Stores durably and whole, or not at all. Safe to repeat; a repeat makes the object new again."""
        ...

    async def get(self, address: str) -> bytes:
        """What was put there. Raises `ObjectMissing`."""
        ...

    async def delete(self, address: str) -> None:
        """Removes the object. Safe to repeat."""
        ...

    async def fault(self) -> str | None:
        """In a word why nothing can be put there now, None when it can; as it was a few seconds ago at most."""
        ...

    def list_older_than(self, instant: datetime) -> AsyncIterator[str]:
        """Addresses of all objects last put before this instant, by the store's clock."""
        ...
