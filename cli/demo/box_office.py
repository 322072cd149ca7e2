"""What organisers and buyers do in the scenes, each action carried through outages under one request_id."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import grpc
from google.protobuf.duration_pb2 import Duration

from cli.demo.narrator import Narrator
from cli.demo.patience import CALL_TIMEOUT_S, RETRY_PAUSE_S, Patience, SceneFailed
from contract import reasons
from ticketrush.v1 import catalog_pb2
from ticketrush.v1 import ticketing_pb2 as pb
from ticketrush.v1.catalog_pb2_grpc import CatalogServiceStub
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

if TYPE_CHECKING:  # exist only in the stubs
    from ticketrush.v1.catalog_pb2_grpc import CatalogServiceAsyncStub
    from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceAsyncStub

CURRENCY: Final = "EUR"
WAIT_S: Final = 2
SOON_S: Final = 1.5
"""When an answer that should come at once is called late."""
CREATE_TICKETS_TIMEOUT_S: Final = 30.0


@dataclass
class BoxOffice:
    """The public API as the people in the scenes use it. `event_ids` remembers what this run made."""

    narrator: Narrator
    patience: Patience
    ticketing: "TicketingServiceAsyncStub"
    catalog: "CatalogServiceAsyncStub"
    event_ids: list[str] = field(default_factory=list)

    @classmethod
    def at(cls, channel: grpc.aio.Channel, narrator: Narrator, patience: Patience) -> "BoxOffice":
        """The box office behind a channel to the gateway."""
        return cls(narrator, patience, TicketingServiceStub(channel), CatalogServiceStub(channel))

    async def open_event(
        self, name: str, blocks: Sequence[catalog_pb2.Block], *, hold_s: int | None = None, grace_s: int | None = None
    ) -> catalog_pb2.Event:
        """A new event with its tickets."""
        event = catalog_pb2.Event(
            name=name,
            venue="Demo Hall",
            currency=CURRENCY,
            hold_duration=None if hold_s is None else Duration(seconds=hold_s),
            payment_grace=None if grace_s is None else Duration(seconds=grace_s),
        )
        create = catalog_pb2.CreateEventRequest(request_id=_fresh(), event=event)
        made = (await self.patience.call(self.catalog.CreateEvent, create)).event
        self.event_ids.append(made.event_id)
        add = catalog_pb2.CreateTicketsRequest(request_id=_fresh(), event_id=made.event_id, blocks=blocks)
        answer = await self.patience.call(self.catalog.CreateTickets, add, timeout_s=CREATE_TICKETS_TIMEOUT_S)
        return answer.event

    async def best_seats(self, event: catalog_pb2.Event, count: int) -> list[pb.Ticket]:
        """The first tickets on sale in seat order."""
        state = pb.Ticket.STATE_AVAILABLE
        request = pb.ListTicketsRequest(event_id=event.event_id, state=state, page_size=count)
        return list((await self.patience.call(self.ticketing.ListTickets, request)).tickets)

    async def reserve(
        self, scene: str, event: catalog_pb2.Event, buyer: str, seats: Sequence[pb.Ticket]
    ) -> pb.Reservation:
        """The reservation, decided: HELD or REJECTED. One that an outage made too late is asked for again."""
        while True:
            request = pb.ReserveRequest(
                request_id=_fresh(),
                event_id=event.event_id,
                buyer_id=buyer,
                ticket_ids=[seat.ticket_id for seat in seats],
            )

            async def decided(request: pb.ReserveRequest = request) -> pb.Reservation | None:
                answer = await self.patience.call(self.ticketing.Reserve, request)
                return None if answer.reservation.state == pb.Reservation.STATE_PENDING else answer.reservation

            found = await self.patience.until(scene, decided, what=f"{buyer}'s reservation", soon_s=SOON_S)
            if found.reject_reason != reasons.TOO_LATE:
                return found
            self.narrator.say(scene, f"{buyer} waited too long for an answer and asks again", style="yellow")

    async def pay(
        self, scene: str, reservation: pb.Reservation, card: str, amount_minor: int = 0, *, wait_s: int = WAIT_S
    ) -> pb.Payment:
        """The payment, decided. One that failed because the card processor was away is made again."""
        while True:
            request = pb.PayRequest(
                request_id=_fresh(),
                buyer_id=reservation.buyer_id,
                reservation_id=reservation.reservation_id,
                amount_minor=amount_minor,
                payment_method=card,
                wait=Duration(seconds=wait_s),
            )

            async def decided(request: pb.PayRequest = request) -> pb.Payment | None:
                timeout_s = wait_s + CALL_TIMEOUT_S
                answer = await self.patience.call(self.ticketing.Pay, request, timeout_s=timeout_s)
                return None if answer.payment.state == pb.Payment.STATE_PENDING else answer.payment

            what = f"{reservation.buyer_id}'s payment"
            found = await self.patience.until(scene, decided, what=what, soon_s=SOON_S)
            if found.decline_reason != reasons.PROVIDER_UNAVAILABLE:
                return found
            self.narrator.say(scene, f"the card processor was away; {reservation.buyer_id} pays again", style="yellow")

    async def buy(
        self, scene: str, event: catalog_pb2.Event, buyer: str, seats: Sequence[pb.Ticket]
    ) -> pb.Reservation | None:
        """Reserves and pays at once: CONFIRMED, or None if the seats went to somebody else.

        When an outage outlasts the hold, the buyer loses nothing and tries again.
        """
        while True:
            held = await self.reserve(scene, event, buyer, seats)
            if held.state == pb.Reservation.STATE_REJECTED:
                return None
            payment = await self.pay(scene, held, "pm_card_ok")
            if payment.state == pb.Payment.STATE_APPROVED:
                return await self.becomes(scene, held, is_confirmed, "CONFIRMED")
            if payment.state == pb.Payment.STATE_REJECTED and payment.decline_reason != reasons.HOLD_ENDED:
                raise SceneFailed(f"{buyer} could not pay: {payment.decline_reason}")
            self.narrator.say(scene, f"{buyer}'s hold ended before the payment was through; once more", style="yellow")
            await asyncio.sleep(RETRY_PAUSE_S)

    async def refund(self, reservation: pb.Reservation, reason: str) -> pb.Reservation:
        """Takes back a sale as its organiser."""
        request = pb.RefundReservationRequest(
            request_id=_fresh(), reservation_id=reservation.reservation_id, reason=reason
        )
        return (await self.patience.call(self.ticketing.RefundReservation, request)).reservation

    async def look_up(self, reservation_id: str) -> pb.Reservation:
        """The reservation as it is now."""
        request = pb.GetReservationRequest(reservation_id=reservation_id)
        return (await self.patience.call(self.ticketing.GetReservation, request)).reservation

    async def becomes(
        self,
        scene: str,
        reservation: pb.Reservation,
        holds: Callable[[pb.Reservation], bool],
        what: str,
        *,
        soon_s: float = SOON_S,
    ) -> pb.Reservation:
        """The reservation once the condition holds for it."""

        async def as_wanted() -> pb.Reservation | None:
            now = await self.look_up(reservation.reservation_id)
            return now if holds(now) else None

        what = f"{reservation.buyer_id}'s reservation to be {what}"
        return await self.patience.until(scene, as_wanted, what=what, soon_s=soon_s)


def is_confirmed(reservation: pb.Reservation) -> bool:
    """Whether all is paid and the tickets are sold."""
    return reservation.state == pb.Reservation.STATE_CONFIRMED


def _fresh() -> str:
    return str(uuid4())
