"""Streams that are watched while things break, and watched again when they end for want of a server."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import grpc

from chaos.clients import Client
from chaos.record import UNANSWERED, Record, Sight, told_reservation
from ticketrush.v1 import ticketing_pb2 as pb

AGAIN_AFTER_S: Final = 0.5
FOLLOWED_MAX: Final = 200


class Watches:
    """The watches of one cell."""

    def __init__(self, client: Client, record: Record) -> None:
        self._client = client
        self._record = record
        self._tasks: set[asyncio.Task[None]] = set()
        self.resumed = 0

    def seat_map(self, event_id: str) -> None:
        """Keeps the seat map of an event in the record, until `stop`."""
        self._record.seat_maps[event_id] = {}
        self._begin(partial(self._seat_map, event_id))

    def follow(self, reservation_id: str) -> None:
        """Keeps what is shown of a reservation in the record, until its stream ends or `stop`."""
        if len(self._tasks) < FOLLOWED_MAX:
            self._begin(partial(self._reservation, reservation_id))

    async def stop(self) -> None:
        """Ends them all."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, watch: Callable[[], Awaitable[None]]) -> None:
        task = asyncio.create_task(self._again(watch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _again(self, watch: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await watch()
            except grpc.aio.AioRpcError as error:
                if error.code().name not in UNANSWERED:
                    self._record.failed_reads.append(f"watch: {error.code().name} {error.details()}")
                    return
                self.resumed += 1
                await asyncio.sleep(AGAIN_AFTER_S)
            else:
                return

    async def _seat_map(self, event_id: str) -> None:
        shown = self._record.seat_maps[event_id]
        async for told in self._client.ticketing.WatchTickets(pb.WatchTicketsRequest(event_id=event_id)):
            for ticket in told.tickets:
                if ticket.version > shown.get(ticket.ticket_id, ("", 0))[1]:
                    state = pb.Ticket.State.Name(ticket.state).removeprefix("STATE_")
                    shown[ticket.ticket_id] = (state, ticket.version)

    async def _reservation(self, reservation_id: str) -> None:
        begin_s = time.time()
        request = pb.WatchReservationRequest(reservation_id=reservation_id)
        async for told in self._client.ticketing.WatchReservation(request):
            reservation = told_reservation(told.reservation)
            self._record.sights.append(Sight(begin_s, time.time(), reservation))
            self._record.followed[reservation_id] = reservation
        last = self._record.followed.pop(reservation_id, None)
        self._record.endings.append((reservation_id, last.state if last else ""))
