"""OpenPayments on a real database: nothing may be charged that a live hold has no room for."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

from contract import reasons
from reservations.domain.model import PAYMENTS_MAX
from reservations.handlers.opening import Opened, Opening
from tests.reservations.core import PRICE_MINOR, Shop
from tests.reservations.sayings import BOB, approved, cancel, opening, rejected, reserve

SECOND = timedelta(seconds=1)


async def test_an_opened_payment_may_charge_what_it_asked_for_or_all_that_is_due(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0, 1))
    part, rest = opening(hold, 4_000), opening(hold)
    assert await shop.one.opening.open([part, rest]) == [
        Opened(part.payment_id, "", 4_000, "EUR"),
        Opened(rest.payment_id, "", 2 * PRICE_MINOR - 4_000, "EUR"),
    ]
    assert await shop.credits(hold) == {part.payment_id: "OPEN", rest.payment_id: "OPEN"}
    await shop.check(hall)


async def test_each_reason_to_refuse_is_told_and_nothing_is_opened(shop: Shop) -> None:
    hall = await shop.event(seats=6)
    live, sold, ended = [await shop.hold(reserve(hall, seat)) for seat in range(3)]
    busy = await shop.hold(reserve(hall, 3))
    payment = opening(sold)
    assert await shop.open(payment, opening(busy)) == ["", ""]
    await shop.ask(shop.one.settle.payment_approved, approved(payment, PRICE_MINOR))
    await shop.ask(shop.one.settle.cancel_reservation, cancel(ended))
    refused = {
        reasons.UNKNOWN_RESERVATION: opening(uuid4()),
        reasons.NOT_YOUR_RESERVATION: opening(live, buyer_id=BOB),
        reasons.AMOUNT_ABOVE_DUE: opening(live, PRICE_MINOR + 1),
        reasons.HOLD_ENDED: opening(ended),
        reasons.NOTHING_DUE: opening(sold),
    }
    opened = await shop.two.opening.open([*refused.values(), opening(busy)])
    assert [found.refuse_reason for found in opened] == [*refused, reasons.NOTHING_DUE]
    assert [found.amount_minor for found in opened] == [0] * 6
    assert [found.currency for found in opened] == ["", "EUR", "EUR", "EUR", "EUR", "EUR"]
    assert await shop.credits(live) == {}
    await shop.check(hall)


async def test_of_two_full_payments_at_once_one_is_opened(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    answers = await asyncio.gather(
        *(service.opening.open([opening(hold)]) for service in (shop.one, shop.two) for _ in range(3))
    )
    assert sorted(found.refuse_reason for [found] in answers) == ["", *[reasons.NOTHING_DUE] * 5]
    await shop.check(hall)


async def test_payments_opened_at_once_never_exceed_the_total(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0, 1))
    answers = await asyncio.gather(
        *(service.opening.open([opening(hold, 3_000)]) for service in (shop.one, shop.two) for _ in range(5))
    )
    assert sorted(found.refuse_reason for [found] in answers) == ["", "", "", *[reasons.AMOUNT_ABOVE_DUE] * 7]
    assert (await shop.reservation(hold))[0].open_minor == 9_000
    await shop.check(hall)


async def test_the_twenty_first_payment_of_a_reservation_is_refused(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    payments = [opening(hold, 10) for _ in range(PAYMENTS_MAX + 1)]
    assert await shop.open(*payments) == [""] * PAYMENTS_MAX + [reasons.TOO_MANY_PAYMENTS]
    # A decline gives its money back to the hold, and not its place.
    await shop.ask(shop.one.settle.payment_rejected, *(rejected(payment) for payment in payments[:5]))
    assert await shop.open(payments[-1]) == [reasons.TOO_MANY_PAYMENTS]
    await shop.check(hall)


async def test_opening_the_same_payment_again_changes_nothing(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    payment = opening(hold)
    both = await shop.one.opening.open([payment, payment])
    answers = await asyncio.gather(*(service.opening.open([payment]) for service in (shop.one, shop.two, shop.one)))
    assert [found for answer in (both, *answers) for found in answer] == [
        Opened(payment.payment_id, "", PRICE_MINOR, "EUR")
    ] * 5
    assert await shop.kinds(hold) == ["RESERVED", "PAYMENT_OPENED"]
    await shop.check(hall)


async def test_a_payment_of_one_reservation_is_unknown_to_another_and_spoils_nobodys_opening(shop: Shop) -> None:
    hall = await shop.event()
    one, other = await shop.hold(reserve(hall, 0)), await shop.hold(reserve(hall, 1))
    payment = opening(one, 1)
    again = Opening(payment.payment_id, UUID(str(other)), payment.buyer_id, 1)
    assert await shop.open(payment, again, opening(other, 1)) == ["", reasons.UNKNOWN_RESERVATION, ""]
    assert await shop.open(again, opening(one, 1)) == [reasons.UNKNOWN_RESERVATION, ""]
    await shop.check(hall)


async def test_a_refused_payment_is_judged_anew(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    first, second = opening(hold), opening(hold)
    assert await shop.open(first, second) == ["", reasons.NOTHING_DUE]
    await shop.ask(shop.one.settle.payment_rejected, rejected(first))
    assert await shop.open(second, first) == ["", reasons.HOLD_ENDED]


async def test_a_charge_under_way_keeps_the_tickets_until_it_is_declined(shop: Shop) -> None:
    hall = await shop.event(hold_duration=300 * SECOND, payment_grace=60 * SECOND)
    hold = await shop.hold(reserve(hall, 0))
    await shop.time_passes(hall, 299 * SECOND)
    before, _ = await shop.reservation(hold)
    payment = opening(hold)
    assert await shop.open(payment) == [""]
    opened, _ = await shop.reservation(hold)
    assert opened.expire_time == before.expire_time
    [(open_time,)] = await shop.rows("SELECT open_time FROM credit WHERE payment_id = %s", payment.payment_id)
    assert opened.release_time == open_time + 60 * SECOND
    await shop.time_passes(hall, 10 * SECOND)
    assert await shop.one.sweeps.expire_due() == 0
    await shop.ask(shop.one.settle.payment_rejected, rejected(payment))
    assert (await shop.reservation(hold))[0].release_time == opened.expire_time - 10 * SECOND
    assert await shop.one.sweeps.expire_due() == 1
    await shop.check(hall)


async def test_no_number_of_charges_keeps_the_tickets_beyond_the_hard_limit(shop: Shop) -> None:
    hall = await shop.event(hold_duration=300 * SECOND, payment_grace=500 * SECOND)
    hold = await shop.hold(reserve(hall, 0))
    for _ in range(3):
        await shop.time_passes(hall, 299 * SECOND)
        assert await shop.open(opening(hold, 1)) == [""]
        stored, _ = await shop.reservation(hold)
    assert stored.release_time == stored.expire_time + timedelta(minutes=10)
    await shop.time_passes(hall, 4 * SECOND)
    assert await shop.one.sweeps.expire_due() == 1


async def test_a_part_payment_keeps_the_tickets_for_the_instalment_hold(shop: Shop) -> None:
    hall = await shop.event(hold_duration=60 * SECOND, instalment_hold=timedelta(days=7))
    hold = await shop.hold(reserve(hall, 0))
    payment = opening(hold, 1_000)
    assert await shop.open(payment) == [""]
    await shop.ask(shop.one.settle.payment_approved, approved(payment))
    await shop.time_passes(hall, timedelta(days=6))
    assert await shop.one.sweeps.expire_due() == 0
    await shop.time_passes(hall, timedelta(days=1))
    assert await shop.one.sweeps.expire_due() == 1
    assert await shop.credits(hold) == {payment.payment_id: "REFUND_DUE"}
    await shop.check(hall)


async def test_a_hold_takes_payments_until_it_is_released_whatever_the_clock_says(shop: Shop) -> None:
    hall = await shop.event()
    hold = await shop.hold(reserve(hall, 0))
    await shop.time_passes(hall, 301 * SECOND)
    assert await shop.open(opening(hold)) == [""]
    assert await shop.one.sweeps.expire_due() == 0


async def test_terms_changed_later_do_not_touch_a_live_hold(shop: Shop) -> None:
    hall = await shop.event(payment_grace=60 * SECOND)
    hold = await shop.hold(reserve(hall, 0))
    await shop.rows("UPDATE event SET payment_grace = '1 s', instalment_hold = '0' WHERE event_id = %s", hall.event_id)
    await shop.time_passes(hall, 299 * SECOND)
    payment = opening(hold, 1)
    await shop.open(payment)
    await shop.ask(shop.one.settle.payment_approved, approved(payment))
    stored, _ = await shop.reservation(hold)
    assert stored.instalment_time is not None
    assert stored.release_time == stored.instalment_time + 60 * SECOND


async def test_an_opening_is_asked_after_when_no_outcome_came(shop: Shop) -> None:
    hall = await shop.event()
    payments: list[UUID] = []
    for seat in range(3):
        payment = opening(await shop.hold(reserve(hall, seat)))
        assert await shop.open(payment) == [""]
        payments.append(payment.payment_id)
    assert not set(await shop.one.sweeps.open_credits()) & set(payments)
    await shop.time_passes(hall, 16 * SECOND)
    assert set(await shop.one.sweeps.open_credits()) >= set(payments)
    assert not set(await shop.two.sweeps.open_credits()) & set(payments)
    # Then later and later: 15 s, 30 s, 60 s.
    for pause_s in (15, 30, 60):
        await shop.time_passes(hall, (pause_s - 2) * SECOND)
        assert not set(await shop.one.sweeps.open_credits()) & set(payments)
        await shop.time_passes(hall, 3 * SECOND)
        assert set(await shop.one.sweeps.open_credits()) >= set(payments)
