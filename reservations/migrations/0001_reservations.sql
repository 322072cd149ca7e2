-- What reservations owns. States are drawn in docs/states.md; constraints are named for the rule they hold.

CREATE TABLE event (
    event_id uuid PRIMARY KEY,
    name text NOT NULL,
    venue text NOT NULL,
    start_time timestamptz,
    currency text NOT NULL CONSTRAINT currency_is_three_capitals CHECK (currency ~ '^[A-Z]{3}$'),
    hold_duration interval NOT NULL CONSTRAINT hold_takes_time CHECK (hold_duration > interval '0'),
    payment_grace interval NOT NULL,
    instalment_hold interval NOT NULL,
    max_tickets_per_buyer integer NOT NULL, -- 0 for no limit
    sale_start_time timestamptz,
    sale_end_time timestamptz,
    state text NOT NULL CONSTRAINT event_state CHECK (state IN ('OPEN', 'CLOSED', 'CANCELLED')),
    settled boolean NOT NULL DEFAULT false, -- every reservation of a cancelled event has been cancelled
    create_time timestamptz NOT NULL,
    version bigint NOT NULL
);
CREATE INDEX event_by_create_time ON event (create_time DESC, event_id DESC);
CREATE INDEX event_to_settle ON event (event_id) WHERE state = 'CANCELLED' AND NOT settled;

-- Summed over its slots this is the event's count: each connection writes one of several, so a rush makes no hot row.
CREATE TABLE event_count (
    event_id uuid NOT NULL,
    slot smallint NOT NULL,
    available bigint NOT NULL,
    held bigint NOT NULL,
    sold bigint NOT NULL,
    PRIMARY KEY (event_id, slot)
);

CREATE TABLE ticket (
    event_id uuid NOT NULL,
    ticket_id uuid NOT NULL, -- ascending in seat order
    section text NOT NULL,
    "row" text NOT NULL,
    seat text NOT NULL,
    position integer NOT NULL, -- neighbours in a row differ by one
    price_minor bigint NOT NULL CONSTRAINT price_is_not_negative CHECK (price_minor >= 0),
    state text NOT NULL CONSTRAINT ticket_state CHECK (state IN ('AVAILABLE', 'HELD', 'SOLD', 'WITHDRAWN')),
    version bigint NOT NULL,
    PRIMARY KEY (event_id, ticket_id)
);
CREATE UNIQUE INDEX one_ticket_per_seat ON ticket (event_id, section, "row", seat) WHERE seat <> '';
CREATE INDEX ticket_available ON ticket (event_id, section, ticket_id) WHERE state = 'AVAILABLE';

CREATE TABLE reservation (
    reservation_id uuid PRIMARY KEY,
    event_id uuid NOT NULL,
    buyer_id text NOT NULL,
    request_id uuid NOT NULL,
    command_id uuid NOT NULL, -- names the body of the request: another body under the same request_id is refused
    state text NOT NULL CONSTRAINT reservation_state
        CHECK (state IN ('HELD', 'PARTIALLY_PAID', 'CONFIRMED', 'REJECTED', 'EXPIRED', 'CANCELLED')),
    reject_reason text NOT NULL,
    currency text NOT NULL,
    total_minor bigint NOT NULL,
    paid_minor bigint NOT NULL DEFAULT 0,
    open_minor bigint NOT NULL DEFAULT 0,
    refund_due_minor bigint NOT NULL DEFAULT 0,
    refunded_minor bigint NOT NULL DEFAULT 0,
    create_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL,
    release_time timestamptz NOT NULL,
    -- The terms the hold began with: a later change of the event does not touch it.
    payment_grace interval NOT NULL,
    instalment_hold interval NOT NULL,
    instalment_time timestamptz, -- of the last part payment
    version bigint NOT NULL,
    CONSTRAINT one_reservation_per_request UNIQUE (buyer_id, request_id),
    CONSTRAINT never_paid_above_total CHECK (paid_minor >= 0 AND open_minor >= 0 AND paid_minor + open_minor <= total_minor),
    CONSTRAINT confirmed_means_paid CHECK (state <> 'CONFIRMED' OR paid_minor = total_minor),
    CONSTRAINT only_held_tickets_are_paid CHECK (state IN ('HELD', 'PARTIALLY_PAID', 'CONFIRMED') OR paid_minor = 0)
);
CREATE INDEX reservation_due ON reservation (release_time) WHERE state IN ('HELD', 'PARTIALLY_PAID');
CREATE INDEX reservation_by_event ON reservation (event_id, create_time DESC, reservation_id DESC);
CREATE INDEX reservation_by_create_time ON reservation (create_time DESC, reservation_id DESC);

CREATE TABLE reservation_ticket (
    reservation_id uuid NOT NULL,
    ticket_id uuid NOT NULL,
    live boolean NOT NULL, -- held by or sold to this reservation now
    PRIMARY KEY (reservation_id, ticket_id)
);
CREATE UNIQUE INDEX one_live_reservation_per_ticket ON reservation_ticket (ticket_id) WHERE live;

-- What one payment is to its reservation.
CREATE TABLE credit (
    payment_id uuid PRIMARY KEY,
    reservation_id uuid NOT NULL REFERENCES reservation,
    amount_minor bigint NOT NULL CONSTRAINT credit_is_positive CHECK (amount_minor > 0),
    state text NOT NULL CONSTRAINT credit_state CHECK (state IN ('OPEN', 'APPLIED', 'CLOSED', 'REFUND_DUE', 'REFUNDED')),
    open_time timestamptz NOT NULL,
    -- When the reconciler asks again about a credit that is not final, and how often it did.
    reconcile_time timestamptz NOT NULL,
    reconcile_attempts integer NOT NULL DEFAULT 0
);
CREATE INDEX credit_by_reservation ON credit (reservation_id);
CREATE INDEX credit_to_reconcile ON credit (reconcile_time) WHERE state IN ('OPEN', 'REFUND_DUE');

-- How many tickets of an event a buyer holds and owns.
CREATE TABLE allowance (
    event_id uuid NOT NULL,
    buyer_id text NOT NULL,
    ticket_count integer NOT NULL CONSTRAINT allowance_is_not_negative CHECK (ticket_count >= 0),
    PRIMARY KEY (event_id, buyer_id)
);

-- Writes of the catalogue and refunds by organisers: the same request_id again has no second effect.
CREATE TABLE organiser_request (
    request_id uuid PRIMARY KEY,
    body_hash bytea NOT NULL,
    call text NOT NULL, -- type of the request
    subject_id uuid NOT NULL,
    reason text NOT NULL, -- as the organiser gave it, for the record; empty where none is asked for
    ticket_count integer NOT NULL DEFAULT 0, -- what a CreateTickets added
    create_time timestamptz NOT NULL DEFAULT clock_timestamp()
);
