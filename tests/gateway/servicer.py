"""The services behind the gateway as it reads from them: scripted data on a real gRPC port."""

from collections.abc import Awaitable, Callable, Sequence

import grpc

from chassis.errors import invalid, not_found
from chassis.interceptor import Context
from contract import reasons
from ticketrush.v1 import catalog_pb2, catalog_pb2_grpc, ticketing_pb2_grpc
from ticketrush.v1 import ticketing_pb2 as pb


class Owner(ticketing_pb2_grpc.TicketingServiceServicer, catalog_pb2_grpc.CatalogServiceServicer):
    """Reservations, payments and catalogue on one gRPC port. `before_answer` runs between reading and answering."""

    def __init__(self) -> None:
        self.reservations: dict[str, pb.Reservation] = {}
        self.payments: dict[str, pb.Payment] = {}
        self.tickets: dict[str, list[pb.Ticket]] = {}
        self.before_answer: Callable[[], Awaitable[None]] | None = None
        self.failures_left = 0
        self.asked: list[str] = []

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        ticketing_pb2_grpc.add_TicketingServiceServicer_to_server(self, server)
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(self, server)
        return [
            pb.DESCRIPTOR.services_by_name["TicketingService"].full_name,
            catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"].full_name,
        ]

    async def GetReservation(self, request: pb.GetReservationRequest, context: Context) -> pb.GetReservationResponse:
        await self._asked("GetReservation", context)
        stored = self.reservations.get(request.reservation_id)
        await self._before_answer()
        if stored is None:
            raise not_found(reasons.UNKNOWN_RESERVATION, "no such reservation")
        return pb.GetReservationResponse(reservation=stored)

    async def ListReservations(
        self, request: pb.ListReservationsRequest, context: Context
    ) -> pb.ListReservationsResponse:
        await self._asked("ListReservations", context)
        if request.page_token:
            raise invalid({"page_token": "was not given by this call"})
        return pb.ListReservationsResponse(reservations=self.reservations.values())

    async def RefundReservation(
        self, request: pb.RefundReservationRequest, context: Context
    ) -> pb.RefundReservationResponse:
        await self._asked("RefundReservation", context)
        return pb.RefundReservationResponse(reservation=self.reservations[request.reservation_id])

    async def GetPayment(self, request: pb.GetPaymentRequest, context: Context) -> pb.GetPaymentResponse:
        await self._asked("GetPayment", context)
        if request.payment_id not in self.payments:
            raise not_found(reasons.UNKNOWN_PAYMENT, "no such payment")
        return pb.GetPaymentResponse(payment=self.payments[request.payment_id])

    async def ListPayments(self, request: pb.ListPaymentsRequest, context: Context) -> pb.ListPaymentsResponse:
        await self._asked("ListPayments", context)
        return pb.ListPaymentsResponse(payments=self.payments.values())

    async def ListTickets(self, request: pb.ListTicketsRequest, context: Context) -> pb.ListTicketsResponse:
        """The token is the place of the first ticket to show."""
        await self._asked("ListTickets", context)
        if request.event_id not in self.tickets:
            raise not_found(reasons.UNKNOWN_EVENT, "no such event")
        begin = int(request.page_token or 0)
        end = begin + request.page_size
        tickets = list(self.tickets[request.event_id])
        await self._before_answer()
        return pb.ListTicketsResponse(
            tickets=tickets[begin:end], next_page_token=str(end) if end < len(tickets) else ""
        )

    async def GetEvent(self, request: catalog_pb2.GetEventRequest, context: Context) -> catalog_pb2.GetEventResponse:
        await self._asked("GetEvent", context)
        return catalog_pb2.GetEventResponse(event=catalog_pb2.Event(event_id=request.event_id, name="Hamlet"))

    async def _asked(self, method: str, context: Context) -> None:
        self.asked.append(method)
        if self.failures_left > 0:
            self.failures_left -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "going away")

    async def _before_answer(self) -> None:
        if self.before_answer is not None:
            await self.before_answer()
