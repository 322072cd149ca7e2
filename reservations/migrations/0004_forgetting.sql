-- A buyer is forgotten: the name on what came to its end becomes another.

SELECT set_config('search_path', current_schema() || ', pg_temp', true);

-- What the buyer owns of one event, together with how many tickets that is. Returns the reservations.
CREATE FUNCTION rename_owner(old_name text, new_name text, of_event uuid) RETURNS SETOF uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
BEGIN
    -- In the order of every decision: reservations, then the allowance.
    PERFORM FROM reservation WHERE buyer_id = old_name AND event_id = of_event ORDER BY reservation_id FOR UPDATE;
    IF EXISTS (SELECT FROM reservation
               WHERE buyer_id = old_name AND event_id = of_event AND state IN ('HELD', 'PARTIALLY_PAID')) THEN
        RETURN;
    END IF;
    UPDATE allowance SET buyer_id = new_name WHERE buyer_id = old_name AND event_id = of_event;
    RETURN QUERY UPDATE reservation SET buyer_id = new_name, request_id = gen_random_uuid()
        WHERE buyer_id = old_name AND event_id = of_event AND state = 'CONFIRMED' RETURNING reservation_id;
END
$$;

-- Some of what is over, and owns nothing. Returns the reservations.
CREATE FUNCTION rename_past(old_name text, new_name text, batch integer) RETURNS SETOF uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
BEGIN
    RETURN QUERY WITH past AS (
        SELECT reservation_id FROM reservation
        WHERE buyer_id = old_name AND state IN ('REJECTED', 'EXPIRED', 'CANCELLED')
        ORDER BY reservation_id LIMIT batch FOR UPDATE
    )
    UPDATE reservation SET buyer_id = new_name, request_id = gen_random_uuid()
        FROM past WHERE reservation.reservation_id = past.reservation_id RETURNING reservation.reservation_id;
    -- Without a row a buyer has no tickets, either.
    DELETE FROM allowance WHERE buyer_id = old_name AND ticket_count = 0;
END
$$;
