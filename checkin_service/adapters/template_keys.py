"""Persons' data keys, wrapped in the key store; templates, kept photographs and keys of selfies are sealed under them.

The associated data binds a ciphertext to its person and model, so that a row copied to another person or relabelled
as another model's does not decrypt. Deleting a data key makes all that is sealed under it unreadable, wherever it still
lies: in the main database, in its backups, in the object store.
"""

import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from checkin_service.adapters.postgres import key_store
from checkin_service.adapters.postgres.database import Database
from checkin_service.adapters.postgres.key_store import Deleted, Deletion
from checkin_service.adapters.sealing import SealBroken, new_key, seal, unseal
from checkin_service.ports import KeysUnavailable, WrappedKey, WrappingKeys


@dataclass(frozen=True, slots=True)
class ErasureLog:
    """The key store to whoever deletes. It takes no key to do that.

    A connection of the main database may be held while one of the key store is waited for, and never the other way
    round. Every call raises what a database that is away raises.
    """

    store: Database

    async def delete(self, key_id: UUID, why: Deletion) -> None:
        """Deletes the key for good and notes it in the erasure log. From here on there is no way back. Safe to
        repeat."""
        async with self.store.connection() as connection:
            await key_store.delete_key(connection, key_id, why)

    async def refuse_deleted(self, key_id: UUID) -> None:
        """Raises `KeysUnavailable` while a deletion of this key is yet to be carried out."""
        async with self.store.connection() as connection:
            if await key_store.is_deleted(connection, key_id):
                raise KeysUnavailable("a deletion is yet to be carried out")

    async def deletions(
        self, since: timedelta | None, after: Deleted | None, limit: int
    ) -> Sequence[Deleted]:
        """A page of the erasure log, see `read_deletions`."""
        async with self.store.connection() as connection:
            return await key_store.read_deletions(connection, since, after, limit)


@dataclass(frozen=True, slots=True)
class TemplateKeys(ErasureLog):
    """The persons' data keys by key id, in plain to whoever asks, and pseudonyms. What wraps them may be away:
    `KeysUnavailable`."""

    wrapping: WrappingKeys
    pseudonym_key: bytes

    async def find(self, key_id: UUID) -> bytes | None:
        """The plain data key; None when there is none, or none any more. Raises `SealBroken` for one that is not this
        id's."""
        wrapped = await self._read([key_id])
        if key_id not in wrapped:
            return None
        opened = await self._open(wrapped)
        if key_id not in opened:
            raise SealBroken("a data key does not belong to its id, or was altered")
        return opened[key_id]

    async def find_all(self, key_ids: Collection[UUID]) -> Mapping[UUID, bytes]:
        """The plain data keys of those that have one which opens."""
        return await self._open(await self._read(key_ids))

    async def make(self, key_id: UUID) -> bytes:
        """The plain data key, new when there was none. Its person is locked.

        Raises `KeysUnavailable` for one that was deleted: the rest of that deletion is yet to be carried out.
        """
        if found := await self.find(key_id):
            return found
        plain = new_key(self.wrapping.key_bytes)
        wrapped = await self.wrapping.wrap(str(key_id), plain)
        async with self.store.connection() as connection:
            if not await key_store.add_key(connection, key_id, wrapped):
                raise KeysUnavailable("the key was deleted, or its wrapping key retired")
        return plain

    def pseudonym(self, person_id: str) -> bytes:
        """32 bytes that stand for the person in the processing record once nothing else does."""
        return hmac.digest(self.pseudonym_key, person_id.encode(), hashlib.sha256)

    async def _read(self, key_ids: Collection[UUID]) -> Mapping[UUID, WrappedKey]:
        async with self.store.connection() as connection:
            return await key_store.read_keys(connection, key_ids)

    async def _open(self, wrapped: Mapping[UUID, WrappedKey]) -> Mapping[UUID, bytes]:
        opened = await self.wrapping.unwrap({str(key_id): key for key_id, key in wrapped.items()})
        return {UUID(owner): plain for owner, plain in opened.items()}


def seal_template(data_key: bytes, person_id: str, model_id: str, vector: bytes) -> bytes:
    """Nonce and ciphertext of a vector."""
    return seal(data_key, vector, "template", person_id, model_id)


def open_template(data_key: bytes, person_id: str, model_id: str, sealed: bytes) -> bytes:
    """The vector's bytes. Raises `SealBroken` for another person's, another model's or an altered ciphertext."""
    return unseal(data_key, sealed, "template", person_id, model_id)
