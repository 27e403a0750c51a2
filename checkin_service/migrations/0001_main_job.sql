-- The main job: tasks, persons, consents, challenges, receipts, attempts, acceptances, the change feed.
-- Facts are stored, states never: a task's state is computed from these rows at every read.

-- The only clock that judges. Tests replace it to stand at an exact instant.
CREATE FUNCTION checkin_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

-- Which life of the data this is. A recovery to a point in time begins a timeline of its own, as does a standby that
-- takes over, and a dump is loaded into another cluster.
CREATE FUNCTION database_life() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT system_identifier || '.' || left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system()
$$;

-- Another one after every restore, so that a poller's cursor from before it is refused instead of skipping changes.
CREATE TABLE feed_epoch (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch    text NOT NULL DEFAULT replace(gen_random_uuid()::text, '-', ''),
    -- the one that `epoch` belongs to
    life     text NOT NULL DEFAULT database_life(),
    restores integer NOT NULL DEFAULT 0
);

-- The epoch, also of a life that has just begun and that nobody has settled yet.
CREATE FUNCTION present_epoch() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE life WHEN now THEN epoch ELSE md5(epoch || now) END FROM feed_epoch, database_life() AS now
$$;

-- What tells revisions of a restored database from those that were lost, under the same numbers; empty before the first
-- restore.
CREATE FUNCTION restored_mark() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN life = database_life() AND restores = 0 THEN '' ELSE left(present_epoch(), 8) END FROM feed_epoch
$$;
INSERT INTO feed_epoch DEFAULT VALUES;

-- Which installation this is, from its first start on. Its key store says the same of itself.
CREATE TABLE installation (
    only_row        boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    installation_id uuid NOT NULL
);

-- Which keys sign receipts here: every replica must publish them all, or nobody can verify another one's.
CREATE TABLE receipt_key (
    receipt_key_id text PRIMARY KEY,
    first_seen_at  timestamptz NOT NULL DEFAULT checkin_now()
);

-- The rest days that windows are computed by. Each import is a version; a year is what its newest version says.
CREATE TABLE calendar_version (
    number           integer PRIMARY KEY CHECK (number >= 1),
    calendar_version text NOT NULL UNIQUE CHECK (calendar_version ~ '^cn-[0-9]{4}\.[0-9]+$'),
    -- the days of which it tells something else than the version before
    changed_from     date NOT NULL,
    changed_to       date NOT NULL,
    source           text NOT NULL,
    imported_at      timestamptz NOT NULL DEFAULT checkin_now(),
    actor            text NOT NULL,
    CHECK (changed_from <= changed_to)
);

-- What moves beside the weekends: days off, and weekend days that are worked.
CREATE TABLE calendar_year (
    calendar_version text NOT NULL REFERENCES calendar_version (calendar_version),
    year             integer NOT NULL,
    days_off         date[] NOT NULL,
    workdays         date[] NOT NULL,
    PRIMARY KEY (year, calendar_version),
    CHECK (NOT days_off && workdays)
);

CREATE TABLE task (
    task_id             text PRIMARY KEY CHECK (task_id ~ '^[A-Za-z0-9._-]{1,64}$'),
    case_id             text NOT NULL,
    round               integer NOT NULL CHECK (round >= 1),
    flow                text NOT NULL CHECK (flow IN ('first_application', 'routine', 'rectification')),
    rectifies           text REFERENCES task,
    uscc                text NOT NULL,
    enterprise_name     text NOT NULL,
    requirement         jsonb,
    registration_digest bytea NOT NULL,
    registered_at       timestamptz NOT NULL DEFAULT checkin_now(),
    opens_at            timestamptz NOT NULL,
    closes_at           timestamptz NOT NULL,
    window_basis        text NOT NULL CHECK (window_basis IN ('one_month', 'order')),
    start_day           date NOT NULL,
    nominal_day         date NOT NULL,
    last_day            date NOT NULL,
    rolled_over         date[] NOT NULL,
    provisional         boolean NOT NULL,
    calendar_version    text NOT NULL REFERENCES calendar_version (calendar_version),
    voided_at           timestamptz,
    superseded_by       text,
    -- from then on no command changes the task any more
    closed_at           timestamptz,
    -- how the passing of closes_at was written down; null and 'pending_review' are looked at again
    announced_end       text CHECK (announced_end IN ('completed', 'expired', 'pending_review')),
    rev                 integer NOT NULL DEFAULT 0,
    CHECK (opens_at < closes_at),
    CHECK ((flow = 'rectification') = (rectifies IS NOT NULL)),
    -- lets an acceptance carry the window it fell into, see below
    UNIQUE (task_id, opens_at, closes_at)
);
CREATE UNIQUE INDEX task_round_once ON task (case_id, round) WHERE voided_at IS NULL;
CREATE INDEX task_case ON task (case_id, round);
CREATE INDEX task_enterprise ON task (uscc, registered_at);
CREATE INDEX task_deadline ON task (closes_at, task_id);
CREATE INDEX task_closing ON task (closes_at, task_id)
    WHERE voided_at IS NULL AND (announced_end IS NULL OR announced_end = 'pending_review');

-- windows that a newer calendar may move
CREATE INDEX task_calendar ON task (calendar_version, last_day)
    WHERE voided_at IS NULL AND closed_at IS NULL AND (window_basis = 'one_month' OR provisional);
CREATE INDEX task_provisional ON task (task_id) WHERE provisional AND voided_at IS NULL AND closed_at IS NULL;

-- When a task is suspended: from suspended_at until before resumed_at; null while it is. A submission is judged by what
-- held at its received_at, so past suspensions stay.
CREATE TABLE suspension (
    suspension_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task_id       text NOT NULL REFERENCES task,
    suspended_at  timestamptz NOT NULL,
    resumed_at    timestamptz,
    CHECK (suspended_at <= resumed_at)
);
CREATE INDEX suspension_task ON suspension (task_id);
CREATE UNIQUE INDEX suspended_once ON suspension (task_id) WHERE resumed_at IS NULL;

CREATE TABLE fence_version (
    task_id            text NOT NULL REFERENCES task,
    version            integer NOT NULL CHECK (version >= 1),
    effective_at       timestamptz NOT NULL,
    registered_address text NOT NULL,
    frame              text NOT NULL CHECK (frame IN ('wgs84', 'gcj02', 'bd09', 'cgcs2000')),
    fence              jsonb NOT NULL,
    buffer_m           double precision NOT NULL CHECK (buffer_m BETWEEN 0 AND 500),
    PRIMARY KEY (task_id, version),
    UNIQUE (task_id, effective_at)
);

CREATE TABLE person (
    person_id       text PRIMARY KEY,
    created_at      timestamptz NOT NULL DEFAULT checkin_now(),
    -- the number of the person's own data key in the key store; another one each time that key is deleted. Without the
    -- key no template of theirs can be read
    key_id          uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    -- the one that can be compared with; null also when the engine knows no model of what is stored
    reference_id    uuid
);

CREATE TABLE reference (
    reference_id   uuid PRIMARY KEY,
    person_id      text NOT NULL REFERENCES person,
    engine         text NOT NULL,
    photos         integer NOT NULL CHECK (photos BETWEEN 1 AND 5),
    -- the engine's measures of each photograph, for whoever doubts a comparison with it
    quality        jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(quality) = 'array'),
    basis_kind     text NOT NULL CHECK (basis_kind IN ('separate_consent', 'statutory_duty')),
    basis_document text,
    created_at     timestamptz NOT NULL DEFAULT checkin_now(),
    UNIQUE (person_id, reference_id)
);
ALTER TABLE person ADD FOREIGN KEY (person_id, reference_id) REFERENCES reference (person_id, reference_id);

CREATE TABLE template (
    reference_id uuid NOT NULL REFERENCES reference ON DELETE CASCADE,
    photo        smallint NOT NULL,
    model_id     text NOT NULL,
    sealed       bytea NOT NULL,
    -- the accepted check-in whose selfie gave what the enrolment had no model for; null for the enrolment's own
    completed_by uuid,
    PRIMARY KEY (reference_id, photo, model_id)
);

CREATE TABLE member (
    task_id        text NOT NULL REFERENCES task,
    person_id      text NOT NULL REFERENCES person,
    position       integer NOT NULL,
    name           text NOT NULL,
    categories     text[] NOT NULL CHECK (categories <@ ARRAY['registered', 'titled'] AND categories <> '{}'),
    technical_lead boolean NOT NULL,
    PRIMARY KEY (task_id, person_id)
);
CREATE INDEX member_person ON member (person_id);

CREATE TABLE consent (
    person_id      text PRIMARY KEY REFERENCES person,
    notice_version text NOT NULL,
    scopes         text[] NOT NULL CHECK (scopes <@ ARRAY['face', 'face_transfer', 'location'] AND scopes <> '{}'),
    given_at       timestamptz NOT NULL,
    withdrawn_at   timestamptz
);
CREATE INDEX consent_withdrawn ON consent (withdrawn_at) WHERE withdrawn_at IS NOT NULL;

-- That a person was enrolled, consented, withdrew or was erased, and when: kept three years under a pseudonym.
CREATE TABLE processing_record (
    record_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pseudonym bytea NOT NULL,
    at        timestamptz NOT NULL DEFAULT checkin_now(),
    kind      text NOT NULL CHECK (kind IN ('enrolled', 'consent_given', 'consent_withdrawn', 'erased')),
    details   jsonb NOT NULL,
    -- of an enrolment: what tells its photographs again, and only to whoever has the pseudonyms' key
    photos_digest bytea CHECK (photos_digest IS NULL OR kind = 'enrolled')
);
CREATE INDEX processing_record_age ON processing_record (at);
CREATE INDEX processing_record_pseudonym ON processing_record (pseudonym);

CREATE TABLE challenge (
    challenge_id uuid PRIMARY KEY,
    task_id      text NOT NULL,
    person_id    text NOT NULL,
    expires_at   timestamptz NOT NULL,
    actions      text[] NOT NULL DEFAULT '{}',
    -- what another provider of liveness has to be told for its result, sealed; gone with the verdict
    session      bytea,
    FOREIGN KEY (task_id, person_id) REFERENCES member
);

-- What a frame sent ahead of its check-in shows: landmarks and templates, sealed. The picture is not kept.
CREATE TABLE burst_frame (
    challenge_id uuid NOT NULL REFERENCES challenge ON DELETE CASCADE,
    photo        smallint NOT NULL CHECK (photo BETWEEN 0 AND 7),
    model_id     text NOT NULL,
    sealed       bytea NOT NULL,
    PRIMARY KEY (challenge_id, photo, model_id)
);

CREATE INDEX challenge_expiry ON challenge (expires_at);
CREATE INDEX challenge_person ON challenge (person_id);

-- A submission arrived whole at received_at. Its key and its challenge are used up by this row and by nothing else.
CREATE TABLE receipt (
    check_in_id     uuid PRIMARY KEY,
    iss             text NOT NULL,
    person_id       text NOT NULL,
    idempotency_key text NOT NULL,
    body_digest     bytea NOT NULL,
    challenge_id    uuid NOT NULL UNIQUE,
    task_id         text NOT NULL,
    received_at     timestamptz NOT NULL,
    -- somebody is judging until then; afterwards a retry takes over
    leased_until    timestamptz,
    -- taken near the deadline and to be judged later, by the service itself: never given up for our failures
    deferred        boolean NOT NULL DEFAULT false,
    -- ended without a verdict: 'unreadable' picture, 'abandoned' ten minutes after closing, or the consent that a
    -- deferred one needed 'withdrawn'
    ended           text CHECK (ended IN ('unreadable', 'abandoned', 'withdrawn')),
    -- json, not jsonb: it is given again as it was; `facts` are the task's at that moment, which it tells the state of
    answer          json,
    facts           json,
    CONSTRAINT receipt_key_once UNIQUE (iss, person_id, idempotency_key),
    UNIQUE (check_in_id, task_id, person_id, received_at),
    FOREIGN KEY (task_id, person_id) REFERENCES member
);
CREATE INDEX receipt_unjudged ON receipt (task_id, received_at) WHERE answer IS NULL AND ended IS NULL;
CREATE INDEX receipt_person ON receipt (person_id);

-- What a deferred submission holds, sealed under its person's data key, until it is judged or ended.
CREATE TABLE deferred_submission (
    check_in_id uuid PRIMARY KEY REFERENCES receipt ON DELETE CASCADE,
    received_at timestamptz NOT NULL,
    sealed      bytea NOT NULL
);
CREATE INDEX deferred_order ON deferred_submission (received_at);
-- ciphertext can't be compressed
ALTER TABLE deferred_submission ALTER sealed SET STORAGE EXTERNAL;

-- Every judged submission, with all its reasons and the figures they rest on.
CREATE TABLE attempt (
    check_in_id    uuid PRIMARY KEY,
    task_id        text NOT NULL,
    person_id      text NOT NULL,
    received_at    timestamptz NOT NULL,
    judged_at      timestamptz NOT NULL DEFAULT checkin_now(),
    shanghai_day   date NOT NULL,
    outcome        text NOT NULL CHECK (outcome IN ('accepted', 'rejected', 'review')),
    reasons        text[] NOT NULL,
    counted        boolean NOT NULL,
    fence_version  integer,
    zone           text,
    distance_m     double precision,
    r95_m          double precision,
    model_id       text,
    score          double precision,
    threshold      double precision,
    operating_point text,
    live           double precision,
    liveness       text,
    copy_distance  double precision,
    copy_bits      integer,
    rival_score    double precision,
    photo_sha256   bytea,
    device         jsonb,
    -- what makes it worth a second look, in codes and figures; it never changes the outcome
    signals        jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(signals) = 'array'),
    erased_at      timestamptz,
    FOREIGN KEY (check_in_id, task_id, person_id, received_at)
        REFERENCES receipt (check_in_id, task_id, person_id, received_at),
    UNIQUE (check_in_id, task_id, person_id, received_at, outcome),
    -- A bug in Python cannot accept a face below the threshold or a place outside the fence.
    -- (PostgreSQL holds NaN to be greater than every number.)
    CONSTRAINT accepted_is_proven CHECK (
        outcome <> 'accepted' OR erased_at IS NOT NULL
        OR (reasons = '{}' AND distance_m IS NOT NULL AND distance_m <= 0 AND coalesce(liveness, 'passed') = 'passed'
            AND score IS NOT NULL AND threshold IS NOT NULL AND score >= threshold AND score <> 'NaN')),
    -- nor hold for people to accept what is not the person's face
    CONSTRAINT held_is_a_match CHECK (
        outcome <> 'review' OR erased_at IS NOT NULL
        OR (score IS NOT NULL AND threshold IS NOT NULL AND score >= threshold AND score <> 'NaN'))
);
CREATE INDEX attempt_of_day ON attempt (task_id, person_id, shanghai_day) INCLUDE (counted);
CREATE INDEX attempt_uncertain ON attempt (task_id, person_id, received_at) WHERE zone = 'possible';
CREATE INDEX attempt_person ON attempt (person_id);
CREATE INDEX attempt_day ON attempt (shanghai_day);
CREATE INDEX attempt_device ON attempt ((device->>'device_id'), received_at) INCLUDE (person_id)
    WHERE device->>'device_id' IS NOT NULL;
CREATE UNIQUE INDEX too_many_attempts_once_a_day ON attempt (task_id, person_id, shanghai_day)
    WHERE reasons = ARRAY['too_many_attempts'];

-- Where a person was located last, in WGS-84 degrees. Kept for a day: after that no journey is impossible.
CREATE TABLE last_position (
    person_id   text PRIMARY KEY REFERENCES person,
    lon         double precision NOT NULL,
    lat         double precision NOT NULL,
    received_at timestamptz NOT NULL
);
CREATE INDEX last_position_age ON last_position (received_at);

-- That a person sent exactly these coordinates, as a keyed digest. Raw fixes are not stored.
CREATE TABLE sent_fix (
    fix_digest   bytea NOT NULL,
    person_id    text NOT NULL REFERENCES person,
    last_sent_at timestamptz NOT NULL,
    PRIMARY KEY (fix_digest, person_id)
);
CREATE INDEX sent_fix_person ON sent_fix (person_id);
CREATE INDEX sent_fix_age ON sent_fix (last_sent_at);

-- What people decide: a doubtful check-in, or a request to be judged without a face. It has the id of what it is about.
CREATE TABLE review (
    review_id   uuid PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('check_in', 'manual')),
    task_id     text NOT NULL,
    person_id   text NOT NULL,
    received_at timestamptz NOT NULL,
    -- 'pending_second': one of the two accepts that a manual request needs; 'moot': the member was accepted otherwise
    state       text NOT NULL DEFAULT 'pending'
                CHECK (state IN ('pending', 'pending_second', 'accepted', 'rejected', 'moot')),
    decided_at  timestamptz,
    outcome     text GENERATED ALWAYS AS (CASE kind WHEN 'check_in' THEN 'review' END) STORED,
    CHECK ((decided_at IS NULL) = (state IN ('pending', 'pending_second'))),
    CHECK (kind = 'manual' OR state <> 'pending_second'),
    UNIQUE (review_id, task_id, person_id, received_at, state),
    FOREIGN KEY (task_id, person_id) REFERENCES member,
    CONSTRAINT reviewed_attempt FOREIGN KEY (review_id, task_id, person_id, received_at, outcome)
        REFERENCES attempt (check_in_id, task_id, person_id, received_at, outcome)
);
CREATE INDEX review_open ON review (received_at, review_id) WHERE state IN ('pending', 'pending_second');
CREATE INDEX review_member ON review (task_id, person_id);
CREATE INDEX review_person ON review (person_id);
CREATE UNIQUE INDEX manual_request_once ON review (task_id, person_id)
    WHERE kind = 'manual' AND state IN ('pending', 'pending_second');

CREATE TABLE manual_request (
    manual_request_id uuid PRIMARY KEY REFERENCES review ON DELETE CASCADE,
    reason            text NOT NULL,
    -- where its fixes were, without them: `LocatedRequest` in adapters/postgres/reviews.py. Null when none was given, or
    -- the person does not consent to the use of their position
    position          jsonb
);

CREATE TABLE review_decision (
    review_id  uuid NOT NULL REFERENCES review ON DELETE CASCADE,
    iss        text NOT NULL,
    actor      text NOT NULL,
    decision   text NOT NULL CHECK (decision IN ('accept', 'reject')),
    note       text NOT NULL,
    decided_at timestamptz NOT NULL,
    -- the second accept of a manual request is another person's
    PRIMARY KEY (review_id, iss, actor)
);

-- A selfie that got a verdict on its face, encrypted in the object store under a key of its own, which is wrapped by
-- the person's data key. Without either nobody can read the object.
CREATE TABLE evidence (
    check_in_id     uuid PRIMARY KEY REFERENCES attempt,
    address         text NOT NULL,
    wrapped_key     bytea NOT NULL,
    stored_at       timestamptz NOT NULL DEFAULT checkin_now(),
    -- where it was taken, in WGS-84 degrees: only for what people are to decide on
    lon             double precision,
    lat             double precision,
    CHECK ((lon IS NULL) = (lat IS NULL))
);
CREATE INDEX evidence_address ON evidence (address);
CREATE INDEX evidence_age ON evidence (stored_at);

-- The completion of one member. At most one that is not revoked, within the window, of an attempt that was accepted at
-- once, or of a review that was accepted.
CREATE TABLE acceptance (
    check_in_id  uuid PRIMARY KEY,
    task_id      text NOT NULL,
    person_id    text NOT NULL,
    accepted_at  timestamptz NOT NULL,
    method       text NOT NULL CHECK (method IN ('face', 'manual')),
    outcome      text CHECK (outcome IN ('accepted', 'review')),
    review_state text CHECK (review_state = 'accepted'),
    -- by whom a review was accepted is in its decisions; null when the service accepted at once
    decided_at   timestamptz,
    opens_at     timestamptz NOT NULL,
    closes_at    timestamptz NOT NULL,
    revoked_at   timestamptz,
    CHECK ((method = 'manual') = (outcome IS NULL)),
    CHECK ((outcome = 'accepted') IS TRUE = (review_state IS NULL)),
    CHECK ((review_state IS NULL) = (decided_at IS NULL)),
    CONSTRAINT accepted_attempt FOREIGN KEY (check_in_id, task_id, person_id, accepted_at, outcome)
        REFERENCES attempt (check_in_id, task_id, person_id, received_at, outcome),
    CONSTRAINT accepted_review FOREIGN KEY (check_in_id, task_id, person_id, accepted_at, review_state)
        REFERENCES review (review_id, task_id, person_id, received_at, state),
    -- the window is the task's own, and moves with it when the authority extends
    CONSTRAINT acceptance_window FOREIGN KEY (task_id, opens_at, closes_at)
        REFERENCES task (task_id, opens_at, closes_at) ON UPDATE CASCADE,
    CONSTRAINT accepted_in_window CHECK (opens_at <= accepted_at AND accepted_at < closes_at)
);
CREATE UNIQUE INDEX accepted_once ON acceptance (task_id, person_id) WHERE revoked_at IS NULL;
CREATE INDEX acceptance_revoked ON acceptance (task_id, person_id) WHERE revoked_at IS NOT NULL;
-- only an accepted face completes a reference
ALTER TABLE template ADD CONSTRAINT completed_by_acceptance FOREIGN KEY (completed_by) REFERENCES acceptance;

-- What tells a selfie again that got a verdict on its face, in vectors sealed like templates; the picture is not kept.
-- It goes with the person's biometrics.
CREATE TABLE kept_photograph (
    check_in_id uuid NOT NULL,
    task_id     text NOT NULL,
    person_id   text NOT NULL,
    received_at timestamptz NOT NULL,
    outcome     text NOT NULL CHECK (outcome IN ('accepted', 'review')),
    model_id    text NOT NULL,
    sealed      bytea NOT NULL,
    PRIMARY KEY (check_in_id, model_id),
    CONSTRAINT kept_of_a_passed_face FOREIGN KEY (check_in_id, task_id, person_id, received_at, outcome)
        REFERENCES attempt (check_in_id, task_id, person_id, received_at, outcome)
);
CREATE INDEX kept_photograph_person ON kept_photograph (person_id);

-- What the platform polls. seq is drawn under an advisory lock held to the commit, so it never shows a gap
-- that fills later; rows of one task carry its rev.
CREATE SEQUENCE change_seq;
CREATE TABLE change (
    seq     bigint PRIMARY KEY,
    task_id text NOT NULL REFERENCES task,
    rev     integer NOT NULL,
    type    text NOT NULL,
    at      timestamptz NOT NULL,
    UNIQUE (task_id, rev)
);

-- rev + 1 and one feed entry for each of these tasks, whose rows the caller has locked. The lock and nextval are
-- two statements on purpose: one statement's snapshot could be older than the lock.
CREATE FUNCTION append_changes(feed_lock bigint, task_ids text[], change_type text, at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(feed_lock);
    WITH bumped AS (
        UPDATE task SET rev = rev + 1 WHERE task_id = ANY(task_ids) RETURNING task_id, rev)
    INSERT INTO change (seq, task_id, rev, type, at)
    SELECT nextval('change_seq'), bumped.task_id, bumped.rev, change_type, append_changes.at FROM bumped;
END
$$;

-- Every command with its actor and reason, every decision, every view of evidence and every other change that somebody
-- answers for: docs/audit.md. Each row's hash covers the row before it, so that none can be changed, taken out or put in
-- between unseen. Details alone may go, with the person of whom they tell: the hash covers no more of them than a salted
-- digest, and the erasure's own row names the rows that it emptied.
CREATE TABLE audit (
    seq            bigint PRIMARY KEY CHECK (seq >= 1),
    at             timestamptz NOT NULL,
    iss            text NOT NULL,
    actor          text NOT NULL,
    action         text NOT NULL,
    task_id        text,
    -- json, not jsonb: the digest is of these very characters
    details        json,
    salt           bytea,
    details_digest bytea NOT NULL,
    prev           bytea NOT NULL,
    hash           bytea NOT NULL,
    CHECK ((details IS NULL) = (salt IS NULL))
);
CREATE INDEX audit_person ON audit ((details->>'person_id')) WHERE details->>'person_id' IS NOT NULL;
CREATE INDEX audit_pseudonym ON audit ((details->>'pseudonym')) WHERE details->>'pseudonym' IS NOT NULL;

-- A field as the hash covers it: its length in bytes, four of them, and its UTF-8; null has the length -1 and nothing more.
CREATE FUNCTION audit_field(value text) RETURNS bytea LANGUAGE sql IMMUTABLE RETURN
    CASE WHEN value IS NULL THEN int4send(-1)
         ELSE int4send(octet_length(convert_to(value, 'UTF8'))) || convert_to(value, 'UTF8') END;

-- The one way into the audit. Like the feed it comes last in a transaction, and under the feed's lock (FEED_LOCK in
-- adapters/postgres/feed.py): with one lock for both, writers need no order between them. The lock and the look at the
-- head are two statements on purpose, see `append_changes`.
CREATE FUNCTION append_audit(iss text, actor text, action text, task_id text, details json) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    head audit;
    added audit;
BEGIN
    PERFORM pg_advisory_xact_lock(x'66656564'::bigint);
    SELECT * INTO head FROM audit ORDER BY seq DESC LIMIT 1;
    added.seq := coalesce(head.seq, 0) + 1;
    added.prev := coalesce(head.hash, decode(repeat('00', 32), 'hex'));
    added.at := checkin_now();
    added.iss := iss;
    added.actor := actor;
    added.action := action;
    added.task_id := task_id;
    added.details := details;
    added.salt := uuid_send(gen_random_uuid());
    added.details_digest := sha256(added.salt || convert_to(details::text, 'UTF8'));
    added.hash := sha256(
        added.prev || audit_field(added.seq::text)
        || audit_field(to_char(added.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
        || audit_field(iss) || audit_field(actor) || audit_field(action) || audit_field(task_id)
        || added.details_digest);
    INSERT INTO audit SELECT added.*;
END
$$;

-- What makes of attempts the bare fact that they were made. `erased_at` is what allows that in an accepted one.
CREATE FUNCTION forget_figures(ids uuid[]) RETURNS void LANGUAGE sql AS $$
    UPDATE attempt SET
        fence_version = NULL, zone = NULL, distance_m = NULL, r95_m = NULL, model_id = NULL, score = NULL,
        threshold = NULL, operating_point = NULL, live = NULL, liveness = NULL, copy_distance = NULL, copy_bits = NULL,
        rival_score = NULL, photo_sha256 = NULL, device = NULL, signals = '[]', erased_at = checkin_now()
    WHERE check_in_id = ANY(ids)
$$;

-- What the service's role may not do by itself to attempts and audit, and an erasure must: take out what they say of a
-- person. Never without its own row in the audit. The caller holds person and tasks, and has deleted what hangs on the
-- attempts.
CREATE FUNCTION erase_judged(erased text, iss text, actor text, pseudonym text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE emptied bigint[];
BEGIN
    DELETE FROM attempt a WHERE a.person_id = erased
        AND NOT EXISTS (SELECT FROM acceptance c WHERE c.check_in_id = a.check_in_id);
    PERFORM forget_figures(ARRAY(
        SELECT a.check_in_id FROM attempt a WHERE a.person_id = erased AND a.erased_at IS NULL));
    PERFORM pg_advisory_xact_lock(x'66656564'::bigint);
    WITH gone AS (
        UPDATE audit SET details = NULL, salt = NULL WHERE details->>'person_id' = erased RETURNING seq)
    SELECT array_agg(seq ORDER BY seq) INTO emptied FROM gone;
    PERFORM append_audit(iss, actor, 'erase', NULL, json_build_object(
        'pseudonym', pseudonym, 'emptied', coalesce(emptied, '{}')));
END
$$;

-- What a purge takes of attempts (of these tasks) and audit, a batch at a time; how many rows. However early `before`
-- lies, none goes before the time that domain/retention.py gives it.
CREATE FUNCTION purge_refused_attempts(before timestamptz, tasks text[], batch integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE removed integer;
BEGIN
    DELETE FROM attempt WHERE check_in_id = ANY(ARRAY(
        SELECT x.check_in_id FROM attempt x
        WHERE x.outcome = 'rejected' AND x.task_id IN (
            SELECT e.task_id FROM task_end e
            WHERE e.task_id = ANY(tasks) AND e.over_at <= least(before, checkin_now() - interval '184 days'))
        LIMIT batch FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END
$$;

CREATE FUNCTION purge_attempt_figures(before timestamptz, tasks text[], batch integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE due uuid[];
BEGIN
    due := ARRAY(
        SELECT x.check_in_id FROM attempt x
        WHERE x.outcome <> 'rejected' AND x.erased_at IS NULL AND x.task_id IN (
            SELECT e.task_id FROM task_end e
            WHERE e.task_id = ANY(tasks) AND e.over_at <= least(before, checkin_now() - interval '184 days'))
        LIMIT batch FOR UPDATE SKIP LOCKED);
    PERFORM forget_figures(due);
    RETURN cardinality(due);
END
$$;

-- The oldest rows alone, up to the first that has to stay, and a row that says which hash the chain goes on from.
CREATE FUNCTION purge_audit(before timestamptz, batch integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    gone bigint[];
    last_gone audit;
BEGIN
    PERFORM pg_advisory_xact_lock(x'66656564'::bigint);
    gone := ARRAY(
        SELECT o.seq
        FROM (SELECT a.seq, every(a.at <= least(before, checkin_now() - interval '1096 days')) OVER (ORDER BY a.seq) AS due
              FROM (SELECT seq, at FROM audit ORDER BY seq LIMIT batch) a) o
        WHERE o.due ORDER BY o.seq);
    IF gone = '{}' THEN
        RETURN 0;
    END IF;
    SELECT * INTO last_gone FROM audit a WHERE a.seq = gone[cardinality(gone)];
    PERFORM append_audit('checkin_service', 'system', 'purge_audit', NULL, json_build_object(
        'seq', last_gone.seq, 'hash', encode(last_gone.hash, 'hex')));
    DELETE FROM audit a WHERE a.seq = ANY(gone);
    RETURN cardinality(gone);
END
$$;

-- Answers of changing calls other than check-ins, whose receipt is their key.
CREATE TABLE idempotency_key (
    iss             text NOT NULL,
    sub             text NOT NULL,
    method          text NOT NULL,
    path            text NOT NULL,
    idempotency_key text NOT NULL,
    body_digest     bytea NOT NULL,
    claimed_at      timestamptz NOT NULL,
    status          integer,
    answer          json,
    PRIMARY KEY (iss, sub, method, path, idempotency_key)
);
CREATE INDEX idempotency_key_age ON idempotency_key (claimed_at);

-- What a purge has removed: bare numbers by kind, kept up with every batch, so that they are true of a purge that was cut
-- off (`finished_at` null) as well. `unfinished`: kinds of which something had to stay, because the store was away.
CREATE TABLE purge_receipt (
    purge_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    policy_version text NOT NULL,
    started_at     timestamptz NOT NULL,
    finished_at    timestamptz,
    counts         jsonb NOT NULL DEFAULT '{}',
    unfinished     text[] NOT NULL DEFAULT '{}'
);

-- A roster member's present state, derived from the rows above.
CREATE VIEW member_status AS
SELECT m.task_id, m.person_id, m.position,
       p.reference_id IS NOT NULL AS has_reference,
       a.check_in_id, a.accepted_at, a.method, a.decided_at,
       CASE
           WHEN a.check_in_id IS NOT NULL THEN 'accepted'
           WHEN EXISTS (SELECT FROM review v
                        WHERE v.task_id = m.task_id AND v.person_id = m.person_id
                          AND v.state IN ('pending', 'pending_second')) THEN 'in_review'
           WHEN EXISTS (SELECT FROM acceptance r
                        WHERE r.task_id = m.task_id AND r.person_id = m.person_id
                          AND r.revoked_at IS NOT NULL) THEN 'revoked'
           ELSE 'not_started'
       END AS state
FROM member m
JOIN person p USING (person_id)
LEFT JOIN acceptance a ON a.task_id = m.task_id AND a.person_id = m.person_id AND a.revoked_at IS NULL;

-- What a task's state is computed from, and the instant at which it was read.
CREATE VIEW task_facts AS
SELECT t.task_id, t.rev, t.flow, t.voided_at IS NOT NULL AS voided, t.closed_at, t.closes_at, t.provisional, s.*,
       EXISTS (SELECT FROM suspension p WHERE p.task_id = t.task_id AND p.resumed_at IS NULL) AS suspended,
       (SELECT count(*) FROM receipt r
        WHERE r.task_id = t.task_id AND r.answer IS NULL AND r.ended IS NULL AND r.received_at < t.closes_at) AS unjudged
FROM task t
CROSS JOIN LATERAL (
    SELECT count(*) AS total,
           count(*) FILTER (WHERE state = 'accepted') AS accepted,
           count(*) FILTER (WHERE state = 'in_review') AS in_review,
           count(*) FILTER (WHERE state = 'revoked') AS revoked,
           count(*) FILTER (WHERE state NOT IN ('accepted', 'in_review') AND NOT has_reference) AS lacking_material
    -- OFFSET 0: each member's state is found once, and not anew for each count
    FROM (SELECT state, has_reference FROM member_status m WHERE m.task_id = t.task_id OFFSET 0) m) s;

-- From when on nobody works on a task any more: what its content is kept for counts from then. Null while that can't be
-- said: it is suspended, its window is provisional, or something of it is still to be judged or decided.
CREATE VIEW task_end AS
SELECT t.task_id,
       least(t.voided_at, t.closed_at, CASE
           WHEN NOT t.provisional
                AND NOT EXISTS (SELECT FROM suspension p WHERE p.task_id = t.task_id AND p.resumed_at IS NULL)
                AND NOT EXISTS (SELECT FROM review v
                                WHERE v.task_id = t.task_id AND v.state IN ('pending', 'pending_second'))
                AND NOT EXISTS (SELECT FROM receipt r
                                WHERE r.task_id = t.task_id AND r.answer IS NULL AND r.ended IS NULL
                                  AND r.received_at < t.closes_at)
           THEN greatest(
               t.closes_at,
               (SELECT max(v.decided_at) FROM review v WHERE v.task_id = t.task_id),
               (SELECT max(a.revoked_at) FROM acceptance a
                WHERE a.task_id = t.task_id AND a.revoked_at IS NOT NULL))
       END) AS over_at
FROM task t;

-- Everything that a submission is judged by, of one snapshot. Lists are in order, for the stamp below must not depend on
-- how the planner has them read.
CREATE VIEW check_in_case AS
SELECT r.check_in_id, r.answer, r.facts, r.received_at, r.ended = 'abandoned' IS TRUE AS abandoned,
       t.voided_at IS NOT NULL AS voided, t.opens_at, t.closes_at, t.provisional,
       EXISTS (SELECT FROM suspension u
               WHERE u.task_id = r.task_id AND u.suspended_at <= r.received_at
                 AND (u.resumed_at IS NULL OR r.received_at < u.resumed_at)) AS suspended,
       (SELECT count(*) FROM attempt x
        WHERE x.task_id = r.task_id AND x.person_id = r.person_id AND x.zone = 'possible'
          AND x.received_at > r.received_at - interval '24 hours'
          AND x.received_at <= r.received_at) AS uncertain_before,
       p.reference_id, p.key_id,
       c.withdrawn_at IS NULL AND c.scopes @> ARRAY['face', 'face_transfer', 'location'] AS consented,
       r.person_id, a.check_in_id AS accepted_id, a.accepted_at, a.method, a.decided_at,
       (SELECT count(*) FROM attempt x
        WHERE x.task_id = r.task_id AND x.person_id = r.person_id AND x.counted
          AND x.shanghai_day = (r.received_at AT TIME ZONE 'Asia/Shanghai')::date) AS counted_today,
       f.version, f.effective_at, f.registered_address, f.frame, f.fence, f.buffer_m,
       s.photos, s.model_ids, s.sealed,
       (SELECT h.actions FROM challenge h WHERE h.challenge_id = r.challenge_id) AS actions,
       k.kept_ids, k.kept_days, k.kept_digests, k.kept_model_ids, k.kept_sealed
FROM receipt r
JOIN task t USING (task_id)
JOIN person p USING (person_id)
CROSS JOIN LATERAL (
    SELECT * FROM fence_version v
    WHERE v.task_id = r.task_id AND (v.effective_at <= r.received_at OR v.version = 1)
    ORDER BY v.effective_at DESC, v.version DESC LIMIT 1) f
CROSS JOIN LATERAL (
    SELECT array_agg(photo) AS photos, array_agg(model_id) AS model_ids, array_agg(sealed) AS sealed
    FROM (SELECT * FROM template WHERE reference_id = p.reference_id ORDER BY photo, model_id) o) s
CROSS JOIN LATERAL (
    SELECT array_agg(q.check_in_id) AS kept_ids, array_agg(q.shanghai_day) AS kept_days,
           array_agg(q.photo_sha256) AS kept_digests, array_agg(q.model_id) AS kept_model_ids,
           array_agg(q.sealed) AS kept_sealed
    FROM (SELECT o.check_in_id, o.model_id, o.sealed, j.shanghai_day, j.photo_sha256
          FROM kept_photograph o JOIN attempt j USING (check_in_id) WHERE o.person_id = r.person_id
          ORDER BY o.check_in_id, o.model_id) q) k
LEFT JOIN consent c USING (person_id)
LEFT JOIN acceptance a ON a.task_id = r.task_id AND a.person_id = r.person_id AND a.revoked_at IS NULL;

-- With a stamp that tells whether anything of it has changed since.
CREATE VIEW stamped_check_in_case AS SELECT c.*, md5(c::text) AS stamp FROM check_in_case c;

-- Uses up key and challenge at the database's own instant, and takes the first look at the case. No row when the key
-- is taken, or the challenge is used, expired or not this person's for this task.
CREATE FUNCTION receive_check_in(
    new_id uuid, iss text, sender text, key text, digest bytea, challenge uuid, task text, lease interval)
RETURNS SETOF stamped_check_in_case LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE instant timestamptz := checkin_now();
BEGIN
    INSERT INTO receipt (check_in_id, iss, person_id, idempotency_key, body_digest, challenge_id, task_id,
                         received_at, leased_until)
    SELECT new_id, receive_check_in.iss, c.person_id, key, digest, c.challenge_id, c.task_id, instant, instant + lease
    FROM challenge c
    WHERE c.challenge_id = challenge AND c.person_id = sender AND c.task_id = task AND instant < c.expires_at
    ON CONFLICT DO NOTHING;
    RETURN QUERY SELECT * FROM stamped_check_in_case WHERE check_in_id = new_id;
END
$$;

-- Orders everything that judges this member or changes this task: person, then task, as everywhere.
CREATE FUNCTION lock_check_in(wanted uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM person WHERE person_id = (SELECT person_id FROM receipt WHERE check_in_id = wanted)
        FOR NO KEY UPDATE;
    PERFORM FROM task WHERE task_id = (SELECT task_id FROM receipt WHERE check_in_id = wanted)
        FOR NO KEY UPDATE;
END
$$;

-- The submission that has waited longest and that nobody is judging, leased. One after the other, because a planner who
-- knows of none that wait has all of them read and sorted for each: thousands, when it matters.
CREATE FUNCTION lease_deferred(lease interval) RETURNS TABLE (
    check_in_id uuid, received_at timestamptz, iss text, person_id text, idempotency_key text, body_digest bytea,
    task_id text, challenge_id uuid, sealed bytea)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
    next record;
    is_free boolean;
BEGIN
    FOR next IN SELECT d.check_in_id, d.sealed FROM deferred_submission d ORDER BY d.received_at LOOP
        -- what is judged is no condition: it would bring in the index of all that are not
        SELECT r.answer IS NULL AND r.ended IS NULL INTO is_free FROM receipt r
            WHERE r.check_in_id = next.check_in_id AND coalesce(r.leased_until <= checkin_now(), true)
            FOR NO KEY UPDATE SKIP LOCKED;
        IF is_free THEN
            RETURN QUERY UPDATE receipt r SET leased_until = checkin_now() + lease
                WHERE r.check_in_id = next.check_in_id
                RETURNING r.check_in_id, r.received_at, r.iss, r.person_id, r.idempotency_key, r.body_digest, r.task_id,
                          r.challenge_id, next.sealed;
            RETURN;
        END IF;
    END LOOP;
END
$$;

-- The verdict, whole or not at all: the attempt with what its face leaves behind, the completion when it is accepted,
-- the answer that every retry of the key gets, and what the feed is told. The task's facts afterwards; null, and
-- nothing written, when the case is no longer the one that was decided on (`seen`). Each statement of a function sees
-- what was committed before it began, so the case is compared as it is once both locks are held.
-- `judged` is null for a repeat. `left_behind`: see `LeftBehind` in adapters/postgres/check_ins.py.
CREATE FUNCTION settle_check_in(
    wanted uuid, seen text, given json, judged jsonb, left_behind jsonb, feed_lock bigint)
RETURNS json LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    fact attempt;
    is_new boolean := false;
    change_types text[] := '{}';
    change_type text;
    now_told record;
    head task_facts;
    head_json json;
    instant timestamptz;
    was_deferred boolean;
BEGIN
    PERFORM lock_check_in(wanted);
    IF NOT EXISTS (SELECT FROM stamped_check_in_case WHERE check_in_id = wanted AND stamp = seen) THEN
        RETURN NULL;
    END IF;
    instant := checkin_now();
    IF judged IS NOT NULL THEN
        fact := jsonb_populate_record(NULL::attempt, judged || jsonb_build_object('judged_at', instant));
        IF fact.outcome = 'accepted' THEN
            change_types := ARRAY['member_accepted'];
        ELSIF fact.outcome = 'review' AND NOT EXISTS (
            SELECT FROM review v
            WHERE v.task_id = fact.task_id AND v.person_id = fact.person_id
              AND v.state IN ('pending', 'pending_second')) THEN
            change_types := ARRAY['member_in_review'];
        END IF;
        -- a second `too_many_attempts` of a day is the same fact
        INSERT INTO attempt SELECT fact.*
            ON CONFLICT (task_id, person_id, shanghai_day) WHERE reasons = ARRAY['too_many_attempts'] DO NOTHING;
        is_new := FOUND;
        IF fact.outcome = 'review' THEN
            INSERT INTO review (review_id, kind, task_id, person_id, received_at)
                VALUES (wanted, 'check_in', fact.task_id, fact.person_id, fact.received_at);
        END IF;
        IF fact.outcome = 'accepted' THEN
            INSERT INTO acceptance (check_in_id, task_id, person_id, accepted_at, method, outcome, opens_at, closes_at)
                SELECT wanted, t.task_id, fact.person_id, fact.received_at, 'face', 'accepted', t.opens_at, t.closes_at
                FROM task t WHERE t.task_id = fact.task_id;
            UPDATE review v SET state = 'moot', decided_at = instant
                WHERE v.task_id = fact.task_id AND v.person_id = fact.person_id
                  AND v.state IN ('pending', 'pending_second');
            INSERT INTO template (reference_id, photo, model_id, sealed, completed_by)
                SELECT p.reference_id, 0, t.model_id, t.sealed, wanted
                FROM person p
                CROSS JOIN jsonb_to_recordset(left_behind->'completing') AS t (model_id text, sealed bytea)
                WHERE p.person_id = fact.person_id;
        END IF;
        INSERT INTO kept_photograph (check_in_id, task_id, person_id, received_at, outcome, model_id, sealed)
            SELECT wanted, fact.task_id, fact.person_id, fact.received_at, fact.outcome, t.model_id, t.sealed
            FROM jsonb_to_recordset(left_behind->'telling') AS t (model_id text, sealed bytea);
        INSERT INTO evidence (check_in_id, address, wrapped_key, lon, lat)
            SELECT wanted, s.*, p.lon, p.lat
            FROM jsonb_to_recordset(left_behind->'selfie') AS s (address text, wrapped_key bytea)
            LEFT JOIN jsonb_to_recordset(left_behind->'position') AS p (lon double precision, lat double precision)
                ON fact.outcome = 'review';
        INSERT INTO sent_fix (fix_digest, person_id, last_sent_at)
            SELECT d::bytea, fact.person_id, fact.received_at
            FROM jsonb_array_elements_text(left_behind->'fix_digests') AS d ORDER BY 1
            ON CONFLICT (fix_digest, person_id) DO UPDATE
                SET last_sent_at = greatest(sent_fix.last_sent_at, excluded.last_sent_at);
        INSERT INTO last_position (person_id, lon, lat, received_at)
            SELECT fact.person_id, p.lon, p.lat, fact.received_at
            FROM jsonb_to_recordset(left_behind->'position') AS p (lon double precision, lat double precision)
            ON CONFLICT (person_id) DO UPDATE
                SET lon = excluded.lon, lat = excluded.lat, received_at = excluded.received_at
                WHERE last_position.received_at < excluded.received_at;
    END IF;
    DELETE FROM burst_frame b USING receipt r WHERE r.check_in_id = wanted AND b.challenge_id = r.challenge_id;
    UPDATE challenge h SET session = NULL FROM receipt r
        WHERE r.check_in_id = wanted AND h.challenge_id = r.challenge_id AND h.session IS NOT NULL;
    -- what the facts count as still to be judged is judged with this
    SELECT f AS facts, (r.answer IS NULL AND r.ended IS NULL AND r.received_at < f.closes_at)::integer AS own INTO now_told
        FROM task_facts f JOIN receipt r USING (task_id) WHERE r.check_in_id = wanted;
    head := now_told.facts;
    head.unjudged := head.unjudged - now_told.own;
    head_json := row_to_json(head)::jsonb || jsonb_build_object('read_at', instant);
    UPDATE receipt SET answer = given, leased_until = NULL, facts = head_json WHERE check_in_id = wanted
        RETURNING deferred INTO was_deferred;
    IF was_deferred THEN
        DELETE FROM deferred_submission WHERE check_in_id = wanted;
    END IF;
    IF 'member_accepted' = ANY(change_types) AND head.accepted = head.total AND NOT head.suspended THEN
        change_types := change_types || ARRAY['task_completed'];
    END IF;
    -- last, because the feed's lock orders all writers
    IF is_new THEN
        PERFORM append_audit('checkin_service', 'system', 'judge', fact.task_id, json_build_object(
            'check_in_id', wanted, 'person_id', fact.person_id, 'received_at', fact.received_at,
            'outcome', fact.outcome, 'reasons', fact.reasons));
    END IF;
    FOREACH change_type IN ARRAY change_types LOOP
        PERFORM append_changes(feed_lock, ARRAY[head.task_id], change_type, instant);
    END LOOP;
    RETURN head_json;
END
$$;
