-- The key store: what opens the persons' ciphertext, apart from it. Every name is of the schema key_store, in a database of
-- its own or, for want of one, in the main database: docs/decisions/0013-the-key-store.md.

-- Why a data key was deleted, the lesser before the greater: biometrics went (their time was over); the person has taken
-- their consent back, wholly or in part; the person was erased.
CREATE TYPE deletion AS ENUM ('forgotten', 'withdrawn', 'erased');

-- Of which installation it is, see the main database's table of this name.
CREATE TABLE installation (
    only_row        boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    installation_id uuid NOT NULL
);

-- Which keys wrap data keys here: two replicas with different keys must not both start. Gone once it wraps none.
CREATE TABLE wrapping_key (
    wrapping_key_id text PRIMARY KEY,
    first_seen_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A person's data key, wrapped, under the random number that the main database knows it by. A deleted one leaves this row
-- as the entry of the erasure log: a database restored from before it still has the number, and is told what to delete.
-- Nothing here says who anybody is.
CREATE TABLE data_key (
    key_id          uuid PRIMARY KEY,
    wrapping_key_id text REFERENCES wrapping_key,
    wrapped_key     bytea,
    made_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at      timestamptz,
    deletion        deletion,
    CHECK ((wrapped_key IS NULL) = (wrapping_key_id IS NULL)),
    CHECK ((wrapped_key IS NULL) = (deleted_at IS NOT NULL)),
    CHECK ((deletion IS NULL) = (deleted_at IS NULL))
);
CREATE INDEX data_key_wrapped_by ON data_key (wrapping_key_id, key_id) WHERE wrapped_key IS NOT NULL;
CREATE INDEX data_key_deleted ON data_key (deleted_at, key_id) WHERE deleted_at IS NOT NULL;

-- The service's role, where the main database's migrations have made it; in a database of its own the key store may belong
-- to whoever CHECKIN_KEY_STORE_URL names.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'checkin_service') THEN
        GRANT USAGE ON SCHEMA key_store TO checkin_service;
        GRANT SELECT ON ALL TABLES IN SCHEMA key_store TO checkin_service;
        GRANT INSERT, UPDATE ON data_key TO checkin_service;
        GRANT INSERT, DELETE ON wrapping_key TO checkin_service;
        GRANT INSERT ON installation TO checkin_service;
    END IF;
END
$$;
