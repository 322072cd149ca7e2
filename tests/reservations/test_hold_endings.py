"""How a hold or a sale ends without its buyer having the tickets: every arrow, and every one that there is not."""

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest

from contract import reasons
from reservations.domain.holds import call_off, cancel, expire, refund
from reservations.domain.model import Books, Credit, CreditState, Reservation, ReservationState, StepKind, TicketState
from reservations.domain.money import approve, open_payment
from tests.reservations.ledger import EVENT_ID, NOON, PRICE_MINOR, command, decided, held, open_books, states
from tests.reservations.ledger import ticket as ticket_at

HELD, CONFIRMED, CANCELLED = ReservationState.HELD, ReservationState.CONFIRMED, ReservationState.CANCELLED
REJECTED, EXPIRED, PARTIALLY_PAID = ReservationState.REJECTED, ReservationState.EXPIRED, ReservationState.PARTIALLY_PAID


def reservation_in(state: ReservationState, books: Books) -> Reservation:
    """A reservation of the first two tickets, in any of its states, with no step in the books."""
    tickets = list(books.tickets.values())[:2]
    wanted = command(*tickets, event_id=uuid4() if state is REJECTED else EVENT_ID)
    reservation = decided(books, wanted)
    if state in (PARTIALLY_PAID, CONFIRMED):
        payment_id = uuid4()
        assert open_payment(books, reservation, payment_id, "ann", PRICE_MINOR if state is PARTIALLY_PAID else 0) == ""
        approve(books, reservation, payment_id, 0)
    elif state is CANCELLED:
        assert cancel(books, reservation) == ""
    elif state is EXPIRED:
        books.now = reservation.release_time
        assert expire(books, reservation)
    assert reservation.state is state
    books.steps.clear()
    return reservation


def _expire(books: Books, reservation: Reservation) -> str:
    return "" if expire(books, reservation) else "no"


def _call_off(books: Books, reservation: Reservation) -> str:
    call_off(books, reservation)
    return ""


ENDINGS: dict[str, Callable[[Books, Reservation], str]] = {
    "expire": _expire,
    "cancel": cancel,
    "refund": refund,
    "call_off": _call_off,
}
# Every arrow that ends a hold or a sale, and every one that there is not: (state after it, its answer).
ARROWS = {
    ("expire", HELD): (EXPIRED, ""),
    ("expire", PARTIALLY_PAID): (EXPIRED, ""),
    ("expire", CONFIRMED): (CONFIRMED, "no"),
    ("expire", REJECTED): (REJECTED, "no"),
    ("expire", EXPIRED): (EXPIRED, "no"),
    ("expire", CANCELLED): (CANCELLED, "no"),
    ("cancel", HELD): (CANCELLED, ""),
    ("cancel", PARTIALLY_PAID): (CANCELLED, ""),
    ("cancel", CONFIRMED): (CONFIRMED, reasons.ALREADY_CONFIRMED),
    ("cancel", REJECTED): (REJECTED, reasons.ALREADY_REJECTED),
    ("cancel", EXPIRED): (EXPIRED, ""),
    ("cancel", CANCELLED): (CANCELLED, ""),
    ("refund", HELD): (HELD, reasons.NOT_CONFIRMED),
    ("refund", PARTIALLY_PAID): (PARTIALLY_PAID, reasons.NOT_CONFIRMED),
    ("refund", CONFIRMED): (CANCELLED, ""),
    ("refund", REJECTED): (REJECTED, reasons.NOT_CONFIRMED),
    ("refund", EXPIRED): (EXPIRED, reasons.NOT_CONFIRMED),
    ("refund", CANCELLED): (CANCELLED, ""),
    ("call_off", HELD): (CANCELLED, ""),
    ("call_off", PARTIALLY_PAID): (CANCELLED, ""),
    ("call_off", CONFIRMED): (CANCELLED, ""),
    ("call_off", REJECTED): (REJECTED, ""),
    ("call_off", EXPIRED): (EXPIRED, ""),
    ("call_off", CANCELLED): (CANCELLED, ""),
}


@pytest.mark.parametrize(("ending", "state"), ARROWS, ids=str)
def test_each_ending_takes_its_arrows_and_no_others(ending: str, state: ReservationState) -> None:
    tickets = [ticket_at(1), ticket_at(2)]
    books = open_books(tickets)
    reservation = reservation_in(state, books)
    version, paid_minor, before = reservation.version, reservation.paid_minor, states(books, tickets)
    books.now = reservation.release_time
    after, answer = ARROWS[ending, state]
    assert ENDINGS[ending](books, reservation) == answer
    assert reservation.state is after
    if after is state:
        assert (reservation.version, books.steps, states(books, tickets)) == (version, [], before)
        return
    assert reservation.version == version + 1
    assert states(books, tickets) == [TicketState.AVAILABLE] * 2
    assert books.allowances == {(EVENT_ID, "ann"): 0}
    assert (reservation.paid_minor, reservation.refund_due_minor) == (0, paid_minor)
    [step] = books.steps
    assert step.kind is (StepKind.EXPIRED if after is EXPIRED else StepKind.CANCELLED)
    assert [credit.amount_minor for credit in step.refunds] == ([paid_minor] if paid_minor else [])
    assert {credit.state for credit in reservation.credits.values()} <= {CreditState.REFUND_DUE}


def test_a_hold_is_not_released_an_instant_before_its_release_time() -> None:
    tickets = [ticket_at(1)]
    books = open_books(tickets)
    hold = held(books, *tickets)
    books.now = hold.release_time - timedelta(microseconds=1)
    assert not expire(books, hold)
    books.now = hold.release_time
    assert expire(books, hold)


def test_only_what_was_applied_goes_back_a_charge_under_way_waits_for_its_outcome() -> None:
    tickets = [ticket_at(1)]
    books = open_books(tickets)
    hold = held(books, *tickets)
    for state in CreditState:
        credit = Credit(uuid4(), 1_000, state, NOON)
        hold.credits[credit.payment_id] = credit
    hold.paid_minor = hold.open_minor = hold.refund_due_minor = hold.refunded_minor = 1_000
    books.steps.clear()
    assert cancel(books, hold) == ""
    assert [credit.state for credit in hold.credits.values()] == [
        CreditState.OPEN,
        CreditState.REFUND_DUE,
        CreditState.CLOSED,
        CreditState.REFUND_DUE,
        CreditState.REFUNDED,
    ]
    assert (hold.open_minor, hold.paid_minor, hold.refund_due_minor, hold.refunded_minor) == (1_000, 0, 2_000, 1_000)
    assert len(books.steps[0].refunds) == 1
