"""Many want the same: who gets it, and what the others are told."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from tests.e2e.conftest import Annex
from tests.e2e.crowd import insist
from tests.e2e.office import PRICE_MINOR, Office, Reservation, new_id
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

pytestmark = pytest.mark.usefixtures("the_books_balance")

State = Reservation.State


def outcomes(reservations: list[pb.Reservation]) -> Counter[tuple[str, str]]:
    return Counter((State.Name(one.state).removeprefix("STATE_"), one.reject_reason) for one in reservations)


async def test_of_two_hundred_buyers_of_one_seat_one_holds_it_and_the_others_are_told(office: Office) -> None:
    sale = await office.put_on_sale()
    answers = await asyncio.gather(*(office.reserve(sale, f"buyer-{number}") for number in range(200)))
    assert outcomes(answers) == {("HELD", ""): 1, ("REJECTED", "TICKETS_TAKEN"): 199}
    assert await office.counts(sale.event_id) == (0, 1, 0)


async def test_of_two_thousand_calls_in_one_instant_each_is_answered(office: Office) -> None:
    sale = await office.put_on_sale(1_000)

    async def buys(number: int) -> pb.Reservation:
        # Two want each seat; whoever is told to come again does.
        request_id, ticket = new_id(), sale.tickets[number % 1_000]
        return await insist(
            lambda: office.reserve(sale, f"buyer-{number}", [ticket], request_id=request_id),
            lambda answer: answer.state != Reservation.STATE_PENDING,
        )

    answers = await asyncio.gather(*(buys(number) for number in range(2_000)))
    assert outcomes(answers) == {("HELD", ""): 1_000, ("REJECTED", "TICKETS_TAKEN"): 1_000}


async def test_carts_that_overlap_in_opposite_orders_are_never_half_held(office: Office, annex: Annex) -> None:
    sale = await office.put_on_sale(12)
    carts = [sale.tickets[begin : begin + 4] for begin in range(9)]
    orders = [cart if turn % 2 else cart[::-1] for turn in range(8) for cart in carts]
    offices = [office, annex.office]
    answers = await asyncio.gather(
        *(offices[number % 2].reserve(sale, f"buyer-{number}", cart) for number, cart in enumerate(orders))
    )
    held = [answer for answer in answers if answer.state == Reservation.STATE_HELD]
    assert set(outcomes(answers)) == {("HELD", ""), ("REJECTED", "TICKETS_TAKEN")}
    assert all(len(answer.tickets) == 4 for answer in held)
    seats = [ticket.ticket_id for answer in held for ticket in answer.tickets]
    assert len(seats) == len(set(seats))
    assert await office.counts(sale.event_id) == (12 - len(seats), len(seats), 0)
    shown = {ticket.ticket_id for ticket in await office.tickets(sale.event_id) if ticket.state == pb.Ticket.STATE_HELD}
    assert shown == set(seats)


async def test_twenty_reserves_at_once_stay_within_the_limit_of_their_buyer(office: Office, annex: Annex) -> None:
    sale = await office.put_on_sale(20, limit=4)
    offices = [office, annex.office]
    answers = await asyncio.gather(
        *(offices[number % 2].reserve(sale, "greedy", [ticket]) for number, ticket in enumerate(sale.tickets))
    )
    assert outcomes(answers) == {("HELD", ""): 4, ("REJECTED", "LIMIT_EXCEEDED"): 16}


async def test_a_hold_given_back_makes_room_within_the_limit(office: Office) -> None:
    sale = await office.put_on_sale(3, limit=2)
    first = await office.held(sale, "ada", sale.tickets[:2])
    refused = await office.reserve(sale, "ada", sale.tickets[2:])
    assert refused.reject_reason == "LIMIT_EXCEEDED"
    await office.cancel(first)
    await office.held(sale, "ada", sale.tickets[2:])


async def test_the_best_seats_are_neighbours_and_nobody_gets_anothers(office: Office, annex: Annex) -> None:
    sale = await office.put_on_sale(60)
    offices = [office, annex.office]

    async def best(number: int) -> pb.Reservation:
        request = pb.ReserveRequest(
            request_id=f"00000000-0000-4000-8000-{number:012}",
            event_id=sale.event_id,
            buyer_id=f"buyer-{number}",
            best_available=pb.BestAvailable(section="stalls", quantity=3),
        )
        request.wait.FromSeconds(20)
        return (await offices[number % 2].ticketing.Reserve(request)).reservation

    answers = await asyncio.gather(*(best(number) for number in range(25)))
    assert outcomes(answers) == {("HELD", ""): 20, ("REJECTED", "SOLD_OUT"): 5}
    held = [answer for answer in answers if answer.state == Reservation.STATE_HELD]
    for answer in held:
        first, second, third = sorted(int(ticket.seat) for ticket in answer.tickets)
        assert (second, third) == (first + 1, first + 2)
    assert await office.counts(sale.event_id) == (0, 60, 0)


async def test_reserves_of_the_same_tickets_in_one_batch_and_across_events_do_not_disturb_each_other(
    office: Office,
) -> None:
    sales = [await office.put_on_sale(2) for _ in range(5)]
    answers = await asyncio.gather(
        *(office.reserve(sale, f"buyer-{turn}", sale.tickets) for turn in range(10) for sale in sales)
    )
    assert outcomes(answers) == {("HELD", ""): 5, ("REJECTED", "TICKETS_TAKEN"): 45}


async def test_a_cart_may_hold_a_hundred_tickets(office: Office) -> None:
    sale = await office.put_on_sale(100)
    held = await office.held(sale, "ada", sale.tickets)
    assert sorted(ticket.ticket_id for ticket in held.tickets) == sale.tickets
    assert held.total_minor == 100 * PRICE_MINOR


async def test_an_event_sells_only_within_its_sale_window(office: Office) -> None:
    past, future = Timestamp(), Timestamp()
    past.FromDatetime(datetime.now(UTC) - timedelta(hours=1))
    future.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    for begin, end, reason in (
        (future, None, "SALE_NOT_OPEN"),
        (None, past, "SALE_NOT_OPEN"),
        (past, future, ""),
    ):
        sale = await office.put_on_sale()
        window = catalog.Event(event_id=sale.event_id, sale_start_time=begin, sale_end_time=end)
        mask = FieldMask(paths=["sale_start_time", "sale_end_time"])
        await office.catalog.UpdateEvent(
            catalog.UpdateEventRequest(request_id=new_id(), event=window, update_mask=mask)
        )
        assert (await office.reserve(sale, "ada")).reject_reason == reason
