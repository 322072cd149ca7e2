-- What a system has behind it, and holds that all run out at one instant; the books of both are sound.

-- An event with so many seats. The first `a_live` are held until `a_release_time`, one a reservation; of all, the first
-- `a_past` were held once before, by reservations that expired.
CREATE OR REPLACE FUNCTION bench_past(a_seats integer, a_past integer, a_live integer, a_release_time timestamptz)
RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    event_id uuid := gen_random_uuid();
    -- Ticket ids ascend in seat order.
    prefix text := left(event_id::text, 24);
BEGIN
    INSERT INTO event (event_id, name, venue, currency, hold_duration, payment_grace, instalment_hold,
                       max_tickets_per_buyer, state, create_time, version)
    VALUES (event_id, 'past', '', 'EUR', '5 min', '1 min', '1 min', 0, 'OPEN', now(), 1);
    INSERT INTO event_count VALUES (event_id, 0, a_seats - a_live, a_live, 0);
    INSERT INTO ticket
    SELECT event_id, (prefix || lpad(to_hex(number), 12, '0'))::uuid, 'floor', (number / 50)::text, (number % 50)::text,
           number, 2500, CASE WHEN number < a_live THEN 'HELD' ELSE 'AVAILABLE' END,
           1 + 2 * (number < a_past)::integer + (number < a_live)::integer
    FROM generate_series(0, a_seats - 1) AS number;
    CREATE TEMPORARY TABLE bench_hold ON COMMIT DROP AS
    SELECT gen_random_uuid() AS reservation_id, gen_random_uuid() AS request_id, number, false AS live
    FROM generate_series(0, a_past - 1) AS number
    UNION ALL
    SELECT gen_random_uuid(), gen_random_uuid(), number, true FROM generate_series(0, a_live - 1) AS number;
    INSERT INTO reservation (reservation_id, event_id, buyer_id, request_id, command_id, state, reject_reason, currency,
                             total_minor, create_time, expire_time, release_time, payment_grace, instalment_hold, version)
    SELECT reservation_id, event_id, 'fan-' || number, request_id, request_id,
           CASE WHEN live THEN 'HELD' ELSE 'EXPIRED' END, '', 'EUR', 2500, now(), a_release_time, a_release_time, '1 min',
           '1 min', 2 - live::integer
    FROM bench_hold;
    INSERT INTO reservation_ticket
    SELECT reservation_id, (prefix || lpad(to_hex(number), 12, '0'))::uuid, live FROM bench_hold;
    INSERT INTO allowance SELECT event_id, 'fan-' || number, 1 FROM bench_hold WHERE live;
    INSERT INTO history (subject_id, subject_version, kind, routing_key, shard, message_id, envelope)
    SELECT event_id, 1, 'EVENT_CREATED', 'ticket.event.updated', 0, gen_random_uuid(), ''::bytea
    UNION ALL
    SELECT reservation_id, 1, 'RESERVED', 'ticket.reserved', 0, gen_random_uuid(), ''::bytea FROM bench_hold
    UNION ALL
    SELECT reservation_id, 2, 'EXPIRED', 'ticket.expired', 0, gen_random_uuid(), ''::bytea FROM bench_hold WHERE NOT live;
    RETURN event_id;
END
$$;
