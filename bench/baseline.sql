-- A Reserve in one round trip and one transaction, on the tables and constraints of TicketRush: what the baseline calls.
-- Named tickets are taken in ascending order, as everywhere; without names the first free ones of a section.
CREATE OR REPLACE FUNCTION bench_reserve(
    a_reservation_id uuid, a_command_id uuid, a_event_id uuid, a_buyer_id text, a_request_id uuid,
    a_ticket_ids uuid[], a_section text, a_quantity integer
) RETURNS TABLE (state text, reject_reason text, ticket_ids uuid[], prices bigint[], expire_time timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    known reservation;
    sale event;
    taken uuid[];
    price bigint[];
    refused text := '';
    wanted integer := greatest(cardinality(a_ticket_ids), a_quantity);
    moment timestamptz := clock_timestamp();
BEGIN
    SELECT * INTO known FROM reservation WHERE reservation.buyer_id = a_buyer_id AND request_id = a_request_id;
    IF FOUND THEN
        IF known.command_id <> a_command_id THEN
            RAISE EXCEPTION 'REQUEST_ID_REUSED';
        END IF;
        RETURN QUERY SELECT known.state, known.reject_reason, array_agg(ticket.ticket_id), array_agg(price_minor),
                            known.expire_time
                     FROM reservation_ticket JOIN ticket
                          ON ticket.event_id = known.event_id AND ticket.ticket_id = reservation_ticket.ticket_id
                     WHERE reservation_ticket.reservation_id = known.reservation_id;
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(hashtextextended(a_event_id::text, 0));
    SELECT * INTO STRICT sale FROM event WHERE event.event_id = a_event_id;
    IF sale.state <> 'OPEN' THEN
        refused := 'EVENT_CLOSED';
    ELSE
        -- All that are named, free or not: with their state in the condition the planner walks through all free ones.
        WITH named AS (
            SELECT ticket.ticket_id, price_minor, ticket.state FROM ticket
            WHERE ticket.event_id = a_event_id AND ticket.ticket_id = ANY (a_ticket_ids)
            ORDER BY ticket.ticket_id FOR UPDATE
        )
        SELECT coalesce(array_agg(named.ticket_id), '{}'), coalesce(array_agg(price_minor), '{}')
        INTO taken, price FROM named WHERE named.state = 'AVAILABLE';
        IF a_quantity > 0 THEN
            WITH free AS (
                SELECT ticket.ticket_id, price_minor FROM ticket
                WHERE ticket.event_id = a_event_id AND section = a_section AND ticket.state = 'AVAILABLE'
                ORDER BY ticket.ticket_id LIMIT a_quantity FOR UPDATE SKIP LOCKED
            )
            SELECT coalesce(array_agg(free.ticket_id), '{}'), coalesce(array_agg(price_minor), '{}')
            INTO taken, price FROM free;
        END IF;
        IF cardinality(taken) < wanted THEN
            refused := CASE WHEN a_quantity > 0 THEN 'SOLD_OUT' ELSE 'TICKETS_TAKEN' END;
        END IF;
    END IF;
    INSERT INTO reservation (reservation_id, event_id, buyer_id, request_id, command_id, state, reject_reason, currency,
                             total_minor, create_time, expire_time, release_time, payment_grace, instalment_hold, version)
    VALUES (a_reservation_id, a_event_id, a_buyer_id, a_request_id, a_command_id,
            CASE refused WHEN '' THEN 'HELD' ELSE 'REJECTED' END, refused, sale.currency,
            CASE refused WHEN '' THEN (SELECT sum(one) FROM unnest(price) AS one) ELSE 0 END, moment,
            moment + sale.hold_duration, moment + sale.hold_duration, sale.payment_grace, sale.instalment_hold, 1);
    IF refused = '' THEN
        UPDATE ticket SET state = 'HELD', version = version + 1
        WHERE ticket.event_id = a_event_id AND ticket.ticket_id = ANY (taken);
        INSERT INTO reservation_ticket SELECT a_reservation_id, one, true FROM unnest(taken) AS one;
        INSERT INTO allowance VALUES (a_event_id, a_buyer_id, wanted)
        ON CONFLICT (event_id, buyer_id) DO UPDATE SET ticket_count = allowance.ticket_count + wanted;
        INSERT INTO event_count VALUES (a_event_id, 1 + pg_backend_pid() % 15, -wanted, wanted, 0)
        ON CONFLICT (event_id, slot)
        DO UPDATE SET available = event_count.available - wanted, held = event_count.held + wanted;
    END IF;
    INSERT INTO history (subject_id, subject_version, kind, shard, message_id, envelope)
    VALUES (a_reservation_id, 1, 'reservation_changed', 0, a_command_id,
            convert_to(jsonb_build_object('reservation', a_reservation_id, 'buyer', a_buyer_id, 'tickets', taken,
                                          'refused', refused, 'at', moment)::text, 'UTF8'));
    RETURN QUERY SELECT CASE refused WHEN '' THEN 'HELD' ELSE 'REJECTED' END, refused, taken, price,
                        moment + sale.hold_duration;
END
$$;

-- A new event with so many seats; answers their ids in order.
CREATE OR REPLACE FUNCTION bench_sale(seats integer, per_row integer, price bigint)
RETURNS TABLE (event_id uuid, ticket_ids uuid[]) LANGUAGE plpgsql AS $$
DECLARE
    a_event_id uuid := gen_random_uuid();
BEGIN
    INSERT INTO event (event_id, name, venue, currency, hold_duration, payment_grace, instalment_hold,
                       max_tickets_per_buyer, state, create_time, version)
    VALUES (a_event_id, 'bench', '', 'EUR', '1 hour', '30 s', '60 s', 0, 'OPEN', clock_timestamp(), 1);
    INSERT INTO ticket (event_id, ticket_id, section, "row", seat, position, price_minor, state, version)
    SELECT a_event_id, (left(a_event_id::text, 23) || '-' || lpad(to_hex(n), 12, '0'))::uuid, 'floor',
           (n / per_row)::text, (n % per_row)::text, n + n / per_row, price, 'AVAILABLE', 1
    FROM generate_series(0, seats - 1) AS n;
    INSERT INTO event_count VALUES (a_event_id, 0, seats, 0, 0);
    ANALYZE ticket;
    RETURN QUERY SELECT a_event_id, array_agg(ticket.ticket_id ORDER BY ticket.ticket_id)
                 FROM ticket WHERE ticket.event_id = a_event_id;
END
$$;

-- For pgbench: another seat with each call, of a sale made beforehand.
CREATE TABLE IF NOT EXISTS bench_seat (number bigint PRIMARY KEY, event_id uuid, ticket_id uuid);
CREATE SEQUENCE IF NOT EXISTS bench_number;
CREATE OR REPLACE FUNCTION bench_next() RETURNS text LANGUAGE sql AS $$
    SELECT done.state FROM bench_seat,
           bench_reserve(gen_random_uuid(), gen_random_uuid(), bench_seat.event_id, gen_random_uuid()::text,
                         gen_random_uuid(), ARRAY[bench_seat.ticket_id], '', 0) AS done
    WHERE number = (SELECT nextval('bench_number'))
$$;
