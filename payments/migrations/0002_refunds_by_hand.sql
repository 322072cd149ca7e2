-- A refund that the card processor refuses is made by hand, from the organiser's own account.
--
--   account   kind    what it holds
--   bank      asset   the organiser's own account, as far as refunds left it by hand
--
--   posting          debit             credit
--   REFUND_BY_HAND   refunds_payable   bank       the money has gone back, past the card processor
--
-- The processor still owes us that charge: its statement and provider_clearing go on agreeing.
ALTER TABLE ledger_entry
    DROP CONSTRAINT ledger_posting,
    ADD CONSTRAINT ledger_posting CHECK (posting IN ('CHARGE', 'REFUND_DUE', 'REFUND', 'REFUND_BY_HAND')),
    DROP CONSTRAINT ledger_account,
    ADD CONSTRAINT ledger_account
        CHECK (account IN ('provider_clearing', 'deferred_revenue', 'refunds_payable', 'bank'));

CREATE UNIQUE INDEX money_goes_back_once ON ledger_entry (payment_id)
    WHERE account = 'refunds_payable' AND amount_minor > 0;
