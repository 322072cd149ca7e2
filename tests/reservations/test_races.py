"""Two at once, on a real database: one is stopped just before it commits, the other runs into it, then both go on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from chassis.database import Database
from contract import reasons
from reservations.domain import holds
from reservations.domain.model import Books
from reservations.handlers.opening import Opening
from reservations.store import books as store
from tests.chassis.broker import until
from tests.reservations.core import HOLD_IS_OVER, Service, Shop
from tests.reservations.organiser import someone_waits_for_a_lock
from tests.reservations.sayings import ANN, BOB, Hall, approved, cancel, claim, rejected, reserve
from ticketrush.v1 import ticketing_pb2 as pb


async def waiting_for_locks(database: Database) -> int:
    async with database.transaction() as conn:
        cursor = await conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        [(count,)] = await cursor.fetchall()
        return int(count)


@asynccontextmanager
async def nobody_can_commit(database: Database) -> AsyncIterator[None]:
    """Every decision gets as far as the writing of its history, all its own locks taken, and waits there."""
    async with database.pool.connection() as conn:
        await conn.execute("LOCK TABLE history IN SHARE MODE")
        yield
        await conn.rollback()


async def one_runs_into_the_other(shop: Shop, first: Awaitable[object], second: Awaitable[object]) -> None:
    """Both are under way before either commits; the first was there first. Raises what they raise."""
    watch = Database(shop.url, schema="reservations", application="watch", connections_max=2)
    await watch.open()
    async with nobody_can_commit(watch):
        running = [asyncio.ensure_future(first)]
        for count, begin in ((1, None), (2, second)):
            if begin is not None:
                running.append(asyncio.ensure_future(begin))

            async def arrived(count: int = count) -> bool:
                # Who passes over what is locked does not wait for it.
                return running[-1].done() or await waiting_for_locks(watch) == count

            await until(arrived)
    await asyncio.gather(*running)
    await watch.close()


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


async def test_carts_in_opposite_orders_do_not_lock_each_other_out(shop: Shop) -> None:
    hall = await shop.event(seats=3)
    forth, back = reserve(hall, 0, 1, 2, buyer_id=ANN), reserve(hall, 0, 1, 2, buyer_id=BOB)
    back.reserve_tickets.ticket_ids.reverse()
    async with shop.two.database.pool.connection() as conn:
        # Both stop at the seat in the middle, each with what it locks before that.
        await conn.execute("SELECT FROM ticket WHERE ticket_id = %s FOR UPDATE", (hall.ticket_ids[1],))
        deciding = [asyncio.create_task(shop.ask(shop.one.reserve, cart)) for cart in (forth, back)]

        async def both_wait() -> bool:
            return await waiting_for_locks(shop.two.database) == 2

        await until(both_wait)
        await conn.rollback()
    told = [one.reservation.reject_reason for [one] in await asyncio.gather(*deciding)]
    assert sorted(told) == ["", reasons.TICKETS_TAKEN]
    await shop.check(hall)


async def test_overlapping_carts_in_opposite_orders_are_never_half_held(shop: Shop) -> None:
    for _ in range(25):
        left, right = await shop.event(seats=3), await shop.event(seats=3)
        carts = [reserve(hall, *seats, buyer_id=str(uuid4())) for hall in (left, right) for seats in ((0, 1), (1, 2))]
        for cart in carts[1::2]:
            cart.reserve_tickets.ticket_ids.reverse()
        outcomes = await asyncio.gather(
            shop.ask(shop.one.reserve, carts[0], carts[3]), shop.ask(shop.two.reserve, carts[2], carts[1])
        )
        told = [(len(one.reservation.tickets), one.reservation.reject_reason) for both in outcomes for one in both]
        # One of the two carts of each event: the seat in the middle is in both.
        assert sorted(told) == [(0, reasons.TICKETS_TAKEN)] * 2 + [(2, "")] * 2
        for hall in (left, right):
            assert sorted(await shop.tickets(hall)) == ["AVAILABLE", "HELD", "HELD"]
            await shop.check(hall)
