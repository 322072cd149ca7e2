"""People of all kinds: they pay, pay late or in parts, cancel, ask twice, or are never seen again."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from chaos.clients import Client
from chaos.record import Answer, Call, Request
from chaos.sale import PRICE_MINOR, Sale, drawn_id
from chaos.watches import Watches

THINK_MAX_S: Final = 0.5
# How soon a caller who hangs up does so.
HANG_UP_AFTER_S: Final = 0.03
# How many holds are followed on a watch.
WATCHED_SHARE: Final = 0.05
CARTS: Final = (1, 1, 1, 2, 2, 3)


@dataclass(frozen=True)
class Hold:
    """What a buyer was told to hold."""

    reservation_id: str
    sale: Sale
    ticket_ids: tuple[str, ...]


class Buyer:
    """One person's day of shopping; the seed in `random` decides every choice, not what comes of it."""

    def __init__(
        self,
        *,
        name: str,
        cell: str,
        clients: tuple[Client, Client],
        watches: Watches,
        patient: Sale,
        hasty: Sale,
        random: Random,
    ) -> None:
        self._name = name
        self._watches = watches
        self._cell = cell
        self._client, self._other = clients
        self._patient = patient
        self._hasty = hasty
        self._random = random
        self._journeys: tuple[tuple[Callable[[], Awaitable[None]], int], ...] = (
            (self._buy, 38),
            (self._pay_late, 14),
            (self._pay_in_parts, 12),
            (self._stop_half_way, 5),
            (self._cancel, 10),
            (self._cancel_what_is_half_paid, 3),
            (self._try_another_card, 5),
            (self._lose_the_reply, 2),
            (self._ask_twice, 4),
            (self._vanish, 4),
            (self._hang_up, 3),
            (self._have_it_taken_back, 3),
        )

    async def shop(self, closing: asyncio.Event) -> None:
        """One journey after the other until closing time; the last one is finished."""
        journeys = [journey for journey, _ in self._journeys]
        weights = [weight for _, weight in self._journeys]
        while not closing.is_set():
            await self._random.choices(journeys, weights)[0]()
            await self._think()

    async def _buy(self) -> None:
        held = await self._reserve(self._patient)
        if held:
            await self._pay(held, card=self._random.choice(("pm_card_ok", "pm_card_ok", "pm_card_flaky")))

    async def _pay_late(self) -> None:
        held = await self._reserve(self._hasty)
        if held:
            await self._pay(held, card="pm_card_slow", think=False)

    async def _lose_the_reply(self) -> None:
        held = await self._reserve(self._random.choice((self._patient, self._hasty)))
        if held:
            await self._pay(held, card="pm_card_lost_reply", think=False)

    async def _pay_in_parts(self) -> None:
        held = await self._reserve(self._patient)
        if held:
            first = PRICE_MINOR * len(held.ticket_ids) // 3
            await self._pay(held, amount_minor=first)
            await self._pay(held, amount_minor=first)
            await self._pay(held)

    async def _stop_half_way(self) -> None:
        held = await self._reserve(self._patient)
        if held:
            await self._pay(held, amount_minor=1_000, card="pm_card_refund_flaky")

    async def _cancel(self) -> None:
        held = await self._reserve(self._patient)
        if held:
            await self._say("Cancel", held)

    async def _cancel_what_is_half_paid(self) -> None:
        held = await self._reserve(self._patient)
        if held:
            await self._pay(held, amount_minor=1_000)
            await self._say("Cancel", held)

    async def _try_another_card(self) -> None:
        held = await self._reserve(self._patient)
        if held:
            await self._pay(held, card=self._random.choice(("pm_card_declined", "pm_card_insufficient_funds")))
            await self._pay(held)

    async def _ask_twice(self) -> None:
        """The same request over two connections at once, then what it leads to likewise."""
        request = self._wish(self._patient)
        await asyncio.gather(self._client.insist(request), self._other.insist(request))
        held = self._held(request)
        if held:
            payment = self._client.begin(self._about("Pay", held, payment_method="pm_card_ok"))
            await asyncio.gather(self._client.insist(payment), self._other.insist(payment))
            self._note(held, payment.decision)

    async def _vanish(self) -> None:
        """Is told that the request was accepted, and does not wait to hear more."""
        request = self._wish(self._patient)
        await self._client.say(request, wait_s=0)

    async def _hang_up(self) -> None:
        """Never hears anything, neither of the hold nor of the payment."""
        request = self._wish(self._patient)
        await self._client.say(request, timeout_s=HANG_UP_AFTER_S)
        held = self._held(request)
        if held:
            payment = self._client.begin(self._about("Pay", held, payment_method="pm_card_ok"))
            await self._client.say(payment, timeout_s=HANG_UP_AFTER_S)

    async def _have_it_taken_back(self) -> None:
        held = await self._reserve(self._patient)
        if held:
            paid = await self._pay(held)
            if paid and paid.reservation and paid.reservation.state == "CONFIRMED":
                await self._say("Refund", held)
                held.sale.sold.difference_update(held.ticket_ids)

    def _wish(self, sale: Sale) -> Request:
        """A Reserve that is written down, and not said yet."""
        count = self._random.choice(CARTS)
        any_seat = self._random.random() < 0.2
        request = Request(
            "Reserve",
            drawn_id(self._random),
            self._name,
            sale.event_id,
            self._cell,
            ticket_ids=() if any_seat else sale.pick(self._random, count),
            quantity=count if any_seat else 0,
        )
        return self._client.begin(request)

    async def _reserve(self, sale: Sale) -> Hold | None:
        """None if it came to nothing."""
        request = self._wish(sale)
        await self._client.insist(request)
        return self._held(request)

    def _held(self, request: Request) -> Hold | None:
        told = request.decision.reservation if request.decision else None
        if told is None:
            return None
        sale = self._patient if request.event_id == self._patient.event_id else self._hasty
        if told.reject_reason == "TICKETS_TAKEN" and self._random.random() < 0.2:
            # Whoever is refused looks further back now and then, so that sold seats do not fill the window.
            sale.sold.update(request.ticket_ids)
        if told.state != "HELD":
            return None
        hold = Hold(told.reservation_id, sale, told.ticket_ids)
        if self._random.random() < WATCHED_SHARE:
            self._watches.follow(hold.reservation_id)
        return hold

    async def _pay(
        self, held: Hold, *, amount_minor: int = 0, card: str = "pm_card_ok", think: bool = True
    ) -> Answer | None:
        if think:
            await self._think()
        answer = await self._say("Pay", held, amount_minor=amount_minor, payment_method=card)
        self._note(held, answer)
        return answer

    def _note(self, held: Hold, answer: Answer | None) -> None:
        if answer and answer.reservation and answer.reservation.state == "CONFIRMED":
            held.sale.sold.update(held.ticket_ids)

    async def _say(self, call: Call, held: Hold, *, amount_minor: int = 0, payment_method: str = "") -> Answer | None:
        about = self._about(call, held, amount_minor=amount_minor, payment_method=payment_method)
        answer = await self._client.insist(self._client.begin(about))
        if self._random.random() < 0.3:
            await self._other.look(held.reservation_id)
        return answer

    def _about(self, call: Call, held: Hold, *, amount_minor: int = 0, payment_method: str = "") -> Request:
        return Request(
            call,
            drawn_id(self._random),
            self._name,
            held.sale.event_id,
            self._cell,
            reservation_id=held.reservation_id,
            amount_minor=amount_minor,
            payment_method=payment_method,
        )

    async def _think(self) -> None:
        await asyncio.sleep(self._random.uniform(0, THINK_MAX_S))
