"""Paying: what is charged, what is applied, and what goes back."""

import asyncio
from contextlib import suppress

import grpc
import pytest

from tests.e2e.conftest import Annex
from tests.e2e.house import House
from tests.e2e.office import Office, Payment, Reservation, eventually, new_id
from ticketrush.provider.v1 import provider_pb2 as provider
from ticketrush.v1 import ticketing_pb2 as pb

pytestmark = pytest.mark.usefixtures("the_books_balance")

APPROVED = provider.Charge.STATE_APPROVED


async def assert_refused_and_nothing_charged(house: House, answer: pb.PayResponse, reason: str) -> None:
    assert (answer.payment.state, answer.payment.decline_reason) == (Payment.STATE_REJECTED, reason)
    assert answer.payment.payment_id not in await house.statement()


async def test_of_two_full_payments_at_once_one_is_charged(house: House, annex: Annex) -> None:
    sale = await house.office.put_on_sale()
    held = await house.office.held(sale, "ada")
    answers = await asyncio.gather(house.office.pay(held), annex.office.pay(held))
    assert sorted(answer.payment.state for answer in answers) == [Payment.STATE_APPROVED, Payment.STATE_REJECTED]
    [refused] = [answer for answer in answers if answer.payment.state == Payment.STATE_REJECTED]
    await assert_refused_and_nothing_charged(house, refused, "NOTHING_DUE")
    assert (await house.office.reservation(held)).paid_minor == held.total_minor


async def test_twenty_instalments_at_once_charge_no_more_than_is_due(house: House) -> None:
    office = house.office
    held = await office.held(await office.put_on_sale(), "ada")
    answers = await asyncio.gather(*(office.pay(held, held.total_minor // 3) for _ in range(20)))
    approved = [answer.payment for answer in answers if answer.payment.state == Payment.STATE_APPROVED]
    assert len(approved) == 3
    statement = await house.statement()
    mine = [statement[one.payment_id] for one in await office.payments(held) if one.payment_id in statement]
    assert sum(charge.amount_minor for charge in mine) == held.total_minor
    assert (await office.reservation(held)).state == Reservation.STATE_CONFIRMED


async def test_a_payment_without_a_reservation_is_refused_and_nothing_is_charged(house: House) -> None:
    nothing = pb.Reservation(reservation_id=new_id(), buyer_id="ada")
    answer = await house.office.pay(nothing, 1_000)
    await assert_refused_and_nothing_charged(house, answer, "UNKNOWN_RESERVATION")
    assert not answer.HasField("reservation")


async def test_a_payment_for_anothers_reservation_is_refused_and_shows_nothing_of_it(house: House) -> None:
    held = await house.office.held(await house.office.put_on_sale(), "ada")
    answer = await house.office.pay(held, buyer="mallory")
    await assert_refused_and_nothing_charged(house, answer, "NOT_YOUR_RESERVATION")
    assert not answer.HasField("reservation")
    assert await house.office.reservation(held) == held


async def test_a_payment_above_what_is_due_is_refused_and_nothing_is_charged(house: House) -> None:
    office = house.office
    held = await office.held(await office.put_on_sale(), "ada")
    above = await office.pay(held, held.total_minor + 1)
    await assert_refused_and_nothing_charged(house, above, "AMOUNT_ABOVE_DUE")
    await office.pay(held, 1_000)
    above = await office.pay(held, held.total_minor - 999)
    await assert_refused_and_nothing_charged(house, above, "AMOUNT_ABOVE_DUE")
    paid = await office.pay(held)
    assert paid.payment.amount_minor == held.total_minor - 1_000
    assert paid.reservation.state == Reservation.STATE_CONFIRMED


async def test_a_payment_after_the_end_of_a_hold_or_for_what_is_paid_is_refused(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale(2)
    cancelled = await office.cancel(await office.held(sale, "ada", sale.tickets[:1]))
    await assert_refused_and_nothing_charged(house, await office.pay(cancelled), "HOLD_ENDED")
    rejected = await office.reserve(sale, "bob", [new_id()])
    await assert_refused_and_nothing_charged(house, await office.pay(rejected), "HOLD_ENDED")
    bought = await office.buy(sale, "ada", sale.tickets[1:])
    await assert_refused_and_nothing_charged(house, await office.pay(bought), "NOTHING_DUE")


async def test_a_reservation_takes_twenty_payments_and_no_more(house: House) -> None:
    office = house.office
    held = await office.held(await office.put_on_sale(), "ada")
    for _ in range(20):
        declined = await office.pay(held, card="pm_card_declined")
        assert declined.payment.decline_reason == "CARD_DECLINED"
    await assert_refused_and_nothing_charged(house, await office.pay(held), "TOO_MANY_PAYMENTS")


async def test_a_cancellation_that_races_with_a_payment_sells_or_gives_back_but_never_both(
    house: House, annex: Annex
) -> None:
    office = house.office
    sale = await office.put_on_sale(30)
    held = await asyncio.gather(*(office.held(sale, f"buyer-{seat}", [seat]) for seat in sale.tickets))

    async def cancel(one: pb.Reservation) -> None:
        with suppress(grpc.aio.AioRpcError):
            await annex.office.cancel(one)

    await asyncio.gather(*(race for one in held for race in (office.pay(one), cancel(one))))
    await house.settled()
    ended = [await office.reservation(one) for one in held]
    for one in ended:
        if one.state == Reservation.STATE_CONFIRMED:
            assert (one.paid_minor, one.refunded_minor) == (one.total_minor, 0)
        else:
            assert one.state == Reservation.STATE_CANCELLED
            assert (one.paid_minor, one.refund_due_minor) == (0, 0)
    sold = sum(one.state == Reservation.STATE_CONFIRMED for one in ended)
    assert await office.counts(sale.event_id) == (30 - sold, 0, sold)


async def test_instalments_confirm_once_all_is_paid(house: House) -> None:
    office = house.office
    held = await office.held(await office.put_on_sale(), "ada")
    first = await office.pay(held, 1_500)
    assert first.reservation.state == Reservation.STATE_PARTIALLY_PAID
    assert (first.reservation.paid_minor, first.reservation.open_minor) == (1_500, 0)
    last = await office.pay(held)
    assert last.reservation.state == Reservation.STATE_CONFIRMED
    assert all(ticket.state == pb.Ticket.STATE_SOLD for ticket in last.reservation.tickets)
    assert [one.amount_minor for one in await office.payments(held)] == [1_500, 3_000]


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ("pm_card_declined", "CARD_DECLINED"),
        ("pm_card_insufficient_funds", "INSUFFICIENT_FUNDS"),
        ("pm_card_of_nobody", "UNKNOWN_PAYMENT_METHOD"),
    ],
)
async def test_a_decline_leaves_the_hold_alive_for_another_card(house: House, card: str, reason: str) -> None:
    office = house.office
    held = await office.held(await office.put_on_sale(), "ada")
    declined = await office.pay(held, card=card)
    assert (declined.payment.state, declined.payment.decline_reason) == (Payment.STATE_REJECTED, reason)
    assert declined.reservation.state == Reservation.STATE_HELD
    assert (declined.reservation.open_minor, declined.reservation.release_time) == (0, held.expire_time)
    paid = await office.pay(held)
    assert paid.reservation.state == Reservation.STATE_CONFIRMED
    charged = [one.payment_id for one in (await house.statement()).values() if one.state == APPROVED]
    assert declined.payment.payment_id not in charged


async def test_a_flaky_card_is_charged_once(house: House) -> None:
    office = house.office
    held = await office.held(await office.put_on_sale(), "ada")
    paid = await office.pay(held, card="pm_card_flaky")
    assert paid.reservation.state == Reservation.STATE_CONFIRMED
    assert (await house.statement())[paid.payment.payment_id].amount_minor == held.total_minor


async def test_what_costs_nothing_is_confirmed_at_once(office: Office) -> None:
    sale = await office.put_on_sale(price_minor=0)
    got = await office.reserve(sale, "ada")
    assert (got.state, got.total_minor) == (Reservation.STATE_CONFIRMED, 0)
    assert await office.counts(sale.event_id) == (0, 0, 1)


async def test_a_cancelled_part_payment_goes_back_and_the_seat_is_sold_to_another(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale()
    held = await office.held(sale, "ada")
    part = await office.pay(held, 2_000)
    cancelled = await office.cancel(held)
    assert (cancelled.state, cancelled.paid_minor) == (Reservation.STATE_CANCELLED, 0)
    bought = await office.buy(sale, "bob")
    back = await office.until(held, lambda now: now.refunded_minor == 2_000)
    assert back.refund_due_minor == 0
    assert (await house.statement())[part.payment.payment_id].refunded_minor == 2_000
    # The second buyer shares nothing with the first one's payments.
    assert (bought.paid_minor, bought.refunded_minor) == (bought.total_minor, 0)
    assert part.payment.payment_id not in {one.payment_id for one in await office.payments(bought)}


async def test_a_sale_taken_back_by_the_organiser_is_refunded_once_and_sold_again(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale(limit=1)
    held = await office.held(sale, "ada")
    first, second = await office.pay(held, 1_000), await office.pay(held)
    request_id = new_id()
    taken_back = [await office.refund(held, request_id=request_id) for _ in range(3)]
    assert {one.state for one in taken_back} == {Reservation.STATE_CANCELLED}
    back = await office.until(held, lambda now: now.refunded_minor == held.total_minor)
    assert (back.paid_minor, back.refund_due_minor) == (0, 0)
    statement = await house.statement()
    for payment in (first.payment, second.payment):
        assert statement[payment.payment_id].refunded_minor == payment.amount_minor
        assert (await office.payment(payment)).state == Payment.STATE_REFUNDED
    bought = await office.buy(sale, "ada")
    assert (await office.reservation(held)).state == Reservation.STATE_CANCELLED
    assert len(await office.payments(bought)) == 1


async def test_a_flaky_refund_arrives_in_the_end(house: House) -> None:
    office = house.office
    held = await office.held(await office.put_on_sale(), "ada")
    paid = await office.pay(held, card="pm_card_refund_flaky")
    await office.refund(held)
    await office.until(held, lambda now: now.refunded_minor == held.total_minor)
    assert (await house.statement())[paid.payment.payment_id].refunded_minor == held.total_minor


async def test_a_refused_refund_stays_due_and_rings(house: House) -> None:
    office = house.office
    held = await office.held(await office.put_on_sale(), "ada")
    paid = await office.pay(held, card="pm_card_refund_refused")
    house.refused_refunds.add(paid.payment.payment_id)

    async def alarms() -> float:
        return await house.figure("payments", "ticketrush_payments_refunds_refused_total")

    before = await alarms()

    async def has_rung_twice() -> bool:
        return await alarms() >= before + 2

    await office.refund(held)
    await eventually(has_rung_twice)
    due = await office.reservation(held)
    assert (due.state, due.refund_due_minor, due.refunded_minor) == (Reservation.STATE_CANCELLED, held.total_minor, 0)
    assert (await office.payment(paid.payment)).state == Payment.STATE_REFUND_DUE
