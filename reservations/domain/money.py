"""What payments do to a reservation. A charged payment ends as exactly one of: applied to a sale, or refunded."""

from uuid import UUID

from contract import reasons
from reservations.domain.model import (
    LIVE_HOLD,
    PAYMENTS_MAX,
    Books,
    Credit,
    CreditState,
    EventState,
    Reservation,
    ReservationState,
    StepKind,
    TicketState,
)


class RefundWithoutDebt(Exception):
    """A refund was completed that was never due: money left that should not have. An alarm, never a change."""


def open_payment(books: Books, reservation: Reservation, payment_id: UUID, buyer_id: str, amount_minor: int) -> str:
    """(none) -> OPEN: keeps room for a payment of `amount_minor` (0 for all that is due), or returns why not.

    Only an opened payment may be charged. Opening again changes nothing.
    """
    known = reservation.credits.get(payment_id)
    if known:
        # Whoever forgot what became of an opened payment charges it again under its key and is told.
        return reasons.HOLD_ENDED if known.state is CreditState.CLOSED else ""
    amount_minor = amount_minor or reservation.due_minor
    if reason := _refusal(reservation, buyer_id, amount_minor):
        return reason
    reservation.credits[payment_id] = Credit(payment_id, amount_minor, CreditState.OPEN, books.now)
    reservation.open_minor += amount_minor
    reservation.set_release_time()
    books.take_step(StepKind.PAYMENT_OPENED, reservation)
    return ""


def _refusal(reservation: Reservation, buyer_id: str, amount_minor: int) -> str:
    if reservation.buyer_id != buyer_id:
        return reasons.NOT_YOUR_RESERVATION
    if reservation.state is ReservationState.CONFIRMED:
        return reasons.NOTHING_DUE
    if reservation.state not in LIVE_HOLD:
        return reasons.HOLD_ENDED
    if reservation.due_minor == 0:
        return reasons.NOTHING_DUE
    if amount_minor > reservation.due_minor:
        return reasons.AMOUNT_ABOVE_DUE
    return reasons.TOO_MANY_PAYMENTS if len(reservation.credits) >= PAYMENTS_MAX else ""


def approve(books: Books, reservation: Reservation, payment_id: UUID, amount_minor: int) -> None:
    """The card was charged: OPEN -> APPLIED where the reservation can take it, else -> REFUND_DUE. Idempotent."""
    credit = reservation.credits.get(payment_id)
    if credit is None:
        # Charged without an opening here (a database restored from the past): the money must still end somewhere.
        credit = Credit(payment_id, amount_minor, CreditState.CLOSED, books.now)
        reservation.credits[payment_id] = credit
    if credit.state is CreditState.OPEN:
        reservation.open_minor -= credit.amount_minor
    elif credit.state is not CreditState.CLOSED:
        return
    if credit.state is CreditState.OPEN and reservation.state in LIVE_HOLD:
        _apply(books, reservation, credit)
    elif credit.state is CreditState.OPEN and _can_revive(books, reservation, credit):
        _revive(books, reservation, credit)
    else:
        credit.state = CreditState.REFUND_DUE
        reservation.refund_due_minor += credit.amount_minor
        reservation.set_release_time()
        books.take_step(StepKind.MONEY_CHANGED, reservation, [credit])


def _apply(books: Books, reservation: Reservation, credit: Credit) -> None:
    credit.state = CreditState.APPLIED
    reservation.paid_minor += credit.amount_minor
    if reservation.paid_minor == reservation.total_minor:
        # HELD, PARTIALLY_PAID -> CONFIRMED
        reservation.state = ReservationState.CONFIRMED
        books.move_tickets(reservation.ticket_ids, TicketState.SOLD)
        books.take_step(StepKind.SOLD, reservation)
    else:
        # HELD, PARTIALLY_PAID -> PARTIALLY_PAID
        reservation.state = ReservationState.PARTIALLY_PAID
        reservation.instalment_time = books.now
        reservation.set_release_time()
        books.take_step(StepKind.PARTIALLY_PAID, reservation)


def _can_revive(books: Books, reservation: Reservation, credit: Credit) -> bool:
    event = books.events.get(reservation.event_id)
    return (
        reservation.state is ReservationState.EXPIRED
        and credit.amount_minor == reservation.total_minor
        and event is not None
        and event.state is EventState.OPEN
        and all(ticket.state is TicketState.AVAILABLE for ticket in books.tickets_of(reservation))
        and books.within_limit(event, reservation.buyer_id, len(reservation.ticket_ids))
    )


def _revive(books: Books, reservation: Reservation, credit: Credit) -> None:
    # EXPIRED -> CONFIRMED: the charge landed late, but nobody took the tickets meanwhile.
    credit.state = CreditState.APPLIED
    reservation.state = ReservationState.CONFIRMED
    reservation.paid_minor = credit.amount_minor
    books.move_tickets(reservation.ticket_ids, TicketState.SOLD)
    books.change_allowance(reservation, +1)
    books.take_step(StepKind.SOLD, reservation)


def reject(books: Books, reservation: Reservation, payment_id: UUID) -> None:
    """Nothing was charged: OPEN -> CLOSED. A late or repeated rejection changes nothing, least of all a sale."""
    credit = reservation.credits.get(payment_id)
    if credit is None or credit.state is not CreditState.OPEN:
        return
    credit.state = CreditState.CLOSED
    reservation.open_minor -= credit.amount_minor
    reservation.set_release_time()
    books.take_step(StepKind.MONEY_CHANGED, reservation)


def complete_refund(books: Books, reservation: Reservation, payment_id: UUID) -> None:
    """The money is back: REFUND_DUE -> REFUNDED. Repeats change nothing. Raises RefundWithoutDebt."""
    credit = reservation.credits.get(payment_id)
    if credit and credit.state is CreditState.REFUNDED:
        return
    if credit is None or credit.state is not CreditState.REFUND_DUE:
        state = credit.state if credit else "no credit"
        raise RefundWithoutDebt(f"payment {payment_id} was refunded while its credit is {state}")
    credit.state = CreditState.REFUNDED
    reservation.refund_due_minor -= credit.amount_minor
    reservation.refunded_minor += credit.amount_minor
    books.take_step(StepKind.MONEY_CHANGED, reservation)
