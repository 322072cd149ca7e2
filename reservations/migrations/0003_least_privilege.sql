-- The service does not own its tables. What it did as their owner is a function of the owner now.

-- Nothing of the caller's stands before our own names, not even his temporary tables.
SELECT set_config('search_path', current_schema() || ', pg_temp', true);

CREATE FUNCTION analyze_tickets() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT
    AS 'ANALYZE (SKIP_LOCKED) ticket';
