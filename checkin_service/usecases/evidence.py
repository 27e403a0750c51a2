"""Selfies for the review, sealed before they leave for the object store.

Each is encrypted under a key of its own, which is wrapped by the person's data key; both are bound to the check-in and
to what they are: an object or a key of another check-in does not open. Deleting the selfie's row, or the person's data
key, makes the object unreadable wherever it still lies.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from checkin_service.adapters.postgres.check_ins import SealedObject
from checkin_service.adapters.sealing import new_key, seal, unseal
from checkin_service.ports import ObjectStore, StoreUnavailable

SELFIE = "selfie"


def seal_selfie(data_key: bytes, check_in_id: UUID, photo: bytes) -> SealedObject:
    """The photograph under a fresh key. Sealed once a check-in and put as often as it takes, it is one object."""
    key = new_key(len(data_key))
    ciphertext = seal(key, photo, "evidence", SELFIE, str(check_in_id))
    wrapped_key = seal(data_key, key, "evidence-key", SELFIE, str(check_in_id))
    return SealedObject(hashlib.sha256(ciphertext).hexdigest(), wrapped_key, ciphertext)


def open_selfie(data_key: bytes, check_in_id: UUID, wrapped_key: bytes, ciphertext: bytes) -> bytes:
    """The photograph. Raises `SealBroken` for another person's data key, another check-in's key or object, or what was
    altered."""
    key = unseal(data_key, wrapped_key, "evidence-key", SELFIE, str(check_in_id))
    return unseal(key, ciphertext, "evidence", SELFIE, str(check_in_id))


async def drop_objects(store: ObjectStore, addresses: Sequence[str]) -> None:
    """Deletes objects that nobody can read any more, for their rows are gone. What is left, a purge finds."""
    with suppress(StoreUnavailable):
        for address in addresses:
            await store.delete(address)
