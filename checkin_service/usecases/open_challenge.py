"""A person asks for the one-time challenge that a check-in answers."""

from datetime import datetime, timedelta
from uuid import UUID

from checkin_service.adapters.postgres import check_ins, persons
from checkin_service.adapters.postgres.database import Database
from checkin_service.usecases.refusals import Refusal

LIFETIME = timedelta(seconds=180)


async def open_challenge(database: Database, person_id: str, task_id: str) -> tuple[UUID, datetime]:
    """Challenge id and expiry, whatever the task's state. Raises `Refusal`: not_found, consent_required."""
    async with database.transaction() as connection:
        consent = await persons.read_consent(connection, person_id)
        challenge = await check_ins.open_challenge(connection, task_id, person_id, LIFETIME)
        if challenge is None:
            raise Refusal("not_found")
        if consent is None or not consent.covers_check_in:
            raise Refusal("consent_required")
        return challenge
