"""The gRPC side of payments: what it owns of the public service, and what only other services may ask."""

from typing import Final
from uuid import UUID

import grpc

from chassis.callers import calling
from chassis.database import Database
from chassis.errors import invalid, not_found
from chassis.interceptor import Context
from chassis.paging import PageTokens
from chassis.server import add_part
from contract import access, reasons
from payments import store
from payments.handlers import Handlers
from payments.messages import payment_message
from ticketrush.payments.v1 import payments_pb2, payments_pb2_grpc
from ticketrush.v1 import ticketing_pb2

PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 500
RECONCILE_MAX: Final = 256


class TicketingServicer:
    """The RPCs of the public service that payments answers."""

    def __init__(self, database: Database, tokens: PageTokens) -> None:
        self._database = database
        self._tokens = tokens

    def register(self, server: grpc.aio.Server) -> list[str]:
        """Adds the service to the server; returns its full name."""
        return [add_part(server, ticketing_pb2.DESCRIPTOR.services_by_name["TicketingService"], self)]

    async def GetPayment(
        self, request: ticketing_pb2.GetPaymentRequest, _: Context
    ) -> ticketing_pb2.GetPaymentResponse:
        payment_id = _uuid("payment_id", request.payment_id)
        async with self._database.transaction() as conn:
            found = await store.find(conn, [payment_id])
        if not found or not access.may_for_buyer("GetPayment", calling.get(), found[0].buyer_id):
            raise not_found(reasons.UNKNOWN_PAYMENT, f"there is no payment {payment_id}")
        return ticketing_pb2.GetPaymentResponse(payment=payment_message(found[0]))

    async def ListPayments(
        self, request: ticketing_pb2.ListPaymentsRequest, _: Context
    ) -> ticketing_pb2.ListPaymentsResponse:
        reservation_id = _uuid("reservation_id", request.reservation_id)
        if request.page_size < 0:
            raise invalid({"page_size": "must not be negative"})
        size = min(request.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        caller = calling.get()
        buyer_id = "" if access.may_all("ListPayments", caller) else caller.subject
        filters = f"ListPayments {reservation_id} {buyer_id}"
        after = self._tokens.decode(filters, request.page_token, UUID)
        async with self._database.transaction() as conn:
            payments = await store.list_of_reservation(conn, reservation_id, buyer_id, after, limit=size + 1)
        page = payments[:size]
        more = len(payments) > size
        return ticketing_pb2.ListPaymentsResponse(
            payments=[payment_message(payment) for payment in page],
            next_page_token=self._tokens.encode(filters, str(page[-1].payment_id)) if more else "",
        )


class PaymentsServicer(payments_pb2_grpc.PaymentsServiceServicer):
    """The internal service."""

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    def register(self, server: grpc.aio.Server) -> list[str]:
        """Adds the service to the server; returns its full name."""
        payments_pb2_grpc.add_PaymentsServiceServicer_to_server(self, server)
        return [payments_pb2.DESCRIPTOR.services_by_name["PaymentsService"].full_name]

    async def ReconcilePayments(
        self, request: payments_pb2.ReconcilePaymentsRequest, _: Context
    ) -> payments_pb2.ReconcilePaymentsResponse:
        if not 1 <= len(request.payment_ids) <= RECONCILE_MAX:
            raise invalid({"payment_ids": f"must be 1 to {RECONCILE_MAX}"})
        again = await self._handlers.say_again(sorted({_uuid("payment_ids", value) for value in request.payment_ids}))
        return payments_pb2.ReconcilePaymentsResponse(
            said_again_count=again.said,
            pending_count=again.pending,
            unknown_payment_ids=[str(payment_id) for payment_id in again.unknown],
        )


def _uuid(field: str, value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError:
        raise invalid({field: "must be a UUID"}) from None
