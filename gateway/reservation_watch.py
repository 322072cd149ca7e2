"""One watched reservation: its versions in ascending order, from facts and from reading."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

import grpc

from gateway.hub import ReservationFeed
from ticketrush.v1 import ticketing_pb2 as pb

REREAD_INTERVAL_S: Final = 15.0
RETRY_INTERVAL_S: Final = 2.0
# How long a stream goes on while nobody can tell whether it missed something.
STALE_MAX_S: Final = 60.0
# How long a fact waits for an earlier one that it overtook; not every version is told as a fact.
OVERTAKEN_MAX_S: Final = 0.1

_FINAL = (pb.Reservation.STATE_REJECTED, pb.Reservation.STATE_CANCELLED)


class ReservationWatch:
    """What comes after `shown`, which was read after `feed` began.

    `read` is asked after a gap in the facts, and every REREAD_INTERVAL_S. Not for use by several at once.
    """

    def __init__(
        self, shown: pb.Reservation, feed: ReservationFeed, read: Callable[[], Awaitable[pb.Reservation]]
    ) -> None:
        self._shown = shown
        self._feed = feed
        self._read = read
        self._early: dict[int, pb.Reservation] = {}
        self._doubt = False
        self._current_at = asyncio.get_running_loop().time()
        # Spreads the reads of those that began together.
        self._interval_s = random.uniform(0.5, 1.0) * REREAD_INTERVAL_S  # noqa: S311 # needs no secrecy

    @property
    def ended(self) -> bool:
        """Whether nothing can come after what was shown last."""
        if self._shown.state == pb.Reservation.STATE_EXPIRED:
            return self._shown.open_minor == 0
        return self._shown.state in _FINAL

    async def next(self) -> pb.Reservation:
        """The next version. Raises AioRpcError when nobody can tell what it is, CallError when the gateway stops."""
        while True:
            following = self._early.get(self._shown.version + 1)
            if following is None and not await self._more() and self._early:
                following = self._early[min(self._early)]
            if following is not None:
                self._shown = following
                self._early = {v: early for v, early in self._early.items() if v > following.version}
                return following

    async def _more(self) -> bool:
        """Takes in one more fact or reading; False when it has waited long enough for what was overtaken."""
        if self._doubt and not self._early:
            self._doubt = False
            await self._reread()
            return True
        try:
            async with asyncio.timeout(OVERTAKEN_MAX_S if self._early else self._interval_s):
                fact = await self._feed.next()
        except TimeoutError:
            self._doubt = self._doubt or not self._early
            return False
        if fact is None:
            self._doubt = True
        else:
            self._take(fact)
        return True

    def _take(self, latest: pb.Reservation) -> None:
        if latest.version > self._shown.version:
            self._early[latest.version] = latest

    async def _reread(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._take(await self._read())
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND or loop.time() - self._current_at > STALE_MAX_S:
                raise
            self._interval_s = RETRY_INTERVAL_S
        else:
            self._current_at = loop.time()
            self._interval_s = REREAD_INTERVAL_S
