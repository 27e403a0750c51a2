"""Somebody else than the service looks whether the audit is what was written."""

from collections.abc import Sequence

import asyncpg

from checkin_service.adapters.postgres.audit import read_rows
from checkin_service.domain.audit import AuditChain, AuditHead


async def verify_audit(url: str, since: AuditHead | None, heads: Sequence[AuditHead]) -> AuditChain:
    """The chain after its last row, whose `end` says what is wrong. Changes nothing."""
    connection = await asyncpg.connect(url)
    try:
        chain = AuditChain(since, heads)
        async for row in read_rows(connection, since.seq if since else 0):
            chain.add(row)
        return chain
    finally:
        await connection.close()
