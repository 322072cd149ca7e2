-- Somebody is forgotten: history keeps its shape, its ids, its amounts and states, and the name in it becomes another.

-- Nothing of the caller's stands before our own names, not even his temporary tables.
SELECT set_config('search_path', current_schema() || ', pg_temp', true);

-- Whose name becomes which, so that it can be gone on with after a crash. When it is done the row goes, and with it the
-- only link between the two.
CREATE TABLE forgetting (
    old_name text PRIMARY KEY,
    new_name text NOT NULL,
    begin_time timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE OR REPLACE FUNCTION refuse_change_of_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Only rewrite_history sets it, for as long as it runs; who may not call it has no right to UPDATE, either.
    IF TG_OP <> 'UPDATE' OR current_setting('ticketrush.forgetting', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION 'history is append-only' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;

-- The one way to change history, while somebody is being forgotten: another envelope in the place of exactly the one that
-- was read. Returns how many were.
CREATE FUNCTION rewrite_history(history_ids bigint[], envelopes_read bytea[], envelopes bytea[]) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
DECLARE
    rewritten bigint;
BEGIN
    PERFORM set_config('ticketrush.forgetting', 'on', true);
    UPDATE history SET envelope = new.envelope
    FROM unnest(history_ids, envelopes_read, envelopes) AS new (history_id, envelope_read, envelope)
    WHERE history.history_id = new.history_id AND history.envelope = new.envelope_read
      AND EXISTS (SELECT FROM forgetting);
    GET DIAGNOSTICS rewritten = ROW_COUNT;
    PERFORM set_config('ticketrush.forgetting', 'off', true);
    RETURN rewritten;
END
$$;
