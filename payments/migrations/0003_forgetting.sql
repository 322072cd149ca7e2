-- A buyer is forgotten: the name on payments that came to their end becomes another.

SELECT set_config('search_path', current_schema() || ', pg_temp', true);

-- Some of them. What would tell whether a guess of name or card is right, the request_id and the digest, becomes noise.
CREATE FUNCTION rename_payer(old_name text, new_name text, batch integer) RETURNS SETOF uuid
    LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    WITH past AS (
        SELECT payment_id FROM payment
        WHERE buyer_id = old_name AND state IN ('APPROVED', 'REJECTED', 'REFUNDED')
        ORDER BY payment_id LIMIT batch FOR UPDATE
    )
    UPDATE payment
    SET buyer_id = new_name, request_id = gen_random_uuid(), payment_method_digest = uuid_send(gen_random_uuid())
    FROM past WHERE payment.payment_id = past.payment_id RETURNING payment.payment_id
$$;
