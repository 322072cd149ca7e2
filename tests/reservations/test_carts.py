"""Carts of several buyers at once, on a real database: they wait for each other's seats, and for nothing else."""

import asyncio
from uuid import uuid4

import pytest

from contract import reasons
from reservations.store import changes
from tests.chassis.broker import until
from tests.reservations.core import Shop
from tests.reservations.sayings import ANN, BOB, reserve
from tests.reservations.standstill import nobody_can_commit, waiting_for_locks


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


async def test_buyers_of_different_seats_do_not_wait_for_each_other(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So many that no two connections share one by chance.
    monkeypatch.setattr(changes, "COUNT_SLOTS", 30_000)
    hall = await shop.event()
    async with nobody_can_commit(shop.two.database) as conn:
        buying = [
            asyncio.create_task(shop.ask(service.reserve, reserve(hall, seat, buyer_id=f"fan-{seat}")))
            for seat, service in enumerate((shop.one, shop.one, shop.two))
        ]

        async def all_wait() -> bool:
            return await waiting_for_locks(shop.two.database) == 3

        await until(all_wait)
        cursor = await conn.execute("SELECT DISTINCT locktype FROM pg_locks WHERE NOT granted")
        assert await cursor.fetchall() == [("relation",)], "they wait for more than the writing of their history"
    await asyncio.gather(*buying)
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
