"""Everything that is stored of one person, table by table as it stands."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from checkin_service.adapters.postgres.database import Connection

_OWN = "x.person_id = $1"
_OF_A_REVIEW = "(SELECT review_id FROM review WHERE person_id = $1)"

# Which rows x of a table are of the person $1, whose pseudonym is $2.
STORED: Mapping[str, str] = {
    "person": _OWN,
    "consent": _OWN,
    "processing_record": "x.pseudonym = $2",
    "reference": _OWN,
    "template": "x.reference_id IN (SELECT reference_id FROM reference WHERE person_id = $1)",
    "member": _OWN,
    "task": "x.task_id IN (SELECT task_id FROM member WHERE person_id = $1)",
    "challenge": _OWN,
    "burst_frame": "x.challenge_id IN (SELECT challenge_id FROM challenge WHERE person_id = $1)",
    "receipt": _OWN,
    "deferred_submission": "x.check_in_id IN (SELECT check_in_id FROM receipt WHERE person_id = $1)",
    "attempt": _OWN,
    "evidence": "x.check_in_id IN (SELECT check_in_id FROM attempt WHERE person_id = $1)",
    "kept_photograph": _OWN,
    "last_position": _OWN,
    "sent_fix": _OWN,
    "review": _OWN,
    "manual_request": f"x.manual_request_id IN {_OF_A_REVIEW}",
    "review_decision": f"x.review_id IN {_OF_A_REVIEW}",
    "acceptance": f"x.check_in_id IN (SELECT check_in_id FROM attempt WHERE person_id = $1 UNION {_OF_A_REVIEW})",  # noqa: S608
    "idempotency_key": "x.sub = $1",
    "audit": """
        x.details->>'pseudonym' = encode($2, 'hex') OR x.details->>'person_id' = $1
    """,
}

# Vectors and keys; what stands for a secret or for a content; and who decided or looked, which is of another person.
WITHHELD = (
    "sealed",
    "wrapped_key",
    "key_id",
    "session",
    "address",
    "fix_digest",
    "photos_digest",
    "body_digest",
    "registration_digest",
    "pseudonym",
    "iss",
    "actor",
    "salt",
    "details_digest",
    "prev",
    "hash",
)

_TABLES = ", ".join(
    f"'{table}', (SELECT coalesce(jsonb_agg(to_jsonb(x) - $3::text[]), '[]') FROM {table} x WHERE {own})"  # noqa: S608
    for table, own in STORED.items()
)


async def read_stored(
    connection: Connection, person_id: str, pseudonym: bytes
) -> tuple[datetime, dict[str, list[dict[str, Any]]]]:
    """The instant of reading, and every row of the person by table, of one snapshot; times at +08:00.

    In a transaction of its own, whose time zone this sets.
    """
    await connection.execute("SET LOCAL timezone TO 'Asia/Shanghai'")
    row = await connection.fetchrow(
        f"SELECT checkin_now() AS read_at, jsonb_build_object({_TABLES}) AS stored",
        person_id,
        pseudonym,
        WITHHELD,
    )
    return row["read_at"], row["stored"]
