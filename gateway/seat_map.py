"""The tickets of one event, kept current while anybody watches them and serialised once for all who do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import grpc

from chassis.errors import CallError, from_upstream, unavailable
from gateway.feed import Feed
from ticketrush.v1 import ticketing_pb2 as pb

TICKETS_PER_MESSAGE: Final = 1_000
# Changes that come within this time travel together; with more streams than one may be told at once, within longer.
COALESCE_S: Final = 0.05
# How often a second any stream is told, all of an event together; in a rush each time takes more than one message.
SENDS_PER_S: Final = 2_000
CHANGES_MAX: Final = 500
REREAD_INTERVAL_S: Final = 60.0
RETRY_INTERVAL_S: Final = 2.0
STALE_MAX_S: Final = 60.0
SNAPSHOT_TIMEOUT_S: Final = 30.0

# Serialised messages of one type, one after the other, are their merger: lists are joined, the last scalar wins.
_COMPLETE: Final = pb.WatchTicketsResponse(snapshot_complete=True).SerializeToString()

ReadTickets = Callable[[str], AsyncIterator[Sequence[pb.Ticket]]]
"""All tickets of an event, in pages. Raises AioRpcError, NOT_FOUND among others."""


class SeatMap:
    """Reads the whole event first, then takes tickets as facts tell them; of two the higher version holds.

    It reads again when told that something may have been missed, and every REREAD_INTERVAL_S. When that fails for
    STALE_MAX_S, or the event turns out not to exist, all its streams end with the error. `close` must be called.
    """

    def __init__(self, event_id: str, read: ReadTickets) -> None:
        self._event_id = event_id
        self._read = read
        self._versions: dict[str, int] = {}
        self._serialised: dict[str, bytes] = {}
        self._changed: dict[str, bytes] = {}
        self._flushing: asyncio.TimerHandle | None = None
        self._snapshot: Sequence[bytes] | None = None
        self._feeds: set[Feed[bytes]] = set()
        self._doubt = asyncio.Event()
        self._error: CallError | None = None
        self._ready = asyncio.Event()
        self._keeping = asyncio.create_task(self._keep_current())
        self._keeping.add_done_callback(self._when_done)

    @property
    def ended(self) -> bool:
        """Whether its streams have ended with an error and it takes no more."""
        return self._error is not None

    async def ready(self) -> None:
        """Returns when the event has been read. Raises CallError if it could not be."""
        try:
            async with asyncio.timeout(SNAPSHOT_TIMEOUT_S):
                await self._ready.wait()
        except TimeoutError:
            raise unavailable("SERVICE_UNAVAILABLE", "the tickets could not be read in time; watch again") from None
        if self._error is not None:
            raise replace(self._error)

    @contextmanager
    def joined(self) -> Iterator[tuple[Sequence[bytes], Feed[bytes]]]:
        """Serialised WatchTicketsResponses: the whole event, once it is ready, and each change from then on."""
        feed: Feed[bytes] = Feed(CHANGES_MAX)
        self._feeds.add(feed)
        if self._snapshot is None:
            # An event without tickets is a snapshot too.
            *messages, last = _in_messages(list(self._serialised.values())) or [b""]
            self._snapshot = [*messages, last + _COMPLETE]
        try:
            yield self._snapshot, feed
        finally:
            self._feeds.discard(feed)

    def take(self, tickets: Iterable[pb.Ticket]) -> None:
        """Takes what is newer than known, and tells it within `coalesce_s`."""
        for ticket in tickets:
            if self._versions.get(ticket.ticket_id, -1) < ticket.version:
                serialised = pb.WatchTicketsResponse(tickets=[ticket]).SerializeToString()
                self._versions[ticket.ticket_id] = ticket.version
                self._serialised[ticket.ticket_id] = self._changed[ticket.ticket_id] = serialised
        if self._changed and self._flushing is None and self._ready.is_set():
            self._flushing = asyncio.get_running_loop().call_later(coalesce_s(len(self._feeds)), self._flush)

    def doubt(self) -> None:
        """Something may have been missed: reads all again."""
        self._doubt.set()

    def end(self, error: CallError) -> None:
        """Ends all its streams, now and to come, with the error."""
        if self._error is None:
            self._error = error
            for feed in self._feeds:
                feed.end(error)
            self._ready.set()

    def close(self) -> None:
        """Stops reading and telling."""
        self._keeping.cancel()
        if self._flushing is not None:
            self._flushing.cancel()

    def _flush(self) -> None:
        self._flushing = self._snapshot = None
        messages = _in_messages(list(self._changed.values()))
        self._changed.clear()
        for message in messages:
            complete = message + _COMPLETE
            for feed in self._feeds:
                feed.offer(complete)

    async def _keep_current(self) -> None:
        loop = asyncio.get_running_loop()
        current_at = loop.time()
        while True:
            self._doubt.clear()
            interval_s = REREAD_INTERVAL_S
            try:
                async for tickets in self._read(self._event_id):
                    self.take(tickets)
                current_at = loop.time()
                self._become_ready()
            except grpc.aio.AioRpcError as error:
                lasting = error.code() is grpc.StatusCode.NOT_FOUND or loop.time() - current_at > STALE_MAX_S
                if lasting or not self._ready.is_set():
                    raise
                interval_s = RETRY_INTERVAL_S
            await self._doubted(interval_s)

    def _become_ready(self) -> None:
        if not self._ready.is_set():
            # Who joins from now on gets all of it as the snapshot.
            self._changed.clear()
            self._ready.set()

    async def _doubted(self, interval_s: float) -> None:
        try:
            async with asyncio.timeout(interval_s):
                await self._doubt.wait()
        except TimeoutError:
            pass

    def _when_done(self, keeping: "asyncio.Task[None]") -> None:
        if keeping.cancelled():
            return
        error = keeping.exception()
        if isinstance(error, grpc.aio.AioRpcError):
            self.end(from_upstream(error))
        elif error is not None:
            self.end(CallError(grpc.StatusCode.INTERNAL, "INTERNAL", "the seat map could not be kept current"))
            raise error


def coalesce_s(streams: int) -> float:
    """For how long changes of an event are collected that so many streams watch."""
    return max(COALESCE_S, streams / SENDS_PER_S)


def _in_messages(serialised: Sequence[bytes]) -> list[bytes]:
    return [
        b"".join(serialised[begin : begin + TICKETS_PER_MESSAGE])
        for begin in range(0, len(serialised), TICKETS_PER_MESSAGE)
    ]
