"""A refund that a person has made past the card processor, which refuses it.

The processor must not be asked for it meanwhile, or the money could go back twice: the payment is taken under a lease
like any other work on it, at a moment when no attempt of the refunder can be under way.
"""

from datetime import datetime
from typing import Final
from uuid import UUID

from psycopg import AsyncConnection

from chassis.outbox import Outbox, Written
from payments import domain, ledger, messages, moves, refunder, store
from payments.domain import Payment, PaymentState

# Time to ask the processor and to record; after that the refunder may try again.
LEASE_S: Final = 60.0


class NotDue(Exception):
    """There is nothing to be given back by hand: the message says what became of the payment."""


async def take(conn: AsyncConnection, payment_id: UUID) -> Payment | None:
    """The payment, kept from everybody else for LEASE_S; None while an attempt to refund it may be under way.

    Raises NotDue.
    """
    # An attempt ends with its lease. Whoever is due later than any lease that could run now is waiting, not at work.
    payment = await store.take_refund(conn, payment_id, quiet_s=refunder.LEASE_S, lease_s=LEASE_S)
    if payment is None:
        known = await store.find(conn, [payment_id])
        if not known:
            raise NotDue(f"there is no payment {payment_id}")
        if known[0].state is not PaymentState.REFUND_DUE:
            raise NotDue(f"payment {payment_id} is {known[0].state}, not REFUND_DUE")
    return payment


async def settle(conn: AsyncConnection, outbox: Outbox, taken: Payment, now: datetime) -> Written:
    """REFUND_DUE -> REFUNDED with a posting of its own; publish what it returns after the commit. Raises NotDue."""
    locked = await store.lock(conn, [taken.payment_id])
    refunded = domain.settle_refund(locked[taken.payment_id], now)
    if refunded is None:
        raise NotDue(f"payment {taken.payment_id} is {locked[taken.payment_id].state} by now")
    return await moves.write(conn, outbox, [(refunded, messages.refund_fact(refunded))], post=ledger.postings_by_hand)
