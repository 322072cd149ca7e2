"""What people do with tickets and money, each to an end that is the same whatever happens to the system meanwhile.

Each asserts its own end; the books are checked elsewhere.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from tests.e2e.office import Payment, Reservation
from tests.proof.stage import PRICE_MINOR, Stage
from ticketrush.v1 import ticketing_pb2 as pb

PART_MINOR: Final = 1_500
REST_MINOR: Final = PRICE_MINOR - PART_MINOR

Scenario = Callable[[Stage], Coroutine[Any, Any, None]]


def expect(found: object, wanted: object) -> None:
    assert found == wanted, f"{found} is not {wanted}"


async def reserve(stage: Stage) -> None:
    """Two want one seat; who gets it gives it back."""
    sale = await stage.sale()
    first, second = await asyncio.gather(stage.reserve(sale, "ada"), stage.reserve(sale, "bob"))
    held, refused = (first, second) if first.state == Reservation.STATE_HELD else (second, first)
    expect((held.state, refused.reject_reason), (Reservation.STATE_HELD, "TICKETS_TAKEN"))
    assert (await stage.cancel(held)).state == Reservation.STATE_CANCELLED
    await stage.becomes(refused, Reservation.STATE_REJECTED)
    expect(await stage.counts(sale), (1, 0, 0))


async def pay_in_full(stage: Stage) -> None:
    sale = await stage.sale(2)
    bought = await stage.buy(sale, "ada", *sale.tickets)
    expect(await stage.charged(bought), [(2 * PRICE_MINOR, 0)])
    expect(await stage.counts(sale), (0, 0, 2))


async def pay_in_two_parts(stage: Stage) -> None:
    sale = await stage.sale()
    held = await stage.held(sale, "ada")
    await stage.approved(held, PART_MINOR)
    await stage.approved(held)
    assert (await stage.becomes(held, Reservation.STATE_CONFIRMED)).paid_minor == PRICE_MINOR
    expect(await stage.charged(held), [(PART_MINOR, 0), (REST_MINOR, 0)])


async def decline(stage: Stage) -> None:
    """A card is declined, one is unknown (its charge is cancelled), a third one is good."""
    sale = await stage.sale()
    held = await stage.held(sale, "ada")
    for card, reason in (("pm_card_declined", "CARD_DECLINED"), ("pm_card_of_nobody", "UNKNOWN_PAYMENT_METHOD")):
        declined = (await stage.pay(held, card=card)).payment
        expect((declined.state, declined.decline_reason), (Payment.STATE_REJECTED, reason))
    await stage.until(held, lambda now: now.open_minor == 0)
    await stage.approved(held)
    await stage.becomes(held, Reservation.STATE_CONFIRMED)
    expect(await stage.charged(held), [(PRICE_MINOR, 0)])


async def late_payment(stage: Stage) -> None:
    """Charges land after the end of their holds: one seat is taken meanwhile, so its money goes back; one is free.

    Where the end came too late for that, it is a sale like any other.
    """
    sale = await stage.sale(2)
    missed, free = [await stage.held(sale, buyer, seat) for buyer, seat in zip("ab", sale.tickets, strict=True)]
    await asyncio.gather(*(_charge_outlasts_hold(stage, held) for held in (missed, free)))
    rival = await stage.reserve(sale, "rival", sale.tickets[0])
    if rival.state == Reservation.STATE_HELD:
        await stage.until(missed, lambda now: now.refunded_minor == PRICE_MINOR)
        expect(await stage.charged(missed), [(PRICE_MINOR, PRICE_MINOR)])
        await stage.approved(rival)
    else:
        await stage.becomes(missed, Reservation.STATE_CONFIRMED)
    await stage.becomes(free, Reservation.STATE_CONFIRMED)
    expect(await stage.charged(free), [(PRICE_MINOR, 0)])
    expect(await stage.counts(sale), (0, 0, 2))


async def _charge_outlasts_hold(stage: Stage, held: pb.Reservation) -> None:
    await stage.begins_to_pay(held, card="pm_card_slow")
    await stage.time_is_over(held)
    await stage.becomes(held, Reservation.STATE_EXPIRED, Reservation.STATE_CONFIRMED)


async def expiry(stage: Stage) -> None:
    """A hold runs out, and another buys the seat."""
    sale = await stage.sale()
    held = await stage.held(sale, "ada")
    await stage.time_is_over(held)
    await stage.becomes(held, Reservation.STATE_EXPIRED)
    await stage.buy(sale, "bob")
    await stage.becomes(held, Reservation.STATE_EXPIRED)


async def cancel_with_money(stage: Stage) -> None:
    sale = await stage.sale()
    held = await stage.held(sale, "ada")
    await stage.approved(held, PART_MINOR)
    assert (await stage.cancel(held)).state == Reservation.STATE_CANCELLED
    await _gone_back(stage, held, PART_MINOR)
    expect(await stage.counts(sale), (1, 0, 0))


async def organiser_refund(stage: Stage) -> None:
    sale = await stage.sale()
    bought = await stage.buy(sale, "ada")
    assert (await stage.refund(bought)).state == Reservation.STATE_CANCELLED
    await _gone_back(stage, bought, PRICE_MINOR)
    expect(await stage.counts(sale), (1, 0, 0))


async def called_off(stage: Stage) -> None:
    """An event with a sale, a part payment and a hold."""
    sale = await stage.sale(3)
    sold, part, held = sale.tickets
    bought = await stage.buy(sale, "ada", sold)
    partly = await stage.held(sale, "bob", part)
    await stage.approved(partly, PART_MINOR)
    unpaid = await stage.held(sale, "eve", held)
    await stage.call_off(sale)
    await stage.becomes(unpaid, Reservation.STATE_CANCELLED)
    await _gone_back(stage, bought, PRICE_MINOR)
    await _gone_back(stage, partly, PART_MINOR)
    expect(await stage.counts(sale), (3, 0, 0))


async def _gone_back(stage: Stage, paid: pb.Reservation, amount_minor: int) -> None:
    await stage.becomes(paid, Reservation.STATE_CANCELLED)
    back = await stage.until(paid, lambda now: now.refunded_minor == amount_minor)
    expect((back.paid_minor, back.refund_due_minor), (0, 0))
    expect(await stage.charged(paid), [(amount_minor, amount_minor)])


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "reserve": reserve,
    "full": pay_in_full,
    "parts": pay_in_two_parts,
    "decline": decline,
    "late": late_payment,
    "expiry": expiry,
    "cancel": cancel_with_money,
    "refund": organiser_refund,
    "called off": called_off,
}
