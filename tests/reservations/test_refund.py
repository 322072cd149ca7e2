"""Holds given back, sales taken back, and the money on its way home, on a real database."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from chassis.errors import CallError
from contract import ids, reasons
from reservations.domain.money import RefundWithoutDebt
from tests.reservations.core import PRICE_MINOR, Shop
from tests.reservations.sayings import BOB, approved, cancel, claim, refunded, reserve
from ticketrush.v1 import ticketing_pb2 as pb


async def test_a_buyer_gives_a_hold_back_and_gets_all_the_money_back(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    part, under_way = await shop.opened(hold, 2_000), await shop.opened(hold)
    await shop.ask(shop.one.settle.payment_approved, approved(part))
    [outcome] = await shop.ask(shop.one.settle.cancel_reservation, cancel(hold))
    assert (outcome.reservation.state, outcome.reservation.refund_due_minor) == (
        pb.Reservation.STATE_CANCELLED,
        2_000,
    )
    assert set(await shop.tickets(hall)) == {"AVAILABLE"}
    [outcome] = await shop.ask(shop.one.settle.payment_approved, approved(under_way))
    assert outcome.payment.state == pb.Payment.STATE_REFUND_DUE
    assert [command.request_refund.reason for command in await shop.refund_commands(part)] == ["CANCELLED"]
    assert len(await shop.refund_commands(under_way)) == 1
    await shop.check(hall)


async def test_a_cancellation_is_answered_by_the_state_it_finds(shop: Shop) -> None:
    hall = await shop.event(seats=6)
    held, over, theirs = [await shop.hold(reserve(hall, seat)) for seat in (0, 1, 2)]
    bought, _ = await shop.sold(hall, 3)
    [refusal] = await shop.ask(shop.one.reserve, reserve(hall, 3))
    await shop.rows("UPDATE reservation SET release_time = now() WHERE reservation_id = %s", over)
    await shop.one.sweeps.expire_due()
    outcomes = await shop.ask(
        shop.one.settle.cancel_reservation,
        cancel(held),
        cancel(held),
        cancel(over),
        cancel(theirs, buyer_id=BOB),
        cancel(uuid4()),
        cancel(bought),
        cancel(refusal.reservation.reservation_id),
    )
    assert [outcome.refuse_reason or pb.Reservation.State.Name(outcome.reservation.state) for outcome in outcomes] == [
        "STATE_CANCELLED",
        "STATE_CANCELLED",
        "STATE_EXPIRED",
        reasons.UNKNOWN_RESERVATION,
        reasons.UNKNOWN_RESERVATION,
        reasons.ALREADY_CONFIRMED,
        reasons.ALREADY_REJECTED,
    ]
    assert not any(outcome.HasField("reservation") for outcome in outcomes[3:])
    assert await shop.state(theirs) == "HELD"
    assert (await shop.kinds(held)).count("CANCELLED") == 1
    await shop.check(hall)


async def test_a_completed_refund_is_booked_once(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    payment = await shop.opened(hold, 2_000)
    await shop.ask(shop.one.settle.payment_approved, approved(payment))
    await shop.ask(shop.one.settle.cancel_reservation, cancel(hold))
    outcomes = await shop.ask(shop.one.settle.refund_completed, refunded(payment), refunded(payment))
    outcomes += await shop.ask(shop.two.settle.payment_approved, approved(payment))
    assert {outcome.payment.state for outcome in outcomes} == {pb.Payment.STATE_REFUNDED}
    assert {outcome.reservation.refunded_minor for outcome in outcomes} == {2_000}
    assert (await shop.reservation(hold))[0].refund_due_minor == 0
    assert (await shop.kinds(hold)).count("MONEY_CHANGED") == 1
    await shop.check(hall)


async def test_a_refund_that_was_never_due_is_an_alarm_and_its_neighbours_go_through(shop: Shop) -> None:
    hall = await shop.event()
    kept, payment = await shop.sold(hall, 0)
    hold = await shop.hold(reserve(hall, 1))
    owed = await shop.opened(hold)
    await shop.ask(shop.one.settle.cancel_reservation, cancel(hold))
    await shop.ask(shop.one.settle.payment_approved, approved(owed))
    wrong, right = refunded(payment), refunded(owed)
    [failure] = await shop.one.settle.refund_completed([wrong, right])
    assert failure.envelope is wrong
    assert isinstance(failure.error, RefundWithoutDebt)
    assert await shop.state(kept) == "CONFIRMED"
    assert await shop.credits(hold) == {owed.payment_id: "REFUNDED"}
    await shop.check(hall)


async def test_an_organiser_takes_a_sale_back_and_the_seat_is_sold_again(shop: Shop) -> None:
    hall = await shop.event()
    bought, payment = await shop.sold(hall, 0, 1)
    shown = await shop.one.refunds.refund(UUID(bought), claim(bought))
    assert (shown.state, shown.refund_due_minor, shown.paid_minor) == (
        pb.Reservation.STATE_CANCELLED,
        2 * PRICE_MINOR,
        0,
    )
    assert [ticket.state for ticket in shown.tickets] == [pb.Ticket.STATE_AVAILABLE] * 2
    [command] = await shop.refund_commands(payment)
    assert (command.request_refund.amount_minor, command.request_refund.reason) == (2 * PRICE_MINOR, "CANCELLED")
    second = await shop.hold(reserve(hall, 0, buyer_id=BOB))
    await shop.ask(shop.one.settle.refund_completed, refunded(payment))
    stored, _ = await shop.reservation(bought)
    assert (stored.refund_due_minor, stored.refunded_minor) == (0, 2 * PRICE_MINOR)
    assert await shop.state(second) == "HELD"
    await shop.check(hall)


async def test_every_payment_of_a_sale_goes_back(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    payments = [await shop.opened(hold, amount_minor) for amount_minor in (1_000, 1_500, 0)]
    await shop.ask(shop.one.settle.payment_approved, *(approved(payment) for payment in payments))
    await shop.one.refunds.refund(UUID(hold), claim(hold))
    commands = [command for payment in payments for command in await shop.refund_commands(payment)]
    assert [command.request_refund.amount_minor for command in commands] == [1_000, 1_500, 2_500]
    await shop.check(hall)


async def test_a_refund_asked_for_three_times_at_once_has_one_effect(shop: Shop) -> None:
    hall = await shop.event()
    bought, payment = await shop.sold(hall, 0)
    once = claim(bought)
    shown = await asyncio.gather(
        *(service.refunds.refund(UUID(bought), once) for service in (shop.one, shop.two, shop.one))
    )
    assert shown == [shown[0]] * 3
    assert (await shop.kinds(bought)).count("CANCELLED") == 1
    assert len(await shop.refund_commands(payment)) == 1


async def test_who_asked_for_a_refund_is_kept_with_what_was_asked_and_why(shop: Shop) -> None:
    hall = await shop.event()
    bought, _ = await shop.sold(hall, 0)
    await shop.one.refunds.refund(UUID(bought), claim(bought))
    kept = await shop.rows("SELECT call, asked_by, reason FROM organiser_request WHERE subject_id = %s", bought)
    assert kept == [("ticketrush.v1.RefundReservationRequest", "olga", "the singer is ill")]


async def test_a_refund_under_a_request_id_of_another_one_is_refused(shop: Shop) -> None:
    hall = await shop.event()
    (first, _), (second, _) = await shop.sold(hall, 0), await shop.sold(hall, 1)
    request_id = str(uuid4())
    await shop.one.refunds.refund(UUID(first), claim(first, request_id))
    with pytest.raises(CallError, match=reasons.REQUEST_ID_REUSED):
        await shop.one.refunds.refund(UUID(second), claim(second, request_id))
    assert await shop.state(second) == "CONFIRMED"


async def test_only_a_sale_can_be_taken_back(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    request_id = str(uuid4())
    with pytest.raises(CallError, match=reasons.NOT_CONFIRMED):
        await shop.one.refunds.refund(UUID(hold), claim(hold, request_id))
    with pytest.raises(CallError, match=reasons.UNKNOWN_RESERVATION):
        await shop.one.refunds.refund(uuid4(), claim(uuid4()))
    assert await shop.state(hold) == "HELD"
    # A request that was refused may be made again when it fits.
    payment = await shop.opened(hold)
    await shop.ask(shop.one.settle.payment_approved, approved(payment))
    shown = await shop.one.refunds.refund(UUID(hold), claim(hold, request_id))
    assert shown.state == pb.Reservation.STATE_CANCELLED


async def test_taking_back_what_is_cancelled_shows_it_as_it_is(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    await shop.ask(shop.one.settle.cancel_reservation, cancel(hold))
    assert (await shop.one.refunds.refund(UUID(hold), claim(hold))).state == pb.Reservation.STATE_CANCELLED
    assert (await shop.kinds(hold)).count("CANCELLED") == 1


async def test_a_refund_that_nobody_confirmed_is_asked_for_again_later_and_later(shop: Shop) -> None:
    hall = await shop.event()
    bought, payment = await shop.sold(hall, 0)
    await shop.one.refunds.refund(UUID(bought), claim(bought))

    async def asked_again() -> int:
        before = len(await shop.refund_commands(payment))
        await shop.one.sweeps.ask_for_refunds_again()
        return len(await shop.refund_commands(payment)) - before

    assert await asked_again() == 0
    for pause_s in (15, 15, 30, 60):
        await shop.time_passes(hall, timedelta(seconds=pause_s - 2))
        assert await asked_again() == 0
        await shop.time_passes(hall, timedelta(seconds=3))
        assert await asked_again() == 1
    commands = await shop.refund_commands(payment)
    assert len(commands) == 5
    assert {(command.message_id, command.request_refund.reason) for command in commands} == {
        (str(ids.derived_id(payment.payment_id, "refund")), "CANCELLED")
    }
    await shop.ask(shop.one.settle.refund_completed, refunded(payment))
    await shop.time_passes(hall, timedelta(hours=2))
    assert await asked_again() == 0


async def test_a_debt_is_asked_after_from_the_beginning_however_long_its_charge_took(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    payment = await shop.opened(hold)
    for _ in range(4):
        await shop.time_passes(hall, timedelta(hours=1))
        assert payment.payment_id in await shop.one.sweeps.open_credits()
    await shop.ask(shop.one.settle.cancel_reservation, cancel(hold))
    await shop.ask(shop.one.settle.payment_approved, approved(payment))
    for _ in range(2):
        await shop.time_passes(hall, timedelta(seconds=16))
        await shop.one.sweeps.ask_for_refunds_again()
    assert len(await shop.refund_commands(payment)) == 3
