"""The public API as organisers and buyers use it in these tests."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb
from ticketrush.v1.catalog_pb2_grpc import CatalogServiceStub
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

if TYPE_CHECKING:  # exist only in the stubs
    from ticketrush.v1.catalog_pb2_grpc import CatalogServiceAsyncStub
    from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceAsyncStub

WAIT_S: Final = 25
CALL_TIMEOUT_S: Final = 40.0
DEADLINE_S: Final = 60.0
POLL_INTERVAL_S: Final = 0.05
PRICE_MINOR: Final = 4_500

Reservation = pb.Reservation
Payment = pb.Payment


@dataclass(frozen=True)
class Sale:
    """An event on sale, and its tickets in seat order."""

    event_id: str
    tickets: Sequence[str]


@dataclass(frozen=True)
class Refusal:
    """How a call was refused. `fields` are those that BadRequest names."""

    code: grpc.StatusCode
    reason: str
    fields: frozenset[str] = frozenset()


class Office:
    """One gateway's callers."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.ticketing: TicketingServiceAsyncStub = TicketingServiceStub(channel)
        self.catalog: CatalogServiceAsyncStub = CatalogServiceStub(channel)

    async def put_on_sale(
        self,
        tickets: int = 1,
        *,
        price_minor: int = PRICE_MINOR,
        hold_s: int | None = None,
        grace_s: int | None = None,
        instalment_hold_s: int | None = None,
        limit: int = 0,
    ) -> Sale:
        """A new event with one row of seats in the section `stalls`."""
        event = catalog.Event(
            name="Hamlet",
            currency="EUR",
            hold_duration=_span(hold_s),
            payment_grace=_span(grace_s),
            instalment_hold=_span(instalment_hold_s),
            max_tickets_per_buyer=limit,
        )
        made = await self.catalog.CreateEvent(catalog.CreateEventRequest(request_id=new_id(), event=event))
        event_id = made.event.event_id
        block = catalog.Block(
            section="stalls", price_minor=price_minor, grid=catalog.Grid(rows=1, seats_per_row=tickets)
        )
        await self.catalog.CreateTickets(
            catalog.CreateTicketsRequest(request_id=new_id(), event_id=event_id, blocks=[block])
        )
        return Sale(event_id, [ticket.ticket_id for ticket in await self.tickets(event_id)])

    async def tickets(self, event_id: str) -> list[pb.Ticket]:
        """All tickets of an event of at most 1,000."""
        return list(
            (await self.ticketing.ListTickets(pb.ListTicketsRequest(event_id=event_id, page_size=1_000))).tickets
        )

    async def event(self, event_id: str) -> catalog.Event:
        return (await self.catalog.GetEvent(catalog.GetEventRequest(event_id=event_id))).event

    async def counts(self, event_id: str) -> tuple[int, int, int]:
        """How many tickets are available, held, sold."""
        event = await self.event(event_id)
        return event.available_count, event.held_count, event.sold_count

    async def reserve(
        self, sale: Sale, buyer: str, tickets: Sequence[str] = (), *, request_id: str = "", wait_s: float = WAIT_S
    ) -> pb.Reservation:
        """The reservation of these tickets, or of the first one."""
        request = reserve_request(sale, buyer, tickets, request_id=request_id, wait_s=wait_s)
        return (await self.ticketing.Reserve(request, timeout=CALL_TIMEOUT_S)).reservation

    async def pay(
        self,
        reservation: pb.Reservation,
        amount_minor: int = 0,
        *,
        card: str = "pm_card_ok",
        buyer: str = "",
        request_id: str = "",
        wait_s: float = WAIT_S,
    ) -> pb.PayResponse:
        """Pays for the reservation, as its buyer unless another is named."""
        request = pb.PayRequest(
            request_id=request_id or new_id(),
            buyer_id=buyer or reservation.buyer_id,
            reservation_id=reservation.reservation_id,
            amount_minor=amount_minor,
            payment_method=card,
            wait=_span(wait_s),
        )
        return await self.ticketing.Pay(request, timeout=CALL_TIMEOUT_S)

    async def buy(self, sale: Sale, buyer: str, tickets: Sequence[str] = ()) -> pb.Reservation:
        """Reserves and pays at once; must succeed."""
        paid = await self.pay(await self.held(sale, buyer, tickets))
        assert paid.reservation.state == Reservation.STATE_CONFIRMED, paid
        return paid.reservation

    async def held(self, sale: Sale, buyer: str, tickets: Sequence[str] = ()) -> pb.Reservation:
        """Reserves; must succeed."""
        reservation = await self.reserve(sale, buyer, tickets)
        assert reservation.state == Reservation.STATE_HELD, reservation
        return reservation

    async def cancel(self, reservation: pb.Reservation, *, buyer: str = "") -> pb.Reservation:
        request = pb.CancelReservationRequest(
            request_id=new_id(),
            buyer_id=buyer or reservation.buyer_id,
            reservation_id=reservation.reservation_id,
            wait=_span(WAIT_S),
        )
        return (await self.ticketing.CancelReservation(request, timeout=CALL_TIMEOUT_S)).reservation

    async def refund(self, reservation: pb.Reservation, *, request_id: str = "") -> pb.Reservation:
        """The organiser takes the sale back."""
        request = pb.RefundReservationRequest(
            request_id=request_id or new_id(), reservation_id=reservation.reservation_id, reason="the seat is broken"
        )
        return (await self.ticketing.RefundReservation(request)).reservation

    async def call_off(self, event_id: str) -> catalog.Event:
        request = catalog.CancelEventRequest(request_id=new_id(), event_id=event_id, reason="the lead is ill")
        return (await self.catalog.CancelEvent(request)).event

    async def reservation(self, reservation: pb.Reservation) -> pb.Reservation:
        """As it is now."""
        request = pb.GetReservationRequest(reservation_id=reservation.reservation_id)
        return (await self.ticketing.GetReservation(request)).reservation

    async def payment(self, payment: pb.Payment) -> pb.Payment:
        """As it is now."""
        return (await self.ticketing.GetPayment(pb.GetPaymentRequest(payment_id=payment.payment_id))).payment

    async def payments(self, reservation: pb.Reservation) -> list[pb.Payment]:
        request = pb.ListPaymentsRequest(reservation_id=reservation.reservation_id)
        return list((await self.ticketing.ListPayments(request)).payments)

    async def becomes(self, reservation: pb.Reservation, state: "pb.Reservation.State.ValueType") -> pb.Reservation:
        """The reservation, once it is in that state."""
        return await self.until(reservation, lambda now: now.state == state)

    async def until(self, reservation: pb.Reservation, holds: Callable[[pb.Reservation], bool]) -> pb.Reservation:
        """The reservation, once it is as it should be."""
        shown = reservation

        async def reached() -> bool:
            nonlocal shown
            shown = await self.reservation(reservation)
            return holds(shown)

        await eventually(reached, lambda: f"it is still {shown}")
        return shown

    async def payment_becomes(self, payment: pb.Payment, state: "pb.Payment.State.ValueType") -> pb.Payment:
        """The payment, once it is in that state."""
        shown = payment

        async def reached() -> bool:
            nonlocal shown
            shown = await self.payment(payment)
            return shown.state == state

        await eventually(reached, lambda: f"it is still {shown}")
        return shown


def reserve_request(
    sale: Sale, buyer: str, tickets: Sequence[str] = (), *, request_id: str = "", wait_s: float = WAIT_S
) -> pb.ReserveRequest:
    """Asks for these tickets of the sale, or for the first one."""
    return pb.ReserveRequest(
        request_id=request_id or new_id(),
        event_id=sale.event_id,
        buyer_id=buyer,
        ticket_ids=tickets or sale.tickets[:1],
        wait=_span(wait_s),
    )


async def refusal(call: Awaitable[object]) -> Refusal:
    """How the call is refused; it must be, with exactly one ErrorInfo of ours."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refusal_of(refused.value)


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """What an error tells its caller."""
    details = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    assert len(details) == 1, error
    assert isinstance(details[0], bytes)
    info, fields = ErrorInfo(), BadRequest()
    infos = []
    for detail in Status.FromString(details[0]).details:
        if detail.Unpack(info):
            infos.append(info.reason)
            assert info.domain == "ticketrush"
        detail.Unpack(fields)
    assert len(infos) == 1, error
    return Refusal(error.code(), infos[0], frozenset(violation.field for violation in fields.field_violations))


async def eventually(
    holds: Callable[[], Awaitable[bool]], problem: Callable[[], str] = lambda: "", *, deadline_s: float = DEADLINE_S
) -> None:
    """Returns when the condition holds; fails with the problem when it does not by the deadline."""
    end = asyncio.get_running_loop().time() + deadline_s
    while not await holds():
        assert asyncio.get_running_loop().time() < end, problem()
        await asyncio.sleep(POLL_INTERVAL_S)


def new_id() -> str:
    return str(uuid4())


def _span(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    span = Duration()
    span.FromMilliseconds(round(seconds * 1_000))
    return span
