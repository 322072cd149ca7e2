"""Payments that do not come to an end, and refunds that a person makes: listed, settled, and right in every book."""

import sqlite3
from contextlib import closing
from uuid import uuid4

from tests.e2e.house import House
from tests.e2e.office import Office, Payment, Reservation, eventually
from tests.ops.desk import OPERATOR, Desk


async def test_a_charge_without_an_answer_is_stuck_and_the_processor_says_what_became_of_it(
    house: House, office: Office, desk: Desk
) -> None:
    held = await office.held(await office.put_on_sale(), "stuck")
    paid = (await office.pay(held, held.total_minor, card="pm_card_lost_reply", wait_s=0)).payment

    async def charged() -> bool:
        return paid.payment_id in await house.statement()

    await eventually(charged)
    typed = await desk.type("payments", "stuck", "--older-than", "0s", "--json")
    assert typed.code == 1
    [found] = [one for one in typed.answer if one["payment_id"] == paid.payment_id]
    assert (found["state"], found["processor"], found["amount_minor"]) == ("PENDING", "approved", held.total_minor)
    assert await desk.look("payments", "stuck", "--older-than", "1h") == []
    await office.becomes(held, Reservation.STATE_CONFIRMED)


async def test_a_refund_that_the_processor_refuses_is_settled_by_hand(
    house: House, office: Office, desk: Desk, unwritable: str
) -> None:
    held = await office.held(await office.put_on_sale(), "ivy")
    paid = (await office.pay(held, card="pm_card_refund_refused")).payment
    await office.refund(held)
    await office.payment_becomes(paid, Payment.STATE_REFUND_DUE)

    async def refused() -> bool:
        [found] = [one for one in await desk.look("refunds", "list") if one["payment_id"] == paid.payment_id]
        return bool(found["attempts"] >= 1 and found["processor"] == "approved")

    await eventually(refused)
    await _expect_refused_when_the_processor_gave_it_back(house, desk, paid.payment_id)
    unnoted = await desk.change("refunds", "settle", paid.payment_id, reason=unwritable)
    assert unnoted.code == 3
    assert (await office.payment(paid)).state == Payment.STATE_REFUND_DUE, "what cannot be noted is not done"

    typed = await desk.change("refunds", "settle", paid.payment_id, reason="bank transfer 4711")
    assert typed.code == 0, typed
    back = await office.until(held, lambda now: now.refunded_minor == held.total_minor)
    assert (back.state, back.refund_due_minor) == (Reservation.STATE_CANCELLED, 0)
    assert (await office.payment(paid)).state == Payment.STATE_REFUNDED
    entries = await desk.look("audit")
    [asked] = [one for one in entries if one["subject"] == f"reservation {held.reservation_id}"]
    assert (asked["service"], asked["operator"], asked["action"]) == ("reservations", "operator", "RefundReservation")
    [entry] = [one for one in entries if one["subject"] == f"payment {paid.payment_id}"]
    assert (entry["operator"], entry["action"], entry["reason"]) == (OPERATOR, "refunds settle", "bank transfer 4711")
    assert entry["detail"] == {"amount_minor": held.total_minor, "currency": "EUR"}

    again = await desk.change("refunds", "settle", paid.payment_id)
    assert again.code == 1
    assert "REFUNDED" in again.err
    [verdicts] = [(await desk.look("fsck"))["invariants"]]
    assert [one["violations"] for one in verdicts] == [0] * 7
    assert (await house.statement())[paid.payment_id].refunded_minor == 0


async def _expect_refused_when_the_processor_gave_it_back(house: House, desk: Desk, payment_id: str) -> None:
    """Somebody refunds it in the processor's own books; then that is undone."""
    with closing(sqlite3.connect(house.stack.env["PROVIDER_STORE_PATH"], isolation_level=None)) as store:
        change = "UPDATE charge SET refunded_minor = {} WHERE payment_id = ?"
        store.execute(change.format("amount_minor"), (payment_id,))
        typed = await desk.change("refunds", "settle", payment_id)
        store.execute(change.format("0"), (payment_id,))
    assert typed.code == 1, typed
    assert "refunded" in typed.err
    assert await house.rows("SELECT state FROM payments.payment WHERE payment_id = %s", payment_id) == [("REFUND_DUE",)]


async def test_what_owes_nothing_is_not_settled(office: Office, desk: Desk) -> None:
    bought = await office.buy(await office.put_on_sale(), "content")
    [payment] = await office.payments(bought)
    typed = await desk.change("refunds", "settle", payment.payment_id)
    assert typed.code == 1
    assert "APPROVED" in typed.err
    assert (await desk.change("refunds", "settle", str(uuid4()))).code == 1
    assert (await desk.change("refunds", "settle", "no-uuid")).code == 2
    assert (await desk.type("refunds", "settle", payment.payment_id)).code == 2, "without a reason"
