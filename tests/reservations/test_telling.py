"""What is committed is said on the exchange, with everything about it; what is not committed is said to nobody."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest
from psycopg import OperationalError

from contract import keys
from reservations.domain import holds
from reservations.domain.model import Books, CreditState
from reservations.store import books as store
from reservations.store.changes import Superseded
from tests.chassis.broker import until
from tests.reservations.core import PRICE_MINOR, Inbox, Shop
from tests.reservations.organiser import someone_waits_for_a_lock
from tests.reservations.sayings import approved, cancel, claim, rejected, reserve
from ticketrush.messages.v1 import messages_pb2 as msg
from ticketrush.v1 import ticketing_pb2 as pb


@pytest.fixture
async def listener(shop: Shop) -> Inbox:
    """Hears all that either service says from now on."""
    inbox = Inbox()
    await inbox.open(shop.channel, shop.exchange)
    return inbox


async def heard(listener: Inbox, count: int) -> list[tuple[str, msg.Envelope]]:
    """What was said, once so much has arrived; each key has a lane of its own, so the order is that of the versions."""
    await until(lambda: len(listener.heard) >= count)
    assert len(listener.heard) == count
    return sorted(listener.heard, key=lambda said: (said[1].subject_version, said[0]))


def shown(envelope: msg.Envelope) -> pb.Reservation:
    told: pb.Reservation = getattr(envelope, envelope.WhichOneof("payload") or "").reservation
    return told


async def test_every_step_of_a_sale_and_of_its_taking_back_is_told(shop: Shop, listener: Inbox) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    declined, first, last = [await shop.opened(hold, amount_minor) for amount_minor in (1_000, 1_000, 4_000 - 1_000)]
    await shop.ask(shop.one.settle.payment_rejected, rejected(declined))
    rest = await shop.opened(hold)
    for payment in (first, last, rest):
        await shop.ask(shop.one.settle.payment_approved, approved(payment))
    await shop.two.refunds.refund(UUID(hold), claim(hold))
    said = await heard(listener, 6 + 3)
    commands, facts = said[:3], said[3:]
    assert {key for key, _ in commands} == {keys.REFUND_REQUESTED}
    assert [(key, envelope.subject_version) for key, envelope in facts] == [
        (keys.RESERVED, 1),
        # 2, 3, 4: openings are nobody else's business
        (keys.RESERVATION_UPDATED, 5),
        # 6: the last opening
        (keys.PARTIALLY_PAID, 7),
        (keys.PARTIALLY_PAID, 8),
        (keys.SOLD, 9),
        (keys.CANCELLED, 10),
    ]
    for _, envelope in facts:
        assert envelope.subject_id == hold
        assert shown(envelope).version == envelope.subject_version
        assert [ticket.ticket_id for ticket in shown(envelope).tickets] == [str(hall.ticket_ids[0])]
    assert [shown(envelope).tickets[0].state for _, envelope in facts] == [
        *[pb.Ticket.STATE_HELD] * 4,
        pb.Ticket.STATE_SOLD,
        pb.Ticket.STATE_AVAILABLE,
    ]
    assert [shown(envelope).tickets[0].version for _, envelope in facts] == [2, 2, 2, 2, 3, 4]
    assert len({envelope.message_id for _, envelope in said}) == len(said)
    assert sum(command.request_refund.amount_minor for _, command in commands) == PRICE_MINOR


async def test_a_fact_tells_how_things_were_right_after_its_step(shop: Shop, listener: Inbox) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    parts = [await shop.opened(hold, 2_000), await shop.opened(hold)]
    # Two steps in one transaction.
    await shop.ask(shop.one.settle.payment_approved, *(approved(part) for part in parts))
    _, (_, partly), (_, wholly) = await heard(listener, 3)
    assert [(shown(one).paid_minor, shown(one).state) for one in (partly, wholly)] == [
        (2_000, pb.Reservation.STATE_PARTIALLY_PAID),
        (PRICE_MINOR, pb.Reservation.STATE_CONFIRMED),
    ]
    assert [shown(one).tickets[0].state for one in (partly, wholly)] == [pb.Ticket.STATE_HELD, pb.Ticket.STATE_SOLD]


async def test_nothing_is_said_of_what_was_rolled_back(shop: Shop, listener: Inbox) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    async with shop.two.database.pool.connection() as conn:
        await conn.execute("LOCK TABLE history IN SHARE MODE")
        cancelling = asyncio.create_task(shop.one.settle.cancel_reservation([cancel(hold)]))
        await someone_waits_for_a_lock(shop.two.database)
        await conn.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event_type = 'Lock'"""
        )
        with pytest.raises(OperationalError):
            await cancelling
        await conn.rollback()
    assert await shop.state(hold) == "HELD"
    other = await shop.hold(reserve(hall, 1))
    assert [envelope.subject_id for _, envelope in await heard(listener, 2)] == [hold, other]
    await shop.check(hall)


def _reservation_is_stale(books: Books) -> None:
    for key in books.versions_read:
        books.versions_read[key] -= 1


def _ticket_is_stale(books: Books) -> None:
    for key, read in books.tickets_read.items():
        books.tickets_read[key] = replace(read, version=read.version - 1)


def _allowance_is_stale(books: Books) -> None:
    for key in books.allowances_read:
        books.allowances_read[key] += 1


def _credit_is_stale(books: Books) -> None:
    for key in books.credits_read:
        books.credits_read[key] = CreditState.OPEN


@pytest.mark.parametrize(
    "overtake",
    [_reservation_is_stale, _ticket_is_stale, _allowance_is_stale, _credit_is_stale],
    ids=lambda it: it.__name__,
)
async def test_a_decision_that_was_overtaken_writes_nothing_and_is_taken_again_and_told_once(
    shop: Shop, listener: Inbox, overtake: Callable[[Books], None]
) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    payment = await shop.opened(hold, 1_000)
    await shop.ask(shop.one.settle.payment_approved, approved(payment))
    attempts = 0

    async def give_back(conn: store.Connection, books: Books) -> str:
        nonlocal attempts
        attempts += 1
        await store.lock_reservations(conn, books, {UUID(hold)})
        await store.lock_what_they_hold(conn, books)
        if attempts == 1:
            # As if it had been read before somebody else's commit, in spite of all locks.
            overtake(books)
        return holds.cancel(books, books.reservations[UUID(hold)])

    assert await shop.one.desk.decide(give_back) == ""
    assert attempts == 2
    said = [key for key, _ in await heard(listener, 4)]
    assert said == [keys.REFUND_REQUESTED, keys.RESERVED, keys.PARTIALLY_PAID, keys.CANCELLED]
    await shop.check(hall)


async def test_a_decision_that_is_overtaken_every_time_gives_up_and_changes_nothing(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))

    async def give_back(conn: store.Connection, books: Books) -> str:
        await store.lock_reservations(conn, books, {UUID(hold)})
        await store.lock_what_they_hold(conn, books)
        _reservation_is_stale(books)
        return holds.cancel(books, books.reservations[UUID(hold)])

    with pytest.raises(Superseded):
        await shop.one.desk.decide(give_back)
    assert await shop.state(hold) == "HELD"
    await shop.check(hall)
