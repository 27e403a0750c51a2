"""Whom else of the roster a face resembles: two who look alike must not check in for each other unseen.

Templates are opened here and not in a face worker, see docs/decisions/0004-who-compares.md.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from checkin_service.adapters.postgres import persons
from checkin_service.adapters.postgres.check_ins import Submission
from checkin_service.adapters.postgres.database import Database
from checkin_service.adapters.postgres.persons import RosterMember, SealedTemplate
from checkin_service.adapters.sealing import SealBroken
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.domain.decision import Rivals
from checkin_service.usecases.templates import open_all
from face import Templates, best_score

# Told why a member is left out, and how many: for want of `consent`, of a `template`, or of a `seal` that holds.
LeftOut = Callable[[str, int], None]

# From about a millisecond on, the comparison is not for the event loop.
_MANY = 50


async def find_rivals(
    database: Database,
    keys: TemplateKeys,
    submission: Submission,
    probe: Templates,
    model_id: str,
    count_left_out: LeftOut,
) -> Rivals:
    """The best score of the probe against every other member with live consent to `face` and a template of the model.

    Read once and without locks: a consent withdrawn at this very moment may still be compared with, and nothing of it
    outlives the call. Nobody's broken row keeps another person from checking in.
    """
    async with database.connection() as connection:
        members, left_out = await persons.read_roster(
            connection, submission.task_id, submission.person_id, model_id
        )
    data_keys = await keys.find_all([member.key_id for member in members])
    if len(members) > _MANY:
        best, broken = await asyncio.to_thread(_best, data_keys, members, probe, model_id)
    else:
        best, broken = _best(data_keys, members, probe, model_id)
    for why, number in {**left_out, "seal": broken}.items():
        count_left_out(why, number)
    return Rivals(best)


def _best(
    data_keys: Mapping[UUID, bytes], members: Sequence[RosterMember], probe: Templates, model_id: str
) -> tuple[float | None, int]:
    """The best score, and how many seals did not hold."""
    references: list[Templates] = []
    broken = 0
    for member in members:
        try:
            references += opened(data_keys, member, model_id)
        except SealBroken:
            broken += 1
    return best_score(references, probe, model_id).value if references else None, broken


def opened(data_keys: Mapping[UUID, bytes], member: RosterMember, model_id: str) -> list[Templates]:
    """The member's templates in plain. Raises `SealBroken`, also when there is no key for them."""
    data_key = data_keys.get(member.key_id)
    if data_key is None:
        raise SealBroken("a data key is missing, or does not belong to its id")
    sealed = [SealedTemplate(number, model_id, row) for number, row in enumerate(member.sealed)]
    return open_all(data_key, member.person_id, sealed, {model_id})
