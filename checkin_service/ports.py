"""Interfaces with more than one implementation."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

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


class Liveness(Protocol):
    """What a challenge asks of a person, and whether frames show it; turns of the head, or another provider's."""

    def actions(self) -> Sequence[str]:
        """A new challenge's actions, in order."""
        ...

    def judge(self, frames: Sequence[Sequence[Sequence[float]]], actions: Sequence[str]) -> str:
        """`passed`, or a code that says what was not seen. `frames`: five landmarks each (x, y in pixels)."""
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
