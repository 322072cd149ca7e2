"""The streams: subscribe first, read second, then pass on whatever is newer, so that nothing in between is missed."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Final

import grpc

from gateway.hub import Hub, ReservationFeed
from gateway.reads import Reads
from ticketrush.v1 import ticketing_pb2 as pb

REREAD_INTERVAL_S: Final = 15.0
REREAD_TIMEOUT_S: Final = 2.0
RETRY_INTERVAL_S: Final = 2.0
# How long a stream goes on while nobody can tell whether it missed something.
STALE_MAX_S: Final = 60.0
REREADS_IN_FLIGHT_MAX: Final = 64

_FINAL = (pb.Reservation.STATE_REJECTED, pb.Reservation.STATE_CANCELLED)


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
        with self._hub.reservation(reservation_id) as feed:
            shown = await self._reads.reservation(reservation_id, timeout_s=timeout_s)
            yield shown
            newer = self._newer(reservation_id, feed)
            while not _ended(shown):
                latest = await anext(newer)
                if latest.version > shown.version:
                    shown = latest
                    yield shown

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

    async def _newer(self, reservation_id: str, feed: ReservationFeed) -> AsyncIterator[pb.Reservation]:
        """What facts tell, and what reading tells after a gap and every REREAD_INTERVAL_S; not always newer."""
        loop = asyncio.get_running_loop()
        current_at = loop.time()
        interval_s = random.uniform(0.5, 1.0) * REREAD_INTERVAL_S  # noqa: S311 # spreads those that began together
        while True:
            if fact := await _next(feed, interval_s):
                yield fact
                continue
            try:
                async with self._rereads:
                    latest = await self._reads.reservation(reservation_id, timeout_s=REREAD_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND or loop.time() - current_at > STALE_MAX_S:
                    raise
                interval_s = RETRY_INTERVAL_S
            else:
                current_at, interval_s = loop.time(), REREAD_INTERVAL_S
                yield latest


async def _next(feed: ReservationFeed, timeout_s: float) -> pb.Reservation | None:
    """The next fact; None when it is time to read."""
    try:
        async with asyncio.timeout(timeout_s):
            return await feed.next()
    except TimeoutError:
        return None


def _ended(reservation: pb.Reservation) -> bool:
    if reservation.state == pb.Reservation.STATE_EXPIRED:
        return reservation.open_minor == 0
    return reservation.state in _FINAL
