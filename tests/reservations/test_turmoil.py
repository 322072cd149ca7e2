"""Everything at once, on a real database: two services, six hands, a few seats, and in the end everything adds up."""

import asyncio
import random
from contextlib import suppress
from uuid import UUID

import pytest

from chassis.errors import CallError
from reservations.domain.money import RefundWithoutDebt
from reservations.handlers.opening import Opening
from tests.reservations.core import HOLD_IS_OVER, Service, Shop
from tests.reservations.sayings import (
    ANN,
    BOB,
    Hall,
    approved,
    cancel,
    claim,
    opening,
    refunded,
    rejected,
    reserve,
)

HANDS = 6
DOINGS_PER_HAND = 25
SEATS = 3
GONE_BACK = {"REFUND_DUE", "REFUNDED"}


class Turmoil:
    """Whoever does whatever comes to mind to the same few seats. Nothing that it does may raise an error."""

    def __init__(self, shop: Shop, hall: Hall, seed: int) -> None:
        self.shop = shop
        self.hall = hall
        self.chance = random.Random(seed)  # noqa: S311 - the same turmoil each time
        self.reservations: list[tuple[str, str]] = []  # with the buyer of each
        self.payments: list[Opening] = []
        self.charged: set[UUID] = set()

    async def hand(self, service: Service) -> None:
        """Does one thing after the other."""
        often = [self.buy, self.pay, self.charge]
        doings = [*often, *often, self.decline, self.time_passes, self.give_back, self.take_back, self.send_back]
        for _ in range(DOINGS_PER_HAND):
            await self.chance.choice(doings)(service)

    async def buy(self, service: Service) -> None:
        buyer_id = self.chance.choice((ANN, BOB))
        seats = self.chance.sample(range(SEATS), self.chance.randint(1, 2))
        asked = reserve(self.hall, *seats, buyer_id=buyer_id)
        if self.chance.random() < 0.3:
            asked = reserve(self.hall, best=("stalls", len(seats)), buyer_id=buyer_id)
        [outcome] = await self.shop.ask(service.reserve, asked)
        if not outcome.reservation.reject_reason:
            self.reservations.append((outcome.reservation.reservation_id, buyer_id))

    async def pay(self, service: Service) -> None:
        if self.reservations:
            reservation_id, buyer_id = self.chance.choice(self.reservations[-4:])
            payment = opening(reservation_id, self.chance.choice((0, 1_000, 5_000)), buyer_id)
            [opened] = await service.opening.open([payment])
            if not opened.refuse_reason:
                self.payments.append(payment)

    async def charge(self, service: Service) -> None:
        if self.payments:
            payment = self.chance.choice(self.payments[-6:])
            self.charged.add(payment.payment_id)
            await self.shop.ask(service.settle.payment_approved, approved(payment))

    async def decline(self, service: Service) -> None:
        if self.payments:
            await self.shop.ask(service.settle.payment_rejected, rejected(self.chance.choice(self.payments[-6:])))

    async def time_passes(self, service: Service) -> None:
        if self.chance.random() < 0.5:
            await self.shop.time_passes(self.hall, HOLD_IS_OVER)
        await service.sweeps.expire_due()

    async def give_back(self, service: Service) -> None:
        if self.reservations:
            reservation_id, buyer_id = self.chance.choice(self.reservations[-4:])
            await self.shop.ask(service.settle.cancel_reservation, cancel(reservation_id, buyer_id))

    async def take_back(self, service: Service) -> None:
        if self.reservations:
            reservation_id, _ = self.chance.choice(self.reservations[-4:])
            with suppress(CallError):
                await service.refunds.refund(UUID(reservation_id), claim(reservation_id))

    async def send_back(self, service: Service) -> None:
        if self.payments:
            failures = await service.settle.refund_completed([refunded(self.chance.choice(self.payments[-6:]))])
            assert all(isinstance(failure.error, RefundWithoutDebt) for failure in failures)

    async def settle(self) -> None:
        """Every outcome arrives, every refund is made."""
        for payment in self.payments:
            if payment.payment_id in self.charged:
                await self.shop.ask(self.shop.one.settle.payment_approved, approved(payment))
            else:
                await self.shop.ask(self.shop.one.settle.payment_rejected, rejected(payment))
            if (await self.shop.credits(payment.reservation_id))[payment.payment_id] in GONE_BACK:
                await self.shop.ask(self.shop.one.settle.refund_completed, refunded(payment))


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_done_at_once_every_charge_ends_as_a_sale_or_back_with_its_buyer(
    shop: Shop, seed: int
) -> None:
    hall = await shop.event(seats=SEATS, max_tickets_per_buyer=2)
    turmoil = Turmoil(shop, hall, seed)
    await asyncio.gather(*(turmoil.hand((shop.one, shop.two)[number % 2]) for number in range(HANDS)))
    await shop.check(hall)
    await turmoil.settle()
    await shop.check(hall)
    assert turmoil.charged, "nothing was charged in all the turmoil"
    for payment in turmoil.payments:
        state = (await shop.credits(payment.reservation_id))[payment.payment_id]
        if payment.payment_id not in turmoil.charged:
            assert state == "CLOSED"
        elif state == "APPLIED":
            assert await shop.state(payment.reservation_id) in ("PARTIALLY_PAID", "CONFIRMED")
        else:
            assert state == "REFUNDED"
