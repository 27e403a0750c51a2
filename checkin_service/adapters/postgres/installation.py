"""Which installation a store is of. The main database and its key store have the same table, and are compared by it."""

from uuid import UUID, uuid4

from checkin_service.adapters.postgres.database import Connection


async def read_installation(connection: Connection) -> UUID | None:
    """None of a store that no service was ever started on."""
    found: UUID | None = await connection.fetchval("SELECT installation_id FROM installation")
    return found


async def note_installation(connection: Connection, installation_id: UUID | None = None) -> UUID:
    """What the store is of from here on: that one, or a new one, unless it is of some already; which it is of. Safe in
    several processes at once."""
    await connection.execute(
        "INSERT INTO installation (installation_id) VALUES ($1) ON CONFLICT DO NOTHING",
        installation_id or uuid4(),
    )
    noted: UUID = await connection.fetchval("SELECT installation_id FROM installation")
    return noted
