"""The gateway behind a front, as a test plays it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from chassis.errors import CallError, abort
from chassis.interceptor import Context
from ticketrush.v1 import catalog_pb2, catalog_pb2_grpc, ticketing_pb2_grpc
from ticketrush.v1 import ticketing_pb2 as pb


class Desk(ticketing_pb2_grpc.TicketingServiceServicer, catalog_pb2_grpc.CatalogServiceServicer):
    """A gateway that remembers how it was called, and answers as it is told to."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, str]] = []
        self.requests: list[Any] = []
        self.refusal: CallError | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.events = 0
        self.watched: list[str] = []
        # What is told to all who watch, after one another.
        self.changes: list[pb.WatchTicketsResponse] = []
        self.changed = asyncio.Condition()

    async def _called(self, request: Any, context: Context) -> None:
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata() or ()})
        self.requests.append(request)
        await self.may_answer.wait()
        if self.refusal:
            await abort(context, self.refusal)

    async def ListEvents(self, request: catalog_pb2.ListEventsRequest, context: Context) -> Any:
        await self._called(request, context)
        events = [catalog_pb2.Event(event_id=str(number), name="Hamlet") for number in range(self.events)]
        return catalog_pb2.ListEventsResponse(events=events)

    async def GetEvent(self, request: catalog_pb2.GetEventRequest, context: Context) -> Any:
        await self._called(request, context)
        event = catalog_pb2.Event(
            event_id=request.event_id, name="Hamlet", currency="EUR", state=catalog_pb2.Event.STATE_OPEN
        )
        return catalog_pb2.GetEventResponse(event=event)

    async def CreateEvent(self, request: catalog_pb2.CreateEventRequest, context: Context) -> Any:
        await self._called(request, context)
        return catalog_pb2.CreateEventResponse(event=request.event)

    async def CreateTickets(self, request: catalog_pb2.CreateTicketsRequest, context: Context) -> Any:
        await self._called(request, context)
        return catalog_pb2.CreateTicketsResponse(ticket_count=len(request.blocks))

    async def Reserve(self, request: pb.ReserveRequest, context: Context) -> Any:
        await self._called(request, context)
        return pb.ReserveResponse(reservation=pb.Reservation(buyer_id=request.buyer_id))

    async def Pay(self, request: pb.PayRequest, context: Context) -> Any:
        await self._called(request, context)
        return pb.PayResponse(payment=pb.Payment(reservation_id=request.reservation_id))

    async def WatchTickets(self, request: pb.WatchTicketsRequest, context: Context) -> AsyncIterator[Any]:
        await self._called(request, context)
        self.watched.append(request.event_id)
        told = 0
        while True:
            async with self.changed:
                while told == len(self.changes):
                    await self.changed.wait()
            yield self.changes[told]
            told += 1

    async def tell(self, *changes: pb.WatchTicketsResponse) -> None:
        """To all who watch."""
        async with self.changed:
            self.changes.extend(changes)
            self.changed.notify_all()
