"""How a hold begins and how it ends without a sale."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from contract import reasons
from reservations.domain.model import (
    LIVE_HOLD,
    Books,
    Credit,
    CreditState,
    Event,
    EventState,
    Reservation,
    ReservationState,
    StepKind,
    TicketState,
)
from reservations.domain.seats import adjacent, closest

COMMAND_AGE_MAX = timedelta(seconds=60)
"""A Reserve that waited longer is refused: nobody waits for that hold any more."""


@dataclass(slots=True, frozen=True)
class SeatsWanted:
    """What a BestAvailable asks for."""

    section: str
    quantity: int


@dataclass(slots=True, frozen=True)
class ReserveTickets:
    """The command: either `ticket_ids` (none twice) or `best`."""

    reservation_id: UUID
    event_id: UUID
    buyer_id: str
    request_id: UUID
    command_id: UUID
    occur_time: datetime
    ticket_ids: tuple[UUID, ...] = ()
    best: SeatsWanted | None = None


@dataclass(slots=True, frozen=True)
class Section:
    """What a best-available choice sees: locked tickets in seat order, and how many on sale it does not see."""

    ticket_ids: Sequence[UUID] = ()
    unseen_count: int = 0


def reserve(books: Books, command: ReserveTickets, section: Section = Section()) -> bool:
    """Decides a Reserve: (none) -> HELD, or CONFIRMED when it costs nothing, or REJECTED.

    Returns False, and changes nothing, when a best-available choice might do better with tickets of the section that it
    does not see: decide it again with more of them.
    """
    event = books.events.get(command.event_id)
    reason = _refusal(books, command, event)
    ticket_ids = command.ticket_ids
    if not reason and command.best:
        found = _choose(books, command.best.quantity, section)
        if found is None:
            return False
        ticket_ids = found
        reason = "" if ticket_ids else reasons.SOLD_OUT
    elif not reason:
        reason = _unavailable(books, command)
    if reason or event is None:
        _reject(books, command, event, reason)
    else:
        _hold(books, command, event, ticket_ids)
    return True


def _refusal(books: Books, command: ReserveTickets, event: Event | None) -> str:
    if event is None:
        return reasons.UNKNOWN_EVENT
    if event.state is not EventState.OPEN:
        return reasons.EVENT_CLOSED
    if (event.sale_start_time and books.now < event.sale_start_time) or (
        event.sale_end_time and books.now >= event.sale_end_time
    ):
        return reasons.SALE_NOT_OPEN
    if books.now - command.occur_time > COMMAND_AGE_MAX:
        return reasons.TOO_LATE
    wanted = command.best.quantity if command.best else len(command.ticket_ids)
    if not books.within_limit(event, command.buyer_id, wanted):
        return reasons.LIMIT_EXCEEDED
    if not books.has_room_for_hold(event.event_id, command.buyer_id):
        return reasons.LIMIT_EXCEEDED
    return ""


def _unavailable(books: Books, command: ReserveTickets) -> str:
    tickets = [books.tickets.get(ticket_id) for ticket_id in command.ticket_ids]
    # The books hold the tickets of every event that the batch is about.
    if any(ticket is None or ticket.event_id != command.event_id for ticket in tickets):
        return reasons.UNKNOWN_TICKET
    if any(ticket and ticket.state is not TicketState.AVAILABLE for ticket in tickets):
        return reasons.TICKETS_TAKEN
    return ""


def _choose(books: Books, quantity: int, section: Section) -> tuple[UUID, ...] | None:
    seen = (books.tickets[ticket_id] for ticket_id in section.ticket_ids)
    free = [ticket for ticket in seen if ticket.state is TicketState.AVAILABLE]
    if len(free) + section.unseen_count < quantity:
        return ()
    if found := adjacent(free, quantity):
        return found
    return None if section.unseen_count else closest(free, quantity)


def _reject(books: Books, command: ReserveTickets, event: Event | None, reason: str) -> None:
    reservation = Reservation(
        command.reservation_id,
        command.event_id,
        command.buyer_id,
        command.request_id,
        command.command_id,
        ReservationState.REJECTED,
        currency=event.currency if event else "",
        create_time=books.now,
        expire_time=books.now,
        release_time=books.now,
        reject_reason=reason,
    )
    books.reservations[reservation.reservation_id] = reservation
    books.take_step(StepKind.REJECTED, reservation)


def _hold(books: Books, command: ReserveTickets, event: Event, ticket_ids: tuple[UUID, ...]) -> None:
    total_minor = sum(books.tickets[ticket_id].price_minor for ticket_id in ticket_ids)
    free = total_minor == 0
    expire_time = books.now + event.hold_duration
    reservation = Reservation(
        command.reservation_id,
        command.event_id,
        command.buyer_id,
        command.request_id,
        command.command_id,
        ReservationState.CONFIRMED if free else ReservationState.HELD,
        currency=event.currency,
        create_time=books.now,
        expire_time=expire_time,
        release_time=expire_time,
        payment_grace=event.payment_grace,
        instalment_hold=event.instalment_hold,
        total_minor=total_minor,
        ticket_ids=ticket_ids,
    )
    books.reservations[reservation.reservation_id] = reservation
    books.move_tickets(ticket_ids, TicketState.SOLD if free else TicketState.HELD)
    books.change_allowance(reservation, +1)
    if not free:
        books.count_hold(reservation)
    books.take_step(StepKind.SOLD if free else StepKind.RESERVED, reservation)


def expire(books: Books, reservation: Reservation) -> bool:
    """HELD, PARTIALLY_PAID -> EXPIRED, once its release_time is over. Returns whether it did."""
    if reservation.state not in LIVE_HOLD or reservation.release_time > books.now:
        return False
    _end(books, reservation, ReservationState.EXPIRED, StepKind.EXPIRED)
    return True


def cancel(books: Books, reservation: Reservation) -> str:
    """HELD, PARTIALLY_PAID -> CANCELLED, by the buyer. Returns why not, or "" also when the hold is over already."""
    match reservation.state:
        case ReservationState.CONFIRMED:
            return reasons.ALREADY_CONFIRMED
        case ReservationState.REJECTED:
            return reasons.ALREADY_REJECTED
        case ReservationState.HELD | ReservationState.PARTIALLY_PAID:
            _end(books, reservation, ReservationState.CANCELLED, StepKind.CANCELLED)
        case ReservationState.CANCELLED | ReservationState.EXPIRED:
            pass
    return ""


def refund(books: Books, reservation: Reservation) -> str:
    """CONFIRMED -> CANCELLED, by a person and never by a race. Returns why not, or "" also when it already is."""
    if reservation.state is ReservationState.CONFIRMED:
        _end(books, reservation, ReservationState.CANCELLED, StepKind.CANCELLED)
    return "" if reservation.state is ReservationState.CANCELLED else reasons.NOT_CONFIRMED


def call_off(books: Books, reservation: Reservation) -> None:
    """HELD, PARTIALLY_PAID, CONFIRMED -> CANCELLED, because its event is cancelled."""
    if reservation.holds_tickets:
        _end(books, reservation, ReservationState.CANCELLED, StepKind.CANCELLED)


def _end(books: Books, reservation: Reservation, state: ReservationState, kind: StepKind) -> None:
    # Tickets back on sale, what was applied goes back; a charge still under way finds the state when it lands.
    refunds: list[Credit] = []
    for credit in reservation.credits.values():
        if credit.state is CreditState.APPLIED:
            credit.state = CreditState.REFUND_DUE
            refunds.append(credit)
    reservation.refund_due_minor += reservation.paid_minor
    reservation.paid_minor = 0
    reservation.state = state
    books.move_tickets(reservation.ticket_ids, TicketState.AVAILABLE)
    books.change_allowance(reservation, -1)
    books.take_step(kind, reservation, refunds)
