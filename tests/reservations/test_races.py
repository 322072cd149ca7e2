"""Two at once, on a real database: one is stopped just before it commits, the other runs into it, then both go on."""

import asyncio
from dataclasses import dataclass
from uuid import UUID

import pytest

from reservations.domain import holds
from reservations.domain.model import Books
from reservations.handlers.opening import Opening
from reservations.store import books as store
from reservations.store.catalog import lock_event
from tests.reservations.core import HOLD_IS_OVER, Service, Shop
from tests.reservations.organiser import someone_waits_for_a_lock
from tests.reservations.sayings import BOB, Hall, approved, cancel, claim, rejected, reserve
from tests.reservations.standstill import one_runs_into_the_other
from ticketrush.v1 import ticketing_pb2 as pb


@dataclass
class Scene:
    """A hold of ann's on one seat, its time over, with a charge of all of it under way; bob wants the seat."""

    shop: Shop
    hall: Hall
    hold: str
    payment: Opening
    bobs: str = ""

    async def expire(self, service: Service) -> None:
        await service.sweeps.expire_due()

    async def approve(self, service: Service) -> None:
        await self.shop.ask(service.settle.payment_approved, approved(self.payment))

    async def reject(self, service: Service) -> None:
        await self.shop.ask(service.settle.payment_rejected, rejected(self.payment))

    async def cancel(self, service: Service) -> None:
        await self.shop.ask(service.settle.cancel_reservation, cancel(self.hold))

    async def refund(self, service: Service) -> None:
        await service.refunds.refund(UUID(self.hold), claim(self.hold))

    async def reserve(self, service: Service) -> None:
        [outcome] = await self.shop.ask(service.reserve, reserve(self.hall, 0, buyer_id=BOB))
        self.bobs = pb.Reservation.State.Name(outcome.reservation.state).removeprefix("STATE_")

    async def best(self, service: Service) -> None:
        [outcome] = await self.shop.ask(service.reserve, reserve(self.hall, best=("stalls", 1), buyer_id=BOB))
        self.bobs = pb.Reservation.State.Name(outcome.reservation.state).removeprefix("STATE_")

    async def open_again(self, service: Service) -> None:
        await service.opening.open([self.payment])

    async def now(self) -> tuple[str, str, str]:
        """Where the hold, the payment and bob's attempt are."""
        return (
            await self.shop.state(self.hold),
            (await self.shop.credits(self.hold))[self.payment.payment_id],
            self.bobs,
        )


async def scene(shop: Shop) -> Scene:
    hall = await shop.event(seats=1)
    hold = await shop.hold(reserve(hall, 0))
    payment = await shop.opened(hold)
    await shop.time_passes(hall, HOLD_IS_OVER)
    return Scene(shop, hall, hold, payment)


# (what commits first, what runs into it): where the hold, its payment and bob's attempt are afterwards.
HELD_AND_DUE = {
    ("expire", "approve"): ("CONFIRMED", "APPLIED", ""),
    ("expire", "reject"): ("EXPIRED", "CLOSED", ""),
    ("expire", "cancel"): ("EXPIRED", "OPEN", ""),
    ("expire", "expire"): ("EXPIRED", "OPEN", ""),
    ("expire", "reserve"): ("EXPIRED", "OPEN", "HELD"),
    ("expire", "open_again"): ("EXPIRED", "OPEN", ""),
    ("approve", "expire"): ("CONFIRMED", "APPLIED", ""),
    ("approve", "approve"): ("CONFIRMED", "APPLIED", ""),
    ("approve", "reject"): ("CONFIRMED", "APPLIED", ""),
    ("approve", "cancel"): ("CONFIRMED", "APPLIED", ""),
    ("approve", "refund"): ("CANCELLED", "REFUND_DUE", ""),
    ("approve", "reserve"): ("CONFIRMED", "APPLIED", "REJECTED"),
    ("reject", "expire"): ("HELD", "CLOSED", ""),
    ("reject", "approve"): ("HELD", "REFUND_DUE", ""),
    ("reject", "cancel"): ("CANCELLED", "CLOSED", ""),
    ("cancel", "expire"): ("CANCELLED", "OPEN", ""),
    ("cancel", "approve"): ("CANCELLED", "REFUND_DUE", ""),
    ("cancel", "reject"): ("CANCELLED", "CLOSED", ""),
    ("cancel", "cancel"): ("CANCELLED", "OPEN", ""),
    ("cancel", "reserve"): ("CANCELLED", "OPEN", "HELD"),
    ("reserve", "expire"): ("EXPIRED", "OPEN", "REJECTED"),
    ("reserve", "approve"): ("CONFIRMED", "APPLIED", "REJECTED"),
    ("reserve", "cancel"): ("CANCELLED", "OPEN", "REJECTED"),
}


@pytest.mark.parametrize(("first", "second"), HELD_AND_DUE)
async def test_a_hold_whose_time_is_over_ends_in_one_way(shop: Shop, first: str, second: str) -> None:
    at = await scene(shop)
    await one_runs_into_the_other(shop, getattr(at, first)(shop.one), getattr(at, second)(shop.two))
    assert await at.now() == HELD_AND_DUE[first, second]
    await shop.check(at.hall)


SOLD = {
    ("refund", "refund"): ("CANCELLED", "REFUND_DUE", ""),
    ("refund", "approve"): ("CANCELLED", "REFUND_DUE", ""),
    ("refund", "reject"): ("CANCELLED", "REFUND_DUE", ""),
    ("refund", "cancel"): ("CANCELLED", "REFUND_DUE", ""),
    ("refund", "reserve"): ("CANCELLED", "REFUND_DUE", "HELD"),
    ("reserve", "refund"): ("CANCELLED", "REFUND_DUE", "REJECTED"),
}


@pytest.mark.parametrize(("first", "second"), SOLD)
async def test_a_sale_is_taken_back_once(shop: Shop, first: str, second: str) -> None:
    at = await scene(shop)
    await at.approve(shop.one)
    await one_runs_into_the_other(shop, getattr(at, first)(shop.one), getattr(at, second)(shop.two))
    assert await at.now() == SOLD[first, second]
    await shop.check(at.hall)


EXPIRED = {
    ("reserve", "approve"): ("EXPIRED", "REFUND_DUE", "HELD"),
    ("best", "approve"): ("EXPIRED", "REFUND_DUE", "HELD"),
    ("approve", "reserve"): ("CONFIRMED", "APPLIED", "REJECTED"),
    ("approve", "best"): ("CONFIRMED", "APPLIED", "REJECTED"),
    ("approve", "approve"): ("CONFIRMED", "APPLIED", ""),
}


@pytest.mark.parametrize(("first", "second"), EXPIRED)
async def test_a_seat_that_a_late_charge_and_a_new_buyer_want_goes_to_the_first(
    shop: Shop, first: str, second: str
) -> None:
    at = await scene(shop)
    await at.expire(shop.one)
    await one_runs_into_the_other(shop, getattr(at, first)(shop.one), getattr(at, second)(shop.two))
    assert await at.now() == EXPIRED[first, second]
    await shop.check(at.hall)


@pytest.mark.parametrize("ending", ["cancel", "approve"])
async def test_two_late_charges_for_one_seat_at_once_sell_it_once(shop: Shop, ending: str) -> None:
    at = await scene(shop)
    await at.expire(shop.one)
    bobs = await shop.hold(reserve(at.hall, 0, buyer_id=BOB))
    payment = await shop.opened(bobs, 0, BOB)
    if ending == "approve":
        await shop.expired(at.hall, bobs)
    await one_runs_into_the_other(
        shop, at.approve(shop.one), shop.ask(shop.two.settle.payment_approved, approved(payment))
    )
    states = sorted([await shop.state(at.hold), await shop.state(bobs)])
    credits_now = sorted([*(await shop.credits(at.hold)).values(), *(await shop.credits(bobs)).values()])
    assert (states, credits_now) == (["CONFIRMED", "EXPIRED"], ["APPLIED", "REFUND_DUE"])
    await shop.check(at.hall)


@pytest.mark.parametrize(
    ("doing", "after"),
    [("reserve", ("EXPIRED", "OPEN", "REJECTED")), ("approve", ("EXPIRED", "REFUND_DUE", ""))],
)
async def test_whoever_finds_an_event_being_closed_waits_and_buys_nothing(
    shop: Shop, doing: str, after: tuple[str, str, str]
) -> None:
    at = await scene(shop)
    await at.expire(shop.one)
    async with shop.two.database.pool.connection() as conn:
        await lock_event(conn, UUID(str(at.hall.event_id)))
        await conn.execute("UPDATE event SET state = 'CLOSED' WHERE event_id = %s", (at.hall.event_id,))
        buying = asyncio.create_task(getattr(at, doing)(shop.one))
        await someone_waits_for_a_lock(shop.two.database)
        await conn.commit()
    await buying
    assert await at.now() == after
    await shop.check(at.hall)


async def test_a_buyer_who_is_deciding_and_an_event_called_off_do_not_lock_each_other_out(shop: Shop) -> None:
    hall = await shop.event()
    hold, other = await shop.hold(reserve(hall, 0)), await shop.hold(reserve(hall, 1))
    await shop.rows("UPDATE event SET state = 'CANCELLED' WHERE event_id = %s", hall.event_id)
    locked, go_on = asyncio.Event(), asyncio.Event()

    async def cancel_slowly(conn: store.Connection, books: Books) -> str:
        # The same locks in the same order as any decision about a reservation takes.
        await store.lock_reservations(conn, books, {UUID(hold)})
        locked.set()
        await go_on.wait()
        await store.lock_what_they_hold(conn, books)
        return holds.cancel(books, books.reservations[UUID(hold)])

    cancelling = asyncio.create_task(shop.one.desk.decide(cancel_slowly))
    await locked.wait()
    calling_off = asyncio.create_task(shop.two.sweeps.call_off())

    await someone_waits_for_a_lock(shop.two.database)
    go_on.set()
    assert await cancelling == ""
    while await calling_off:
        calling_off = asyncio.create_task(shop.two.sweeps.call_off())
    assert [await shop.state(one) for one in (hold, other)] == ["CANCELLED", "CANCELLED"]
    await shop.check(hall)
