"""What is to be done when the database was restored: to a point in time, from a dump, or by a standby that took over.

The epoch of the feed is another one at once, whoever notices (`present_epoch` of the schema). The rest is done by the
next start or sweep, and by the command for a restore that the database can't tell from a restart.
"""

from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Connection, Database
from checkin_service.adapters.postgres.feed import lock_restored, renew_epoch
from checkin_service.usecases.caller import SYSTEM


async def after_restore(database: Database, actor: str) -> str:
    """Settles a restore that somebody tells of; the new epoch of the feed. Safe to repeat: pollers read anew."""
    async with database.transaction() as connection:
        return await _settle(connection, actor)


async def notice_restore(database: Database) -> bool:
    """Settles a restore that nobody told of, if there was one. Safe in several processes at once and at any time."""
    async with database.transaction() as connection:
        restored = await lock_restored(connection)
        if restored:
            await _settle(connection, SYSTEM.sub)
        return restored


async def _settle(connection: Connection, actor: str) -> str:
    epoch = await renew_epoch(connection)
    await write_audit(connection, SYSTEM.iss, actor, "restored", None, {"feed_epoch": epoch})
    return epoch
