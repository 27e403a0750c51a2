"""A database after half a year: rows made up by PostgreSQL itself, millions if asked, for measurements and plans.

Every constraint holds of them, for each is made anew once they are there. They are sealed under nobody's key, and not
chained in the audit, whose hashes are of the right length alone.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from checkin_service.adapters.postgres.database import open_database
from checkin_service.usecases.import_calendar import seed_calendar
from tests.large_case import analyse

MEMBERS, ATTEMPTS = 20, 5
"""Of each task, and of each of its members: four refused and one accepted, held, or refused as well."""

# Windows of 214 days: those that closed first were over 184 days and a night ago, so that a purge has a night's work to
# do; what is kept for 90 days is there of those that closed later.
_TASKS = """
    CREATE TEMP TABLE made_task AS
    SELECT n, 'many-' || n AS task_id, closes_at - interval '30 days' AS opens_at, closes_at,
           closes_at > now() - interval '91 days' AS recent, closes_at <= now() AS over
    FROM (SELECT n, date_trunc('second', now()) - interval '185 days'
                    + n * interval '214 days' / $1::integer AS closes_at
          FROM generate_series(0, $1 - 1) AS n) t
"""

# Eighteen of twenty come again in a later task, two never do.
_MEMBERS = f"""
    CREATE TEMP TABLE made_member AS
    SELECT t.*, position,
           CASE WHEN position < 18 THEN 'many-person-' || (n * 18 + position) % greatest($1::integer * 18 / 5, 18)
                ELSE 'many-once-' || n || '-' || position END AS person_id
    FROM made_task t, generate_series(0, {MEMBERS - 1}) AS position
"""

# Ids as the service makes them: see `insert_receipt` and `open_challenge`.
_ATTEMPTS = f"""
    CREATE TEMP TABLE made AS
    SELECT row_number() OVER (ORDER BY received_at) AS k, gen_random_uuid() AS check_in_id,
           gen_random_uuid() AS challenge_id, a.*
    FROM (SELECT m.*, j,
                 opens_at + (least(closes_at, now()) - opens_at) * (j + position / 20.0) / {ATTEMPTS} AS received_at,
                 CASE WHEN j < {ATTEMPTS - 1} OR position = 19 THEN 'rejected'
                      WHEN position = 17 THEN 'review' ELSE 'accepted' END AS outcome
          FROM made_member m, generate_series(0, {ATTEMPTS - 1}) AS j) a
"""

_PERSONS = """
    CREATE TEMP TABLE made_person AS
    SELECT person_id, max(closes_at) AS last_closes_at, md5(person_id)::uuid AS reference_id,
           max(closes_at) > now() - interval '91 days' AS enrolled
    FROM made_member GROUP BY person_id
"""

_ANSWER = """
    json_build_object(
        'check_in_id', check_in_id, 'task_id', task_id, 'outcome', outcome,
        'reasons', CASE outcome WHEN 'rejected' THEN json_build_array(json_build_object(
            'code', 'outside_geofence', 'text', '您不在登记地址附近，请到登记地址再试。', 'distance_m', 412,
            'registered_address', '深圳市福田区深南大道1号')) ELSE '[]' END,
        'received_at', received_at, 'location', json_build_object('zone', 'inside', 'distance_m', -20.5,
            'accuracy_m', 15, 'registered_address', '深圳市福田区深南大道1号'), 'task', NULL, 'attempts_left', 4,
        'receipt', CASE outcome WHEN 'accepted' THEN repeat(md5(check_in_id::text), 14) END)
"""
_FACTS = """
    json_build_object('task_id', task_id, 'rev', j, 'flow', 'routine', 'voided', false, 'closed_at', NULL,
        'closes_at', closes_at, 'provisional', false, 'total', 20, 'accepted', j, 'in_review', 0, 'revoked', 0,
        'lacking_material', 0, 'suspended', false, 'unjudged', 0, 'read_at', received_at)
"""
_SEALED = "decode(repeat(md5({0}::text), {1}), 'hex')"

# In an order in which each finds what it is made from.
_ROWS: Sequence[str] = (
    """
    INSERT INTO task (task_id, case_id, round, flow, uscc, enterprise_name, registration_digest, registered_at,
                      opens_at, closes_at, window_basis, start_day, nominal_day, last_day, rolled_over, provisional,
                      calendar_version, announced_end, rev)
    SELECT task_id, 'case-' || task_id, 1, 'routine', 'USCC-' || n % 12000, '深圳某建筑工程有限公司' || n % 12000,
           sha256(task_id::bytea), opens_at, opens_at, closes_at, 'order', opens_at::date, closes_at::date,
           closes_at::date, '{}', false, (SELECT calendar_version FROM calendar_version ORDER BY number DESC LIMIT 1),
           CASE WHEN over THEN 'expired' END, 20
    FROM made_task
    """,
    """
    INSERT INTO fence_version (task_id, version, effective_at, registered_address, frame, fence, buffer_m)
    SELECT task_id, 1, opens_at, '深圳市福田区深南大道1号', 'wgs84',
           '{"type": "Point", "coordinates": [114.06, 22.544], "radius_m": 300}', 50 FROM made_task
    """,
    """
    INSERT INTO person (person_id, reference_id)
    SELECT person_id, CASE WHEN enrolled THEN reference_id END FROM made_person
    """,
    """
    INSERT INTO reference (reference_id, person_id, engine, photos, basis_kind, created_at)
    SELECT reference_id, person_id, 'sface', 1, 'statutory_duty', last_closes_at - interval '31 days'
    FROM made_person WHERE enrolled
    """,
    f"""
    INSERT INTO template (reference_id, photo, model_id, sealed)
    SELECT reference_id, 0, model_id, {_SEALED.format("reference_id", 34)}
    FROM made_person, unnest(ARRAY[$1, $2]) AS model_id WHERE enrolled
    """,
    """
    INSERT INTO member (task_id, person_id, position, name, categories, technical_lead)
    SELECT task_id, person_id, position, '张*', '{registered}', position = 0 FROM made_member
    """,
    """
    INSERT INTO consent (person_id, notice_version, scopes, given_at)
    SELECT person_id, '2026-11', '{face,face_transfer,location}', last_closes_at - interval '31 days' FROM made_person
    """,
    """
    INSERT INTO processing_record (pseudonym, at, kind, details)
    SELECT sha256(person_id::bytea), last_closes_at - interval '31 days', kind, '{"notice_version": "2026-11"}'
    FROM made_person, unnest(ARRAY['enrolled', 'consent_given']) AS kind
    """,
    """
    INSERT INTO challenge (challenge_id, task_id, person_id, expires_at)
    SELECT challenge_id, task_id, person_id, received_at + interval '2 minutes' FROM made
    WHERE received_at > now() - interval '1 day'
    """,
    f"""
    INSERT INTO receipt (check_in_id, iss, person_id, idempotency_key, body_digest, challenge_id, task_id, received_at,
                         answer, facts)
    SELECT check_in_id, 'https://issuer.example', person_id, md5(k::text), sha256(k::text::bytea), challenge_id,
           task_id, received_at, {_ANSWER}, {_FACTS} FROM made
    """,
    """
    INSERT INTO attempt (check_in_id, task_id, person_id, received_at, judged_at, shanghai_day, outcome, reasons,
                         counted, fence_version, zone, distance_m, r95_m, model_id, score, threshold, operating_point,
                         photo_sha256, device)
    SELECT check_in_id, task_id, person_id, received_at, received_at + interval '100 ms',
           (received_at AT TIME ZONE 'Asia/Shanghai')::date, outcome,
           CASE outcome WHEN 'rejected' THEN ARRAY['outside_geofence'] ELSE '{}' END, outcome = 'rejected', 1,
           CASE outcome WHEN 'rejected' THEN 'outside' ELSE 'inside' END,
           CASE outcome WHEN 'rejected' THEN 412.5 ELSE -20.5 END, 25.5, $1, 0.6, 0.41, 'fmr_1e-4',
           sha256(k::text::bytea), jsonb_build_object('platform', 'android', 'model', 'Mate ' || k % 60,
               'device_id', md5(person_id), 'reduced_accuracy', false)
    FROM made
    """,
    f"""
    INSERT INTO kept_photograph (check_in_id, task_id, person_id, received_at, outcome, model_id, sealed)
    SELECT check_in_id, task_id, person_id, received_at, outcome, model_id, {_SEALED.format("check_in_id", 34)}
    FROM made, unnest(ARRAY[$1, $2]) AS model_id WHERE outcome <> 'rejected' AND recent
    """,
    f"""
    INSERT INTO evidence (check_in_id, address, wrapped_key, stored_at)
    SELECT check_in_id, encode(sha256(check_in_id::text::bytea), 'hex'), {_SEALED.format("k", 4)}, received_at
    FROM made WHERE outcome <> 'rejected' AND recent
    """,
    """
    INSERT INTO review (review_id, kind, task_id, person_id, received_at, state, decided_at)
    SELECT check_in_id, 'check_in', task_id, person_id, received_at, CASE WHEN over THEN 'accepted' ELSE 'pending' END,
           CASE WHEN over THEN received_at + interval '1 minute' END
    FROM made WHERE outcome = 'review'
    """,
    """
    INSERT INTO review_decision (review_id, iss, actor, decision, note, decided_at)
    SELECT check_in_id, 'https://issuer.example', 'officer-' || k % 50, 'accept', 'the face is the same',
           received_at + interval '1 minute'
    FROM made WHERE outcome = 'review' AND over
    """,
    """
    INSERT INTO acceptance (check_in_id, task_id, person_id, accepted_at, method, outcome, review_state, decided_at,
                            opens_at, closes_at)
    SELECT check_in_id, task_id, person_id, received_at, 'face', outcome,
           CASE outcome WHEN 'review' THEN 'accepted' END,
           CASE outcome WHEN 'review' THEN received_at + interval '1 minute' END, opens_at, closes_at
    FROM made WHERE outcome = 'accepted' OR outcome = 'review' AND over
    """,
    """
    INSERT INTO sent_fix (fix_digest, person_id, last_sent_at)
    SELECT sha256(k::text::bytea), person_id, received_at FROM made WHERE received_at > now() - interval '90 days'
    """,
    """
    INSERT INTO last_position (person_id, lon, lat, received_at)
    SELECT DISTINCT ON (person_id) person_id, 114.06, 22.544, received_at FROM made
    WHERE received_at > now() - interval '1 day' ORDER BY person_id, received_at DESC
    """,
    """
    INSERT INTO change (seq, task_id, rev, type, at)
    SELECT nextval('change_seq'), task_id, row_number() OVER (PARTITION BY task_id ORDER BY at), type, at
    FROM (SELECT task_id, 'task_registered' AS type, opens_at AS at FROM made_task
          UNION ALL SELECT task_id, 'member_accepted', received_at FROM made WHERE outcome <> 'rejected') c ORDER BY at
    """,
    """
    INSERT INTO audit (seq, at, iss, actor, action, task_id, details, salt, details_digest, prev, hash)
    SELECT k, received_at, 'checkin_service', 'system', 'judge', task_id, json_build_object('check_in_id', check_in_id,
               'person_id', person_id, 'received_at', received_at, 'outcome', outcome, 'reasons',
               CASE outcome WHEN 'rejected' THEN ARRAY['outside_geofence'] ELSE '{}' END),
           uuid_send(check_in_id), sha256(k::text::bytea), sha256((k - 1)::text::bytea), sha256(k::text::bytea)
    FROM made
    """,
)

MADE = (
    "task", "fence_version", "person", "reference", "template", "member", "consent", "processing_record", "challenge",
    "receipt", "attempt", "kept_photograph", "evidence", "review", "review_decision", "acceptance", "sent_fix",
    "last_position", "change", "audit",
)  # fmt: skip


async def fill(url: str, tasks: int, models: Sequence[str]) -> None:
    """So many tasks with all that belongs to them, in a migrated database that has none. `models`: whose templates a
    reference has, the deciding one first."""
    async with open_database(url, 1) as database:
        await seed_calendar(database)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET maintenance_work_mem = '1GB'; SET work_mem = '512MB'; SET jit = off")
        # the attempts are read in the order in which they were made
        await connection.execute("SET synchronize_seqscans = off")
        async with connection.transaction():
            # of a table that this transaction has emptied nothing goes through the log, where the server allows it
            await connection.execute(f"TRUNCATE {', '.join(MADE)} CASCADE")
            async with _without_constraints(connection):
                for statement in (_TASKS, _MEMBERS, _ATTEMPTS, _PERSONS, *_ROWS):
                    wanted = (tasks,) if statement in (_TASKS, _MEMBERS) else models[: statement.count("$")]
                    await connection.execute(statement, *wanted)
        await analyse(connection, "VACUUM ANALYZE")
    finally:
        await connection.close()


@asynccontextmanager
async def _without_constraints(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Makes indexes, keys and foreign keys after the block, which proves each on all rows at once."""
    constraints = await connection.fetch(
        """
        SELECT conrelid::regclass::text AS name, quote_ident(conname) AS constraint,
               pg_get_constraintdef(oid) AS definition
        FROM pg_constraint
        WHERE conrelid = ANY($1::regclass[]) AND contype IN ('p', 'u', 'f') OR confrelid = ANY($1::regclass[])
        ORDER BY contype = 'f', conname
        """,
        list(MADE),
    )
    indexes = await connection.fetch(
        """
        SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index
        WHERE indrelid = ANY($1::regclass[]) AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
        """,
        list(MADE),
    )
    for row in reversed(constraints):
        await connection.execute(f"ALTER TABLE {row['name']} DROP CONSTRAINT {row['constraint']}")
    for row in indexes:
        await connection.execute(f"DROP INDEX {row['name']}")
    yield
    for row in indexes:
        await connection.execute(row["definition"])
    for row in constraints:
        await connection.execute(
            f"ALTER TABLE {row['name']} ADD CONSTRAINT {row['constraint']} {row['definition']}"
        )
