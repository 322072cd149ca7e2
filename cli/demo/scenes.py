"""The scenes, each ending as promised or with SceneFailed."""

import asyncio
from collections.abc import Iterable
from typing import Final

import grpc

from cli.demo.box_office import CURRENCY, BoxOffice, is_confirmed
from cli.demo.patience import RETRY_PAUSE_S, SceneFailed, bounded
from cli.money import written
from cli.show import seat
from contract import reasons
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

PRICE_MINOR: Final = 4_500
SHORT_HOLD_S: Final = 3
SWEEP_SOON_S: Final = SHORT_HOLD_S + 3.0
SLOW_CARD_WAIT_S: Final = 6
_REPLAY_PAUSE_S: Final = 2.0

State = pb.Reservation
_BIG_HOUSE: Final = [
    catalog.Block(section="stalls", price_minor=PRICE_MINOR, grid=catalog.Grid(rows=12, seats_per_row=50)),
    catalog.Block(section="balcony", price_minor=2_500, grid=catalog.Grid(rows=8, seats_per_row=50)),
]


async def opening(office: BoxOffice) -> catalog.Event:
    """An event with 1,000 tickets."""
    event = await office.open_event("The Rush, live", _BIG_HOUSE)
    _expect(event.available_count == 1_000, f"1,000 tickets on sale, found {event.available_count}")
    office.narrator.say("opening", f"'{event.name}' goes on sale with [bold]{event.available_count:,} tickets[/]")
    return event


async def race(office: BoxOffice, event: catalog.Event) -> None:
    """Two buyers want the same two seats; one gets them and pays in two instalments."""
    say = office.narrator.say
    seats = await office.best_seats(event, 2)
    say("race", f"ada and bob want {_named(seats)} in the same instant")
    answers = await asyncio.gather(*(office.reserve("race", event, buyer, seats) for buyer in ("ada", "bob")))
    winner, loser = sorted(answers, key=lambda answer: answer.state == State.STATE_REJECTED)
    _expect(winner.state == State.STATE_HELD, f"one of them to be HELD, found {_state(winner)}")
    _expect(loser.reject_reason == reasons.TICKETS_TAKEN, f"the other REJECTED, found {_state(loser)}")
    say("race", f"{winner.buyer_id} is [green]HELD[/], {loser.buyer_id} is [red]REJECTED[/] ({loser.reject_reason})")
    async with bounded("paying and watching it"), asyncio.TaskGroup() as tasks:
        tasks.create_task(_follow(office, winner))
        await _pay_in_two(office, winner)


async def _pay_in_two(office: BoxOffice, held: pb.Reservation) -> None:
    first_minor = held.total_minor // 3
    for amount_minor in (first_minor, held.total_minor - first_minor):
        instalment = f"{written(amount_minor, CURRENCY)} of {written(held.total_minor, CURRENCY)}"
        office.narrator.say("race", f"{held.buyer_id} pays {instalment}")
        payment = await office.pay("race", held, "pm_card_ok", amount_minor)
        _expect(payment.state == pb.Payment.STATE_APPROVED, f"the instalment APPROVED, found {payment}")


async def _follow(office: BoxOffice, reservation: pb.Reservation) -> None:
    """Shows the reservation's states through its watch, until it is CONFIRMED."""
    request = pb.WatchReservationRequest(reservation_id=reservation.reservation_id)
    shown = State.STATE_UNSPECIFIED
    while True:
        try:
            async for answer in office.ticketing.WatchReservation(request):
                if answer.reservation.state != shown:
                    shown = answer.reservation.state
                    office.narrator.say("race", f"[dim]watch:[/] {_state(answer.reservation)}")
                if shown == State.STATE_CONFIRMED:
                    return
        except grpc.aio.AioRpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
                raise SceneFailed(f"the watch was refused: {error.details()}") from None
        await asyncio.sleep(RETRY_PAUSE_S)


async def decline(office: BoxOffice, event: catalog.Event) -> None:
    """A card is declined, which leaves the hold alive; another one pays."""
    say = office.narrator.say
    held = await office.reserve("decline", event, "carol", await office.best_seats(event, 1))
    declined = await office.pay("decline", held, "pm_card_declined")
    _expect(declined.decline_reason == reasons.CARD_DECLINED, f"CARD_DECLINED, found {declined}")
    still = await office.look_up(held.reservation_id)
    _expect(still.state == State.STATE_HELD, f"the hold to outlive a decline, found {_state(still)}")
    say("decline", f"carol's card is [red]declined[/]; {_named(held.tickets)} is still {_state(still)}")
    paid = await office.pay("decline", held, "pm_card_ok")
    _expect(paid.state == pb.Payment.STATE_APPROVED, f"the other card APPROVED, found {paid}")
    await office.becomes("decline", held, is_confirmed, "CONFIRMED")
    say("decline", "another card pays: carol is [green]CONFIRMED[/]")


async def organiser_refund(office: BoxOffice, event: catalog.Event) -> None:
    """The organiser takes back a sale: the money goes back, the seat is on sale again."""
    say = office.narrator.say
    seats = await office.best_seats(event, 1)
    bought = await office.buy("refund", event, "dora", seats)
    if bought is None:
        raise SceneFailed(f"{_named(seats)} was free and could not be bought")
    say("refund", f"dora bought {_named(seats)}; the organiser takes the sale back")
    cancelled = await office.refund(bought, "the seat is behind a pillar")
    _expect(cancelled.state == State.STATE_CANCELLED, f"CANCELLED, found {_state(cancelled)}")
    back = await office.becomes("refund", bought, lambda now: now.refunded_minor == now.total_minor, "REFUNDED")
    again = await office.best_seats(event, 1)
    _expect(again[0].ticket_id == seats[0].ticket_id, f"{_named(seats)} back on sale")
    say("refund", f"dora has {written(back.refunded_minor, CURRENCY)} back, {_named(seats)} is on sale again")


async def expiry(office: BoxOffice) -> None:
    """A hold runs out, and somebody else buys the seat."""
    say = office.narrator.say
    event = await office.open_event("A short hold", _one_seat("box"), hold_s=SHORT_HOLD_S)
    seats = await office.best_seats(event, 1)
    say("expiry", f"'{event.name}', another event, goes on sale with [bold]one ticket[/]: {_named(seats)}")
    held = await office.reserve("expiry", event, "emil", seats)
    _expect(held.state == State.STATE_HELD, f"HELD, found {_state(held)}")
    say("expiry", f"emil holds {_named(seats)} for {SHORT_HOLD_S} s and does not pay")
    expired = State.STATE_EXPIRED
    await office.becomes("expiry", held, lambda now: now.state == expired, "EXPIRED", soon_s=SWEEP_SOON_S)
    say("expiry", f"emil is [red]EXPIRED[/], {_named(seats)} is on sale again by itself")
    bought = await office.buy("expiry", event, "fay", seats)
    _expect(bought is not None, f"fay to buy {_named(seats)}")
    say("expiry", f"fay buys {_named(seats)}: [green]CONFIRMED[/]")


async def late_payment(office: BoxOffice) -> None:
    """A slow charge lands after the hold; the seat is somebody else's by then, so the money goes back.

    It needs the clock: when an outage spoils it (the sweep or the charge came too late), it is played again.
    """
    async with bounded("the late payment"):
        while not await _late_payment_once(office):
            office.narrator.say("late", "an outage came between; the scene is played again", style="yellow")
            await asyncio.sleep(_REPLAY_PAUSE_S)


async def _late_payment_once(office: BoxOffice) -> bool:
    """Whether the scene took its course. Raises SceneFailed if the seat was sold twice or money was kept."""
    say = office.narrator.say
    event = await office.open_event("A slow card", _one_seat("lodge"), hold_s=SHORT_HOLD_S, grace_s=0)
    seats = await office.best_seats(event, 1)
    say("late", f"'{event.name}', another event, goes on sale with [bold]one ticket[/]: {_named(seats)}")
    held = await office.reserve("late", event, "gil", seats)
    say("late", f"gil holds {_named(seats)} for {SHORT_HOLD_S} s and pays with a card that takes 5 s")
    async with asyncio.TaskGroup() as tasks:
        paying = tasks.create_task(office.pay("late", held, "pm_card_slow", wait_s=SLOW_CARD_WAIT_S))
        await office.becomes("late", held, _is_over, "EXPIRED", soon_s=SWEEP_SOON_S)
        rival = await office.buy("late", event, "hal", seats)
        if rival:
            say("late", f"gil's hold is over; hal buys {_named(seats)}: [green]CONFIRMED[/]")
    payment = paying.result()
    if rival is None or payment.state == pb.Payment.STATE_REJECTED:
        return False
    _expect(payment.state != pb.Payment.STATE_APPROVED, "no money kept for a seat that is hal's")
    say("late", "gil's charge lands, too late: [magenta]REFUND_DUE[/]")
    back = await office.becomes("late", held, lambda now: now.refunded_minor == held.total_minor, "REFUNDED")
    say("late", f"gil has {written(back.refunded_minor, CURRENCY)} back: [magenta]REFUNDED[/]")
    return True


def _one_seat(section: str) -> list[catalog.Block]:
    """A house of one seat. Each event has a section of its own, so that no two seats are called the same."""
    return [catalog.Block(section=section, price_minor=PRICE_MINOR, grid=catalog.Grid(rows=1, seats_per_row=1))]


def _is_over(reservation: pb.Reservation) -> bool:
    # CONFIRMED: the charge landed before the sweep, or before anybody else came.
    return reservation.state in (State.STATE_EXPIRED, State.STATE_CONFIRMED)


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise SceneFailed(f"expected {what}")


def _state(reservation: pb.Reservation) -> str:
    name = State.State.Name(reservation.state).removeprefix("STATE_")
    return f"{name} ({reservation.reject_reason})" if reservation.reject_reason else name


def _named(seats: Iterable[pb.Ticket]) -> str:
    return ", ".join(seat(ticket) for ticket in seats)
