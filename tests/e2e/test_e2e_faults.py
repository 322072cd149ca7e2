"""Processes that are stopped or killed at work, servers that go away: nothing is lost, doubled or kept.

What happens to the house happens in one chain, what happens to the island's servers in another, both at once.
"""

import asyncio
from typing import TYPE_CHECKING

import grpc

from tests.e2e.conftest import Annex, Island
from tests.e2e.crowd import insist, shopping
from tests.e2e.house import SERVICES, House, between
from tests.e2e.office import (
    CALL_TIMEOUT_S,
    Payment,
    Refusal,
    Reservation,
    eventually,
    new_id,
    refusal,
    reserve_request,
)
from tests.e2e.together import Together
from tests.e2e.wire import listening, named
from ticketrush.provider.v1 import provider_pb2 as provider
from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceStub

if TYPE_CHECKING:  # exists only in the stubs
    from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceAsyncStub

together = Together("house", "annex", "island")

GONE_S = 20
BROKER_GONE = Refusal(grpc.StatusCode.UNAVAILABLE, "BROKER_UNAVAILABLE")
WITH_BROKER = ("gateway", "reservations", "payments", "scheduler")
WITH_DATABASE = ("reservations", "payments", "scheduler")


@together
async def test_each_service_stops_within_ten_seconds_of_sigterm_and_nothing_is_lost(house: House, annex: Annex) -> None:
    async with house.alone:
        async with shopping(house.office, annex.office) as crowd:
            for name in reversed(SERVICES):
                await crowd.buys()
                await house.terminate(name)
                await house.up(name)
        await house.balances()


@together
async def test_any_service_killed_at_work_loses_and_doubles_nothing(house: House, annex: Annex) -> None:
    async with house.alone:
        held = await house.office.held(await house.office.put_on_sale(), "ada")
        request_id = new_id()
        async with shopping(house.office, annex.office) as crowd:
            paying = asyncio.create_task(
                insist(
                    lambda: annex.office.pay(held, card="pm_card_slow", request_id=request_id, wait_s=10),
                    lambda answer: answer.payment.state != Payment.STATE_PENDING,
                )
            )
            for names in (("payments",), ("reservations",), ("provider", "gateway"), ("scheduler",)):
                await crowd.buys()
                await house.kill(*names)
                await house.up(*names)
        slow = await paying
        assert (slow.payment.state, slow.payment.amount_minor) == (Payment.STATE_APPROVED, held.total_minor)
        assert len(await house.office.payments(held)) == 1
        await house.balances()


@together
async def test_a_charge_that_lands_after_its_payment_was_given_up_charges_nothing(house: House) -> None:
    office = house.office
    async with house.alone:
        held = await office.held(await office.put_on_sale(), "ada")
        await house.kill("provider")
        payment = (await office.pay(held, wait_s=0)).payment
        await office.until(held, lambda now: now.open_minor > 0)
        await _let_ten_minutes_pass(house, payment.payment_id)
        await house.up("provider")
        given_up = await office.payment_becomes(payment, Payment.STATE_REJECTED)
        assert given_up.decline_reason == "PROVIDER_UNAVAILABLE"
        # Now the call arrives that the network had lost.
        charge = await _charge(house, given_up)
        assert charge.state == provider.Charge.STATE_CANCELLED
        assert (await office.until(held, lambda now: now.open_minor == 0)).state == Reservation.STATE_HELD
        await house.balances()


@together
async def test_a_charge_that_landed_before_its_payment_is_given_up_counts(house: House) -> None:
    office = house.office
    async with house.alone:
        held = await office.held(await office.put_on_sale(), "ada")
        await house.kill("provider")
        payment = (await office.pay(held, wait_s=0)).payment
        await office.until(held, lambda now: now.open_minor > 0)
        house.freeze("payments")
        try:
            await house.up("provider")
            opened = await office.reservation(held)
            payment.amount_minor, payment.currency = opened.open_minor, opened.currency
            assert (await _charge(house, payment)).state == provider.Charge.STATE_APPROVED
            await _let_ten_minutes_pass(house, payment.payment_id)
        finally:
            house.thaw("payments")
        await office.payment_becomes(payment, Payment.STATE_APPROVED)
        await office.becomes(held, Reservation.STATE_CONFIRMED)
        await house.balances()


@together
async def test_a_call_begun_while_the_broker_is_away_is_carried_through_within_its_deadline(
    house: House, annex: Annex
) -> None:
    async with house.alone:
        sale = await house.office.put_on_sale()
        annex.wire.refuse()
        try:
            reserving = asyncio.create_task(annex.office.reserve(sale, "ada"))
            in_time = reserve_request(sale, "bob")
            assert await refusal(annex.office.ticketing.Reserve(in_time, timeout=2)) == BROKER_GONE
        finally:
            annex.wire.accept()
        assert (await reserving).state == Reservation.STATE_HELD


@together
async def test_those_behind_a_crowd_of_slow_cards_are_charged_next(house: House) -> None:
    office = house.office
    async with house.alone:
        sale = await office.put_on_sale(100)
        held = await asyncio.gather(*(office.held(sale, f"buyer-{seat}", [seat]) for seat in sale.tickets))
        # 64 are charged at once: the others come second, well before a lease would run out.
        answers = await asyncio.gather(*(office.pay(one, card="pm_card_slow", wait_s=17) for one in held))
        assert {answer.payment.state for answer in answers} == {Payment.STATE_APPROVED}
        await house.balances()


@together
async def test_a_broker_gone_for_twenty_seconds_costs_only_time(island: Island) -> None:
    house, office = island.house, island.house.office
    async with house.alone:
        bought = await office.buy(await office.put_on_sale(), "ada")
        expiring = await office.held(await office.put_on_sale(hold_s=5), "bob")
        sale = await office.put_on_sale()
        await house.kill("rabbitmq")
        gone = asyncio.get_running_loop().time()
        for name in WITH_BROKER:
            await house.stops_serving(name)
        # In time before the caller's own deadline, or when the gateway has tried for long enough.
        request = reserve_request(sale, "carol")
        refused = await asyncio.gather(
            *(refusal(office.ticketing.Reserve(request, timeout=timeout_s)) for timeout_s in (3, CALL_TIMEOUT_S))
        )
        assert refused == [BROKER_GONE] * 2
        # What needs no broker goes on, and is committed: the crash comes between the commit and the broker.
        assert (await office.refund(bought)).state == Reservation.STATE_CANCELLED
        await office.becomes(expiring, Reservation.STATE_EXPIRED)
        await house.kill("reservations", "scheduler")
        await asyncio.sleep(gone + GONE_S - asyncio.get_running_loop().time())
        insisting = asyncio.create_task(
            insist(
                lambda: office.ticketing.Reserve(request, timeout=CALL_TIMEOUT_S),
                lambda answer: answer.reservation.state != Reservation.STATE_PENDING,
            )
        )
        await house.up("rabbitmq")
        async with house.broker() as channel, listening(channel, "ticket.expired") as ear:
            await house.up(*WITH_BROKER)
            await ear.hears(named(expiring.reservation_id))
        assert (await insisting).reservation.state == Reservation.STATE_HELD
        await office.until(bought, lambda now: now.refunded_minor == bought.total_minor)
        await office.buy(await office.put_on_sale(), "dora")
        await house.balances()


@together
async def test_a_database_gone_and_back_costs_only_time(island: Island) -> None:
    house, office = island.house, island.house.office
    async with house.alone:
        sale = await office.put_on_sale(2)
        held = await office.held(sale, "ada", sale.tickets[:1])
        await house.kill("postgres")
        for name in WITH_DATABASE:
            await house.stops_serving(name)
        await eventually(lambda: house.serves("gateway"))
        assert (await refusal(office.reservation(held))).code == grpc.StatusCode.UNAVAILABLE
        # The broker has the commands: they wait.
        paying = await office.pay(held, wait_s=1)
        waiting = await office.reserve(sale, "bob", sale.tickets[1:], wait_s=1)
        assert paying.payment.state == Payment.STATE_PENDING
        assert waiting.state == Reservation.STATE_PENDING
        await house.up("postgres")

        async def all_serve() -> bool:
            return all([await house.serves(name) for name in SERVICES])

        await eventually(all_serve)
        await office.becomes(held, Reservation.STATE_CONFIRMED)
        await office.becomes(waiting, Reservation.STATE_HELD)
        await house.balances()


async def _charge(house: House, payment: Payment) -> provider.Charge:
    """The call to the card processor that payments would have made."""
    request = provider.ChargeRequest(
        payment_id=payment.payment_id,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        payment_method="pm_card_ok",
    )
    async with between(house.stack, "payments", "provider") as channel:
        stub: PaymentProviderServiceAsyncStub = PaymentProviderServiceStub(channel)
        return (await stub.Charge(request)).charge


async def _let_ten_minutes_pass(house: House, payment_id: str) -> None:
    """Since the payment began: so long a test cannot wait."""
    await house.rows(
        """UPDATE payments.payment SET create_time = create_time - interval '601 s', due_time = clock_timestamp()
           WHERE payment_id = %s""",
        payment_id,
    )
