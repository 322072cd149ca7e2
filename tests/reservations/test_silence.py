"""Reconcilers ask again and again about what is not final, but not while a message about it waits for a person."""

from datetime import timedelta
from uuid import UUID

from chassis.parking import ParkedMessage, Parking
from contract import keys
from tests.reservations.core import Shop
from tests.reservations.sayings import reserve

OVERDUE = timedelta(minutes=1)


async def park(shop: Shop, payment_id: UUID) -> None:
    """Sets a message about the payment aside."""
    message = ParkedMessage(
        message_id="a-message",
        queue=keys.RESERVATION_MONEY.name,
        routing_key=keys.PAYMENT_APPROVED,
        kind="payment_approved",
        subject_id=str(payment_id),
        content_type="application/x-protobuf",
        body=payment_id.bytes,
        reason="ATTEMPTS_EXHAUSTED",
        detail="",
        attempts=4,
    )
    await Parking(shop.one.database).park([message])


async def settle_by_hand(shop: Shop, payment_id: UUID) -> None:
    """A person discards what was parked about the payment."""
    await shop.rows(
        """UPDATE parked_message SET state = 'DISCARDED', settle_time = now(), settled_by = 'a person'
           WHERE subject_id = %s""",
        str(payment_id),
    )


async def test_nobody_asks_about_an_open_charge_while_a_message_about_it_is_parked(shop: Shop) -> None:
    hall = await shop.event()
    silent = await shop.opened(await shop.hold(reserve(hall, 0)))
    spoken_of = await shop.opened(await shop.hold(reserve(hall, 1)))
    await park(shop, silent.payment_id)
    await shop.time_passes(hall, OVERDUE)
    assert await shop.one.sweeps.open_credits() == [spoken_of.payment_id]
    await settle_by_hand(shop, silent.payment_id)
    assert await shop.one.sweeps.open_credits() == [silent.payment_id]


async def test_nobody_asks_for_a_refund_while_a_message_about_it_is_parked(shop: Shop) -> None:
    hall = await shop.event()
    reservation_id, payment = await shop.sold(hall, 0)
    await shop.rows("UPDATE event SET state = 'CANCELLED' WHERE event_id = %s", hall.event_id)
    while await shop.one.sweeps.call_off():
        pass
    assert await shop.credits(reservation_id) == {payment.payment_id: "REFUND_DUE"}
    await park(shop, payment.payment_id)
    await shop.time_passes(hall, OVERDUE)
    assert await shop.one.sweeps.ask_for_refunds_again() == 0
    await settle_by_hand(shop, payment.payment_id)
    assert await shop.one.sweeps.ask_for_refunds_again() == 1
