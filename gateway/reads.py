"""What the owners know, completed by what this gateway accepted and they do not know yet."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

import grpc

from chassis.callers import calling
from contract import access
from gateway.owners import Owners
from gateway.pending import Accepted, Pending
from ticketrush.v1 import ticketing_pb2 as pb

TICKETS_PER_PAGE: Final = 1_000
PAGE_TIMEOUT_S: Final = 5.0


class Reads:
    """Reads that are more than passed on, for whoever calls.

    All raise AioRpcError: NOT_FOUND, also of what is somebody else's, and UNAVAILABLE among others.
    """

    def __init__(self, owners: Owners) -> None:
        self._owners = owners
        self.pending_reservations: Pending[pb.Reservation] = Pending()
        self.pending_payments: Pending[pb.Payment] = Pending()

    async def reservation(self, reservation_id: str, *, timeout_s: float) -> pb.Reservation:
        """The reservation as it is now; PENDING if it was accepted here and its owner does not know it yet."""
        request = pb.GetReservationRequest(reservation_id=reservation_id)
        try:
            answer = await self._owners.reservations.GetReservation(
                request, timeout=timeout_s, metadata=calling.get().metadata
            )
        except grpc.aio.AioRpcError as error:
            accepted = self.pending_reservations.find(reservation_id)
            if error.code() is grpc.StatusCode.NOT_FOUND and accepted and _is_own("GetReservation", accepted):
                return accepted.item
            raise
        self.pending_reservations.forget(reservation_id)
        return answer.reservation

    async def payment(self, payment_id: str, *, timeout_s: float) -> pb.Payment:
        """The payment as it is now; PENDING if it was accepted here and its owner does not know it yet."""
        request = pb.GetPaymentRequest(payment_id=payment_id)
        try:
            answer = await self._owners.payments.GetPayment(request, timeout=timeout_s, metadata=calling.get().metadata)
        except grpc.aio.AioRpcError as error:
            accepted = self.pending_payments.find(payment_id)
            if error.code() is grpc.StatusCode.NOT_FOUND and accepted and _is_own("GetPayment", accepted):
                return accepted.item
            raise
        self.pending_payments.forget(payment_id)
        return answer.payment

    async def tickets(self, event_id: str) -> AsyncIterator[Sequence[pb.Ticket]]:
        """All tickets of an event, in pages of TICKETS_PER_PAGE."""
        request = pb.ListTicketsRequest(event_id=event_id, page_size=TICKETS_PER_PAGE)
        while True:
            page = await self._owners.reservations.ListTickets(request, timeout=PAGE_TIMEOUT_S)
            yield page.tickets
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


def _is_own(rpc: str, accepted: Accepted[pb.Reservation] | Accepted[pb.Payment]) -> bool:
    return access.may_for_buyer(rpc, calling.get(), accepted.buyer_id)
