"""The services behind the gateway that own what it shows: their channels, and how a call is passed on to them."""

import json
from typing import Final, TypeVar

import grpc

from chassis.interceptor import Context
from chassis.server import MESSAGE_BYTES_MAX
from gateway.deadlines import left_s
from ticketrush.v1.catalog_pb2_grpc import CatalogServiceStub
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

FORWARD_TIMEOUT_S: Final = 10.0
ATTEMPTS_MAX: Final = 5
RECONNECT_BACKOFF_MS: Final = 100
RECONNECT_BACKOFF_MAX_MS: Final = 1_000
KEEPALIVE_MS: Final = 20_000
KEEPALIVE_TIMEOUT_MS: Final = 5_000

# Every forwarded call is a read or idempotent by its request_id, so any may be tried again. One that finds no
# connection waits for it: a restarted service is found within RECONNECT_BACKOFF_MAX_MS, or the deadline passes.
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
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_BACKOFF_MS),
    ("grpc.min_reconnect_backoff_ms", RECONNECT_BACKOFF_MS),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_BACKOFF_MAX_MS),
    # A service that moved to another address under its name.
    ("grpc.dns_min_time_between_resolutions_ms", RECONNECT_BACKOFF_MAX_MS),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
)

Request = TypeVar("Request")
Response = TypeVar("Response")


class Owners:
    """Stubs of the services that own reservations, payments and the catalogue. Made within the loop that uses them."""

    def __init__(self, *, reservations_address: str, payments_address: str) -> None:
        reservations = grpc.aio.insecure_channel(reservations_address, options=_OPTIONS)
        payments = grpc.aio.insecure_channel(payments_address, options=_OPTIONS)
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
    """The owner's answer to the same request. Raises AioRpcError, which becomes the caller's own status."""
    return await method(request, timeout=left_s(context, FORWARD_TIMEOUT_S))
