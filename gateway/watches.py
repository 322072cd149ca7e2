"""The streams: subscribe first, read second, then pass on whatever is newer, so that nothing in between is missed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from gateway.hub import Hub
from gateway.reads import Reads
from gateway.reservation_watch import ReservationWatch
from ticketrush.v1 import ticketing_pb2 as pb

REREAD_TIMEOUT_S: Final = 2.0
REREADS_IN_FLIGHT_MAX: Final = 64


class Watches:
    """What WatchReservation and WatchTickets send."""

    def __init__(self, hub: Hub, reads: Reads) -> None:
        self._hub = hub
        self._reads = reads
        # After a reconnect every watch reads at once; their owner must not notice.
        self._rereads = asyncio.Semaphore(REREADS_IN_FLIGHT_MAX)

    async def reservation(self, reservation_id: str, *, timeout_s: float) -> AsyncIterator[pb.Reservation]:
        """The reservation, read within `timeout_s`, and each newer version until it cannot change any more.

        Raises AioRpcError when it cannot be read, CallError when the gateway stops.
        """

        async def reread() -> pb.Reservation:
            async with self._rereads:
                return await self._reads.reservation(reservation_id, timeout_s=REREAD_TIMEOUT_S)

        with self._hub.reservation(reservation_id) as feed:
            present = await self._reads.reservation(reservation_id, timeout_s=timeout_s)
            watch = ReservationWatch(present, feed, reread)
            yield present
            while not watch.ended:
                yield await watch.next()

    async def tickets(self, event_id: str) -> AsyncIterator[bytes]:
        """Serialised WatchTicketsResponses: the whole event, then its changes.

        Raises CallError: NOT_FOUND, RESOURCE_EXHAUSTED (SLOW_READER), UNAVAILABLE.
        """
        with self._hub.seat_map(event_id) as seat_map:
            await seat_map.ready()
            with seat_map.joined() as (snapshot, changes):
                for message in snapshot:
                    yield message
                while True:
                    yield await changes.next()
