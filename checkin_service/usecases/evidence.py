"""Selfies for the review, sealed before they leave for the object store.

Each is encrypted under a data key of its own, and both are bound to the check-in and to what they are: an object or a
key of another check-in does not open. Deleting the wrapped key makes the object unreadable wherever it still lies.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from checkin_service.adapters.template_keys import SealedObject, TemplateKeys, WrappedKey, seal, unseal
from checkin_service.ports import ObjectStore, StoreUnavailable

SELFIE = "selfie"


def seal_selfie(keys: TemplateKeys, check_in_id: UUID, photo: bytes) -> SealedObject:
    """The photograph under a fresh key. Sealed once a check-in and put as often as it takes, it is one object."""
    data_key, wrapped = keys.new_data_key(_owner(check_in_id))
    ciphertext = seal(data_key, photo, "evidence", SELFIE, str(check_in_id))
    return SealedObject(hashlib.sha256(ciphertext).hexdigest(), wrapped, ciphertext)


def open_selfie(keys: TemplateKeys, check_in_id: UUID, key: WrappedKey, ciphertext: bytes) -> bytes:
    """The photograph. Raises `SealBroken` for another check-in's key or object, or an altered one."""
    data_key = keys.unwrap(_owner(check_in_id), key)
    return unseal(data_key, ciphertext, "evidence", SELFIE, str(check_in_id))


async def drop_objects(store: ObjectStore, addresses: Sequence[str]) -> None:
    """Deletes objects that nobody can read any more, for their rows are gone. What is left, a purge finds."""
    with suppress(StoreUnavailable):
        for address in addresses:
            await store.delete(address)


def _owner(check_in_id: UUID) -> str:
    # no person_id has a line break
    return f"{SELFIE}\n{check_in_id}"
