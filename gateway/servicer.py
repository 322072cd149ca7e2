"""TicketingService in public. A write is checked, becomes a command, is said, and its outcome answers the call."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

import grpc

from chassis.callers import calling
from chassis.errors import not_found
from chassis.interceptor import Context
from contract import access, reasons
from gateway import commands, pending, validation
from gateway.deadlines import left_s
from gateway.feed import Streams
from gateway.owners import FORWARD_TIMEOUT_S, Owners, forward
from gateway.reads import Reads
from gateway.submission import Submission
from gateway.watches import Watches
from ticketrush.v1 import ticketing_pb2 as pb
from ticketrush.v1 import ticketing_pb2_grpc

# Its calls are those of a rush. How long a Pay takes is up to the card, and says nothing about load.
RESERVE: Final = "/ticketrush.v1.TicketingService/Reserve"
# Who holds tickets, and who has paid for them, is served before those who want some, and these before those who look.
_READS: Final = frozenset(
    {
        *(f"/ticketrush.v1.TicketingService/{name}" for name in ("GetReservation", "ListReservations")),
        *(f"/ticketrush.v1.TicketingService/{name}" for name in ("GetPayment", "ListPayments", "ListTickets")),
        *(f"/ticketrush.v1.TicketingService/{name}" for name in ("WatchReservation", "WatchTickets")),
        *(f"/ticketrush.v1.CatalogService/{name}" for name in ("GetEvent", "ListEvents")),
    }
)
GIVEN_UP_FIRST: Final = (_READS, frozenset({RESERVE}))
"""Calls that are refused first when there are too many, and those that are next."""
# What a cancellation keeps of its time to read how things stand when its wait runs out; of a short time, half.
READ_BACK_S: Final = 0.5


class TicketingServicer(ticketing_pb2_grpc.TicketingServiceServicer):
    """The buyer's side; docs of each RPC are in ticketing.proto.

    No call takes longer than `call_timeout_s`, whatever its deadline.
    """

    def __init__(
        self,
        *,
        submission: Submission,
        owners: Owners,
        reads: Reads,
        watches: Watches,
        streams: Streams,
        call_timeout_s: float,
    ) -> None:
        self._submission = submission
        self._owners = owners
        self._reads = reads
        self._watches = watches
        self._streams = streams
        self._call_timeout_s = call_timeout_s

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        """Adds the service to the server; answers its full name."""
        ticketing_pb2_grpc.add_TicketingServiceServicer_to_server(self, server)
        service: str = pb.DESCRIPTOR.services_by_name["TicketingService"].full_name
        # A seat map is serialised once for all its streams. The handler registered last is the one that serves.
        watch_tickets: grpc.RpcMethodHandler[pb.WatchTicketsRequest, bytes] = grpc.unary_stream_rpc_method_handler(
            self.WatchTickets, request_deserializer=pb.WatchTicketsRequest.FromString, response_serializer=None
        )
        server.add_registered_method_handlers(service, {"WatchTickets": watch_tickets})
        return [service]

    async def Reserve(self, request: pb.ReserveRequest, context: Context) -> pb.ReserveResponse:
        wait_s = validation.reserve(request)
        _refuse_for_others("Reserve", request.buyer_id)
        command = commands.reserve(request)
        outcome = await self._submission.submit(command, wait_s=wait_s, left_s=left_s(context, self._call_timeout_s))
        if outcome is None:
            accepted = pending.reservation(command.subject_id, request)
            known = self._reads.pending_reservations.add(command.subject_id, request.buyer_id, accepted)
            return pb.ReserveResponse(reservation=known)
        return pb.ReserveResponse(reservation=outcome.reservation)

    async def Pay(self, request: pb.PayRequest, context: Context) -> pb.PayResponse:
        wait_s = validation.pay(request)
        _refuse_for_others("Pay", request.buyer_id)
        command = commands.pay(request)
        outcome = await self._submission.submit(command, wait_s=wait_s, left_s=left_s(context, self._call_timeout_s))
        if outcome is None:
            accepted = pending.payment(command.subject_id, request)
            known = self._reads.pending_payments.add(command.subject_id, request.buyer_id, accepted)
            return pb.PayResponse(payment=known)
        return pb.PayResponse(
            payment=_as_told("Pay", outcome.payment),
            reservation=outcome.reservation if outcome.HasField("reservation") else None,
        )

    async def CancelReservation(
        self, request: pb.CancelReservationRequest, context: Context
    ) -> pb.CancelReservationResponse:
        wait_s = validation.cancel(request)
        _refuse_for_others("CancelReservation", request.buyer_id)
        command = commands.cancel(request)
        answer_in_s = left_s(context, self._call_timeout_s)
        wait_s = min(wait_s, max(answer_in_s - READ_BACK_S, answer_in_s / 2))
        outcome = await self._submission.submit(command, wait_s=wait_s, left_s=answer_in_s)
        if outcome is not None:
            return pb.CancelReservationResponse(reservation=outcome.reservation)
        reservation = await self._reads.reservation(
            request.reservation_id, timeout_s=left_s(context, FORWARD_TIMEOUT_S)
        )
        if reservation.buyer_id != request.buyer_id:
            raise not_found(reasons.UNKNOWN_RESERVATION, "this buyer has no such reservation")
        return pb.CancelReservationResponse(reservation=reservation)

    async def RefundReservation(
        self, request: pb.RefundReservationRequest, context: Context
    ) -> pb.RefundReservationResponse:
        validation.refund(request)
        return await forward(self._owners.reservations.RefundReservation, request, context)

    async def GetReservation(self, request: pb.GetReservationRequest, context: Context) -> pb.GetReservationResponse:
        reservation_id = validation.reservation_id(request)
        timeout_s = left_s(context, FORWARD_TIMEOUT_S)
        return pb.GetReservationResponse(reservation=await self._reads.reservation(reservation_id, timeout_s=timeout_s))

    async def ListReservations(
        self, request: pb.ListReservationsRequest, context: Context
    ) -> pb.ListReservationsResponse:
        validation.list_reservations(request)
        return await forward(self._owners.reservations.ListReservations, request, context)

    async def GetPayment(self, request: pb.GetPaymentRequest, context: Context) -> pb.GetPaymentResponse:
        payment_id = validation.payment_id(request)
        timeout_s = left_s(context, FORWARD_TIMEOUT_S)
        payment = await self._reads.payment(payment_id, timeout_s=timeout_s)
        return pb.GetPaymentResponse(payment=_as_told("GetPayment", payment))

    async def ListPayments(self, request: pb.ListPaymentsRequest, context: Context) -> pb.ListPaymentsResponse:
        validation.list_payments(request)
        answer = await forward(self._owners.payments.ListPayments, request, context)
        for payment in answer.payments:
            _as_told("ListPayments", payment)
        return answer

    async def ListTickets(self, request: pb.ListTicketsRequest, context: Context) -> pb.ListTicketsResponse:
        validation.list_tickets(request)
        return await forward(self._owners.reservations.ListTickets, request, context)

    async def WatchReservation(
        self, request: pb.WatchReservationRequest, context: Context
    ) -> AsyncIterator[pb.WatchReservationResponse]:
        reservation_id = validation.reservation_id(request)
        with self._streams.admitted():
            timeout_s = left_s(context, FORWARD_TIMEOUT_S)
            async for reservation in self._watches.reservation(reservation_id, timeout_s=timeout_s):
                yield pb.WatchReservationResponse(reservation=reservation)

    async def WatchTickets(  # type: ignore[override] # yields what `register` sends as it is: serialised responses
        self, request: pb.WatchTicketsRequest, context: Context
    ) -> AsyncIterator[bytes]:
        event_id = validation.event_id(request)
        with self._streams.admitted():
            async for message in self._watches.tickets(event_id):
                yield message


def _refuse_for_others(rpc: str, buyer_id: str) -> None:
    if not access.may_for_buyer(rpc, calling.get(), buyer_id):
        raise access.not_yours("buyer_id")


def _as_told(rpc: str, payment: pb.Payment) -> pb.Payment:
    """The payment, made to read as for no reservation where it was for somebody else's: buyers do not hear of those."""
    if payment.decline_reason == reasons.NOT_YOUR_RESERVATION and not access.may_all(rpc, calling.get()):
        payment.decline_reason, payment.currency = reasons.UNKNOWN_RESERVATION, ""
    return payment
