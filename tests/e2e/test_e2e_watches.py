"""Streams: the present first, then every change, whatever happens to the gateway's connection meanwhile."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from tests.e2e.conftest import Annex
from tests.e2e.office import Office, Refusal, Reservation, new_id, refusal
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

pytestmark = pytest.mark.usefixtures("the_books_balance")

STREAM_TIMEOUT_S = 60
RECONNECT_DEADLINE_S = 7


async def watch(office: Office, reservation: pb.Reservation) -> AsyncIterator[pb.Reservation]:
    request = pb.WatchReservationRequest(reservation_id=reservation.reservation_id)
    async for answer in office.ticketing.WatchReservation(request, timeout=STREAM_TIMEOUT_S):
        yield answer.reservation


async def watch_tickets(office: Office, event_id: str) -> AsyncIterator[pb.WatchTicketsResponse]:
    request = pb.WatchTicketsRequest(event_id=event_id)
    async for answer in office.ticketing.WatchTickets(request, timeout=STREAM_TIMEOUT_S):
        yield answer


async def test_a_watch_shows_what_was_before_it_began_then_each_change_and_ends(office: Office, annex: Annex) -> None:
    held = await office.held(await office.put_on_sale(), "ada")
    await office.pay(held, 1_000)
    watches = [watch(office, held), watch(annex.office, held)]
    for one in watches:
        first = await anext(one)
        assert (first.state, first.paid_minor) == (Reservation.STATE_PARTIALLY_PAID, 1_000)
    await office.pay(held)
    await office.refund(held)
    await office.until(held, lambda now: now.refund_due_minor == 0)
    for one in watches:
        shown = [change async for change in one]
        assert [change.state for change in shown] == [Reservation.STATE_CONFIRMED, Reservation.STATE_CANCELLED]
        assert shown[0].version < shown[1].version


async def test_a_watch_may_begin_before_the_decision(office: Office) -> None:
    sale = await office.put_on_sale(20)
    accepted = await asyncio.gather(*(office.reserve(sale, "ada", [seat], wait_s=0) for seat in sale.tickets))
    for one in accepted:
        states = [Reservation.STATE_UNSPECIFIED]
        async for shown in watch(office, one):
            states.append(shown.state)
            if shown.state == Reservation.STATE_HELD:
                break
        assert states[-2] in (Reservation.STATE_UNSPECIFIED, Reservation.STATE_PENDING)


async def test_a_watch_of_what_is_over_shows_it_and_ends(office: Office) -> None:
    sale = await office.put_on_sale()
    cancelled = await office.cancel(await office.held(sale, "ada"))
    assert [shown async for shown in watch(office, cancelled)] == [cancelled]
    rejected = await office.reserve(sale, "bob", [new_id()])
    assert [shown async for shown in watch(office, rejected)] == [rejected]


async def test_a_watch_of_nothing_is_refused(office: Office) -> None:
    nothing = pb.Reservation(reservation_id=new_id())
    assert await refusal(anext(watch(office, nothing))) == Refusal(grpc.StatusCode.NOT_FOUND, "UNKNOWN_RESERVATION")
    assert await refusal(anext(watch_tickets(office, new_id()))) == Refusal(grpc.StatusCode.NOT_FOUND, "UNKNOWN_EVENT")


async def test_a_watch_sees_a_hold_run_out(office: Office) -> None:
    held = await office.held(await office.put_on_sale(hold_s=1), "ada")
    shown = [change.state async for change in watch(office, held)]
    assert shown == [Reservation.STATE_HELD, Reservation.STATE_EXPIRED]


async def test_watches_outlive_the_reconnect_of_their_gateway_and_miss_nothing(office: Office, annex: Annex) -> None:
    sale = await office.put_on_sale(2)
    held = await office.held(sale, "ada", sale.tickets[:1])
    changes, seats = watch(annex.office, held), watch_tickets(annex.office, sale.event_id)
    assert (await anext(changes)).state == Reservation.STATE_HELD
    assert (await anext(seats)).snapshot_complete
    annex.wire.refuse()
    try:
        # Both change while the gateway hears nothing.
        await office.pay(held)
        await office.held(sale, "bob", sale.tickets[1:])
    finally:
        annex.wire.accept()
    # Before the watches would read again by themselves.
    async with asyncio.timeout(RECONNECT_DEADLINE_S):
        assert (await anext(changes)).state == Reservation.STATE_CONFIRMED
        states: dict[str, pb.Ticket.State.ValueType] = {}
        while states != {sale.tickets[0]: pb.Ticket.STATE_SOLD, sale.tickets[1]: pb.Ticket.STATE_HELD}:
            states |= {ticket.ticket_id: ticket.state for ticket in (await anext(seats)).tickets}
    await office.refund(held)
    assert (await anext(changes)).state == Reservation.STATE_CANCELLED


async def test_a_seat_map_comes_whole_and_then_in_changes_of_growing_version(office: Office) -> None:
    sale = await office.put_on_sale(3)
    block = catalog.Block(section="floor", price_minor=100, quantity=1_200)
    await office.catalog.CreateTickets(
        catalog.CreateTicketsRequest(request_id=new_id(), event_id=sale.event_id, blocks=[block])
    )
    seats = watch_tickets(office, sale.event_id)
    known: dict[str, pb.Ticket] = {}
    while True:
        part = await anext(seats)
        assert len(part.tickets) <= 1_000
        known |= {ticket.ticket_id: ticket for ticket in part.tickets}
        if part.snapshot_complete:
            break
    assert len(known) == 1_203
    held = await office.held(sale, "ada", sale.tickets)
    await office.cancel(held)
    seen: dict[str, list[int]] = {ticket: [] for ticket in sale.tickets}
    async with asyncio.timeout(STREAM_TIMEOUT_S):
        while any(not versions or versions[-1] < 3 for versions in seen.values()):
            for ticket in (await anext(seats)).tickets:
                seen[ticket.ticket_id].append(ticket.version)
    assert all(versions == sorted(set(versions)) for versions in seen.values())


async def test_tickets_added_and_withdrawn_appear_on_a_seat_map(office: Office) -> None:
    sale = await office.put_on_sale(1)
    seats = watch_tickets(office, sale.event_id)
    await anext(seats)
    withdraw = catalog.WithdrawTicketsRequest(request_id=new_id(), event_id=sale.event_id, ticket_ids=sale.tickets)
    await office.catalog.WithdrawTickets(withdraw)
    block = catalog.Block(section="floor", price_minor=100, quantity=1)
    await office.catalog.CreateTickets(
        catalog.CreateTicketsRequest(request_id=new_id(), event_id=sale.event_id, blocks=[block])
    )
    states: list[pb.Ticket.State.ValueType] = []
    while set(states) != {pb.Ticket.STATE_WITHDRAWN, pb.Ticket.STATE_AVAILABLE}:
        states += [ticket.state for ticket in (await anext(seats)).tickets]
