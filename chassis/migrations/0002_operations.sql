-- What operators need: a record of what they did, redriving that loses nothing, and the facts of a period.

-- Each row is written in the transaction of the change that it tells of.
CREATE TABLE audit_entry (
    audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    audit_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    operator text NOT NULL CONSTRAINT audit_names_who CHECK (operator <> ''),
    action text NOT NULL,
    subject text NOT NULL,
    reason text NOT NULL CONSTRAINT audit_says_why CHECK (reason <> ''),
    detail jsonb NOT NULL
);

CREATE FUNCTION refuse_change_of_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is append-only' USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME;
END
$$;

CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit();

-- When an operator began to send it again; unset once it has come back: then it may not be marked REDRIVEN.
ALTER TABLE parked_message ADD COLUMN redrive_time timestamptz;

-- history grows in the order of its times, so this costs next to nothing. Ranges that are not summarised yet are read.
CREATE INDEX history_by_time ON history USING brin (occur_time) WITH (autosummarize = on);
