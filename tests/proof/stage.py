"""Where a scenario plays: buyers and organisers who send the same request again until they know what became of it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar
from uuid import UUID

from contract import ids
from tests.e2e.crowd import insist
from tests.e2e.house import House
from tests.e2e.office import Payment, Reservation, Sale, eventually, new_id
from ticketrush.provider.v1 import provider_pb2 as provider
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

PRICE_MINOR: Final = 4_000
WAIT_S: Final = 2.0
DEADLINE_S: Final = 90.0
LIVE: Final = (Reservation.STATE_HELD, Reservation.STATE_PARTIALLY_PAID)

Answer = TypeVar("Answer")


@dataclass
class Stage:
    """One scenario's events, and every id that an OK answer named to one of its buyers."""

    house: House
    shards: set[int] = field(default_factory=set)
    reservations: set[str] = field(default_factory=set)
    payments: set[str] = field(default_factory=set)

    async def sale(self, tickets: int = 1, *, price_minor: int = PRICE_MINOR) -> Sale:
        """A new event with so many seats. Whoever pays late has no grace, so that time can be told to pass."""
        office = self.house.office
        terms = catalog.Event(name="Hamlet", currency="EUR")
        terms.payment_grace.FromSeconds(0)
        create = catalog.CreateEventRequest(request_id=new_id(), event=terms)
        self.shards.add(ids.shard_bits(ids.event_id(create.request_id)))
        event_id = (await _insist(lambda: office.catalog.CreateEvent(create))).event.event_id
        grid = catalog.Grid(rows=1, seats_per_row=tickets)
        block = catalog.Block(section="stalls", price_minor=price_minor, grid=grid)
        add = catalog.CreateTicketsRequest(request_id=new_id(), event_id=event_id, blocks=[block])
        await _insist(lambda: office.catalog.CreateTickets(add))
        return Sale(event_id, [ticket.ticket_id for ticket in await _insist(lambda: office.tickets(event_id))])

    async def reserve(self, sale: Sale, buyer: str, *tickets: str) -> pb.Reservation:
        """The decision on these tickets, or on the first one."""
        request_id = new_id()

        async def ask() -> pb.Reservation:
            answer = await self.house.office.reserve(sale, buyer, tickets, request_id=request_id, wait_s=WAIT_S)
            self.reservations.add(answer.reservation_id)
            return answer

        return await insist(ask, lambda answer: answer.state != Reservation.STATE_PENDING)

    async def held(self, sale: Sale, buyer: str, *tickets: str) -> pb.Reservation:
        """Reserves; must succeed."""
        reservation = await self.reserve(sale, buyer, *tickets)
        assert reservation.state in LIVE, reservation
        return reservation

    async def pay(self, held: pb.Reservation, amount_minor: int = 0, *, card: str = "pm_card_ok") -> pb.PayResponse:
        """What became of the charge."""
        ask = self._paying(held, amount_minor, card, WAIT_S)
        return await insist(ask, lambda answer: answer.payment.state != Payment.STATE_PENDING)

    async def approved(self, held: pb.Reservation, amount_minor: int = 0) -> None:
        """Pays; the money must be taken and kept."""
        paid = await self.pay(held, amount_minor)
        assert paid.payment.state == Payment.STATE_APPROVED, paid

    async def begins_to_pay(self, held: pb.Reservation, *, card: str) -> None:
        """Returns when the charge is opened, or more."""
        await _insist(self._paying(held, 0, card, wait_s=0))
        await self.until(held, lambda now: now.open_minor + now.paid_minor > 0)

    def _paying(
        self, held: pb.Reservation, amount_minor: int, card: str, wait_s: float
    ) -> Callable[[], Awaitable[pb.PayResponse]]:
        """One request, to be sent as often as need be."""
        request_id = new_id()

        async def ask() -> pb.PayResponse:
            office = self.house.office
            answer = await office.pay(held, amount_minor, card=card, request_id=request_id, wait_s=wait_s)
            self.payments.add(answer.payment.payment_id)
            return answer

        return ask

    async def buy(self, sale: Sale, buyer: str, *tickets: str) -> pb.Reservation:
        """Reserves and pays; must succeed."""
        held = await self.held(sale, buyer, *tickets)
        await self.approved(held)
        return await self.becomes(held, Reservation.STATE_CONFIRMED)

    async def cancel(self, held: pb.Reservation) -> pb.Reservation:
        """By its buyer, until it is over."""
        request = pb.CancelReservationRequest(
            request_id=new_id(), buyer_id=held.buyer_id, reservation_id=held.reservation_id
        )

        async def ask() -> pb.Reservation:
            return (await self.house.office.ticketing.CancelReservation(request)).reservation

        return await insist(ask, lambda answer: answer.state not in LIVE)

    async def refund(self, bought: pb.Reservation) -> pb.Reservation:
        """The organiser takes the sale back."""
        request_id = new_id()
        return await _insist(lambda: self.house.office.refund(bought, request_id=request_id))

    async def call_off(self, sale: Sale) -> None:
        request = catalog.CancelEventRequest(request_id=new_id(), event_id=sale.event_id, reason="the lead is ill")
        await _insist(lambda: self.house.office.catalog.CancelEvent(request))

    async def becomes(self, reservation: pb.Reservation, *states: "pb.Reservation.State.ValueType") -> pb.Reservation:
        """The reservation, once it is in one of these states."""
        return await self.until(reservation, lambda now: now.state in states)

    async def until(self, reservation: pb.Reservation, holds: Callable[[pb.Reservation], bool]) -> pb.Reservation:
        """The reservation, once it is as it should be."""
        shown = reservation

        async def reached() -> bool:
            nonlocal shown
            shown = await _insist(lambda: self.house.office.reservation(reservation))
            return holds(shown)

        await eventually(reached, lambda: f"it is still {shown}", deadline_s=DEADLINE_S)
        return shown

    async def time_is_over(self, held: pb.Reservation) -> None:
        """An hour passes for this reservation; sweep and reconcilers have yet to come."""
        for sql in (
            """UPDATE reservations.reservation SET create_time = create_time - span, expire_time = expire_time - span,
                   release_time = release_time - span, instalment_time = instalment_time - span
               FROM (SELECT interval '1 h' AS span) AS passed WHERE reservation_id = %s""",
            """UPDATE reservations.credit SET open_time = open_time - span, reconcile_time = reconcile_time - span
               FROM (SELECT interval '1 h' AS span) AS passed WHERE reservation_id = %s""",
        ):
            await self.house.rows(sql, UUID(held.reservation_id))

    async def charged(self, reservation: pb.Reservation) -> list[tuple[int, int]]:
        """What the card processor charged and refunded for it, by charge, in order of amount."""
        payments = await _insist(lambda: self.house.office.payments(reservation))
        statement = await self.house.statement()
        charges = (statement.get(payment.payment_id) for payment in payments)
        taken = (one for one in charges if one and one.state == provider.Charge.STATE_APPROVED)
        return sorted((charge.amount_minor, charge.refunded_minor) for charge in taken)

    async def counts(self, sale: Sale) -> tuple[int, int, int]:
        """How many tickets are available, held, sold."""
        return await _insist(lambda: self.house.office.counts(sale.event_id))


async def _insist(call: Callable[[], Awaitable[Answer]]) -> Answer:
    return await insist(call, lambda _: True)
