"""Tickets are added and withdrawn all or none, once per request, and never two for one seat."""

import asyncio
from uuid import UUID

import grpc
import pytest

from chassis.database import Database
from contract.ids import ticket_id
from reservations.domain.model import Books
from reservations.store.books import lock_events
from tests.reservations.organiser import (
    CatalogStub,
    TicketingStub,
    create_event,
    create_tickets,
    grid,
    kinds_of_history,
    new_id,
    refusal,
    someone_waits_for_a_lock,
    ticket_ids,
)
from ticketrush.v1 import catalog_pb2 as pb
from ticketrush.v1 import ticketing_pb2 as ticketing


async def test_tickets_are_on_sale_in_seat_order(catalog: CatalogStub, reads: TicketingStub) -> None:
    event = await create_event(catalog)
    request = pb.CreateTicketsRequest(request_id=new_id(), event_id=event.event_id)
    request.blocks.append(grid(2, 11, section="stalls", price_minor=4_200))
    request.blocks.add(section="floor", price_minor=0, quantity=2)
    answer = await catalog.CreateTickets(request)
    assert (answer.ticket_count, answer.event.available_count, answer.event.version) == (24, 24, 2)
    tickets = (await reads.ListTickets(ticketing.ListTicketsRequest(event_id=event.event_id))).tickets
    stalls = [("stalls", str(row), str(seat)) for row in (1, 2) for seat in range(1, 12)]
    assert [(ticket.section, ticket.row, ticket.seat) for ticket in tickets] == [*stalls, *[("floor", "", "")] * 2]
    assert {ticket.price_minor for ticket in tickets[:22]} == {4_200}
    assert {(ticket.state, ticket.version) for ticket in tickets} == {(ticketing.Ticket.STATE_AVAILABLE, 1)}
    made = [str(ticket_id(UUID(event.event_id), request.request_id, ordinal)) for ordinal in range(24)]
    assert [ticket.ticket_id for ticket in tickets] == made


async def test_the_same_request_adds_its_tickets_once(catalog: CatalogStub) -> None:
    event = await create_event(catalog)
    request = pb.CreateTicketsRequest(request_id=new_id(), event_id=event.event_id, blocks=[grid(section="stalls")])
    await catalog.CreateTickets(request)
    await create_tickets(catalog, event.event_id, grid(section="circle"))
    again = await catalog.CreateTickets(request)
    assert (again.ticket_count, again.event.available_count, again.event.version) == (4, 8, 3)


async def test_five_times_the_same_request_at_once_adds_its_tickets_once(
    catalog: CatalogStub, database: Database
) -> None:
    event = await create_event(catalog)
    request = pb.CreateTicketsRequest(request_id=new_id(), event_id=event.event_id, blocks=[grid()])
    answers = await asyncio.gather(*(catalog.CreateTickets(request) for _ in range(5)))
    assert [(answer.ticket_count, answer.event.available_count) for answer in answers] == [(4, 4)] * 5
    assert len(await ticket_ids(database, event.event_id)) == 4


async def test_a_request_id_with_other_blocks_is_refused(catalog: CatalogStub) -> None:
    event = await create_event(catalog)
    request = pb.CreateTicketsRequest(request_id=new_id(), event_id=event.event_id, blocks=[grid()])
    await catalog.CreateTickets(request)
    request.blocks[0].price_minor += 1
    refused = await refusal(catalog.CreateTickets(request))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_seat_that_exists_is_refused_by_name_with_everything_beside_it(
    catalog: CatalogStub, database: Database
) -> None:
    event = await create_tickets(catalog, (await create_event(catalog)).event_id, grid(1, 4))
    refused = await refusal(create_tickets(catalog, event.event_id, grid(1, 2, section="circle"), grid(2, 6)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "SEAT_EXISTS")
    assert "section stalls has a seat 1 in row 1" in refused.message
    assert (await catalog.GetEvent(pb.GetEventRequest(event_id=event.event_id))).event == event
    assert len(await ticket_ids(database, event.event_id)) == 4


async def test_general_admission_can_be_added_again(catalog: CatalogStub) -> None:
    event = await create_event(catalog)
    for count in (3, 6):
        block = pb.Block(section="floor", quantity=3)
        assert (await create_tickets(catalog, event.event_id, block)).available_count == count


async def test_the_same_seat_of_another_event_is_another_seat(catalog: CatalogStub) -> None:
    for _ in range(2):
        assert (await create_tickets(catalog, (await create_event(catalog)).event_id, grid(1, 4))).available_count == 4


async def test_a_hundred_thousand_tickets_are_one_call_and_read_in_a_hundred_pages(
    catalog: CatalogStub, reads: TicketingStub, database: Database
) -> None:
    event = await create_event(catalog)
    answer = await catalog.CreateTickets(
        pb.CreateTicketsRequest(request_id=new_id(), event_id=event.event_id, blocks=[grid(200, 500)])
    )
    assert (answer.ticket_count, answer.event.available_count) == (100_000, 100_000)
    listed, token = [], ""
    for _ in range(100):
        request = ticketing.ListTicketsRequest(event_id=event.event_id, page_size=1_000, page_token=token)
        page = await reads.ListTickets(request)
        listed += [UUID(ticket.ticket_id) for ticket in page.tickets]
        token = page.next_page_token
    assert token == ""
    assert listed == await ticket_ids(database, event.event_id)
    assert len(listed) == 100_000


async def test_the_planner_knows_of_many_new_tickets_at_once(catalog: CatalogStub, database: Database) -> None:
    await create_tickets(catalog, (await create_event(catalog)).event_id, grid(10, 100))
    async with database.transaction() as conn:
        cursor = await conn.execute("SELECT reltuples FROM pg_class WHERE oid = 'ticket'::regclass")
        assert await cursor.fetchone() == (1_000,)


@pytest.mark.parametrize("reason", ["EVENT_CLOSED", "EVENT_CANCELLED"])
async def test_an_event_that_sells_no_more_takes_no_tickets(catalog: CatalogStub, reason: str) -> None:
    event = await create_event(catalog)
    await _end(catalog, event.event_id, reason)
    refused = await refusal(create_tickets(catalog, event.event_id))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, reason)


async def test_an_event_closed_while_tickets_are_being_added_gets_none_of_them(
    catalog: CatalogStub, database: Database
) -> None:
    event = await create_event(catalog)
    async with database.transaction() as closing:
        await closing.execute("UPDATE event SET state = 'CLOSED' WHERE event_id = %s", (event.event_id,))
        adding = asyncio.ensure_future(create_tickets(catalog, event.event_id))
        await someone_waits_for_a_lock(database)
    assert (await refusal(adding)).reason == "EVENT_CLOSED"
    assert await ticket_ids(database, event.event_id) == []


async def test_adding_tickets_keeps_no_buyer_waiting(catalog: CatalogStub, database: Database) -> None:
    event = await create_event(catalog)
    async with database.transaction() as other:
        # Adding stops at this seat, in the middle of its work, until this transaction has ended.
        await other.execute(
            "INSERT INTO ticket VALUES (%s, %s, 'stalls', '1', '4', 4, 0, 'AVAILABLE', 1)", (event.event_id, new_id())
        )
        adding = asyncio.ensure_future(create_tickets(catalog, event.event_id, grid(1, 4)))
        await someone_waits_for_a_lock(database)
        async with database.transaction() as decision:
            await decision.execute("SET LOCAL lock_timeout = '100ms'")
            await lock_events(decision, Books(), [UUID(event.event_id)])
    refused = await refusal(adding)
    assert refused.reason == "SEAT_EXISTS"
    assert "seat 4 in row 1" in refused.message
    assert len(await ticket_ids(database, event.event_id)) == 1


async def test_withdrawn_tickets_are_off_sale_and_the_others_are_not(
    catalog: CatalogStub, reads: TicketingStub, database: Database
) -> None:
    event = await create_tickets(catalog, (await create_event(catalog)).event_id)
    first, *rest = await ticket_ids(database, event.event_id)
    withdrawn = await _withdraw(catalog, event.event_id, first)
    assert (withdrawn.available_count, withdrawn.version) == (3, 3)
    request = ticketing.ListTicketsRequest(event_id=event.event_id, state=ticketing.Ticket.STATE_WITHDRAWN)
    [ticket] = (await reads.ListTickets(request)).tickets
    assert (ticket.ticket_id, ticket.version) == (str(first), 2)
    request.state = ticketing.Ticket.STATE_AVAILABLE
    assert [ticket.ticket_id for ticket in (await reads.ListTickets(request)).tickets] == [str(id_) for id_ in rest]


async def test_a_withdrawn_ticket_stays_withdrawn(catalog: CatalogStub, database: Database) -> None:
    event = await create_tickets(catalog, (await create_event(catalog)).event_id)
    first, second, *_ = await ticket_ids(database, event.event_id)
    withdrawn = await _withdraw(catalog, event.event_id, first)
    assert await _withdraw(catalog, event.event_id, first) == withdrawn
    assert (await _withdraw(catalog, event.event_id, first, second)).available_count == 2
    assert await kinds_of_history(database, event.event_id) == [
        (1, "EVENT_CREATED"),
        (2, "TICKETS_CREATED"),
        (3, "TICKETS_WITHDRAWN"),
        (4, "TICKETS_WITHDRAWN"),
    ]


@pytest.mark.parametrize("state", ["HELD", "SOLD"])
async def test_a_ticket_that_is_taken_is_not_withdrawn_nor_those_beside_it(
    catalog: CatalogStub, database: Database, state: str
) -> None:
    event = await create_tickets(catalog, (await create_event(catalog)).event_id)
    *free, taken = await ticket_ids(database, event.event_id)
    async with database.transaction() as conn:
        await conn.execute("UPDATE ticket SET state = %s WHERE ticket_id = %s", (state, taken))
    refused = await refusal(_withdraw(catalog, event.event_id, *free, taken))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TICKETS_TAKEN")
    assert str(taken) in refused.message
    assert (await catalog.GetEvent(pb.GetEventRequest(event_id=event.event_id))).event == event


async def test_a_ticket_that_is_held_meanwhile_is_not_withdrawn(catalog: CatalogStub, database: Database) -> None:
    event = await create_tickets(catalog, (await create_event(catalog)).event_id)
    ticket, *_ = await ticket_ids(database, event.event_id)
    async with database.transaction() as decision:
        await decision.execute("UPDATE ticket SET state = 'HELD' WHERE ticket_id = %s", (ticket,))
        withdrawing = asyncio.ensure_future(_withdraw(catalog, event.event_id, ticket))
        await someone_waits_for_a_lock(database)
    assert (await refusal(withdrawing)).reason == "TICKETS_TAKEN"


async def test_a_ticket_of_another_event_is_unknown(catalog: CatalogStub, database: Database) -> None:
    event = await create_tickets(catalog, (await create_event(catalog)).event_id)
    other = await create_tickets(catalog, (await create_event(catalog)).event_id)
    [own, *_], [foreign, *_] = [await ticket_ids(database, one.event_id) for one in (event, other)]
    refused = await refusal(_withdraw(catalog, event.event_id, own, foreign))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_TICKET")
    assert str(foreign) in refused.message
    assert (await catalog.GetEvent(pb.GetEventRequest(event_id=event.event_id))).event == event


async def _withdraw(catalog: CatalogStub, event_id: str, *tickets: UUID) -> pb.Event:
    request = pb.WithdrawTicketsRequest(
        request_id=new_id(), event_id=event_id, ticket_ids=[str(ticket) for ticket in tickets]
    )
    return (await catalog.WithdrawTickets(request)).event


async def _end(catalog: CatalogStub, event_id: str, reason: str) -> None:
    if reason == "EVENT_CLOSED":
        await catalog.CloseEvent(pb.CloseEventRequest(request_id=new_id(), event_id=event_id))
    else:
        await catalog.CancelEvent(pb.CancelEventRequest(request_id=new_id(), event_id=event_id, reason="rain"))
