"""Wraps every data key anew by the current wrapping key, so that older ones can be thrown away.

Templates and selfies stay as they are: they are sealed under data keys, and these do not change. May run beside
services, be cut off at any time, and run again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

from checkin_service.adapters.postgres import key_store
from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Database
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.ports import WrappedKey, WrappingKeys
from checkin_service.usecases.caller import SYSTEM

BATCH = 500


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """`done` data keys are wrapped by `current` now. Of the older wrapping keys, `retired` wrap none any more, and
    `needed` wrap so many that could not be opened, or that came meanwhile."""

    current: str
    done: int
    retired: Sequence[str]
    needed: Mapping[str, int]


async def rekey(keys: TemplateKeys, tell: Callable[[int, int], None]) -> Rekeyed:
    """`tell` is given how many are done, of how many, after each batch. Raises `KeysUnavailable`."""
    current, done, last = keys.wrapping.current, 0, UUID(int=0)
    async with keys.store.connection() as connection:
        total = await key_store.count_wrapped_by_others(connection, current)
    while page := await _page(keys, last):
        done, last = done + await _rewrap(keys, page), max(page)
        tell(done, total)
    async with keys.store.transaction() as connection:
        retired, needed = await key_store.retire_wrapping_keys(connection, current)
    return Rekeyed(current, done, retired, needed)


async def record_rekey(database: Database, actor: str, rekeyed: Rekeyed) -> None:
    """Apart from it: the audit is in the other store."""
    async with database.transaction() as connection:
        await write_audit(connection, SYSTEM.iss, actor, "rekey", None, asdict(rekeyed))


async def _page(keys: TemplateKeys, after: UUID) -> Mapping[UUID, WrappedKey]:
    async with keys.store.connection() as connection:
        return await key_store.read_wrapped_by_others(connection, keys.wrapping.current, after, BATCH)


async def _rewrap(keys: TemplateKeys, page: Mapping[UUID, WrappedKey]) -> int:
    """How many of the page; the others do not open, and stay as they are."""
    anew = await _wrapped_anew(keys.wrapping, page)
    async with keys.store.transaction() as connection:
        await key_store.replace_keys(connection, page, anew)
    return len(anew)


async def _wrapped_anew(wrapping: WrappingKeys, page: Mapping[UUID, WrappedKey]) -> Mapping[UUID, WrappedKey]:
    opened = await wrapping.unwrap({str(key_id): key for key_id, key in page.items()})
    return {UUID(owner): await wrapping.wrap(owner, data_key) for owner, data_key in opened.items()}
