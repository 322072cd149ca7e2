-- What a service said, what it still has to say, and what it could not take in. Applied first into each service's schema.

CREATE TABLE history (
    history_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject_id uuid NOT NULL,
    subject_version bigint NOT NULL,
    kind text NOT NULL,
    -- NULL: kept, not said.
    routing_key text,
    shard integer NOT NULL,
    message_id uuid NOT NULL,
    -- The serialised Envelope, so that facts of a period can be said again as they were.
    envelope bytea NOT NULL,
    occur_time timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX history_by_subject ON history (subject_id, subject_version);

CREATE FUNCTION refuse_change_of_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'history is append-only' USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER history_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON history
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();

-- The rows of history that the broker has not confirmed yet. No foreign key: both are written by one statement, history
-- is never deleted, and the check would cost more than the row.
CREATE TABLE outbox (
    history_id bigint PRIMARY KEY,
    -- Until then the process that wrote or took the row says it; afterwards anyone may take it.
    lease_time timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_analyze_scale_factor = 0.5);

CREATE INDEX outbox_by_lease ON outbox (lease_time);

CREATE TABLE parked_message (
    parked_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The envelope's, or a digest of a body that holds no envelope.
    message_id text NOT NULL,
    queue text NOT NULL,
    routing_key text NOT NULL,
    -- Name of the payload; empty when unknown.
    kind text NOT NULL,
    -- Empty when unknown.
    subject_id text NOT NULL,
    content_type text NOT NULL,
    body bytea NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    attempts integer NOT NULL,
    park_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    state text NOT NULL DEFAULT 'PARKED',
    -- Who settled it, when and why.
    settle_time timestamptz,
    settled_by text,
    settle_note text,
    CONSTRAINT parked_message_state CHECK (state IN ('PARKED', 'REDRIVEN', 'DISCARDED')),
    CONSTRAINT settled_parked_message_names_who_and_when
        CHECK ((state = 'PARKED') = (settle_time IS NULL) AND (state = 'PARKED') = (settled_by IS NULL))
);

-- A crash between parking and acking brings the message again: it is parked once.
CREATE UNIQUE INDEX parked_message_once ON parked_message (queue, message_id, sha256(body))
    WHERE state = 'PARKED';

-- Reconcilers are silent about a subject while it is parked.
CREATE INDEX parked_message_by_subject ON parked_message (subject_id) WHERE state = 'PARKED';
