"""What must be true of schema payments in any one snapshot.

Each statement reads its tables whole, once, and joins them by hashing: fit for ten million payments.
"""

from typing import Final

from chassis.soundness import Check
from contract.invariants import Invariant

_LEDGER: Final = (
    """
    SELECT 'payment ' || payment_id || ': ' || posting || ' sums to ' || sum(amount_minor)
    FROM ledger_entry GROUP BY payment_id, posting, currency HAVING sum(amount_minor) <> 0""",
    # Where the money stands by the state of the payment, and which postings brought it there.
    """
    SELECT 'payment ' || payment_id || ' is ' || coalesce(state, 'unknown') || ' over ' || coalesce(amount_minor, 0)
        || ', its ledger has ' || coalesce(array_to_string(postings, '+'), 'nothing') || ' and leaves '
        || concat_ws('/', provider_clearing, deferred_revenue, refunds_payable, bank)
        || ' in provider_clearing/deferred_revenue/refunds_payable/bank'
    FROM (SELECT payment_id, state, amount_minor, currency FROM payment) AS payment
    FULL JOIN (
        SELECT payment_id, array_agg(DISTINCT posting ORDER BY posting) AS postings,
               coalesce(sum(amount_minor) FILTER (WHERE account = 'provider_clearing'), 0) AS provider_clearing,
               coalesce(sum(amount_minor) FILTER (WHERE account = 'deferred_revenue'), 0) AS deferred_revenue,
               coalesce(sum(amount_minor) FILTER (WHERE account = 'refunds_payable'), 0) AS refunds_payable,
               coalesce(sum(amount_minor) FILTER (WHERE account = 'bank'), 0) AS bank,
               min(currency) AS currency_least, max(currency) AS currency_most
        FROM ledger_entry GROUP BY payment_id
    ) AS posted USING (payment_id)
    WHERE CASE
        WHEN state IN ('PENDING', 'REJECTED') THEN postings IS NULL
        WHEN (currency_least, currency_most) IS DISTINCT FROM (currency, currency) THEN false
        WHEN state = 'APPROVED' THEN postings = ARRAY['CHARGE']
            AND (provider_clearing, deferred_revenue, refunds_payable, bank) = (amount_minor, -amount_minor, 0, 0)
        WHEN state = 'REFUND_DUE' THEN postings = ARRAY['CHARGE', 'REFUND_DUE']
            AND (provider_clearing, deferred_revenue, refunds_payable, bank) = (amount_minor, 0, -amount_minor, 0)
        WHEN state = 'REFUNDED' AND postings = ARRAY['CHARGE', 'REFUND', 'REFUND_DUE']
            THEN (provider_clearing, deferred_revenue, refunds_payable, bank) = (0, 0, 0, 0)
        WHEN state = 'REFUNDED' AND postings = ARRAY['CHARGE', 'REFUND_BY_HAND', 'REFUND_DUE']
            THEN (provider_clearing, deferred_revenue, refunds_payable, bank) = (amount_minor, 0, 0, -amount_minor)
        ELSE false END IS NOT TRUE""",
)

_HISTORY: Final = (
    """
    SELECT 'payment ' || payment_id || ' is at version ' || coalesce(version::text, 'unknown') || ', history has '
        || coalesce(steps || ' from ' || first || ' to ' || last, 'none')
    FROM payment FULL JOIN (
        SELECT subject_id AS payment_id, count(DISTINCT subject_version) AS steps, min(subject_version) AS first,
               max(subject_version) AS last
        FROM history WHERE subject_version > 0 GROUP BY subject_id
    ) AS told USING (payment_id)
    WHERE (steps, first, last) IS DISTINCT FROM (version, 1::bigint, version)""",
    """
    SELECT 'payment ' || payment_id || ' is ' || state || ', its history ends with ' || coalesce(kind, 'nothing')
    FROM payment LEFT JOIN (
        SELECT DISTINCT ON (subject_id) subject_id AS payment_id, kind
        FROM history ORDER BY subject_id, subject_version DESC
    ) AS last USING (payment_id)
    WHERE state IS DISTINCT FROM CASE kind
        WHEN 'request_payment' THEN 'PENDING' WHEN 'payment_approved' THEN 'APPROVED'
        WHEN 'payment_rejected' THEN 'REJECTED' WHEN 'request_refund' THEN 'REFUND_DUE'
        WHEN 'refund_completed' THEN 'REFUNDED' END""",
    """
    SELECT kind || ' of payment ' || subject_id || ' was kept and never said'
    FROM history WHERE routing_key IS NULL AND kind NOT IN ('request_payment', 'request_refund')""",
    """
    SELECT 'outbox row ' || history_id || ' tells of nothing'
    FROM outbox LEFT JOIN history USING (history_id) WHERE routing_key IS NULL""",
)

_REPEATS: Final = (
    """
    SELECT 'payment ' || subject_id || ' took step ' || subject_version || ' ' || count(*) || ' times'
    FROM history GROUP BY subject_id, subject_version HAVING count(*) > 1""",
    """
    SELECT 'payment ' || subject_id || ' had ' || coalesce(before, 'nothing') || ', then ' || kind
    FROM (SELECT subject_id, kind,
                 lag(kind) OVER (PARTITION BY subject_id ORDER BY subject_version, history_id) AS before
          FROM history) AS step
    WHERE (coalesce(before, ''), kind) NOT IN (
        ('', 'request_payment'), ('request_payment', 'payment_approved'), ('request_payment', 'payment_rejected'),
        ('payment_approved', 'request_refund'), ('request_refund', 'refund_completed'))""",
    """
    SELECT 'buyer ' || buyer_id || ' got ' || count(*) || ' payments for request ' || request_id
    FROM payment GROUP BY buyer_id, request_id HAVING count(*) > 1""",
)

CHECKS: Final = tuple(
    Check(rule, sql)
    for rule, statements in (
        (Invariant.LEDGER, _LEDGER),
        (Invariant.HISTORY, _HISTORY),
        (Invariant.REPEATS, _REPEATS),
    )
    for sql in statements
)
