"""The services behind the gateway that own what it shows: their channels, and how a call is passed on to them."""

import json
from typing import Final, TypeVar

import grpc

from chassis.callers import calling
from chassis.channels import dial
from chassis.interceptor import Context
from chassis.server import MESSAGE_BYTES_MAX
from chassis.tls import Tls
from gateway.deadlines import left_s
from ticketrush.v1.catalog_pb2_grpc import CatalogServiceStub
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

FORWARD_TIMEOUT_S: Final = 10.0
ATTEMPTS_MAX: Final = 5

# Every forwarded call is a read or idempotent by its request_id, so any may be tried again. One that finds no
# connection waits for it: a restarted service is found within a second, or the deadline passes.
_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{}],
            "waitForReady": True,
            "retryPolicy": {
                "maxAttempts": ATTEMPTS_MAX,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
_OPTIONS = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
)

Request = TypeVar("Request")
Response = TypeVar("Response")


class Owners:
    """Stubs of the services that own reservations, payments and the catalogue. Made within the loop that uses them."""

    def __init__(self, *, reservations_address: str, payments_address: str, tls: Tls | None = None) -> None:
        reservations = dial(reservations_address, *_OPTIONS, tls=tls, peer="reservations")
        payments = dial(payments_address, *_OPTIONS, tls=tls, peer="payments")
        self._channels = (reservations, payments)
        self.reservations = TicketingServiceStub(reservations)
        self.catalog = CatalogServiceStub(reservations)
        self.payments = TicketingServiceStub(payments)

    async def close(self) -> None:
        """Ends whatever is still asked."""
        for channel in self._channels:
            await channel.close()


async def forward(
    method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request, context: Context
) -> Response:
    """The owner's answer to the same request, asked for the same caller.

    Raises AioRpcError, which becomes the caller's own status.
    """
    return await method(request, timeout=left_s(context, FORWARD_TIMEOUT_S), metadata=calling.get().metadata)
