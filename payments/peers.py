"""The services that payments calls: their channels and stubs."""

from typing import TYPE_CHECKING, Final

import grpc

from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceStub
from ticketrush.reservations.v1.reservations_pb2_grpc import ReservationsServiceStub

if TYPE_CHECKING:
    # Known to the type checker only.
    from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceAsyncStub
    from ticketrush.reservations.v1.reservations_pb2_grpc import ReservationsServiceAsyncStub

RECONNECT_BACKOFF_MS: Final = 100
RECONNECT_BACKOFF_MAX_MS: Final = 1_000
# Calls fail at once while there is no connection: the payment is tried again by its own backoff.
_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_BACKOFF_MS),
    ("grpc.min_reconnect_backoff_ms", RECONNECT_BACKOFF_MS),
    # The default backs off to two minutes and would sleep on after the peer is back.
    ("grpc.max_reconnect_backoff_ms", RECONNECT_BACKOFF_MAX_MS),
    ("grpc.dns_min_time_between_resolutions_ms", RECONNECT_BACKOFF_MAX_MS),
)


class Peers:
    """Stubs of reservations and of the payment provider, until `close`. To be made in the loop that will use them."""

    def __init__(self, *, reservations_address: str, provider_address: str) -> None:
        self._channels = [
            grpc.aio.insecure_channel(address, options=_OPTIONS) for address in (reservations_address, provider_address)
        ]
        self.reservations: ReservationsServiceAsyncStub = ReservationsServiceStub(self._channels[0])
        self.provider: PaymentProviderServiceAsyncStub = PaymentProviderServiceStub(self._channels[1])

    async def close(self) -> None:
        """Ends whatever is still asked."""
        for channel in self._channels:
            await channel.close()
