"""The broker as anybody with access to it could use it: garbage, forged, late and repeated messages."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e import ledgers
from tests.e2e.house import House
from tests.e2e.office import Payment, Reservation, eventually, new_id
from tests.e2e.wire import Ear, listening, say, say_bytes
from ticketrush.messages.v1 import messages_pb2 as messages

pytestmark = pytest.mark.usefixtures("the_books_balance")

RESERVE = "ticket.reservation.requested"
CANCEL = "ticket.reservation.cancel_requested"
PAY = "ticket.payments.requested"
REFUND = "ticket.refunds.requested"
APPROVED = "ticket.payments.approved"
REJECTED = "ticket.payments.rejected"
REFUNDED = "ticket.refunds.completed"
QUEUE = {
    RESERVE: "reservations.commands",
    CANCEL: "reservations.money",
    PAY: "payments.charges",
    REFUND: "payments.refunds",
}


async def parked(house: House, queue: str, count: int) -> list[tuple[str, bytes]]:
    """Reason and body of what is parked from a queue, once it is so many; settled then, as an operator would."""
    schema = queue.partition(".")[0]
    sql = f"SELECT reason, body FROM {schema}.parked_message WHERE queue = %s AND state = 'PARKED' ORDER BY reason"  # noqa: S608 # a name of ours
    rows: list[tuple[str, bytes]] = []

    async def all_are_there() -> bool:
        rows[:] = await house.rows(sql, queue)
        return len(rows) >= count

    await eventually(all_are_there, lambda: f"parked from {queue}: {rows}")
    settle = f"UPDATE {schema}.parked_message SET state = 'DISCARDED', settled_by = 'test', settle_time = now()"  # noqa: S608 # the same
    await house.rows(f"{settle} WHERE state = 'PARKED' AND queue = %s", queue)
    return rows


def reserve_command(event_id: str, ticket_id: str, ear: Ear) -> messages.Envelope:
    """As a gateway would say it."""
    reservation_id = new_id()
    command = messages.ReserveTickets(
        reservation_id=reservation_id, request_id=new_id(), event_id=event_id, buyer_id="ada", ticket_ids=[ticket_id]
    )
    envelope = messages.Envelope(
        message_id=new_id(), subject_id=reservation_id, reply_to=ear.queue, reserve_tickets=command
    )
    envelope.occur_time.FromDatetime(datetime.now(UTC))
    return envelope


@pytest.mark.parametrize("routing_key", [RESERVE, CANCEL, PAY, REFUND])
async def test_what_is_no_message_is_parked_with_its_reason(house: House, routing_key: str) -> None:
    unknown = messages.Envelope(message_id=new_id())
    misplaced = messages.Envelope(message_id=new_id(), outcome=messages.Outcome(refuse_reason="GOTCHA"))
    garbage, json = b"\xff\xfe not protobuf", b'{"reserve": "everything"}'
    async with house.broker() as channel:
        await say_bytes(channel, routing_key, garbage)
        await say_bytes(channel, routing_key, json, content_type="application/json")
        await say_bytes(channel, routing_key, b"")
        await say(channel, routing_key, unknown, misplaced)
        found = await parked(house, QUEUE[routing_key], 5)
    assert [reason for reason, _ in found] == [
        "NOT_A_BATCH",
        "NOT_A_BATCH",
        "UNKNOWN_PAYLOAD",
        "UNKNOWN_PAYLOAD",
        "WRONG_CONTENT_TYPE",
    ]
    assert {garbage, json, b""} <= {body for _, body in found}
    # The queue works on.
    await house.office.buy(await house.office.put_on_sale(), "ada")


async def test_a_malformed_message_is_parked_and_its_neighbours_go_through(house: House) -> None:
    sale = await house.office.put_on_sale(2)
    async with house.broker() as channel, listening(channel) as ear:
        first, second = (reserve_command(sale.event_id, ticket, ear) for ticket in sale.tickets)
        malformed = reserve_command("no event", sale.tickets[0], ear)
        greedy = reserve_command(sale.event_id, sale.tickets[0], ear)
        greedy.reserve_tickets.ticket_ids.extend([new_id()] * 100)
        await say(channel, RESERVE, first, malformed, greedy, second)
        for envelope in (first, second):
            outcome = (await ear.hears(lambda heard, mine=envelope.message_id: heard.command_id == mine)).outcome  # type: ignore[misc]
            assert outcome.reservation.state == Reservation.STATE_HELD
        found = await parked(house, "reservations.commands", 2)
    bodies = [messages.EnvelopeBatch.FromString(body).envelopes[0] for _, body in found]
    assert [reason for reason, _ in found] == ["MALFORMED", "MALFORMED"]
    assert {body.message_id for body in bodies} == {malformed.message_id, greedy.message_id}


async def test_malformed_money_is_parked_and_its_neighbours_go_through(house: House) -> None:
    office = house.office
    held = await office.held(await office.put_on_sale(), "ada")
    wrong = messages.RequestPayment(
        payment_id="x", request_id=new_id(), reservation_id=held.reservation_id, buyer_id="ada", payment_method="pm"
    )
    negative = messages.RequestPayment(
        payment_id=new_id(),
        request_id=new_id(),
        reservation_id=held.reservation_id,
        buyer_id="ada",
        payment_method="pm_card_ok",
        amount_minor=-5,
    )
    approved = messages.PaymentApproved()
    approved.payment.payment_id = "nonsense"
    async with house.broker() as channel:
        await say(
            channel, PAY, *(messages.Envelope(message_id=new_id(), request_payment=one) for one in (wrong, negative))
        )
        await say(channel, APPROVED, messages.Envelope(message_id=new_id(), payment_approved=approved))
        assert (await office.pay(held)).reservation.state == Reservation.STATE_CONFIRMED
        assert [reason for reason, _ in await parked(house, "payments.charges", 2)] == ["MALFORMED", "MALFORMED"]
        assert [reason for reason, _ in await parked(house, "reservations.money", 1)] == ["MALFORMED"]


async def test_a_late_or_repeated_rejection_never_frees_a_paid_ticket(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale()
    paid = await office.pay(await office.held(sale, "ada"))
    rejection = messages.Envelope(message_id=new_id(), command_id=new_id(), subject_id=paid.payment.payment_id)
    rejection.payment_rejected.payment.CopyFrom(paid.payment)
    rejection.payment_rejected.payment.state = Payment.STATE_REJECTED
    rejection.payment_rejected.payment.decline_reason = "CARD_DECLINED"
    async with house.broker() as channel, listening(channel) as ear:
        rejection.reply_to = ear.queue
        await say(channel, REJECTED, rejection, rejection)
        await say(channel, REJECTED, rejection)

        async def all_are_answered() -> bool:
            return len(ear.heard) >= 3

        await eventually(all_are_answered)
    assert await office.reservation(paid.reservation) == paid.reservation
    assert await office.counts(sale.event_id) == (0, 0, 1)
    assert (await office.reserve(sale, "bob")).reject_reason == "TICKETS_TAKEN"


async def test_a_reserve_that_waited_longer_than_a_minute_becomes_no_hold(house: House) -> None:
    sale = await house.office.put_on_sale()
    async with house.broker() as channel, listening(channel) as ear:
        stale = reserve_command(sale.event_id, sale.tickets[0], ear)
        stale.occur_time.FromDatetime(datetime.now(UTC) - timedelta(seconds=61))
        await say(channel, RESERVE, stale)
        outcome = (await ear.hears(lambda heard: heard.command_id == stale.message_id)).outcome
    assert outcome.reservation.reject_reason == "TOO_LATE"
    assert await house.office.counts(sale.event_id) == (1, 0, 0)


async def test_saying_everything_again_in_any_order_changes_nothing(house: House) -> None:
    office = house.office
    declined = await office.pay(await office.held(await office.put_on_sale(), "ada"), card="pm_card_declined")
    assert declined.payment.state == Payment.STATE_REJECTED
    await office.refund(await office.buy(await office.put_on_sale(), "ada"))
    await house.settled()
    said = [
        (routing_key, messages.Envelope.FromString(envelope))
        for schema in ("reservations", "payments")
        for routing_key, envelope in await house.rows(
            f"SELECT routing_key, envelope FROM {schema}.history WHERE routing_key = ANY(%s)",  # noqa: S608 # ours
            [APPROVED, REJECTED, REFUNDED, REFUND],
        )
    ]
    assert {routing_key for routing_key, _ in said} == {APPROVED, REJECTED, REFUNDED, REFUND}
    async with house.database() as conn:
        before = await ledgers.image(conn)
    again = said * 2
    random.Random(7).shuffle(again)  # noqa: S311 # any order will do, the same each time
    taken = await _taken(house)
    async with house.broker() as channel:
        for routing_key, envelope in again:
            envelope.reply_to = ""
            await say(channel, routing_key, envelope)

    async def all_are_taken() -> bool:
        return await _taken(house) >= taken + len(again)

    await eventually(all_are_taken)
    await house.settled()
    async with house.database() as conn:
        assert await ledgers.image(conn) == before


async def _taken(house: House) -> float:
    """How many envelopes the queues of money have given to their consumers."""
    metric = "ticketrush_amqp_consumed_envelopes_total"
    refunds = await house.figure("payments", metric, queue="payments.refunds")
    return refunds + await house.figure("reservations", metric, queue="reservations.money")
