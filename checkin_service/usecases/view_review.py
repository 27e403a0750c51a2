"""What a review rests on, shown to a reviewer. Who has looked at what is written down before it is shown."""

from uuid import UUID

from checkin_service.adapters.postgres import reviews
from checkin_service.adapters.postgres.audit import write_audit
from checkin_service.adapters.postgres.database import Database
from checkin_service.adapters.postgres.reviews import Dossier
from checkin_service.adapters.template_keys import TemplateKeys
from checkin_service.ports import ObjectMissing, ObjectStore
from checkin_service.usecases.caller import Caller
from checkin_service.usecases.evidence import open_selfie
from checkin_service.usecases.refusals import Refusal


async def view_review(database: Database, caller: Caller, review_id: UUID) -> Dossier:
    """Raises `Refusal` not_found."""
    async with database.transaction() as connection:
        dossier = await reviews.read_dossier(connection, review_id)
        if dossier is None:
            raise Refusal("not_found")
        details = {"review_id": str(review_id), "person_id": dossier.review.person_id}
        await write_audit(connection, caller.iss, caller.sub, "view_review", dossier.review.task_id, details)
        return dossier


async def view_selfie(
    database: Database, keys: TemplateKeys, store: ObjectStore, caller: Caller, review_id: UUID
) -> bytes:
    """The photograph. Raises `Refusal` not_found when there is none, or none any more; `StoreUnavailable`."""
    async with database.connection() as connection:
        found = await reviews.read_selfie(connection, review_id)
    if found is None:
        raise Refusal("not_found")
    task_id, person_id, kept = found
    try:
        ciphertext = await store.get(kept.address)
    except ObjectMissing as error:
        raise Refusal("not_found") from error
    data_key = await keys.find(kept.key_id)
    if data_key is None:
        raise Refusal("not_found")
    photo = open_selfie(data_key, review_id, kept.wrapped_key, ciphertext)
    async with database.connection() as connection:
        details = {"review_id": str(review_id), "person_id": person_id}
        await write_audit(connection, caller.iss, caller.sub, "view_selfie", task_id, details)
    return photo
