"""Charges that land after the hold ran out: they buy what nobody else took, or go back."""

from typing import Any
from uuid import UUID

import pytest

from reservations.domain.holds import cancel
from reservations.domain.model import Books, CreditState, EventState, Reservation, StepKind, TicketState
from reservations.domain.money import approve
from tests.reservations.ledger import EVENT_ID, TOTAL_MINOR, a_hold, event, held, ledger_of, opened, run_out, states
from tests.reservations.ledger import ticket as ticket_at


def late_charge(amount_minor: int = 0, **terms: Any) -> tuple[Books, Reservation, UUID]:
    """A hold that ran out while a charge was under way."""
    books, hold = a_hold(**terms)
    payment_id = opened(books, hold, amount_minor)
    run_out(books, hold)
    books.steps.clear()
    return books, hold, payment_id


def lands(books: Books, hold: Reservation, payment_id: UUID) -> str:
    """The charge lands after all; returns the state it leaves the reservation in."""
    approve(books, hold, payment_id, hold.credits[payment_id].amount_minor)
    if hold.state != "CONFIRMED":
        assert hold.credits[payment_id].state is CreditState.REFUND_DUE
        assert [credit.payment_id for step in books.steps for credit in step.refunds] == [payment_id]
    return str(hold.state)


def test_a_charge_that_lands_late_still_buys_what_nobody_else_took() -> None:
    books, hold, payment_id = late_charge()
    assert lands(books, hold, payment_id) == "CONFIRMED"
    assert ledger_of(hold) == (TOTAL_MINOR, 0, 0, 0)
    assert states(books, list(books.tickets.values())) == [TicketState.SOLD] * 2
    assert books.allowances == {(EVENT_ID, "ann"): 2}
    assert [step.kind for step in books.steps] == [StepKind.SOLD]


def test_a_late_charge_of_a_part_goes_back() -> None:
    books, hold, payment_id = late_charge(amount_minor=1_000)
    assert lands(books, hold, payment_id) == "EXPIRED"


def test_a_late_charge_goes_back_when_one_of_its_tickets_is_gone() -> None:
    books, hold, payment_id = late_charge()
    held(books, books.tickets[hold.ticket_ids[1]], buyer_id="bob")
    books.steps.clear()
    assert lands(books, hold, payment_id) == "EXPIRED"
    assert ledger_of(hold) == (0, 0, TOTAL_MINOR, 0)
    assert books.tickets[hold.ticket_ids[0]].state is TicketState.AVAILABLE


@pytest.mark.parametrize("state", [EventState.CLOSED, EventState.CANCELLED])
def test_a_late_charge_goes_back_when_the_event_sells_no_more(state: EventState) -> None:
    books, hold, payment_id = late_charge()
    books.events[EVENT_ID] = event(state=state)
    assert lands(books, hold, payment_id) == "EXPIRED"


def test_a_late_charge_goes_back_when_the_buyer_has_bought_up_to_the_limit_meanwhile() -> None:
    books, hold, payment_id = late_charge(max_tickets_per_buyer=2)
    other = ticket_at(3)
    books.tickets[other.ticket_id] = other
    held(books, other)
    books.steps.clear()
    assert lands(books, hold, payment_id) == "EXPIRED"


def test_a_late_charge_never_revives_what_was_cancelled() -> None:
    books, hold = a_hold()
    payment_id = opened(books, hold)
    cancel(books, hold)
    books.steps.clear()
    assert lands(books, hold, payment_id) == "CANCELLED"


def test_of_two_late_charges_for_one_seat_the_first_buys_it_and_the_second_goes_back() -> None:
    books, first, first_payment = late_charge()
    second = held(books, *books.tickets_of(first), buyer_id="bob")
    second_payment = opened(books, second)
    run_out(books, second)
    books.steps.clear()
    assert lands(books, second, second_payment) == "CONFIRMED"
    assert lands(books, first, first_payment) == "EXPIRED"
    assert {credit.payment_id for step in books.steps for credit in step.refunds} == {first_payment}
