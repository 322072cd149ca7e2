"""Money and cancellations, from the envelope to the answer, on a real database: every arrow, repeated and reordered."""

from uuid import UUID, uuid4

import pytest

from chassis.consumer import Poison
from contract import ids, reasons
from reservations.handlers.opening import Opening
from reservations.handlers.settle import UnknownReservation
from reservations.store.changes import Superseded
from tests.reservations.core import PRICE_MINOR, Shop
from tests.reservations.sayings import ANN, BOB, approved, opening, refunded, rejected, reserve
from ticketrush.messages.v1 import messages_pb2 as msg
from ticketrush.v1 import ticketing_pb2 as pb


async def test_a_payment_of_all_that_is_due_sells_the_tickets(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0, 1))
    payment = await shop.opened(hold)
    [outcome] = await shop.ask(shop.one.settle.payment_approved, approved(payment, 2 * PRICE_MINOR))
    assert outcome.payment.state == pb.Payment.STATE_APPROVED
    assert (outcome.reservation.state, outcome.reservation.paid_minor) == (pb.Reservation.STATE_CONFIRMED, 10_000)
    assert [ticket.state for ticket in outcome.reservation.tickets] == [pb.Ticket.STATE_SOLD] * 2
    assert await shop.tickets(hall) == ["SOLD", "SOLD", "AVAILABLE", "AVAILABLE"]
    assert await shop.kinds(hold) == ["RESERVED", "PAYMENT_OPENED", "SOLD"]
    await shop.check(hall)


async def test_instalments_sell_the_tickets_with_the_last_one(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    first, last = await shop.opened(hold, 2_000), await shop.opened(hold)
    [outcome] = await shop.ask(shop.one.settle.payment_approved, approved(first))
    assert outcome.reservation.state == pb.Reservation.STATE_PARTIALLY_PAID
    assert await shop.tickets(hall) == ["HELD", "AVAILABLE", "AVAILABLE", "AVAILABLE"]
    [outcome] = await shop.ask(shop.two.settle.payment_approved, approved(last))
    assert outcome.reservation.state == pb.Reservation.STATE_CONFIRMED
    assert await shop.kinds(hold) == ["RESERVED", "PAYMENT_OPENED", "PAYMENT_OPENED", "PARTIALLY_PAID", "SOLD"]
    await shop.check(hall)


async def test_many_outcomes_of_one_batch_are_taken_in_order(shop: Shop) -> None:
    hall = await shop.event()
    hold, other = await shop.hold(reserve(hall, 0)), await shop.hold(reserve(hall, 1, buyer_id=BOB))
    parts = [await shop.opened(hold, 1_000) for _ in range(5)]
    others = await shop.opened(other, 0, BOB)
    outcomes = await shop.ask(
        shop.one.settle.payment_approved, *(approved(part) for part in parts), approved(others, PRICE_MINOR)
    )
    # Each is answered with the reservation as the batch left it.
    assert {outcome.reservation.state for outcome in outcomes} == {pb.Reservation.STATE_CONFIRMED}
    assert (await shop.kinds(hold))[-5:] == [*["PARTIALLY_PAID"] * 4, "SOLD"]
    await shop.check(hall)


async def test_a_decline_leaves_the_hold_alive_and_its_money_due(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    payment = await shop.opened(hold)
    [outcome] = await shop.ask(shop.one.settle.payment_rejected, rejected(payment))
    assert (outcome.payment.state, outcome.payment.decline_reason) == (pb.Payment.STATE_REJECTED, "CARD_DECLINED")
    assert (outcome.reservation.state, outcome.reservation.open_minor) == (pb.Reservation.STATE_HELD, 0)
    await shop.opened(hold)
    await shop.check(hall)


async def test_a_late_or_repeated_rejection_never_frees_a_paid_ticket(shop: Shop) -> None:
    hall = await shop.event()
    hold, payment = await shop.sold(hall, 0)
    version = (await shop.reservation(hold))[0].version
    for service in (shop.one, shop.two, shop.one):
        [outcome] = await shop.ask(
            service.settle.payment_rejected,
            rejected(payment),
        )
        assert outcome.payment.state == pb.Payment.STATE_APPROVED
    stored, tickets = await shop.reservation(hold)
    assert (stored.state, stored.version, tickets[0].state) == ("CONFIRMED", version, "SOLD")
    await shop.check(hall)


async def test_an_approval_repeated_for_ever_is_applied_once(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    payment = await shop.opened(hold, 2_000)
    told = approved(payment)
    outcomes = await shop.ask(shop.one.settle.payment_approved, told, approved(payment))
    outcomes += await shop.ask(shop.two.settle.payment_approved, told)
    assert [outcome.reservation.paid_minor for outcome in outcomes] == [2_000] * 3
    assert (await shop.kinds(hold)).count("PARTIALLY_PAID") == 1
    await shop.check(hall)


async def test_a_late_approval_buys_what_nobody_took_meanwhile(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0, 1))
    payment = await shop.opened(hold)
    await shop.expired(hall, hold)
    [outcome] = await shop.ask(shop.one.settle.payment_approved, approved(payment))
    assert (outcome.payment.state, outcome.reservation.state) == (
        pb.Payment.STATE_APPROVED,
        pb.Reservation.STATE_CONFIRMED,
    )
    assert await shop.tickets(hall) == ["SOLD", "SOLD", "AVAILABLE", "AVAILABLE"]
    await shop.check(hall)


@pytest.mark.parametrize("obstacle", ["ticket taken", "event closed", "limit reached", "a part only"])
async def test_a_late_approval_that_does_not_fit_goes_back(shop: Shop, obstacle: str) -> None:
    hall = await shop.event(max_tickets_per_buyer=2)
    hold = await shop.hold(reserve(hall, 0, 1))
    payment = await shop.opened(hold, 1_000 if obstacle == "a part only" else 0)
    await shop.expired(hall, hold)
    if obstacle == "ticket taken":
        await shop.hold(reserve(hall, 1, buyer_id=BOB))
    elif obstacle == "event closed":
        await shop.rows("UPDATE event SET state = 'CLOSED' WHERE event_id = %s", hall.event_id)
    elif obstacle == "limit reached":
        await shop.hold(reserve(hall, 3))
    before = await shop.tickets(hall)
    [outcome] = await shop.ask(shop.one.settle.payment_approved, approved(payment))
    assert outcome.payment.state == pb.Payment.STATE_REFUND_DUE
    assert outcome.reservation.state == pb.Reservation.STATE_EXPIRED
    assert await shop.tickets(hall) == before
    [command] = await shop.refund_commands(payment)
    assert command.message_id == str(ids.derived_id(payment.payment_id, "refund"))
    assert command.request_refund == msg.RequestRefund(
        payment_id=str(payment.payment_id),
        reservation_id=hold,
        amount_minor=1_000 if obstacle == "a part only" else 2 * PRICE_MINOR,
        reason=reasons.HOLD_ENDED,
    )
    await shop.check(hall)


async def test_the_second_buyer_of_a_seat_shares_nothing_with_the_first_ones_payments(shop: Shop) -> None:
    hall = await shop.event()
    first = await shop.hold(reserve(hall, 0))
    part, late = await shop.opened(first, 2_000), await shop.opened(first)
    await shop.ask(shop.one.settle.payment_approved, approved(part))
    await shop.expired(hall, first)
    second = await shop.hold(reserve(hall, 0, buyer_id=BOB))
    await shop.ask(shop.one.settle.payment_approved, approved(late))
    await shop.ask(shop.one.settle.payment_rejected, rejected(late))
    stored, _ = await shop.reservation(second)
    assert (stored.state, stored.paid_minor, stored.open_minor, stored.version) == ("HELD", 0, 0, 1)
    payment = await shop.opened(second, 0, BOB)
    await shop.ask(shop.one.settle.payment_approved, approved(payment))
    assert await shop.state(second) == "CONFIRMED"
    for money in (part, late):
        [outcome] = await shop.ask(shop.one.settle.refund_completed, refunded(money))
        assert outcome.payment.state == pb.Payment.STATE_REFUNDED
    assert await shop.credits(first) == {part.payment_id: "REFUNDED", late.payment_id: "REFUNDED"}
    assert await shop.credits(second) == {payment.payment_id: "APPLIED"}
    assert await shop.tickets(hall) == ["SOLD", "AVAILABLE", "AVAILABLE", "AVAILABLE"]
    await shop.check(hall)


async def test_money_for_a_reservation_that_is_not_here_is_tried_again_and_never_lost(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    payment = await shop.opened(hold)
    for handler, lost in (
        (shop.one.settle.payment_approved, approved(opening(uuid4()), 100)),
        (shop.one.settle.refund_completed, refunded(opening(uuid4()))),
    ):
        lost.reply_to = shop.inbox.queue
        [failure] = await handler([lost])
        assert failure.envelope is lost
        assert isinstance(failure.error, UnknownReservation)
    failures = await shop.one.settle.payment_approved([approved(opening(uuid4()), 100), approved(payment)])
    assert len(failures) == 1
    assert await shop.state(hold) == "CONFIRMED"


async def test_a_rejected_payment_is_answered_even_without_a_reservation_to_show(shop: Shop) -> None:
    hall = await shop.event()
    theirs = await shop.hold(reserve(hall, 0, buyer_id=BOB))
    outcomes = await shop.ask(
        shop.one.settle.payment_rejected,
        rejected(opening(uuid4()), reasons.UNKNOWN_RESERVATION),
        rejected(opening(theirs), reasons.NOT_YOUR_RESERVATION),
        rejected(opening(theirs, buyer_id=BOB), reasons.AMOUNT_ABOVE_DUE),
    )
    assert [outcome.payment.state for outcome in outcomes] == [pb.Payment.STATE_REJECTED] * 3
    assert [outcome.refuse_reason for outcome in outcomes] == [""] * 3
    assert [outcome.HasField("reservation") for outcome in outcomes] == [False, False, True]


async def test_what_was_charged_without_an_opening_goes_back(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    payment = opening(hold)
    [outcome] = await shop.ask(shop.one.settle.payment_approved, approved(payment, 700))
    assert outcome.payment.state == pb.Payment.STATE_REFUND_DUE
    assert outcome.reservation.state == pb.Reservation.STATE_HELD
    assert [command.request_refund.amount_minor for command in await shop.refund_commands(payment)] == [700]
    await shop.check(hall)


async def test_a_charge_that_lands_after_its_rejection_goes_back(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    payment = await shop.opened(hold)
    await shop.ask(shop.one.settle.payment_rejected, rejected(payment))
    [outcome] = await shop.ask(shop.one.settle.payment_approved, approved(payment))
    assert outcome.payment.state == pb.Payment.STATE_REFUND_DUE
    await shop.check(hall)


async def test_a_malformed_message_is_poison_and_its_neighbours_go_through(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    payment = await shop.opened(hold)
    flawed = approved(opening(hold))
    flawed.payment_approved.payment.payment_id = "not an id"
    [failure] = await shop.one.settle.payment_approved([flawed, approved(payment)])
    assert (failure.envelope, type(failure.error)) == (flawed, Poison)
    assert await shop.state(hold) == "CONFIRMED"
    assert await shop.credits(hold) == {UUID(str(payment.payment_id)): "APPLIED"}


async def test_a_payment_named_with_another_reservation_touches_neither(shop: Shop) -> None:
    hall = await shop.event()
    bought, payment = await shop.sold(hall, 0)
    other = await shop.hold(reserve(hall, 1))
    mixed_up = Opening(payment.payment_id, UUID(other), ANN, PRICE_MINOR)
    with pytest.raises(Superseded):
        await shop.one.settle.payment_approved([approved(mixed_up)])
    assert await shop.credits(bought) == {payment.payment_id: "APPLIED"}
    assert await shop.state(other) == "HELD"
    await shop.check(hall)
