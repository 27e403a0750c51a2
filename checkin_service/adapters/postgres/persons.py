"""Persons: data keys, references with their sealed templates, consent, the processing record."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from checkin_service.adapters.postgres.database import Connection
from checkin_service.domain.consent import CONSENT_SCOPES


@dataclass(frozen=True, slots=True)
class SealedTemplate:
    """One vector of one photograph by one model, encrypted under the person's data key."""

    photo: int
    model_id: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Reference:
    reference_id: UUID
    engine: str
    photos: int
    basis_kind: str
    basis_document: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Consent:
    notice_version: str
    scopes: Sequence[str]
    given_at: datetime
    withdrawn_at: datetime | None

    @property
    def live(self) -> bool:
        return self.withdrawn_at is None

    @property
    def covers_check_in(self) -> bool:
        """Whether it is live for everything that a check-in does."""
        return self.live and set(self.scopes) >= set(CONSENT_SCOPES)


@dataclass(frozen=True, slots=True)
class MyTask:
    """One of a person's tasks with all that `GET /v1/me` says of it."""

    task_id: str
    person_id: str
    enterprise_name: str
    counted_today: int


@dataclass(frozen=True, slots=True)
class RosterMember:
    """Another member's templates of one model, as they are stored."""

    person_id: str
    key_id: UUID
    sealed: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class EnrolmentHistory:
    """What was processed of a person, as seen from one set of photographs. `taken_back`: the last that was heard is
    that their face is not to be processed; `known`: the set was enrolled once, and as the `newest` of all; `engine`: of
    the reference in force, None without one."""

    taken_back: bool
    known: bool
    newest: bool
    engine: str | None


async def ensure_person(connection: Connection, person_id: str) -> None:
    await connection.execute("INSERT INTO person (person_id) VALUES ($1) ON CONFLICT DO NOTHING", person_id)


async def lock_person(connection: Connection, person_id: str) -> UUID | None:
    """Locks the person before anything of theirs is written; the id of their data key. None for an unknown person.

    Lock order everywhere: person, then tasks by task_id, then the feed.
    """
    key_id: UUID | None = await connection.fetchval(
        "SELECT key_id FROM person WHERE person_id = $1 FOR NO KEY UPDATE", person_id
    )
    return key_id


async def ensure_locked(connection: Connection, person_id: str) -> UUID:
    """As `lock_person`, of a person who is made when unknown."""
    await ensure_person(connection, person_id)
    key_id = await lock_person(connection, person_id)
    if key_id is None:
        raise RuntimeError("persons are never deleted")
    return key_id


async def has_reference(connection: Connection, person_id: str) -> bool:
    """Whether anything is stored that the person's face can be told by: without a reference nothing ever is."""
    return (
        await connection.fetchval("SELECT true FROM reference WHERE person_id = $1 LIMIT 1", person_id)
        or False
    )


async def knows_anybody(connection: Connection) -> bool:
    """Whether a person was ever named here."""
    return await connection.fetchval("SELECT true FROM person LIMIT 1") or False


async def read_key_owners(connection: Connection, key_ids: Collection[UUID]) -> dict[UUID, str]:
    """The persons whose data keys these are, as far as there are any."""
    rows = await connection.fetch(
        "SELECT key_id, person_id FROM person WHERE key_id = ANY($1::uuid[])", key_ids
    )
    return {row["key_id"]: row["person_id"] for row in rows}


async def replace_reference(
    connection: Connection, person_id: str, reference: dict[str, Any], templates: Sequence[SealedTemplate]
) -> bool:
    """Puts the new set in the place of whatever is stored; True when the person had none that could be compared
    with. The person is locked."""
    old = await connection.fetchrow(
        """
        SELECT reference_id, ARRAY(SELECT r.reference_id FROM reference r WHERE r.person_id = p.person_id) AS stored
        FROM person p WHERE person_id = $1
        """,
        person_id,
    )
    await connection.execute(
        """
        INSERT INTO reference (reference_id, person_id, engine, photos, quality, basis_kind, basis_document)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        reference["reference_id"],
        person_id,
        reference["engine"],
        reference["photos"],
        reference["quality"],
        reference["basis_kind"],
        reference["basis_document"],
    )
    await connection.executemany(
        "INSERT INTO template (reference_id, photo, model_id, sealed) VALUES ($1, $2, $3, $4)",
        [(reference["reference_id"], t.photo, t.model_id, t.sealed) for t in templates],
    )
    await connection.execute(
        "UPDATE person SET reference_id = $2 WHERE person_id = $1", person_id, reference["reference_id"]
    )
    await connection.execute("DELETE FROM reference WHERE reference_id = ANY($1)", old["stored"])
    return old["reference_id"] is None


# Which of a person's references has a template of one of the models.
_USABLE = """
    SELECT r.reference_id FROM reference r
    WHERE r.person_id = p.person_id
      AND EXISTS (SELECT FROM template t WHERE t.reference_id = r.reference_id AND t.model_id = ANY($1::text[]))
    LIMIT 1
"""


async def persons_to_settle(connection: Connection, models: Sequence[str]) -> list[str]:
    """Who has a reference in force that none of the models can be compared by, or one out of force that can."""
    rows = await connection.fetch(
        f"""
        SELECT p.person_id FROM person p LEFT JOIN LATERAL ({_USABLE}) usable ON true
        WHERE p.reference_id IS DISTINCT FROM usable.reference_id ORDER BY p.person_id
        """,  # noqa: S608  a constant
        models,
    )
    return [row["person_id"] for row in rows]


async def settle_reference(connection: Connection, person_id: str, models: Sequence[str]) -> bool | None:
    """Puts the reference that can be compared with in force, or none; whether there is one now, None when nothing
    has changed. The person is locked."""
    ready: bool | None = await connection.fetchval(
        f"""
        UPDATE person p SET reference_id = ({_USABLE})
        WHERE p.person_id = $2 AND p.reference_id IS DISTINCT FROM ({_USABLE})
        RETURNING reference_id IS NOT NULL
        """,  # noqa: S608  a constant
        models,
        person_id,
    )
    return ready


async def delete_biometrics(connection: Connection, person_id: str) -> tuple[bool, list[str]]:
    """Deletes templates, what tells photographs again, and the rows that selfies can be read with, and forgets the data
    key that opened them all, which is deleted already. The person is locked.

    Returns whether there was a reference in force, and the addresses of the selfies, which nobody can read any more.
    """
    had: bool | None = await connection.fetchval(
        "SELECT reference_id IS NOT NULL FROM person WHERE person_id = $1", person_id
    )
    await connection.execute(
        "UPDATE person SET reference_id = NULL, key_id = DEFAULT WHERE person_id = $1",
        person_id,
    )
    await connection.execute("DELETE FROM reference WHERE person_id = $1", person_id)
    await connection.execute("DELETE FROM kept_photograph WHERE person_id = $1", person_id)
    await connection.execute(
        "DELETE FROM burst_frame WHERE challenge_id IN (SELECT challenge_id FROM challenge WHERE person_id = $1)",
        person_id,
    )
    selfies = await connection.fetch(
        """
        DELETE FROM evidence WHERE check_in_id IN (SELECT check_in_id FROM attempt WHERE person_id = $1)
        RETURNING address
        """,
        person_id,
    )
    return bool(had), [row["address"] for row in selfies]


async def delete_positions(connection: Connection, person_id: str) -> None:
    """Deletes every coordinate of the person, and what tells one again; distances to a fence stay."""
    await connection.execute("DELETE FROM last_position WHERE person_id = $1", person_id)
    await connection.execute("DELETE FROM sent_fix WHERE person_id = $1", person_id)
    await connection.execute(
        """
        UPDATE evidence SET lon = NULL, lat = NULL
        WHERE lon IS NOT NULL AND check_in_id IN (SELECT check_in_id FROM attempt WHERE person_id = $1)
        """,
        person_id,
    )
    await connection.execute(
        """
        UPDATE manual_request SET position = NULL
        WHERE position IS NOT NULL AND manual_request_id IN (SELECT review_id FROM review WHERE person_id = $1)
        """,
        person_id,
    )


async def erase_person(
    connection: Connection, person_id: str, pseudonym: bytes, iss: str, actor: str
) -> list[str]:
    """Deletes what is told of a person but the bare fact of completed check-ins, and writes into the audit who asked
    for it. Biometrics and positions are gone already, person and tasks locked.

    Returns the tasks in which something of theirs was to be decided and is no more.
    """
    await connection.execute("DELETE FROM consent WHERE person_id = $1", person_id)
    await connection.execute("UPDATE member SET name = '' WHERE person_id = $1", person_id)
    ended = await connection.fetch(
        """
        DELETE FROM review WHERE person_id = $1
        AND NOT EXISTS (SELECT FROM acceptance c WHERE c.check_in_id = review.review_id)
        RETURNING task_id, state
        """,
        person_id,
    )
    await connection.execute(
        """
        UPDATE manual_request SET reason = ''
        WHERE manual_request_id IN (SELECT review_id FROM review WHERE person_id = $1)
        """,
        person_id,
    )
    await connection.execute(
        "UPDATE review_decision SET note = '' WHERE review_id IN (SELECT review_id FROM review WHERE person_id = $1)",
        person_id,
    )
    await connection.execute("SELECT erase_judged($1, $2, $3, $4)", person_id, iss, actor, pseudonym.hex())
    await connection.execute(
        """
        DELETE FROM receipt r WHERE person_id = $1
        AND NOT EXISTS (SELECT FROM attempt a WHERE a.check_in_id = r.check_in_id)
        """,
        person_id,
    )
    await connection.execute(
        """
        UPDATE receipt SET answer = (answer::jsonb || '{"location": null}')::json
        WHERE person_id = $1 AND answer IS NOT NULL
        """,
        person_id,
    )
    await connection.execute("DELETE FROM challenge WHERE person_id = $1", person_id)
    # not the erasure's own, which is being carried out
    await connection.execute(
        """
        DELETE FROM idempotency_key
        WHERE sub = $1 OR method = 'PUT' AND path = '/v1/persons/' || $1 || '/reference'
        """,
        person_id,
    )
    return sorted({row["task_id"] for row in ended if row["state"] in ("pending", "pending_second")})


async def person_exists(connection: Connection, person_id: str) -> bool:
    return await connection.fetchval("SELECT true FROM person WHERE person_id = $1", person_id) or False


async def read_reference(connection: Connection, person_id: str) -> Reference | None:
    row = await connection.fetchrow(
        """
        SELECT r.reference_id, r.engine, r.photos, r.basis_kind, r.basis_document, r.created_at
        FROM person p JOIN reference r USING (reference_id) WHERE p.person_id = $1
        """,
        person_id,
    )
    return row and Reference(**row)


async def read_consent(connection: Connection, person_id: str) -> Consent | None:
    row = await connection.fetchrow(
        "SELECT notice_version, scopes, given_at, withdrawn_at FROM consent WHERE person_id = $1", person_id
    )
    return row and Consent(**row)


async def give_consent(
    connection: Connection, person_id: str, notice_version: str, scopes: Sequence[str]
) -> Consent:
    row = await connection.fetchrow(
        """
        INSERT INTO consent (person_id, notice_version, scopes, given_at) VALUES ($1, $2, $3, checkin_now())
        ON CONFLICT (person_id) DO UPDATE
            SET notice_version = $2, scopes = $3, given_at = checkin_now(), withdrawn_at = NULL
        RETURNING notice_version, scopes, given_at, withdrawn_at
        """,
        person_id,
        notice_version,
        list(scopes),
    )
    return Consent(**row)


async def withdraw_consent(connection: Connection, person_id: str) -> bool:
    """False when there was no live consent to withdraw."""
    return (
        await connection.fetchval(
            """
        UPDATE consent SET withdrawn_at = checkin_now()
        WHERE person_id = $1 AND withdrawn_at IS NULL RETURNING true
        """,
            person_id,
        )
        or False
    )


async def record_processing(
    connection: Connection,
    pseudonym: bytes,
    kind: str,
    details: dict[str, Any],
    photos_digest: bytes | None = None,
) -> None:
    """`photos_digest`: of an enrolment, see `Enrolment.digest`."""
    await connection.execute(
        "INSERT INTO processing_record (pseudonym, kind, details, photos_digest) VALUES ($1, $2, $3, $4)",
        pseudonym,
        kind,
        details,
        photos_digest,
    )


async def read_history(
    connection: Connection, person_id: str, pseudonym: bytes, photos_digest: bytes
) -> EnrolmentHistory:
    """What an enrolment of these photographs would come after."""
    row = await connection.fetchrow(
        """
        SELECT coalesce((SELECT kind IN ('consent_withdrawn', 'erased')
                                OR kind = 'consent_given' AND NOT details->'scopes' ? 'face'
                         FROM processing_record WHERE pseudonym = $2 ORDER BY record_id DESC LIMIT 1), false)
                   AS taken_back,
               EXISTS (SELECT FROM processing_record WHERE pseudonym = $2 AND photos_digest = $3) AS known,
               coalesce((SELECT photos_digest FROM processing_record WHERE pseudonym = $2 AND kind = 'enrolled'
                         ORDER BY record_id DESC LIMIT 1) = $3, false) AS newest,
               (SELECT r.engine FROM person p JOIN reference r USING (reference_id) WHERE p.person_id = $1)
                   AS engine
        """,
        person_id,
        pseudonym,
        photos_digest,
    )
    return EnrolmentHistory(**row)


async def my_tasks(connection: Connection, person_id: str) -> list[MyTask]:
    """The person's tasks that are not voided and closed less than 90 days ago, the most urgent first."""
    rows = await connection.fetch(
        """
        SELECT m.task_id, m.person_id, t.enterprise_name,
               (SELECT count(*) FROM attempt a
                WHERE a.task_id = m.task_id AND a.person_id = m.person_id AND a.counted
                  AND a.shanghai_day = (checkin_now() AT TIME ZONE 'Asia/Shanghai')::date) AS counted_today
        FROM member m JOIN task t USING (task_id)
        WHERE m.person_id = $1 AND t.voided_at IS NULL AND t.closes_at > checkin_now() - interval '90 days'
        ORDER BY t.closes_at, t.task_id
        """,
        person_id,
    )
    return [MyTask(**row) for row in rows]


async def read_roster(
    connection: Connection, task_id: str, person_id: str | None, model_id: str
) -> tuple[list[RosterMember], Counter[str]]:
    """Every member of the task but this one (all of them with None) who can be compared with by the model, and how many
    can't for want of `consent` to `face` or of a `template`. Without its owner's consent nothing sealed leaves the
    database."""
    rows = await connection.fetch(
        """
        SELECT m.person_id, p.key_id, c.person_id IS NOT NULL AS consented,
               ARRAY(SELECT t.sealed FROM template t WHERE t.reference_id = p.reference_id AND t.model_id = $3
                                                       AND c.person_id IS NOT NULL) AS sealed
        FROM member m JOIN person p USING (person_id)
        LEFT JOIN consent c ON c.person_id = m.person_id AND c.withdrawn_at IS NULL AND 'face' = ANY(c.scopes)
        WHERE m.task_id = $1 AND m.person_id IS DISTINCT FROM $2
        """,
        task_id,
        person_id,
        model_id,
    )
    members = [RosterMember(row["person_id"], row["key_id"], row["sealed"]) for row in rows if row["sealed"]]
    lacking = ["template" if row["consented"] else "consent" for row in rows if not row["sealed"]]
    return members, Counter(lacking)


async def read_sealed(
    connection: Connection, person_ids: Collection[str], models: Collection[str]
) -> dict[str, tuple[UUID, list[SealedTemplate]]]:
    """Data key's id and templates by these models of each of these persons who has any, and consents to `face`."""
    rows = await connection.fetch(
        """
        SELECT p.person_id, p.key_id, t.photo, t.model_id, t.sealed
        FROM person p JOIN template t USING (reference_id)
        JOIN consent c ON c.person_id = p.person_id AND c.withdrawn_at IS NULL AND 'face' = ANY(c.scopes)
        WHERE p.person_id = ANY($1::text[]) AND t.model_id = ANY($2::text[])
        """,
        list(person_ids),
        list(models),
    )
    found: dict[str, tuple[UUID, list[SealedTemplate]]] = {}
    for row in rows:
        _, sealed = found.setdefault(row["person_id"], (row["key_id"], []))
        sealed.append(SealedTemplate(row["photo"], row["model_id"], row["sealed"]))
    return found


async def count_all(connection: Connection) -> tuple[int, int]:
    """How many references and how many persons there are."""
    row = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM reference) AS stored, (SELECT count(*) FROM person) AS persons"
    )
    return row["stored"], row["persons"]


async def next_references(connection: Connection, after: UUID, limit: int) -> list[UUID]:
    rows = await connection.fetch(
        "SELECT reference_id FROM reference WHERE reference_id > $1 ORDER BY reference_id LIMIT $2",
        after,
        limit,
    )
    return [row["reference_id"] for row in rows]


async def count_models(connection: Connection, reference_ids: Collection[UUID]) -> dict[str, int]:
    """How many of these references have a template, by model."""
    rows = await connection.fetch(
        """
        SELECT model_id, count(DISTINCT reference_id) AS number FROM template
        WHERE reference_id = ANY($1::uuid[]) GROUP BY model_id
        """,
        reference_ids,
    )
    return {row["model_id"]: row["number"] for row in rows}


async def next_persons(connection: Connection, after: str, limit: int) -> list[str]:
    rows = await connection.fetch(
        "SELECT person_id FROM person WHERE person_id > $1 ORDER BY person_id LIMIT $2", after, limit
    )
    return [row["person_id"] for row in rows]


async def count_on_live_tasks(
    connection: Connection, person_ids: Collection[str], model_id: str
) -> tuple[int, int]:
    """How many of these persons are on tasks that are not over, and how many of those have no template of the model."""
    row = await connection.fetchrow(
        """
        SELECT count(*) AS live,
               count(*) FILTER (WHERE NOT EXISTS (
                   SELECT FROM template t WHERE t.reference_id = p.reference_id AND t.model_id = $2)) AS lacking
        FROM person p WHERE p.person_id = ANY($1::text[]) AND EXISTS (
            SELECT FROM member m JOIN task t USING (task_id)
            WHERE m.person_id = p.person_id AND t.voided_at IS NULL AND t.closes_at > checkin_now())
        """,
        person_ids,
        model_id,
    )
    return row["live"], row["lacking"]
