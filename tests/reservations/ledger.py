"""Books for the tests of the pure rules: one event, its tickets, commands as they come, and what is paid."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from reservations.domain.holds import ReserveTickets, SeatsWanted, Section, expire, reserve
from reservations.domain.model import Books, Event, EventState, Reservation, Ticket, TicketState
from reservations.domain.money import approve, open_payment

NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)
EVENT_ID = UUID(int=1 << 112)
PRICE_MINOR = 5_000
TOTAL_MINOR = 2 * PRICE_MINOR
"""What a hold of `a_hold` costs."""
UNSEEN = Section()
"""What a command for named tickets sees of a section."""


def event(**terms: Any) -> Event:
    """An event on sale: holds of 5 min, grace and instalments of 1 min, as many tickets as anybody likes."""
    on_sale = Event(
        event_id=EVENT_ID,
        currency="EUR",
        hold_duration=timedelta(minutes=5),
        payment_grace=timedelta(minutes=1),
        instalment_hold=timedelta(minutes=1),
        max_tickets_per_buyer=0,
        sale_start_time=None,
        sale_end_time=None,
        state=EventState.OPEN,
    )
    return replace(on_sale, **terms)


def ticket(ordinal: int, **columns: Any) -> Ticket:
    """The ticket at a place in seat order, all in one row of the stalls."""
    on_sale = Ticket(
        event_id=EVENT_ID,
        ticket_id=UUID(int=(2 << 112) + ordinal),
        section="stalls",
        row="A",
        seat=str(ordinal),
        position=ordinal,
        price_minor=PRICE_MINOR,
        state=TicketState.AVAILABLE,
        version=1,
    )
    return replace(on_sale, **columns)


def open_books(tickets: Iterable[Ticket] = (), *events: Event) -> Books:
    """Books at noon of an event (or of others) with tickets."""
    books = Books(now=NOON, events={one.event_id: one for one in events or [event()]})
    for one in tickets:
        books.tickets[one.ticket_id] = books.tickets_read[one.ticket_id] = one
    return books


def command(*tickets: Ticket, best: SeatsWanted | None = None, **fields: Any) -> ReserveTickets:
    """A Reserve for these tickets, or for the best, accepted at noon."""
    asked = ReserveTickets(
        reservation_id=uuid4(),
        event_id=EVENT_ID,
        buyer_id="ann",
        request_id=uuid4(),
        command_id=uuid4(),
        occur_time=NOON,
        ticket_ids=tuple(one.ticket_id for one in tickets),
        best=best,
    )
    return replace(asked, **fields)


def decided(books: Books, asked: ReserveTickets, section: Section = UNSEEN) -> Reservation:
    """The reservation that a Reserve ends as."""
    assert reserve(books, asked, section)
    return books.reservations[asked.reservation_id]


def held(books: Books, *tickets: Ticket, **fields: Any) -> Reservation:
    """A hold on these tickets."""
    reservation = decided(books, command(*tickets, **{"occur_time": books.now, **fields}))
    assert reservation.state == "HELD", reservation.reject_reason
    return reservation


def states(books: Books, tickets: Sequence[Ticket]) -> list[TicketState]:
    """Where these tickets are now."""
    return [books.tickets[one.ticket_id].state for one in tickets]


def a_hold(**terms: Any) -> tuple[Books, Reservation]:
    """A hold of ann's on two tickets, and its books."""
    tickets = [ticket(1), ticket(2)]
    books = open_books(tickets, event(**terms))
    hold = held(books, *tickets)
    books.steps.clear()
    return books, hold


def opened(books: Books, hold: Reservation, amount_minor: int = 0) -> UUID:
    """A payment that may charge."""
    payment_id = uuid4()
    assert open_payment(books, hold, payment_id, hold.buyer_id, amount_minor) == ""
    return payment_id


def paid(books: Books, hold: Reservation, amount_minor: int = 0) -> UUID:
    """A payment that is approved."""
    payment_id = opened(books, hold, amount_minor)
    approve(books, hold, payment_id, hold.credits[payment_id].amount_minor)
    return payment_id


def run_out(books: Books, hold: Reservation) -> None:
    """Its time is over, and the sweep comes."""
    books.now = hold.release_time
    assert expire(books, hold)


def ledger_of(hold: Reservation) -> tuple[int, int, int, int]:
    """What is paid, being charged, to be refunded, and refunded, in minor units."""
    return hold.paid_minor, hold.open_minor, hold.refund_due_minor, hold.refunded_minor
