"""What was said and what is still to be said: shown, and said again for a period."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from aio_pika.abc import AbstractIncomingMessage

from contract import keys
from tests.e2e import ledgers
from tests.e2e.house import House
from tests.e2e.office import Office, Payment, Reservation, eventually
from tests.ops.desk import OPERATOR, Desk
from ticketrush.messages.v1 import messages_pb2 as pb


class Listener:
    """Whoever hears facts: the subject of each, in order."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def take(self, message: AbstractIncomingMessage) -> None:
        self.heard += [one.subject_id for one in pb.EnvelopeBatch.FromString(message.body).envelopes]

    async def hears(self, subject_id: str, times: int) -> None:
        """Returns when it was told of the subject so often."""

        async def heard() -> bool:
            return self.heard.count(subject_id) >= times

        await eventually(heard, lambda: f"{subject_id} was heard {self.heard.count(subject_id)} times")


@asynccontextmanager
async def listening(house: House, routing_key: str) -> AsyncIterator[Listener]:
    listener = Listener()
    async with house.broker() as channel:
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(keys.EXCHANGE, routing_key)
        await queue.consume(listener.take, no_ack=True)
        yield listener


def instant() -> str:
    """Now, as an operator types it; facts of an earlier second are before it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S%z")


async def test_the_facts_of_a_period_are_said_again_and_change_nothing(
    house: House, office: Office, desk: Desk
) -> None:
    async with listening(house, keys.SOLD) as listener, listening(house, keys.RESERVED) as others:
        before = await office.buy(await office.put_on_sale(), "early")
        await listener.hears(before.reservation_id, 1)
        [(since,)] = await house.rows("SELECT date_trunc('second', clock_timestamp()) + interval '1 s'")

        async def next_second() -> bool:
            return bool(datetime.now(UTC) >= since)

        await eventually(next_second)
        sold = [await office.buy(await office.put_on_sale(), "late") for _ in range(3)]
        for one in sold:
            await listener.hears(one.reservation_id, 1)
        await house.settled()
        async with house.database() as conn:
            image = await ledgers.image(conn)
        typed = await desk.change(
            "facts", "replay", "--since", since.strftime("%Y-%m-%dT%H:%M:%S%z"), "--key", keys.SOLD, "--json"
        )
        assert typed.code == 0, typed
        assert typed.answer == {"reservations": 3, "payments": 0}
        for one in sold:
            await listener.hears(one.reservation_id, 2)
        assert listener.heard[-3:] == [one.reservation_id for one in sold], "in the order of their making"
        assert listener.heard.count(before.reservation_id) == 1, "that was before the period"
        assert others.heard.count(sold[0].reservation_id) == 1, "that was another key"
        async with house.database() as conn:
            assert await ledgers.image(conn) == image
    entries = [one for one in await desk.look("audit") if one["action"] == "facts replay"]
    assert [(one["service"], one["operator"], one["subject"]) for one in entries[:2]] == [
        ("payments", OPERATOR, keys.SOLD),
        ("reservations", OPERATOR, keys.SOLD),
    ]
    assert {one["detail"]["messages"] for one in entries[:2]} == {0, 3}


async def test_a_fact_that_the_broker_lost_is_said_again_and_the_sale_is_made(
    house: House, office: Office, desk: Desk
) -> None:
    since = instant()
    held = await office.held(await office.put_on_sale(), "forgotten")
    paid = (await office.pay(held, card="pm_card_slow", wait_s=0)).payment

    async def opened() -> bool:
        sql = "SELECT state FROM reservations.credit WHERE payment_id = %s"
        return await house.rows(sql, paid.payment_id) == [("OPEN",)]

    await eventually(opened)
    # The reconciler would find it as well, in its own time.
    await house.kill("reservations", "scheduler")
    try:
        await office_of_payments_says(house, paid.payment_id)
        async with house.broker() as channel:
            queue = await channel.declare_queue(keys.RESERVATION_MONEY.shard(0), passive=True)

            async def lost() -> bool:
                purged = await queue.purge()
                return bool(purged.message_count)

            await eventually(lost)
        await house.up("reservations")
        typed = await desk.change("facts", "replay", "--since", since, "--service", "payments")
        assert typed.code == 0, typed
        await office.becomes(held, Reservation.STATE_CONFIRMED)
    finally:
        await house.up("reservations", "scheduler")
    assert (await office.payment(paid)).state == Payment.STATE_APPROVED


async def office_of_payments_says(house: House, payment_id: str) -> None:
    """Returns when payments has told the world that the payment is approved."""

    async def said() -> bool:
        sql = """SELECT count(*) FROM payments.history LEFT JOIN payments.outbox USING (history_id)
                 WHERE subject_id = %s AND kind = 'payment_approved' AND outbox.history_id IS NULL"""
        return await house.rows(sql, payment_id) == [(1,)]

    await eventually(said)


async def test_a_period_that_is_none_is_refused(desk: Desk) -> None:
    typed = await desk.change("facts", "replay", "--since", "2999-01-01")
    assert typed.code == 1
    assert (await desk.change("facts", "replay", "--since", "yesterday")).code == 2
    assert (await desk.type("facts", "replay", "--since", "2026-01-01")).code == 2, "without a reason"


async def test_a_broker_that_is_away_is_told_in_one_line(house: House) -> None:
    desk = Desk(house.stack.env | {"AMQP_URL": "amqp://nobody:nothing@127.0.0.1:1/"})
    typed = await desk.change("facts", "replay", "--since", "2026-01-01")
    assert typed.code == 3
    assert len(typed.err.strip().splitlines()) == 1, typed.err


async def test_what_is_still_to_be_said_is_counted_by_key_with_its_age(house: House, desk: Desk) -> None:
    await house.settled()
    assert {one["depth"] for one in (await desk.look("outbox")).values()} == {0}
    # Its writer hangs, and holds the lease.
    await house.rows(
        """INSERT INTO payments.outbox
           SELECT history_id, clock_timestamp() + interval '1 hour' FROM payments.history
           WHERE routing_key = 'ticket.payments.approved' ORDER BY history_id LIMIT 2"""
    )
    try:
        found = (await desk.look("outbox"))["payments"]
        people = await desk.type("outbox")
    finally:
        await house.rows("DELETE FROM payments.outbox WHERE lease_time > clock_timestamp() + interval '1 minute'")
    [by_key] = found["by_key"]
    assert (found["depth"], by_key["routing_key"], by_key["depth"]) == (2, "ticket.payments.approved", 2)
    assert by_key["overdue"] == 0
    assert found["oldest_age_s"] > 0
    assert "ticket.payments.approved" in people.out
