"""Who has looked at lists of tasks and reviews and at the figures; written down before they are shown."""

import json
import time
from typing import Any

from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Database
from checkin_service.usecases.caller import Caller

RENEWAL_S = 600.0
"""For how long one row stands: a list that is open is asked for again whenever something happens."""


class Viewings:
    """Remembers, within this process, what it has lately written down."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._until: dict[tuple[str, ...], float] = {}

    async def note(self, caller: Caller, action: str, task_id: str | None, asked: dict[str, Any]) -> None:
        """Raises one of `DATABASE_FAILURES`: then nothing is to be shown."""
        now = time.monotonic()
        viewing = (caller.iss, caller.sub, action, task_id or "", json.dumps(asked, sort_keys=True))
        if self._until.get(viewing, 0.0) > now:
            return
        async with self._database.connection() as connection:
            await write_audit(connection, caller.iss, caller.sub, action, task_id, asked)
        self._until = {of: until for of, until in self._until.items() if until > now}
        self._until[viewing] = now + RENEWAL_S
