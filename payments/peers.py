"""The services that payments calls: their channels and stubs."""

from typing import TYPE_CHECKING

from chassis.channels import dial
from chassis.tls import Tls
from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceStub
from ticketrush.reservations.v1.reservations_pb2_grpc import ReservationsServiceStub

if TYPE_CHECKING:
    # Known to the type checker only.
    from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceAsyncStub
    from ticketrush.reservations.v1.reservations_pb2_grpc import ReservationsServiceAsyncStub


class Peers:
    """Stubs of reservations and of the payment provider, until `close`. To be made in the loop that will use them.

    Calls fail at once while there is no connection: the payment is tried again by its own backoff.
    """

    def __init__(self, *, reservations_address: str, provider_address: str, tls: Tls | None = None) -> None:
        self._channels = [
            dial(reservations_address, tls=tls, peer="reservations"),
            dial(provider_address, tls=tls, peer="provider"),
        ]
        self.reservations: ReservationsServiceAsyncStub = ReservationsServiceStub(self._channels[0])
        self.provider: PaymentProviderServiceAsyncStub = PaymentProviderServiceStub(self._channels[1])

    async def close(self) -> None:
        """Ends whatever is still asked."""
        for channel in self._channels:
            await channel.close()
