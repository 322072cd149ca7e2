"""Best available, on a real database: neighbours first, and nobody is sent away while there are seats left."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from contract import reasons
from reservations.handlers import reserve as handler
from tests.reservations.core import Shop
from tests.reservations.organiser import someone_waits_for_a_lock
from tests.reservations.sayings import Hall, reserve
from ticketrush.messages.v1 import messages_pb2 as msg

PAIR = ("stalls", 2)


def best(hall: Hall, quantity: int, number: int = 0, section: str = "stalls") -> msg.Envelope:
    return reserve(hall, best=(section, quantity), buyer_id=f"fan-{number}")


def seats(outcome: msg.Outcome) -> list[tuple[str, str]]:
    return [(ticket.row, ticket.seat) for ticket in outcome.reservation.tickets]


async def take(shop: Shop, hall: Hall, *taken: int) -> None:
    """These seats are somebody else's."""
    for seat in taken:
        await shop.ask(shop.one.reserve, reserve(hall, seat, buyer_id=f"regular-{seat}"))


@asynccontextmanager
async def locked(shop: Shop, hall: Hall, *locked_seats: int) -> Any:
    """A third party keeps these seats locked, and changes nothing."""
    async with shop.two.database.pool.connection() as conn:
        await conn.execute(
            "SELECT FROM ticket WHERE event_id = %s AND ticket_id = ANY(%s) FOR UPDATE",
            (hall.event_id, [hall.ticket_ids[seat] for seat in locked_seats]),
        )
        yield conn
        await conn.rollback()


async def test_the_foremost_neighbours_are_held(shop: Shop) -> None:
    hall = await shop.event(seats=4, rows=2)
    await take(shop, hall, 1)
    outcomes = await shop.ask(shop.one.reserve, *(best(hall, quantity, quantity) for quantity in (2, 3)))
    assert [seats(outcome) for outcome in outcomes] == [[("1", "3"), ("1", "4")], [("2", "1"), ("2", "2"), ("2", "3")]]
    await shop.check(hall)


async def test_a_party_that_cannot_sit_together_sits_in_the_fewest_groups(shop: Shop) -> None:
    hall = await shop.event(seats=9)
    await take(shop, hall, 2, 4, 6)
    [outcome] = await shop.ask(shop.one.reserve, best(hall, 4))
    assert [seat for _, seat in seats(outcome)] == ["1", "2", "8", "9"]


async def test_named_and_best_tickets_of_one_batch_do_not_collide(shop: Shop) -> None:
    hall = await shop.event(seats=5)
    outcomes = await shop.ask(
        shop.one.reserve,
        reserve(hall, 1, buyer_id="named"),
        best(hall, 2, 1),
        reserve(hall, 2, buyer_id="beaten"),
        best(hall, 2, 2),
    )
    assert [seats(outcome) for outcome in outcomes] == [
        [("1", "2")],
        [("1", "3"), ("1", "4")],
        [],
        [("1", "1"), ("1", "5")],
    ]
    assert outcomes[2].reservation.reject_reason == reasons.TICKETS_TAKEN
    await shop.check(hall)


@pytest.mark.parametrize(("quantity", "reason"), [(4, ""), (5, reasons.SOLD_OUT)])
async def test_it_is_sold_out_exactly_when_too_few_are_left(shop: Shop, quantity: int, reason: str) -> None:
    hall = await shop.event(seats=7)
    await take(shop, hall, 1, 3, 5)
    [outcome] = await shop.ask(shop.one.reserve, best(hall, quantity))
    assert outcome.reservation.reject_reason == reason
    await shop.check(hall)


async def test_only_the_section_asked_for_is_sold(shop: Shop) -> None:
    hall = await shop.event(seats=3)
    await shop.rows("UPDATE ticket SET section = 'balcony' WHERE ticket_id = %s", hall.ticket_ids[0])
    [outcome] = await shop.ask(shop.one.reserve, best(hall, 1, section="stalls"))
    assert seats(outcome) == [("1", "2")]


async def test_neighbours_are_sought_beyond_what_a_first_look_sees(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "SECTION_SLACK", 1)
    hall = await shop.event(seats=12)
    await take(shop, hall, 1, 3, 5, 7)
    [outcome] = await shop.ask(shop.one.reserve, best(hall, 3))
    assert [seat for _, seat in seats(outcome)] == ["9", "10", "11"]


async def test_seats_that_somebody_else_is_deciding_on_are_passed_over(shop: Shop) -> None:
    hall = await shop.event(seats=6)
    async with locked(shop, hall, 0, 1):
        [outcome] = await shop.ask(shop.one.reserve, best(hall, 2))
    assert [seat for _, seat in seats(outcome)] == ["3", "4"]


async def test_too_few_unlocked_seats_are_no_refusal_but_a_reason_to_wait(shop: Shop) -> None:
    hall = await shop.event(seats=4)
    async with locked(shop, hall, 0, 1, 2):
        deciding = asyncio.create_task(
            shop.ask(shop.one.reserve, best(hall, 2, 1), reserve(hall, 3, buyer_id="quick"), best(hall, 2, 2))
        )
        await someone_waits_for_a_lock(shop.two.database)
        # Who needs none of these locks is not kept waiting.
        assert await shop.tickets(hall) == ["AVAILABLE"] * 3 + ["HELD"]
    outcomes = await deciding
    assert [outcome.reservation.reject_reason for outcome in outcomes] == ["", "", reasons.SOLD_OUT]
    await shop.check(hall)


async def test_who_waited_in_vain_is_told_that_it_is_sold_out(shop: Shop) -> None:
    hall = await shop.event(seats=2)
    async with locked(shop, hall, 0, 1) as conn:
        deciding = asyncio.create_task(shop.ask(shop.one.reserve, best(hall, 1)))
        await someone_waits_for_a_lock(shop.two.database)
        await conn.execute(
            "UPDATE ticket SET state = 'WITHDRAWN', version = version + 1 WHERE event_id = %s", (hall.event_id,)
        )
        await conn.commit()
    [outcome] = await deciding
    assert outcome.reservation.reject_reason == reasons.SOLD_OUT


async def drain(shop: Shop, hall: Hall, parties: Sequence[int], batch: int) -> list[tuple[int, msg.Outcome]]:
    """Both services take these parties, in turn, batch by batch; returns each party with its outcome."""

    async def serve(service_number: int) -> list[tuple[int, msg.Outcome]]:
        service = (shop.one, shop.two)[service_number]
        queue = list(enumerate(parties))[service_number::2]
        served: list[tuple[int, msg.Outcome]] = []
        for begin in range(0, len(queue), batch):
            taken = queue[begin : begin + batch]
            outcomes = await shop.ask(service.reserve, *(best(hall, size, number) for number, size in taken))
            served += zip((size for _, size in taken), outcomes, strict=True)
        return served

    first, second = await asyncio.gather(serve(0), serve(1))
    return first + second


@pytest.mark.parametrize("batch", [1, 8])
async def test_two_services_sell_a_section_in_pairs_to_the_last_seat(shop: Shop, batch: int) -> None:
    hall = await shop.event(seats=10, rows=6)
    served = await drain(shop, hall, [2] * 40, batch)
    reasons_told = Counter(outcome.reservation.reject_reason for _, outcome in served)
    assert reasons_told == {"": 30, reasons.SOLD_OUT: 10}
    assert await shop.tickets(hall) == ["HELD"] * 60
    await shop.check(hall)


async def test_two_services_sell_a_fragmented_section_to_the_last_seat(shop: Shop) -> None:
    hall = await shop.event(seats=12, rows=4)
    await take(shop, hall, *range(0, 48, 3))
    served = await drain(shop, hall, [3, 1, 2, 4, 1, 2, 5] * 3, batch=4)
    held = sum(size for size, outcome in served if not outcome.reservation.reject_reason)
    refused = [size for size, outcome in served if outcome.reservation.reject_reason]
    left = (await shop.tickets(hall)).count("AVAILABLE")
    assert held + left == 32
    assert all(size > left for size in refused), "somebody was sent away while there were seats enough"
    await shop.check(hall)
