"""How a hold begins: every reason to refuse it, in its order, and what it then keeps."""

from datetime import timedelta
from itertools import combinations
from typing import Any
from uuid import UUID, uuid4

import pytest

from contract import reasons
from reservations.domain.holds import COMMAND_AGE_MAX, SeatsWanted, Section, reserve
from reservations.domain.model import EventState, ReservationState, StepKind, TicketState
from tests.reservations.ledger import EVENT_ID, NOON, command, decided, event, held, open_books, states
from tests.reservations.ledger import ticket as ticket_at

SECOND = timedelta(seconds=1)
HELD, CONFIRMED, REJECTED = ReservationState.HELD, ReservationState.CONFIRMED, ReservationState.REJECTED

# In the order in which they are told: what a Reserve can suffer from, by what is wrong with its event or its moment.
FLAWS: dict[str, dict[str, Any]] = {
    reasons.EVENT_CLOSED: {"state": EventState.CLOSED},
    reasons.SALE_NOT_OPEN: {"sale_start_time": NOON + SECOND},
    reasons.TOO_LATE: {"occur_time": NOON - COMMAND_AGE_MAX - SECOND},
    reasons.LIMIT_EXCEEDED: {"max_tickets_per_buyer": 1},
    reasons.UNKNOWN_TICKET: {"unknown": True},
    reasons.TICKETS_TAKEN: {"taken": True},
}


@pytest.mark.parametrize("flaws", [*((flaw,) for flaw in FLAWS), *combinations(FLAWS, 2), tuple(FLAWS)], ids="+".join)
def test_of_several_reasons_to_refuse_the_first_in_the_order_is_told(flaws: tuple[str, ...]) -> None:
    terms = {name: value for flaw in flaws for name, value in FLAWS[flaw].items()}
    occur_time = terms.pop("occur_time", NOON)
    taken = TicketState.HELD if terms.pop("taken", False) else TicketState.AVAILABLE
    tickets = [ticket_at(1, state=taken), ticket_at(2)]
    asked = [*tickets, ticket_at(3)] if terms.pop("unknown", False) else tickets
    books = open_books(tickets, event(**terms))
    refused = decided(books, command(*asked, occur_time=occur_time))
    assert (refused.state, refused.reject_reason) == (REJECTED, flaws[0])
    assert [books.tickets[one.ticket_id] for one in tickets] == tickets
    assert books.allowances == {}
    assert [step.kind for step in books.steps] == [StepKind.REJECTED]
    assert refused.version == 1


def test_an_event_that_nobody_knows_is_told_before_anything_else() -> None:
    books = open_books()
    refused = decided(books, command(ticket_at(1), event_id=uuid4(), occur_time=NOON - 2 * COMMAND_AGE_MAX))
    assert refused.reject_reason == reasons.UNKNOWN_EVENT
    assert refused.currency == ""


def test_an_event_called_off_sells_nothing() -> None:
    tickets = [ticket_at(1)]
    refused = decided(open_books(tickets, event(state=EventState.CANCELLED)), command(*tickets))
    assert refused.reject_reason == reasons.EVENT_CLOSED


@pytest.mark.parametrize(
    ("terms", "open_for_sale"),
    [
        ({"sale_start_time": NOON}, True),
        ({"sale_start_time": NOON + timedelta(microseconds=1)}, False),
        ({"sale_end_time": NOON + timedelta(microseconds=1)}, True),
        ({"sale_end_time": NOON}, False),
        ({"sale_start_time": NOON - SECOND, "sale_end_time": NOON + SECOND}, True),
        ({}, True),
    ],
)
def test_a_sale_includes_its_first_instant_and_not_its_last(terms: dict[str, Any], open_for_sale: bool) -> None:
    tickets = [ticket_at(1)]
    answered = decided(open_books(tickets, event(**terms)), command(*tickets))
    assert answered.reject_reason == ("" if open_for_sale else reasons.SALE_NOT_OPEN)


def test_a_command_is_old_only_beyond_the_greatest_age() -> None:
    tickets = [ticket_at(1)]
    assert decided(open_books(tickets), command(*tickets, occur_time=NOON - COMMAND_AGE_MAX)).state is HELD


@pytest.mark.parametrize("already", [0, 1, 2])
@pytest.mark.parametrize("wanted", [1, 2, 3])
def test_the_limit_counts_what_a_buyer_has_and_what_he_wants(already: int, wanted: int) -> None:
    tickets = [ticket_at(ordinal) for ordinal in range(5)]
    books = open_books(tickets, event(max_tickets_per_buyer=3))
    if already:
        held(books, *tickets[:already])
    answered = decided(books, command(*tickets[already : already + wanted]))
    assert answered.reject_reason == ("" if already + wanted <= 3 else reasons.LIMIT_EXCEEDED)


def test_the_limit_is_each_buyers_own() -> None:
    tickets = [ticket_at(1), ticket_at(2)]
    books = open_books(tickets, event(max_tickets_per_buyer=1))
    held(books, tickets[0], buyer_id="ann")
    held(books, tickets[1], buyer_id="bob")


def test_a_limit_of_zero_is_no_limit() -> None:
    tickets = [ticket_at(ordinal) for ordinal in range(100)]
    held(open_books(tickets, event(max_tickets_per_buyer=0)), *tickets)


def test_a_ticket_of_another_event_is_unknown_even_if_somebody_else_in_the_batch_asks_for_it_rightly() -> None:
    other_id = UUID(int=9 << 112)
    foreign = ticket_at(1, event_id=other_id)
    books = open_books([foreign], event(), event(event_id=other_id))
    refused = decided(books, command(foreign, event_id=EVENT_ID))
    assert refused.reject_reason == reasons.UNKNOWN_TICKET
    assert decided(books, command(foreign, event_id=other_id)).state is HELD


@pytest.mark.parametrize("state", [TicketState.HELD, TicketState.SOLD, TicketState.WITHDRAWN])
def test_a_cart_with_one_ticket_that_is_not_on_sale_holds_none(state: TicketState) -> None:
    tickets = [ticket_at(1), ticket_at(2, state=state), ticket_at(3)]
    books = open_books(tickets)
    assert decided(books, command(*tickets)).reject_reason == reasons.TICKETS_TAKEN
    assert states(books, tickets) == [TicketState.AVAILABLE, state, TicketState.AVAILABLE]


def test_a_hold_keeps_the_terms_and_the_price_of_its_moment() -> None:
    tickets = [ticket_at(1, price_minor=100), ticket_at(2, price_minor=250)]
    books = open_books(tickets, event(hold_duration=timedelta(seconds=90), payment_grace=7 * SECOND))
    hold = held(books, *tickets)
    assert (hold.total_minor, hold.paid_minor, hold.open_minor, hold.currency) == (350, 0, 0, "EUR")
    assert hold.create_time == NOON
    assert hold.expire_time == hold.release_time == NOON + timedelta(seconds=90)
    assert hold.payment_grace == 7 * SECOND
    assert states(books, tickets) == [TicketState.HELD] * 2
    assert [books.tickets[one.ticket_id].version for one in tickets] == [2, 2]
    assert books.allowances == {(EVENT_ID, "ann"): 2}
    [step] = books.steps
    assert (step.kind, step.occur_time, step.reservation.version) == (StepKind.RESERVED, NOON, 1)
    assert [one.state for one in step.tickets] == [TicketState.HELD] * 2


def test_what_costs_nothing_is_sold_at_once() -> None:
    tickets = [ticket_at(1, price_minor=0)]
    books = open_books(tickets)
    assert decided(books, command(*tickets)).state is CONFIRMED
    assert states(books, tickets) == [TicketState.SOLD]
    assert [step.kind for step in books.steps] == [StepKind.SOLD]


def test_two_commands_of_one_batch_never_get_the_same_ticket() -> None:
    tickets = [ticket_at(1), ticket_at(2), ticket_at(3)]
    books = open_books(tickets)
    held(books, tickets[0], tickets[1])
    assert decided(books, command(tickets[1], tickets[2])).reject_reason == reasons.TICKETS_TAKEN
    held(books, tickets[2])


# Best available: what is free of four seats in sight, how many are on sale out of sight, how many are wanted.
@pytest.mark.parametrize(
    ("free", "unseen_count", "quantity", "expected"),
    [
        ((1, 2, 3, 4), 0, 2, (1, 2)),
        ((2, 3), 9, 2, (2, 3)),
        ((1, 3), 0, 2, (1, 3)),
        ((1, 3), 1, 2, "decide again"),
        ((1,), 1, 2, "decide again"),
        ((1,), 0, 2, reasons.SOLD_OUT),
        ((), 0, 1, reasons.SOLD_OUT),
        ((), 5, 6, reasons.SOLD_OUT),
        ((), 1, 1, "decide again"),
    ],
)
def test_best_available_is_refused_only_when_too_few_are_on_sale_in_sight_and_out_of_sight(
    free: tuple[int, ...], unseen_count: int, quantity: int, expected: tuple[int, ...] | str
) -> None:
    seats = [
        ticket_at(ordinal, state=TicketState.AVAILABLE if ordinal in free else TicketState.SOLD)
        for ordinal in range(1, 5)
    ]
    books = open_books(seats)
    asked = command(best=SeatsWanted("stalls", quantity))
    section = Section([seat.ticket_id for seat in seats], unseen_count)
    if expected == "decide again":
        assert not reserve(books, asked, section)
        assert (books.reservations, books.steps, books.allowances) == ({}, [], {})
        assert [books.tickets[seat.ticket_id] for seat in seats] == seats
    elif isinstance(expected, str):
        assert decided(books, asked, section).reject_reason == expected
    else:
        chosen = decided(books, asked, section).ticket_ids
        assert chosen == tuple(ticket_at(ordinal).ticket_id for ordinal in expected)


def test_best_available_respects_the_limit() -> None:
    seats = [ticket_at(1), ticket_at(2)]
    books = open_books(seats, event(max_tickets_per_buyer=1))
    section = Section([seat.ticket_id for seat in seats])
    refused = decided(books, command(best=SeatsWanted("stalls", 2)), section)
    assert refused.reject_reason == reasons.LIMIT_EXCEEDED
