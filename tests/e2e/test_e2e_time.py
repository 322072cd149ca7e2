"""What time does: holds that run out, charges that come late, refunds that take a while. All scenes play at once."""

import asyncio
from datetime import UTC

import pytest

from tests.e2e.house import House
from tests.e2e.office import Payment, Reservation, eventually, new_id
from tests.e2e.together import Together
from tests.e2e.wire import listening, named
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

# The annex brings a second scheduler.
pytestmark = pytest.mark.usefixtures("annex", "the_books_balance")

together = Together("house")
HOLD_S = 3
# More than one sweep takes at once, and more than one batch of an event called off.
MANY = 600
REFUND_REQUESTED = "ticket.refunds.requested"


@together
async def test_a_hold_that_runs_out_is_told_to_the_world_and_kept_in_history(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale(hold_s=HOLD_S, limit=1)
    async with house.broker() as channel, listening(channel, "ticket.expired") as ear:
        held = await office.held(sale, "ada")
        assert held.expire_time.ToNanoseconds() - held.create_time.ToNanoseconds() == HOLD_S * 10**9
        expired = await office.becomes(held, Reservation.STATE_EXPIRED)
        told = (await ear.hears(named(held.reservation_id))).tickets_expired.reservation
    assert told == expired
    assert [ticket.state for ticket in told.tickets] == [pb.Ticket.STATE_AVAILABLE]
    kinds = "SELECT kind FROM reservations.history WHERE subject_id = %s ORDER BY subject_version"
    assert await house.rows(kinds, held.reservation_id) == [("RESERVED",), ("EXPIRED",)]
    assert await office.counts(sale.event_id) == (1, 0, 0)
    # The same buyer is within the limit again.
    await office.buy(sale, "ada")
    assert (await office.reservation(held)).state == Reservation.STATE_EXPIRED


@together
async def test_many_holds_run_out_once_each_although_two_schedulers_sweep(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale(MANY, hold_s=HOLD_S)
    async with (
        house.broker() as channel,
        listening(channel, "ticket.expired") as ear,
        house.crowd() as crowd,
    ):
        held = await asyncio.gather(
            *(crowd.held(sale, f"buyer-{number}", [ticket]) for number, ticket in enumerate(sale.tickets))
        )
        for one in held:
            await ear.hears(named(one.reservation_id))
    wanted = {one.reservation_id for one in held}
    told = {fact.message_id: fact for fact in ear.heard if fact.subject_id in wanted}
    assert len(told) == MANY
    assert {fact.subject_version for fact in told.values()} == {2}
    assert await office.counts(sale.event_id) == (MANY, 0, 0)


@together
async def test_a_charge_under_way_keeps_the_seat_within_the_grace(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale(hold_s=HOLD_S, grace_s=60)
    held = await office.held(sale, "ada")
    paying = asyncio.create_task(office.pay(held, card="pm_card_slow"))
    opened = await office.until(held, lambda now: now.open_minor > 0)
    assert opened.release_time.seconds > opened.expire_time.seconds + 50
    assert opened.expire_time == held.expire_time
    await past(held)
    assert (await office.reserve(sale, "bob")).reject_reason == "TICKETS_TAKEN"
    paid = await paying
    assert paid.reservation.state == Reservation.STATE_CONFIRMED


@together
async def test_a_declined_charge_gives_its_grace_back(house: House) -> None:
    office = house.office
    held = await office.held(await office.put_on_sale(hold_s=HOLD_S, grace_s=60), "ada")
    declined = await office.pay(held, card="pm_card_declined")
    assert declined.reservation.release_time == held.expire_time
    await office.becomes(held, Reservation.STATE_EXPIRED)


@together
async def test_an_instalment_keeps_the_seat_for_its_time_and_goes_back_after_it(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale(hold_s=5, grace_s=0, instalment_hold_s=8)
    held = await office.held(sale, "ada")
    part = await office.pay(held, 1_000)
    kept_until = part.reservation.release_time
    assert kept_until.ToNanoseconds() > held.expire_time.ToNanoseconds()
    await office.becomes(held, Reservation.STATE_EXPIRED)
    [(released,)] = await house.rows(
        "SELECT occur_time FROM reservations.history WHERE subject_id = %s AND kind = 'EXPIRED'", held.reservation_id
    )
    assert released >= kept_until.ToDatetime(UTC)
    back = await office.until(held, lambda now: now.refunded_minor == 1_000)
    assert (back.paid_minor, back.refund_due_minor) == (0, 0)
    assert (await house.statement())[part.payment.payment_id].refunded_minor == 1_000
    await office.buy(sale, "bob")


@together
async def test_a_payment_that_comes_too_late_goes_back_while_another_has_the_seat(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale(hold_s=HOLD_S, grace_s=0)
    held = await office.held(sale, "ada")
    request_id = new_id()
    paying = asyncio.create_task(office.pay(held, card="pm_card_slow", request_id=request_id))
    await office.becomes(held, Reservation.STATE_EXPIRED)
    bought = await office.buy(sale, "bob")
    late = await paying
    assert late.payment.state in (Payment.STATE_REFUND_DUE, Payment.STATE_REFUNDED)
    assert late.reservation.state == Reservation.STATE_EXPIRED
    await office.payment_becomes(late.payment, Payment.STATE_REFUNDED)
    assert (await office.pay(held, card="pm_card_slow", request_id=request_id)).payment.state == Payment.STATE_REFUNDED
    back = await office.until(held, lambda now: now.refunded_minor == held.total_minor)
    assert (back.state, back.paid_minor, back.refund_due_minor) == (Reservation.STATE_EXPIRED, 0, 0)
    assert await office.reservation(bought) == bought
    assert (await house.statement())[late.payment.payment_id].refunded_minor == held.total_minor


@together
async def test_a_payment_that_comes_too_late_still_buys_a_seat_that_is_free(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale(hold_s=HOLD_S, grace_s=0)
    held = await office.held(sale, "ada")
    paying = asyncio.create_task(office.pay(held, card="pm_card_slow"))
    await office.becomes(held, Reservation.STATE_EXPIRED)
    late = await paying
    assert late.payment.state == Payment.STATE_APPROVED
    assert late.reservation.state == Reservation.STATE_CONFIRMED
    assert await office.counts(sale.event_id) == (0, 0, 1)
    assert (await office.reserve(sale, "bob")).reject_reason == "TICKETS_TAKEN"


@together
async def test_a_part_that_comes_too_late_goes_back_even_if_the_seat_is_free(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale(hold_s=HOLD_S, grace_s=0)
    held = await office.held(sale, "ada")
    late = await office.pay(held, 1_000, card="pm_card_slow")
    assert late.payment.state in (Payment.STATE_REFUND_DUE, Payment.STATE_REFUNDED)
    await office.until(held, lambda now: now.refunded_minor == 1_000)
    assert await office.counts(sale.event_id) == (1, 0, 0)


@together
async def test_a_charge_that_lands_after_a_cancellation_goes_back(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale()
    held = await office.held(sale, "ada")
    paying = asyncio.create_task(office.pay(held, card="pm_card_slow"))
    await office.until(held, lambda now: now.open_minor > 0)
    await office.cancel(held)
    await office.buy(sale, "bob")
    late = await paying
    assert late.payment.state in (Payment.STATE_REFUND_DUE, Payment.STATE_REFUNDED)
    assert late.reservation.state == Reservation.STATE_CANCELLED
    await office.until(held, lambda now: now.refunded_minor == held.total_minor)


@together
async def test_payments_around_the_end_of_their_hold_sell_or_give_back(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale(30, hold_s=1, grace_s=0)
    held = await asyncio.gather(*(office.held(sale, f"buyer-{seat}", [seat]) for seat in sale.tickets))

    async def pay(one: pb.Reservation, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await office.pay(one)

    # From well before the end to well after the sweep that follows it.
    await asyncio.gather(*(pay(one, 0.5 + number / 15) for number, one in enumerate(held)))
    for one in held:
        ended = await office.until(one, lambda now: now.open_minor == now.refund_due_minor == 0)
        assert ended.state in (Reservation.STATE_CONFIRMED, Reservation.STATE_EXPIRED)
        assert ended.paid_minor == (ended.total_minor if ended.state == Reservation.STATE_CONFIRMED else 0)


@together
async def test_a_charge_whose_reply_is_lost_is_made_once_and_has_one_outcome(house: House) -> None:
    office = house.office
    held = await office.held(await office.put_on_sale(), "ada")
    paid = await office.pay(held, card="pm_card_lost_reply")
    assert paid.payment.state == Payment.STATE_APPROVED
    assert paid.reservation.state == Reservation.STATE_CONFIRMED
    charge = (await house.statement())[paid.payment.payment_id]
    assert (charge.amount_minor, charge.refunded_minor) == (held.total_minor, 0)
    assert len(await office.payments(held)) == 1


@together
async def test_an_event_called_off_gives_everything_back(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale(6)
    seats = iter(sale.tickets)
    bought = [await office.buy(sale, f"buyer-{number}", [next(seats)]) for number in range(2)]
    held = await office.held(sale, "carol", [next(seats)])
    part = (await office.pay(await office.held(sale, "dora", [next(seats)]), 1_000)).reservation
    charging = await office.held(sale, "emil", [next(seats)])
    paying = asyncio.create_task(office.pay(charging, card="pm_card_slow"))
    await office.until(charging, lambda now: now.open_minor > 0)

    called_off = await office.call_off(sale.event_id)
    assert called_off.state == catalog.Event.STATE_CANCELLED
    for one in (*bought, held, part, charging):
        await office.becomes(one, Reservation.STATE_CANCELLED)
    assert await office.counts(sale.event_id) == (6, 0, 0)
    assert (await office.reserve(sale, "fay")).reject_reason == "EVENT_CLOSED"
    late = await paying
    assert late.payment.state in (Payment.STATE_REFUND_DUE, Payment.STATE_REFUNDED)
    for one, amount_minor in (*((sold, sold.total_minor) for sold in bought), (part, 1_000), (charging, 4_500)):
        await office.until(one, lambda now, due=amount_minor: now.refunded_minor == due)  # type: ignore[misc]


@together
async def test_a_large_event_is_called_off_to_the_last_ticket(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale(MANY, price_minor=0)
    async with house.crowd() as crowd:
        sold = await asyncio.gather(*(crowd.reserve(sale, f"buyer-{seat}", [seat]) for seat in sale.tickets))
    assert {one.state for one in sold} == {Reservation.STATE_CONFIRMED}
    await office.call_off(sale.event_id)

    async def all_are_back() -> bool:
        return await office.counts(sale.event_id) == (MANY, 0, 0)

    await eventually(all_are_back)
    assert {(await office.reservation(one)).state for one in sold[::50]} == {Reservation.STATE_CANCELLED}


@together
async def test_a_closed_event_sells_no_more_but_its_holds_may_be_paid(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale(2)
    held = await office.held(sale, "ada", sale.tickets[:1])
    await office.catalog.CloseEvent(catalog.CloseEventRequest(request_id=sale.tickets[0], event_id=sale.event_id))
    assert (await office.reserve(sale, "bob", sale.tickets[1:])).reject_reason == "EVENT_CLOSED"
    assert (await office.pay(held)).reservation.state == Reservation.STATE_CONFIRMED


@together
async def test_a_refund_that_nobody_is_bound_to_take_rings_and_is_said_again(house: House) -> None:
    office = house.office
    bought = await office.buy(await office.put_on_sale(), "ada")

    async def alarms() -> float:
        return await house.figure(
            "reservations",
            "ticketrush_amqp_published_envelopes_total",
            key=REFUND_REQUESTED,
            outcome="Unroutable",
        )

    before = await alarms()
    async with house.broker() as channel:
        # Frozen, payments cannot mend at once what is broken here.
        house.freeze("payments")
        try:
            await channel.queue_delete("payments.refunds.0")
            await office.refund(bought)

            async def has_rung() -> bool:
                return await alarms() > before

            await eventually(has_rung)
        finally:
            house.thaw("payments")
    await office.until(bought, lambda now: now.refunded_minor == bought.total_minor)


@together
async def test_hold_length_and_price_are_not_the_buyers_choice(house: House) -> None:
    office = house.office
    sale = await office.put_on_sale(2, price_minor=7_000, hold_s=10)
    first = await office.held(sale, "ada", sale.tickets[:1])
    changed = catalog.Event(event_id=sale.event_id)
    changed.hold_duration.FromSeconds(600)
    await office.catalog.UpdateEvent(
        catalog.UpdateEventRequest(
            request_id=sale.event_id,
            event=changed,
            update_mask={"paths": ["hold_duration"]},  # type: ignore[arg-type]
        )
    )
    second = await office.held(sale, "bob", sale.tickets[1:])
    assert [seconds_held(one) for one in (first, second)] == [10, 600]
    assert [one.total_minor for one in (first, second)] == [7_000, 7_000]
    # Nothing that a buyer can send names either of the two.
    fields = {field.name for field in pb.ReserveRequest.DESCRIPTOR.fields}
    assert fields == {"request_id", "event_id", "buyer_id", "ticket_ids", "best_available", "wait"}
    assert await office.reservation(first) == first


def seconds_held(reservation: pb.Reservation) -> int:
    return (reservation.expire_time.ToNanoseconds() - reservation.create_time.ToNanoseconds()) // 10**9


async def past(reservation: pb.Reservation) -> None:
    """Time passes until the hold that was shown to the buyer is over, and the sweep has seen that."""
    left_s = reservation.expire_time.seconds - reservation.create_time.seconds
    await asyncio.sleep(left_s + 1.5)
