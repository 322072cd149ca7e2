"""What time does, on a real database: holds run out, events called off are settled; in batches, by several at once."""

import asyncio
from datetime import timedelta

import pytest
from psycopg import OperationalError

from contract import keys, reasons
from reservations.domain.model import Books
from reservations.handlers import sweeps
from reservations.store import books as store
from reservations.store import sweeps as sql
from tests.reservations.core import HOLD_IS_OVER, PRICE_MINOR, Shop
from tests.reservations.organiser import someone_waits_for_a_lock
from tests.reservations.sayings import BOB, Hall, approved, cancel, opening, reserve
from ticketrush.messages.v1 import messages_pb2 as msg
from ticketrush.v1 import ticketing_pb2 as pb

SECOND = timedelta(seconds=1)


async def holds_of(shop: Shop, hall: Hall, count: int) -> list[str]:
    """Holds of one seat each, made as fast as it goes."""
    envelopes = [reserve(hall, seat, buyer_id=f"fan-{seat % 150}") for seat in range(count)]
    outcomes: list[msg.Outcome] = []
    for begin in range(0, count, 400):
        outcomes += await shop.ask(shop.one.reserve, *envelopes[begin : begin + 400])
    return [outcome.reservation.reservation_id for outcome in outcomes]


async def test_a_hold_is_released_when_its_time_is_over_and_not_before(shop: Shop) -> None:
    hall = await shop.event(hold_duration=60 * SECOND)
    hold = await shop.hold(reserve(hall, 0))
    await shop.time_passes(hall, 55 * SECOND)
    assert await shop.one.sweeps.expire_due() == 0
    assert await shop.state(hold) == "HELD"
    await shop.time_passes(hall, 5 * SECOND)
    assert await shop.one.sweeps.expire_due() == 1
    assert await shop.state(hold) == "EXPIRED"
    await shop.check(hall)


async def test_a_release_is_recorded_and_owed_to_the_world_in_one_transaction(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    await shop.expired(hall, hold)
    [(envelope, same_transaction)] = await shop.rows(
        """SELECT envelope, history.xmin = outbox.xmin AND history.xmin = reservation.xmin
           FROM history JOIN outbox USING (history_id) JOIN reservation ON reservation_id = subject_id
           WHERE subject_id = %s AND routing_key = %s""",
        hold,
        keys.EXPIRED,
    )
    assert same_transaction
    fact = msg.Envelope.FromString(envelope).tickets_expired.reservation
    assert (fact.state, fact.version) == (pb.Reservation.STATE_EXPIRED, 2)
    assert [(ticket.state, ticket.version) for ticket in fact.tickets] == [(pb.Ticket.STATE_AVAILABLE, 3)]


async def test_released_tickets_are_sold_again(shop: Shop) -> None:
    hall = await shop.event(max_tickets_per_buyer=1)
    first = await shop.hold(reserve(hall, 0))
    await shop.expired(hall, first)
    second = await shop.hold(reserve(hall, 0))
    payment = await shop.opened(second)
    await shop.ask(shop.one.settle.payment_approved, approved(payment))
    assert await shop.state(first) == "EXPIRED"
    assert await shop.tickets(hall) == ["SOLD", "AVAILABLE", "AVAILABLE", "AVAILABLE"]
    await shop.check(hall)


async def test_what_was_paid_of_a_hold_that_runs_out_goes_back(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    payment = await shop.opened(hold, 1_000)
    await shop.ask(shop.one.settle.payment_approved, approved(payment))
    await shop.expired(hall, hold)
    [command] = await shop.refund_commands(payment)
    assert (command.request_refund.amount_minor, command.request_refund.reason) == (1_000, reasons.HOLD_ENDED)
    assert (await shop.reservation(hold))[0].refund_due_minor == 1_000
    await shop.check(hall)


async def test_two_sweeps_at_once_release_a_backlog_in_batches_and_each_hold_once(shop: Shop) -> None:
    hall = await shop.event(seats=1_200)
    await holds_of(shop, hall, 1_200)
    await shop.time_passes(hall, HOLD_IS_OVER)

    async def sweep(service_sweeps: sweeps.Sweeps) -> list[int]:
        counts = [await service_sweeps.expire_due()]
        while counts[-1] == sweeps.EXPIRY_BATCH_MAX:
            counts.append(await service_sweeps.expire_due())
        return counts

    counts = await asyncio.gather(sweep(shop.one.sweeps), sweep(shop.two.sweeps))
    released = [count for one in counts for count in one]
    assert sum(released) == 1_200
    assert max(released) == sweeps.EXPIRY_BATCH_MAX
    assert set(await shop.tickets(hall)) == {"AVAILABLE"}
    assert await shop.one.sweeps.oldest_due() is None
    await shop.check(hall)


async def test_the_longest_overdue_hold_is_known(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    assert await shop.one.sweeps.oldest_due() is None
    await shop.time_passes(hall, HOLD_IS_OVER)
    assert await shop.one.sweeps.oldest_due() == (await shop.reservation(hold))[0].release_time
    await shop.expired(hall, hold)


async def rows_read(conn: store.Connection) -> int:
    """How many reservations and credits this connection has read."""
    cursor = await conn.execute(
        """SELECT sum(seq_tup_read + idx_tup_fetch)::bigint FROM pg_stat_xact_user_tables
           WHERE relname IN ('reservation', 'credit') AND schemaname = 'reservations'"""
    )
    [(count,)] = await cursor.fetchall()
    return int(count)


async def test_a_sweep_looks_only_at_what_is_due(shop: Shop) -> None:
    hall = await shop.event(seats=500)
    holds = await holds_of(shop, hall, 500)
    await shop.open(*(opening(hold, buyer_id=f"fan-{seat % 150}") for seat, hold in enumerate(holds)))
    await shop.rows("ANALYZE reservation")
    await shop.rows("ANALYZE credit")
    for find in (
        lambda conn: store.claim_due_reservations(conn, Books(), 500),
        sql.oldest_due,
        lambda conn: sql.claim_overdue_openings(conn, 500),
        lambda conn: sql.claim_overdue_refunds(conn, 500),
    ):
        async with shop.one.database.transaction() as conn:
            # For a table as small as this one the planner would rather read all of it.
            await conn.execute("SET LOCAL enable_seqscan = off")
            before = await rows_read(conn)
            await find(conn)
            assert await rows_read(conn) - before < 50, f"{find} reads what is not due"


async def test_a_hold_that_somebody_decides_on_is_left_to_the_next_sweep(shop: Shop) -> None:
    hall = await shop.event()
    busy, free = await shop.hold(reserve(hall, 0)), await shop.hold(reserve(hall, 1))
    await shop.time_passes(hall, HOLD_IS_OVER)
    async with shop.two.database.pool.connection() as conn:
        await conn.execute("SELECT FROM reservation WHERE reservation_id = %s FOR UPDATE", (busy,))
        assert await shop.one.sweeps.expire_due() == 1
        assert [await shop.state(busy), await shop.state(free)] == ["HELD", "EXPIRED"]
        await conn.rollback()
    assert await shop.one.sweeps.expire_due() == 1
    await shop.check(hall)


async def called_off_event(shop: Shop) -> tuple[Hall, dict[str, str]]:
    """An event called off with reservations in every state; three of them are to be cancelled."""
    hall = await shop.event(seats=6)
    over = await shop.hold(reserve(hall, 0))
    await shop.expired(hall, over)
    held, part, cancelled = [await shop.hold(reserve(hall, seat)) for seat in (0, 1, 2)]
    sold, _ = await shop.sold(hall, 3)
    payment = await shop.opened(part, 1_000)
    await shop.ask(shop.one.settle.payment_approved, approved(payment))
    await shop.ask(shop.one.settle.cancel_reservation, cancel(cancelled))
    [refusal] = await shop.ask(shop.one.reserve, reserve(hall, 3, buyer_id=BOB))
    rejected = refusal.reservation.reservation_id
    await shop.rows("UPDATE event SET state = 'CANCELLED' WHERE event_id = %s", hall.event_id)
    named = {"held": held, "part": part, "sold": sold, "over": over, "cancelled": cancelled, "rejected": rejected}
    return hall, named


async def settled(shop: Shop, hall: Hall) -> bool:
    [(is_settled,)] = await shop.rows("SELECT settled FROM event WHERE event_id = %s", hall.event_id)
    return bool(is_settled)


async def all_are_cancelled(shop: Shop, hall: Hall, named: dict[str, str]) -> None:
    assert await settled(shop, hall)
    assert {name: await shop.state(found) for name, found in named.items()} == {
        "held": "CANCELLED",
        "part": "CANCELLED",
        "sold": "CANCELLED",
        "over": "EXPIRED",
        "cancelled": "CANCELLED",
        "rejected": "REJECTED",
    }
    for name, due_minor in (("part", 1_000), ("sold", PRICE_MINOR)):
        assert (await shop.reservation(named[name]))[0].refund_due_minor == due_minor
        assert (await shop.kinds(named[name]))[-1] == "CANCELLED"
    assert set(await shop.tickets(hall)) == {"AVAILABLE"}
    await shop.check(hall)


async def test_an_event_called_off_is_settled_in_batches(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "CALL_OFF_BATCH_MAX", 2)
    hall, named = await called_off_event(shop)
    assert await shop.one.sweeps.call_off() == 2
    assert not await settled(shop, hall)
    assert await shop.one.sweeps.call_off() == 1
    assert await shop.one.sweeps.call_off() == 0
    await all_are_cancelled(shop, hall, named)


async def test_two_sweeps_settle_an_event_called_off_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "CALL_OFF_BATCH_MAX", 1)
    hall, named = await called_off_event(shop)

    async def call_off(service_sweeps: sweeps.Sweeps) -> None:
        while await service_sweeps.call_off():
            pass

    await asyncio.gather(call_off(shop.one.sweeps), call_off(shop.two.sweeps))
    await all_are_cancelled(shop, hall, named)


async def test_calling_off_goes_on_where_a_crash_left_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "CALL_OFF_BATCH_MAX", 2)
    hall, named = await called_off_event(shop)
    async with shop.two.database.pool.connection() as conn:
        await conn.execute("SELECT FROM ticket WHERE event_id = %s FOR UPDATE", (hall.event_id,))
        calling_off = asyncio.create_task(shop.one.sweeps.call_off())
        await someone_waits_for_a_lock(shop.two.database)
        await conn.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event_type = 'Lock'"""
        )
        with pytest.raises(OperationalError):
            await calling_off
        await conn.rollback()
    assert [await shop.state(named[name]) for name in ("held", "part", "sold")] == [
        "HELD",
        "PARTIALLY_PAID",
        "CONFIRMED",
    ]
    while await shop.two.sweeps.call_off():
        pass
    await all_are_cancelled(shop, hall, named)
