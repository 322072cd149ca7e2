"""The same request said again, here, there and by a gateway that has forgotten everything: one effect, one answer."""

import asyncio

import grpc
import pytest

from tests.e2e.conftest import Annex
from tests.e2e.house import House
from tests.e2e.office import Office, Payment, Refusal, Reservation, new_id, refusal, reserve_request
from ticketrush.provider.v1 import provider_pb2 as provider
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

pytestmark = pytest.mark.usefixtures("the_books_balance")

REUSED = Refusal(grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_the_same_reserve_and_pay_three_times_has_one_effect_even_through_a_restarted_gateway(
    house: House, annex: Annex
) -> None:
    near, far = house.office, annex.office
    sale = await near.put_on_sale(2, limit=2)
    reserve_id, pay_id = new_id(), new_id()
    held = [await office.reserve(sale, "ada", sale.tickets, request_id=reserve_id) for office in (near, far)]
    paid = [await office.pay(held[0], request_id=pay_id) for office in (far, near)]
    await annex.restart_gateway()
    held.append(await far.reserve(sale, "ada", sale.tickets, request_id=reserve_id))
    paid.append(await far.pay(held[0], request_id=pay_id))

    assert held[0] == held[1]
    # The third Reserve shows the same reservation as it is by now.
    assert held[2] == paid[0].reservation == paid[1].reservation == paid[2].reservation
    assert held[2].state == Reservation.STATE_CONFIRMED
    assert paid[0].payment == paid[1].payment == paid[2].payment
    assert paid[0].payment.state == Payment.STATE_APPROVED
    assert [charge.amount_minor for charge in (await charges_of(house, held[0])).values()] == [9_000]
    assert await near.counts(sale.event_id) == (0, 0, 2)


async def test_the_same_reserve_and_pay_three_times_at_once_has_one_effect(house: House, annex: Annex) -> None:
    near, far = house.office, annex.office
    sale = await near.put_on_sale(1)
    reserve_id, pay_id = new_id(), new_id()
    held = await asyncio.gather(*(one.reserve(sale, "ada", request_id=reserve_id) for one in (near, far, near)))
    assert held[0].state == Reservation.STATE_HELD
    assert held[0] == held[1] == held[2]
    paid = await asyncio.gather(*(near.pay(held[0], request_id=pay_id) for _ in range(3)))
    assert paid[0].payment.state == Payment.STATE_APPROVED
    assert paid[0].payment == paid[1].payment == paid[2].payment
    assert len(await charges_of(house, held[0])) == 1


async def test_a_refusal_stays_what_it_was_when_the_seat_is_free_again(office: Office) -> None:
    sale = await office.put_on_sale()
    first = await office.held(sale, "ada")
    request_id = new_id()
    refused = await office.reserve(sale, "bob", request_id=request_id)
    assert refused.reject_reason == "TICKETS_TAKEN"
    await office.cancel(first)
    assert await office.reserve(sale, "bob", request_id=request_id) == refused


async def test_a_reserve_with_another_body_under_a_used_request_id_is_refused(office: Office) -> None:
    sale, other = await office.put_on_sale(3), await office.put_on_sale(1)
    request_id = new_id()
    held = await office.reserve(sale, "ada", sale.tickets[:2], request_id=request_id)
    for another in (
        reserve_request(sale, "ada", sale.tickets[:1], request_id=request_id),
        reserve_request(sale, "ada", sale.tickets[1:], request_id=request_id),
        reserve_request(other, "ada", request_id=request_id),
    ):
        assert await refusal(office.ticketing.Reserve(another)) == REUSED
    best = pb.ReserveRequest(
        request_id=request_id,
        event_id=sale.event_id,
        buyer_id="ada",
        best_available=pb.BestAvailable(section="stalls", quantity=1),
    )
    assert await refusal(office.ticketing.Reserve(best)) == REUSED
    assert await office.reservation(held) == held
    assert await office.counts(sale.event_id) == (1, 2, 0)
    assert await office.counts(other.event_id) == (1, 0, 0)


async def test_the_order_of_a_cart_and_the_wait_make_no_other_request(office: Office) -> None:
    sale = await office.put_on_sale(3)
    request_id = new_id()
    held = await office.reserve(sale, "ada", sale.tickets, request_id=request_id)
    assert await office.reserve(sale, "ada", sale.tickets[::-1], request_id=request_id, wait_s=5) == held


async def test_another_buyer_may_use_the_same_request_id(office: Office) -> None:
    sale = await office.put_on_sale(2)
    request_id = new_id()
    first = await office.reserve(sale, "ada", sale.tickets[:1], request_id=request_id)
    second = await office.reserve(sale, "bob", sale.tickets[1:], request_id=request_id)
    assert first.state == second.state == Reservation.STATE_HELD
    assert first.reservation_id != second.reservation_id


async def test_a_pay_with_another_body_under_a_used_request_id_is_refused(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale(2)
    held, other = await office.held(sale, "ada", sale.tickets[:1]), await office.held(sale, "ada", sale.tickets[1:])
    request_id = new_id()
    await office.pay(held, 1_000, request_id=request_id)
    assert await refusal(office.pay(held, 2_000, request_id=request_id)) == REUSED
    assert await refusal(office.pay(held, 1_000, request_id=request_id, card="pm_card_slow")) == REUSED
    assert await refusal(office.pay(other, 1_000, request_id=request_id)) == REUSED
    assert [charge.amount_minor for charge in (await charges_of(house, held)).values()] == [1_000]
    assert not await charges_of(house, other)


async def test_who_does_not_wait_is_told_pending_and_finds_the_decision_later(office: Office) -> None:
    sale = await office.put_on_sale()
    request_id = new_id()
    accepted = await office.reserve(sale, "ada", request_id=request_id, wait_s=0)
    assert accepted.state in (Reservation.STATE_PENDING, Reservation.STATE_HELD)
    held = await office.becomes(accepted, Reservation.STATE_HELD)
    assert await office.reserve(sale, "ada", request_id=request_id) == held
    paying = await office.pay(held, wait_s=0)
    assert paying.payment.state in (Payment.STATE_PENDING, Payment.STATE_APPROVED)
    await office.payment_becomes(paying.payment, Payment.STATE_APPROVED)
    await office.becomes(held, Reservation.STATE_CONFIRMED)


async def test_organisers_may_repeat_themselves(office: Office) -> None:
    create = catalog.CreateEventRequest(request_id=new_id(), event=catalog.Event(name="Othello", currency="EUR"))
    first, again = [(await office.catalog.CreateEvent(create)).event for _ in range(2)]
    assert first == again
    block = catalog.Block(section="pit", price_minor=100, quantity=5)
    add = catalog.CreateTicketsRequest(request_id=new_id(), event_id=first.event_id, blocks=[block])
    assert [(await office.catalog.CreateTickets(add)).ticket_count for _ in range(2)] == [5, 5]
    assert len(await office.tickets(first.event_id)) == 5
    create.event.name = "Macbeth"
    assert await refusal(office.catalog.CreateEvent(create)) == REUSED
    add.blocks[0].quantity = 6
    assert await refusal(office.catalog.CreateTickets(add)) == REUSED


async def charges_of(house: House, reservation: pb.Reservation) -> dict[str, provider.Charge]:
    """What the card processor charged for the reservation."""
    mine = {payment.payment_id for payment in await house.office.payments(reservation)}
    return {key: charge for key, charge in (await house.statement()).items() if key in mine}
