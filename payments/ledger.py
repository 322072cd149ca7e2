"""The double-entry ledger: which postings each state of a payment causes. Pure.

The migration says what each account holds.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from payments.domain import Payment, PaymentState


class Entry(NamedTuple):
    """One side of a ledger posting: a debit is positive, a credit negative."""

    payment_id: UUID
    posting: str
    account: str
    amount_minor: int
    currency: str
    post_time: datetime


# The state that a payment reaches -> posting, account to debit, account to credit.
_POSTINGS: Final[Mapping[PaymentState, tuple[str, str, str]]] = {
    PaymentState.APPROVED: ("CHARGE", "provider_clearing", "deferred_revenue"),
    PaymentState.REFUND_DUE: ("REFUND_DUE", "deferred_revenue", "refunds_payable"),
    PaymentState.REFUNDED: ("REFUND", "refunds_payable", "provider_clearing"),
}


# A person has paid the buyer from the organiser's own account: the card processor keeps owing us the charge.
_BY_HAND: Final = ("REFUND_BY_HAND", "refunds_payable", "bank")


def postings(payment: Payment) -> tuple[Entry, ...]:
    """The ledger entries due to the state that the payment has just reached; they sum to zero."""
    posting = _POSTINGS.get(payment.state)
    return _entries(payment, *posting) if posting else ()


def postings_by_hand(payment: Payment) -> tuple[Entry, ...]:
    """The same for a payment that has just become REFUNDED past the card processor."""
    return _entries(payment, *_BY_HAND)


def _entries(payment: Payment, posting: str, debit: str, credit: str) -> tuple[Entry, ...]:
    return (
        Entry(payment.payment_id, posting, debit, payment.amount_minor, payment.currency, payment.state_time),
        Entry(payment.payment_id, posting, credit, -payment.amount_minor, payment.currency, payment.state_time),
    )
