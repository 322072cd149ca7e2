"""The reads of TicketingService that reservations owns: reservations and tickets, as they are now."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from chassis.callers import Caller, calling
from chassis.database import Database
from chassis.errors import not_found
from chassis.interceptor import Context
from chassis.paging import PageTokens
from contract import access, reasons
from reservations import validation
from reservations.domain.model import Reservation, TicketState
from reservations.keyset import Position
from reservations.messages import reservation_message
from reservations.store import reads as store
from reservations.store.books import Connection
from reservations.store.catalog import organiser_of
from ticketrush.v1 import ticketing_pb2 as pb

TICKETS_PER_PAGE_MAX: Final = 5_000
"""Tickets in a page of reservations: with the longest names these are 2.3 MB, and a message takes 4 MiB."""

_TICKET_STATE: Final = {pb.Ticket.State.Value(f"STATE_{state}"): state for state in TicketState}
_STATE_NUMBER: Final = {str(state): number for number, state in _TICKET_STATE.items()}


@dataclass(frozen=True)
class Reads:
    """Where reads look, and how their pages are continued."""

    database: Database
    tokens: PageTokens


class ReadsServicer:
    """GetReservation, ListReservations and ListTickets."""

    def __init__(self, reads: Reads) -> None:
        self._database = reads.database
        self._tokens = reads.tokens

    async def GetReservation(self, request: pb.GetReservationRequest, context: Context) -> pb.GetReservationResponse:
        reservation_id = validation.get_reservation(request)
        async with self._database.transaction() as conn:
            found = await store.reservation(conn, reservation_id)
            is_shown = found is not None and await _may_see(conn, calling.get(), found[0])
        if found is None or not is_shown:
            raise not_found(reasons.UNKNOWN_RESERVATION, f"there is no reservation {reservation_id}")
        return pb.GetReservationResponse(reservation=reservation_message(*found))

    async def ListReservations(
        self, request: pb.ListReservationsRequest, context: Context
    ) -> pb.ListReservationsResponse:
        event_id, size = validation.list_reservations(request)
        filters = f"ListReservations buyer={request.buyer_id} event={event_id or ''}"
        behind = self._tokens.decode(filters, request.page_token, Position.parse)
        # One more than asked for tells whether there is a next page.
        async with self._database.transaction() as conn:
            await _refuse_unless_own_list(conn, calling.get(), request.buyer_id, event_id)
            found = await store.page_of_reservations(
                conn, buyer_id=request.buyer_id, event_id=event_id, behind=behind, size=size + 1
            )
        page = found[: min(size, _count_that_fits(found))]
        token = ""
        if len(page) < len(found):
            last, _ = page[-1]
            token = self._tokens.encode(filters, str(Position(last.create_time, last.reservation_id)))
        return pb.ListReservationsResponse(
            reservations=[reservation_message(*shown) for shown in page], next_page_token=token
        )

    async def ListTickets(self, request: pb.ListTicketsRequest, context: Context) -> pb.ListTicketsResponse:
        event_id, size = validation.list_tickets(request)
        state = _TICKET_STATE.get(request.state)
        filters = f"ListTickets event={event_id} state={state or ''}"
        behind = self._tokens.decode(filters, request.page_token, UUID)
        async with self._database.transaction() as conn:
            found = await store.page_of_tickets(conn, event_id, state=state, behind=behind, size=size + 1)
            if not found and not await store.event_exists(conn, event_id):
                raise not_found(reasons.UNKNOWN_EVENT, f"there is no event {event_id}")
        token = self._tokens.encode(filters, found[size - 1][0]) if len(found) > size else ""
        return pb.ListTicketsResponse(tickets=_tickets(found[:size]), next_page_token=token)


async def _may_see(conn: Connection, caller: Caller, reservation: Reservation) -> bool:
    if access.may_for_buyer("GetReservation", caller, reservation.buyer_id):
        return True
    organiser_id = await organiser_of(conn, reservation.event_id)
    return access.may_for_organiser("GetReservation", caller, organiser_id or "")


async def _refuse_unless_own_list(conn: Connection, caller: Caller, buyer_id: str, event_id: UUID | None) -> None:
    """Raises CallError: of an event that is not the caller's as of one that there is not."""
    if access.may_for_buyer("ListReservations", caller, buyer_id):
        return
    if event_id is None or access.ORGANISER not in caller.roles:
        raise access.not_yours("buyer_id" if access.BUYER in caller.roles else "event_id")
    if not access.may_for_organiser("ListReservations", caller, await organiser_of(conn, event_id) or ""):
        raise not_found(reasons.UNKNOWN_EVENT, f"there is no event {event_id}")


def _count_that_fits(found: Sequence[store.ReservationWithTickets]) -> int:
    """How many of the reservations make a page: at least one."""
    ticket_count = 0
    for index, (_, tickets) in enumerate(found):
        ticket_count += len(tickets)
        if ticket_count > TICKETS_PER_PAGE_MAX:
            return max(index, 1)
    return len(found)


def _tickets(rows: Sequence[store.TicketRow]) -> list[pb.Ticket]:
    # Straight from the rows: a seat map is read whole, and this is half of its cost.
    return [
        pb.Ticket(
            ticket_id=ticket_id,
            section=section,
            row=row,
            seat=seat,
            price_minor=price_minor,
            state=_STATE_NUMBER[state],
            version=version,
        )
        for ticket_id, section, row, seat, price_minor, state, version in rows
    ]
