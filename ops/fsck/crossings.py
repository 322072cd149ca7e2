"""What must be true between the schemas, and between them and the card processor's statement; and what is under way."""

from typing import Final

from chassis.soundness import Check
from contract.invariants import Invariant
from ops.audit import RECONCILE

# A payment and its credit, in every pair of states that one snapshot can rightly show while messages are on their way.
CHARGES: Final = Check(
    Invariant.CHARGES,
    """
    SELECT 'payment ' || payment_id || ' is ' || coalesce(payment.state, 'unknown') || ' over '
        || coalesce(payment.amount_minor::text, '-') || ', its credit is ' || coalesce(credit.state, 'none') || ' over '
        || coalesce(credit.amount_minor::text, '-') || ', reservation '
        || coalesce(credit.reservation_id, payment.reservation_id) || ' is ' || coalesce(reservation.state, 'unknown')
    FROM payments.payment
    FULL JOIN reservations.credit USING (payment_id)
    LEFT JOIN reservations.reservation ON reservation.reservation_id = credit.reservation_id
    WHERE (CASE payment.state
        WHEN 'PENDING' THEN credit.state = 'OPEN' OR credit.state IS NULL AND NOT payment.opened
        WHEN 'REJECTED' THEN coalesce(credit.state, 'CLOSED') IN ('OPEN', 'CLOSED')
        WHEN 'APPROVED' THEN credit.state IN ('OPEN', 'REFUND_DUE')
            OR credit.state = 'APPLIED' AND reservation.state IN ('PARTIALLY_PAID', 'CONFIRMED')
        WHEN 'REFUND_DUE' THEN credit.state = 'REFUND_DUE'
        WHEN 'REFUNDED' THEN credit.state IN ('REFUND_DUE', 'REFUNDED') END
        AND (credit.state IS NULL OR credit.reservation_id = payment.reservation_id)
        AND (payment.state IN ('PENDING', 'REJECTED') AND NOT payment.opened OR credit.state IS NULL
             OR (credit.amount_minor, reservation.currency) = (payment.amount_minor, payment.currency))
    ) IS NOT TRUE""",
)

# A payment is committed before its card is charged, REFUND_DUE before it goes back. So the snapshot knows all that a
# statement read before it says, unless it was restored from the past: then what was charged and is unknown, or came to
# nothing here, must have gone back whole, and of what is unknown an operator must have noted it (ops/reconciling).
_RECONCILED: Final = f"""charge.refunded_minor = charge.amount_minor AND (
            state = 'REJECTED' OR state IS NULL AND EXISTS (
                SELECT FROM payments.audit_entry
                WHERE action = '{RECONCILE}' AND subject = 'payment ' || charge.payment_id))"""
STATEMENT: Final = (
    Check(
        Invariant.LEDGER,
        f"""
        SELECT 'payment ' || payment_id || ': the processor has charged ' || charge.amount_minor || ' '
            || charge.currency || ', here it is ' || coalesce(state, 'unknown') || ' over '
            || coalesce(payment.amount_minor, 0)
        FROM statement_charge AS charge LEFT JOIN payments.payment USING (payment_id)
        WHERE approved AND (CASE state
            WHEN 'PENDING' THEN true
            WHEN 'REJECTED' THEN false
            ELSE (payment.amount_minor, payment.currency) = (charge.amount_minor, charge.currency) END
            OR {_RECONCILED}) IS NOT TRUE""",  # noqa: S608 - constant
    ),
    Check(
        Invariant.LEDGER,
        f"""
        SELECT 'payment ' || payment_id || ': the processor has given back ' || refunded_minor || ', here it is '
            || coalesce(state, 'unknown') || coalesce(' ' || by_hand, '')
        FROM statement_charge AS charge LEFT JOIN payments.payment USING (payment_id)
        LEFT JOIN (SELECT DISTINCT payment_id, 'by hand' AS by_hand
                   FROM payments.ledger_entry WHERE posting = 'REFUND_BY_HAND') AS past_the_processor USING (payment_id)
        WHERE refunded_minor > 0 AND (
            state IN ('REFUND_DUE', 'REFUNDED') AND by_hand IS NULL OR {_RECONCILED}) IS NOT TRUE""",  # noqa: S608 - constant
    ),
)

# What the ledger says has happened at the processor and the statement, read earlier, did not say yet: whether the
# processor says so now decides. (payment_id, amount, currency, whether the processor has given it back)
SUSPECTS: Final = """
    SELECT payment_id::text, payment.amount_minor, payment.currency, back IS NOT NULL
    FROM payments.payment
    LEFT JOIN statement_charge AS charge USING (payment_id)
    LEFT JOIN (SELECT DISTINCT payment_id, true AS back
               FROM payments.ledger_entry WHERE posting = 'REFUND') AS gone_back USING (payment_id)
    WHERE payment.state IN ('APPROVED', 'REFUND_DUE', 'REFUNDED')
      AND (approved IS NOT TRUE OR back AND charge.refunded_minor = 0)"""

# Each by what it is called, not by an invariant: none of it is wrong, all of it must come to an end.
UNDER_WAY: Final = (
    Check(
        "messages to be said",
        """
        SELECT 'reservations: ' || kind || ' of ' || subject_id
        FROM reservations.outbox JOIN reservations.history USING (history_id)
        UNION ALL
        SELECT 'payments: ' || kind || ' of ' || subject_id
        FROM payments.outbox JOIN payments.history USING (history_id)""",
    ),
    Check(
        "payments",
        """
        SELECT 'payment ' || payment_id || ' is ' || state || ' since ' || state_time
        FROM payments.payment WHERE state IN ('PENDING', 'REFUND_DUE')""",
    ),
    Check(
        "credits",
        """
        SELECT 'payment ' || payment_id || ' of reservation ' || reservation_id || ' is ' || state
        FROM reservations.credit WHERE state IN ('OPEN', 'REFUND_DUE')""",
    ),
    Check(
        "events called off",
        "SELECT 'event ' || event_id FROM reservations.event WHERE state = 'CANCELLED' AND NOT settled",
    ),
    Check(
        "holds to be released",
        """
        SELECT 'reservation ' || reservation_id || ' was due at ' || release_time FROM reservations.reservation
        WHERE state IN ('HELD', 'PARTIALLY_PAID') AND release_time < transaction_timestamp()""",
    ),
    Check(
        "messages parked",
        """
        SELECT 'reservations/' || parked_id || ': ' || kind || ' of ' || subject_id || ', ' || reason
        FROM reservations.parked_message WHERE state = 'PARKED'
        UNION ALL
        SELECT 'payments/' || parked_id || ': ' || kind || ' of ' || subject_id || ', ' || reason
        FROM payments.parked_message WHERE state = 'PARKED'""",
    ),
)
