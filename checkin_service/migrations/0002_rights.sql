-- Who may do what. The owner of the tables runs migrations and nothing else; `checkin_service` serves and runs the
-- commands; `checkin_auditor` reads the audit. The roles belong to the whole server: docs/decisions/0014-audit-and-least-rights.md.
-- A later migration that adds a table says in itself what the service may do with it.

DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['checkin_service', 'checkin_auditor'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I LOGIN', wanted);
            EXCEPTION
                -- another database of this server is being migrated
                WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END IF;
    END LOOP;
END
$$;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO checkin_service, checkin_auditor;

GRANT SELECT ON audit, migration TO checkin_auditor;
-- no more of what the audit is compared with than the comparison takes
GRANT SELECT (check_in_id, task_id, person_id, received_at, judged_at, outcome) ON attempt TO checkin_auditor;
GRANT SELECT (check_in_id, task_id, person_id, accepted_at, decided_at) ON acceptance TO checkin_auditor;

-- Nothing may be changed or deleted but what is named here. Not among it: attempts and the audit, who was on a roster,
-- what was received and when, completed check-ins but for their revocation, and the feed.
GRANT SELECT ON ALL TABLES IN SCHEMA public TO checkin_service;
GRANT INSERT ON
    acceptance, attempt, burst_frame, calendar_version, calendar_year, challenge, change, consent, deferred_submission,
    evidence, fence_version, idempotency_key, installation, kept_photograph, last_position, manual_request, member, person,
    processing_record, purge_receipt, receipt, receipt_key, reference, review, review_decision, sent_fix, suspension, task,
    template
TO checkin_service;
GRANT USAGE ON SEQUENCE change_seq TO checkin_service;

GRANT UPDATE ON consent, feed_epoch, idempotency_key, last_position, purge_receipt, sent_fix TO checkin_service;
GRANT UPDATE (key_id, reference_id) ON person TO checkin_service;
GRANT UPDATE (closes_at, window_basis, last_day, rolled_over, provisional, calendar_version, voided_at, superseded_by,
              closed_at, announced_end, rev) ON task TO checkin_service;
GRANT UPDATE (resumed_at) ON suspension TO checkin_service;
GRANT UPDATE (name) ON member TO checkin_service;
GRANT UPDATE (leased_until, ended, answer, facts, deferred) ON receipt TO checkin_service;
GRANT UPDATE (state, decided_at) ON review TO checkin_service;
GRANT UPDATE (reason, position) ON manual_request TO checkin_service;
GRANT UPDATE (note) ON review_decision TO checkin_service;
GRANT UPDATE (lon, lat) ON evidence TO checkin_service;
GRANT UPDATE (revoked_at) ON acceptance TO checkin_service;

GRANT DELETE ON
    burst_frame, deferred_submission, challenge, consent, evidence, idempotency_key, kept_photograph, last_position,
    processing_record, receipt, reference, review, sent_fix
TO checkin_service;
-- A purge locks the rows that it deletes, and a lock takes the right to update some column.
GRANT UPDATE (actions, session) ON challenge TO checkin_service;
GRANT UPDATE (photo) ON burst_frame TO checkin_service;
GRANT UPDATE (received_at) ON deferred_submission TO checkin_service;
GRANT UPDATE (model_id) ON kept_photograph TO checkin_service;
GRANT UPDATE (details) ON processing_record TO checkin_service;

-- What goes beyond that, in functions that the owner answers for.
REVOKE EXECUTE ON FUNCTION append_audit, erase_judged, purge_refused_attempts, purge_attempt_figures, purge_audit
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION append_audit, erase_judged, purge_refused_attempts, purge_attempt_figures, purge_audit
TO checkin_service;
