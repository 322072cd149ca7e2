"""Reservations and tickets are shown as they are now, in pages that neither skip nor repeat."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest

from chassis.database import Database
from reservations.reads_servicer import TICKETS_PER_PAGE_MAX
from reservations.store import reads as store
from tests.reservations.organiser import (
    CatalogStub,
    TicketingStub,
    create_event,
    create_tickets,
    grid,
    new_id,
    refusal,
    ticket_ids,
)
from ticketrush.v1 import ticketing_pb2 as pb

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


async def test_a_reservation_is_shown_with_its_tickets_in_seat_order(
    catalog: CatalogStub, reads: TicketingStub, database: Database
) -> None:
    event = await create_tickets(catalog, (await create_event(catalog)).event_id)
    first, second, *_ = await ticket_ids(database, event.event_id)
    reservation_id = await _reserve(database, event.event_id, tickets=[second, first], total_minor=8_400)
    shown = (await reads.GetReservation(pb.GetReservationRequest(reservation_id=str(reservation_id)))).reservation
    assert shown.reservation_id == str(reservation_id)
    assert (shown.event_id, shown.buyer_id, shown.currency) == (event.event_id, "anna", "EUR")
    assert (shown.state, shown.total_minor, shown.version) == (pb.Reservation.STATE_HELD, 8_400, 1)
    assert [ticket.ticket_id for ticket in shown.tickets] == [str(first), str(second)]
    assert [(ticket.section, ticket.row, ticket.seat) for ticket in shown.tickets] == [
        ("stalls", "1", "1"),
        ("stalls", "1", "2"),
    ]
    assert shown.create_time.ToDatetime(UTC) == NOON
    assert shown.expire_time.ToDatetime(UTC) == NOON + timedelta(minutes=5)


async def test_a_reservation_that_is_over_is_shown_with_the_tickets_it_last_held(
    catalog: CatalogStub, reads: TicketingStub, database: Database
) -> None:
    event = await create_tickets(catalog, (await create_event(catalog)).event_id)
    ticket, *_ = await ticket_ids(database, event.event_id)
    over = await _reserve(database, event.event_id, tickets=[ticket], state="EXPIRED")
    await _reserve(database, event.event_id, tickets=[ticket], buyer_id="bert")
    shown = (await reads.GetReservation(pb.GetReservationRequest(reservation_id=str(over)))).reservation
    assert [found.ticket_id for found in shown.tickets] == [str(ticket)]


async def test_a_refused_reservation_has_no_tickets(reads: TicketingStub, database: Database) -> None:
    refused = await _reserve(database, new_id(), state="REJECTED", reject_reason="SOLD_OUT")
    shown = (await reads.GetReservation(pb.GetReservationRequest(reservation_id=str(refused)))).reservation
    assert (shown.state, shown.reject_reason) == (pb.Reservation.STATE_REJECTED, "SOLD_OUT")
    assert not shown.tickets


async def test_an_unknown_reservation_is_not_found(reads: TicketingStub) -> None:
    refused = await refusal(reads.GetReservation(pb.GetReservationRequest(reservation_id=new_id())))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_RESERVATION")


async def test_many_reservations_are_read_at_once_and_unknown_ids_left_out(database: Database) -> None:
    known = [await _reserve(database, new_id()) for _ in range(3)]
    async with database.transaction() as conn:
        found = await store.reservations(conn, [*known, uuid4()])
        assert await store.reservations(conn, []) == {}
    assert found.keys() == set(known)
    assert all(found[key][0].reservation_id == key for key in known)


@pytest.mark.parametrize(
    "filters", [{}, {"buyer_id": "anna"}, {"event_id": "E"}, {"buyer_id": "anna", "event_id": "E"}]
)
async def test_reservations_are_listed_the_newest_first_for_whom_they_are_asked(
    reads: TicketingStub, database: Database, filters: dict[str, str]
) -> None:
    event_id, other_event_id = new_id(), new_id()
    made = {
        # Two of each at the same instant: the id decides between them.
        await _reserve(database, event, buyer_id=buyer, create_time=NOON + timedelta(seconds=age // 2)): (buyer, event)
        for age, (buyer, event) in enumerate(
            [("anna", event_id), ("bert", event_id), ("anna", other_event_id), ("anna", event_id)] * 3
        )
    }
    if "event_id" in filters:
        filters = {**filters, "event_id": event_id}
    wanted = {
        str(key)
        for key, (buyer, event) in made.items()
        if filters.get("buyer_id", buyer) == buyer and filters.get("event_id", event) == event
    }
    listed = await _all_pages(reads, page_size=2, **filters)
    assert {found.reservation_id for found in listed} == wanted
    assert len(listed) == len(wanted)
    order = [(found.create_time.ToNanoseconds(), found.reservation_id) for found in listed]
    assert order == sorted(order, reverse=True)


async def test_a_page_of_reservations_is_fifty_unless_it_is_asked_otherwise(
    reads: TicketingStub, database: Database
) -> None:
    for _ in range(51):
        await _reserve(database, new_id())
    assert len((await reads.ListReservations(pb.ListReservationsRequest())).reservations) == 50
    assert len((await reads.ListReservations(pb.ListReservationsRequest(page_size=500))).reservations) == 51


async def test_a_page_of_reservations_ends_where_a_message_would_be_too_long(
    catalog: CatalogStub, reads: TicketingStub, database: Database
) -> None:
    section = "ß" * 64
    event = await create_tickets(catalog, (await create_event(catalog)).event_id, grid(101, 100, section=section))
    tickets = await ticket_ids(database, event.event_id)
    for begin in range(0, len(tickets), 100):
        await _reserve(database, event.event_id, tickets=tickets[begin : begin + 100])
    page = await reads.ListReservations(pb.ListReservationsRequest(page_size=500))
    assert sum(len(found.tickets) for found in page.reservations) == TICKETS_PER_PAGE_MAX
    assert len({found.reservation_id for found in await _all_pages(reads, page_size=500)}) == 101


@pytest.mark.parametrize("state", [pb.Ticket.STATE_UNSPECIFIED, pb.Ticket.STATE_HELD])
async def test_the_tickets_of_an_event_without_any_are_none(
    catalog: CatalogStub, reads: TicketingStub, state: pb.Ticket.State.ValueType
) -> None:
    event = await create_event(catalog)
    assert (
        await reads.ListTickets(pb.ListTicketsRequest(event_id=event.event_id, state=state)) == pb.ListTicketsResponse()
    )


async def test_the_tickets_of_an_unknown_event_are_not_found(reads: TicketingStub) -> None:
    refused = await refusal(reads.ListTickets(pb.ListTicketsRequest(event_id=new_id())))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_EVENT")


async def test_tickets_are_listed_by_state(catalog: CatalogStub, reads: TicketingStub, database: Database) -> None:
    event = await create_tickets(catalog, (await create_event(catalog)).event_id)
    states = dict(
        zip(await ticket_ids(database, event.event_id), ("AVAILABLE", "HELD", "SOLD", "WITHDRAWN"), strict=True)
    )
    async with database.transaction() as conn:
        for ticket, state in states.items():
            await conn.execute("UPDATE ticket SET state = %s WHERE ticket_id = %s", (state, ticket))
    for ticket, state in states.items():
        number = pb.Ticket.State.Value(f"STATE_{state}")
        page = await reads.ListTickets(pb.ListTicketsRequest(event_id=event.event_id, state=number))
        assert [(found.ticket_id, found.state) for found in page.tickets] == [(str(ticket), number)]


async def test_a_page_of_tickets_is_a_hundred_unless_it_is_asked_otherwise(
    catalog: CatalogStub, reads: TicketingStub
) -> None:
    event = await create_tickets(catalog, (await create_event(catalog)).event_id, grid(1, 101))
    page = await reads.ListTickets(pb.ListTicketsRequest(event_id=event.event_id))
    rest = await reads.ListTickets(pb.ListTicketsRequest(event_id=event.event_id, page_token=page.next_page_token))
    assert [ticket.seat for ticket in (*page.tickets, *rest.tickets)] == [str(seat) for seat in range(1, 102)]
    assert (len(page.tickets), rest.next_page_token) == (100, "")


async def test_a_page_token_of_other_filters_is_refused(
    catalog: CatalogStub, reads: TicketingStub, database: Database
) -> None:
    event = await create_tickets(catalog, (await create_event(catalog)).event_id)
    for _ in range(2):
        await _reserve(database, event.event_id)
    tickets = await reads.ListTickets(pb.ListTicketsRequest(event_id=event.event_id, page_size=1))
    listed = await reads.ListReservations(pb.ListReservationsRequest(event_id=event.event_id, page_size=1))
    for call in (
        reads.ListTickets(pb.ListTicketsRequest(event_id=new_id(), page_token=tickets.next_page_token)),
        reads.ListTickets(
            pb.ListTicketsRequest(
                event_id=event.event_id, state=pb.Ticket.STATE_SOLD, page_token=tickets.next_page_token
            )
        ),
        reads.ListReservations(pb.ListReservationsRequest(event_id=new_id(), page_token=listed.next_page_token)),
        reads.ListReservations(
            pb.ListReservationsRequest(event_id=event.event_id, buyer_id="anna", page_token=listed.next_page_token)
        ),
        reads.ListReservations(pb.ListReservationsRequest(event_id=event.event_id, page_token=tickets.next_page_token)),
    ):
        refused = await refusal(call)
        assert (refused.code, list(refused.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_token"])


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.GetReservationRequest(reservation_id="none"), "reservation_id"),
        (pb.ListReservationsRequest(buyer_id="anna smith"), "buyer_id"),
        (pb.ListReservationsRequest(buyer_id="a" * 65), "buyer_id"),
        (pb.ListReservationsRequest(event_id="none"), "event_id"),
        (pb.ListReservationsRequest(page_size=501), "page_size"),
        (pb.ListTicketsRequest(), "event_id"),
        (pb.ListTicketsRequest(event_id=new_id(), state=5), "state"),  # type: ignore[arg-type] # on purpose
        (pb.ListTicketsRequest(event_id=new_id(), page_size=1_001), "page_size"),
        (pb.ListTicketsRequest(event_id=new_id(), page_size=-1), "page_size"),
    ],
)
async def test_a_wrong_field_is_named(reads: TicketingStub, request_: Any, field: str) -> None:
    rpc = type(request_).__name__.removesuffix("Request")
    refused = await refusal(getattr(reads, rpc)(request_))
    assert (refused.code, list(refused.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


async def _all_pages(reads: TicketingStub, **filters: Any) -> list[pb.Reservation]:
    request = pb.ListReservationsRequest(**filters)
    listed: list[pb.Reservation] = []
    while True:
        page = await reads.ListReservations(request)
        assert 1 <= len(page.reservations) <= request.page_size
        listed += page.reservations
        request.page_token = page.next_page_token
        if not request.page_token:
            return listed


async def _reserve(
    database: Database,
    event_id: str,
    *,
    tickets: Iterable[UUID] = (),
    buyer_id: str = "anna",
    state: str = "HELD",
    reject_reason: str = "",
    total_minor: int = 0,
    create_time: datetime = NOON,
) -> UUID:
    """Puts a reservation there as a decision would have left it."""
    reservation_id = uuid4()
    expire_time = create_time + timedelta(minutes=5)
    async with database.transaction() as conn:
        await conn.execute(
            """INSERT INTO reservation (reservation_id, event_id, buyer_id, request_id, command_id, state,
                                        reject_reason, currency, total_minor, create_time, expire_time, release_time,
                                        payment_grace, instalment_hold, version)
               VALUES (%s, %s, %s, %s, %s, %s, %s, 'EUR', %s, %s, %s, %s, '60 s', '60 s', 1)""",
            (
                reservation_id,
                event_id,
                buyer_id,
                uuid4(),
                uuid4(),
                state,
                reject_reason,
                total_minor,
                create_time,
                expire_time,
                expire_time,
            ),
        )
        await conn.execute(
            "INSERT INTO reservation_ticket SELECT %s, unnest(%s::uuid[]), %s",
            (reservation_id, list(tickets), state == "HELD"),
        )
    return reservation_id
