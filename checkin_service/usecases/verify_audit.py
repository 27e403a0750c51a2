"""Somebody else than the service looks whether the audit is what was written, and whether verdicts, decisions and
completions are those that it tells of."""

from collections.abc import Sequence

import asyncpg

from checkin_service.adapters.postgres.audit import Contradiction, read_contradictions, read_rows
from checkin_service.adapters.postgres.database import reaching
from checkin_service.domain.audit import AuditChain, AuditHead


async def verify_audit(url: str, since: AuditHead | None, heads: Sequence[AuditHead]) -> AuditChain:
    """The chain after its last row, whose `end` says what is wrong. Changes nothing."""
    with reaching(url):
        connection = await asyncpg.connect(url)
    try:
        chain = AuditChain(since, heads)
        async for row in read_rows(connection, since.seq if since else 0):
            chain.add(row)
        return chain
    finally:
        await connection.close()


async def compare_audit(url: str) -> Sequence[Contradiction]:
    """Where the audit and the facts differ: who writes an acceptance past the service writes no row of the audit."""
    with reaching(url):
        connection = await asyncpg.connect(url)
    try:
        return await read_contradictions(connection)
    finally:
        await connection.close()
