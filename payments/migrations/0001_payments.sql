-- Payments, and the ledger of the money that they moved.

CREATE TABLE payment (
    payment_id uuid PRIMARY KEY,
    reservation_id uuid NOT NULL,
    buyer_id text NOT NULL,
    request_id uuid NOT NULL,
    -- As asked, to recognise the same request; 0 for all that is due.
    asked_minor bigint NOT NULL,
    -- Digest of payment_id and card token, to recognise the same request after the token is erased.
    payment_method_digest bytea NOT NULL,
    -- The provider's token of the card, kept only as long as the card may have to be charged.
    payment_method text,
    state text NOT NULL DEFAULT 'PENDING',
    version bigint NOT NULL DEFAULT 1,
    -- What reservations opened room for, then what was charged; until opened, as asked.
    amount_minor bigint NOT NULL,
    currency text NOT NULL DEFAULT '',
    opened boolean NOT NULL DEFAULT false,
    decline_reason text NOT NULL DEFAULT '',
    -- The latest call that waits for the outcome.
    reply_to text NOT NULL,
    command_id text NOT NULL,
    create_time timestamptz NOT NULL,
    state_time timestamptz NOT NULL,
    -- Failed attempts in this state.
    attempts integer NOT NULL DEFAULT 0,
    -- When anyone may work on it: the end of a lease, or of a wait after a failed attempt. By the database's clock.
    due_time timestamptz,

    CONSTRAINT one_payment_per_request UNIQUE (buyer_id, request_id),
    CONSTRAINT payment_state CHECK (state IN ('PENDING', 'APPROVED', 'REJECTED', 'REFUND_DUE', 'REFUNDED')),
    CONSTRAINT card_token_is_kept_only_while_pending CHECK ((state = 'PENDING') = (payment_method IS NOT NULL)),
    CONSTRAINT unfinished_payment_has_a_due_time
        CHECK ((state IN ('PENDING', 'REFUND_DUE')) = (due_time IS NOT NULL)),
    CONSTRAINT rejected_payment_has_a_reason CHECK ((state = 'REJECTED') = (decline_reason <> '')),
    CONSTRAINT opened_or_charged_payment_has_amount_and_currency
        CHECK ((NOT opened AND state IN ('PENDING', 'REJECTED')) OR (amount_minor > 0 AND currency <> '')),
    CONSTRAINT payment_amount_is_never_negative CHECK (asked_minor >= 0 AND amount_minor >= 0),
    CONSTRAINT payment_version_is_positive CHECK (version >= 1)
);

CREATE INDEX payment_by_reservation ON payment (reservation_id, create_time, payment_id);
CREATE INDEX payment_to_charge ON payment (due_time) WHERE state = 'PENDING';
CREATE INDEX payment_to_refund ON payment (due_time) WHERE state = 'REFUND_DUE';

CREATE FUNCTION refuse_payment_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'payment %: % may not follow %', OLD.payment_id, NEW.state, OLD.state
        USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME;
END
$$;

CREATE TRIGGER payment_moves_only_forward BEFORE UPDATE ON payment FOR EACH ROW
    WHEN (OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
        ('PENDING', 'APPROVED'), ('PENDING', 'REJECTED'), ('APPROVED', 'REFUND_DUE'), ('REFUND_DUE', 'REFUNDED')))
    EXECUTE FUNCTION refuse_payment_change();

-- Double entry: each posting is a debit (positive) and a credit (negative) of the same amount.
--
--   account            kind        what it holds
--   provider_clearing  asset       money that the card processor has taken and not paid out to us yet
--   deferred_revenue   liability   what buyers have paid for an event that has not taken place
--   refunds_payable    liability   what must go back to buyers
--
--   posting      debit               credit
--   CHARGE       provider_clearing   deferred_revenue     the card was charged
--   REFUND_DUE   deferred_revenue    refunds_payable      the money must go back
--   REFUND       refunds_payable     provider_clearing    the money has gone back
CREATE TABLE ledger_entry (
    payment_id uuid NOT NULL,
    posting text NOT NULL,
    account text NOT NULL,
    amount_minor bigint NOT NULL,
    currency text NOT NULL,
    post_time timestamptz NOT NULL,

    CONSTRAINT each_posting_is_made_once PRIMARY KEY (payment_id, posting, account),
    CONSTRAINT ledger_posting CHECK (posting IN ('CHARGE', 'REFUND_DUE', 'REFUND')),
    CONSTRAINT ledger_account CHECK (account IN ('provider_clearing', 'deferred_revenue', 'refunds_payable')),
    CONSTRAINT ledger_entry_moves_money CHECK (amount_minor <> 0),
    CONSTRAINT ledger_currency CHECK (currency <> '')
);

CREATE FUNCTION refuse_change_of_ledger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME;
END
$$;

CREATE TRIGGER ledger_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_ledger();

CREATE FUNCTION refuse_unbalanced_posting() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM new_entry GROUP BY payment_id, posting, currency HAVING sum(amount_minor) <> 0
    ) THEN
        RAISE EXCEPTION 'the entries of a posting do not sum to zero' USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER ledger_postings_sum_to_zero AFTER INSERT ON ledger_entry REFERENCING NEW TABLE AS new_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_unbalanced_posting();
