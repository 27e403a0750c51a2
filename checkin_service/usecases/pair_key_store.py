"""The main database and its key store belong together: with another installation's key store, or an empty one, every
template would be unreadable, every deletion would miss its key, and new keys would lie where nobody looks for them."""

from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Database, DatabaseSetupError
from checkin_service.adapters.postgres.installation import note_installation, read_installation
from checkin_service.adapters.postgres.persons import knows_anybody
from checkin_service.usecases.caller import SYSTEM


async def pair_key_store(database: Database, key_store: Database, *, may_be_empty: bool = False) -> None:
    """Raises `DatabaseSetupError` for a key store that is not this database's.

    An empty one becomes its own as long as no person is known, that is at the first start, or when `may_be_empty`.
    """
    async with database.connection() as connection:
        installation_id = await note_installation(connection)
        at_first = not await knows_anybody(connection)
    async with key_store.connection() as connection:
        theirs = await read_installation(connection)
        if theirs is None and (at_first or may_be_empty):
            theirs = await note_installation(connection, installation_id)
    if theirs is None:
        raise DatabaseSetupError(
            "the key store is empty, and this database's keys are in another one: point CHECKIN_KEY_STORE_URL at that, "
            "or restore its last dump here (docs/operations.md); if it is lost without one, run `adopt-key-store` and "
            "have everybody enrolled anew"
        )
    if theirs != installation_id:
        raise DatabaseSetupError(
            "the key store is another installation's: point CHECKIN_KEY_STORE_URL at this database's own, or "
            "DATABASE_URL at the database that it belongs to (docs/keys.md)"
        )


async def record_adoption(database: Database, actor: str) -> None:
    """That an empty key store was taken on purpose."""
    async with database.transaction() as connection:
        await write_audit(connection, SYSTEM.iss, actor, "adopt_key_store", None, {})
