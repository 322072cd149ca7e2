"""CatalogService, whole: the gateway sends it on."""

import asyncio
from typing import Final

from chassis.callers import calling
from chassis.interceptor import Context
from chassis.paging import PageTokens
from contract import ids
from reservations import validation
from reservations.catalog import Catalog
from reservations.event_messages import event_message, terms_of
from reservations.keyset import Position
from reservations.organiser_requests import claim_of
from ticketrush.v1 import catalog_pb2 as pb
from ticketrush.v1.catalog_pb2_grpc import CatalogServiceServicer

_EVENTS: Final = "ListEvents"


class CatalogServicer(CatalogServiceServicer):
    """Checks what the message alone shows, has the catalogue do it, shows the event."""

    def __init__(self, catalog: Catalog, tokens: PageTokens) -> None:
        self._catalog = catalog
        self._tokens = tokens

    async def CreateEvent(self, request: pb.CreateEventRequest, context: Context) -> pb.CreateEventResponse:
        request_id = validation.create_event(request)
        claim = claim_of(request, ids.event_id(str(request_id)), calling.get())
        event = await self._catalog.create_event(claim, request.event.currency, terms_of(request.event))
        return pb.CreateEventResponse(event=event_message(event))

    async def UpdateEvent(self, request: pb.UpdateEventRequest, context: Context) -> pb.UpdateEventResponse:
        event_id, paths = validation.update_event(request)
        event = await self._catalog.update_event(claim_of(request, event_id, calling.get()), request.event, paths)
        return pb.UpdateEventResponse(event=event_message(event))

    async def GetEvent(self, request: pb.GetEventRequest, context: Context) -> pb.GetEventResponse:
        event = await self._catalog.event(validation.get_event(request))
        return pb.GetEventResponse(event=event_message(event))

    async def ListEvents(self, request: pb.ListEventsRequest, context: Context) -> pb.ListEventsResponse:
        size = validation.list_events(request)
        behind = self._tokens.decode(_EVENTS, request.page_token, Position.parse)
        # One more than asked for tells whether there is a next page.
        found = await self._catalog.events(behind=behind, size=size + 1)
        page = found[:size]
        token = ""
        if len(found) > size:
            token = self._tokens.encode(_EVENTS, str(Position(page[-1].create_time, page[-1].event_id)))
        return pb.ListEventsResponse(events=[event_message(event) for event in page], next_page_token=token)

    async def CloseEvent(self, request: pb.CloseEventRequest, context: Context) -> pb.CloseEventResponse:
        event_id = validation.close_event(request)
        event = await self._catalog.close_event(claim_of(request, event_id, calling.get()))
        return pb.CloseEventResponse(event=event_message(event))

    async def CancelEvent(self, request: pb.CancelEventRequest, context: Context) -> pb.CancelEventResponse:
        event_id = validation.cancel_event(request)
        event = await self._catalog.cancel_event(claim_of(request, event_id, calling.get()))
        return pb.CancelEventResponse(event=event_message(event))

    async def CreateTickets(self, request: pb.CreateTicketsRequest, context: Context) -> pb.CreateTicketsResponse:
        # In a thread: half a second for a hundred thousand tickets, in which other calls would stand still.
        event_id, places = await asyncio.to_thread(validation.create_tickets, request)
        event, ticket_count = await self._catalog.create_tickets(claim_of(request, event_id, calling.get()), places)
        return pb.CreateTicketsResponse(event=event_message(event), ticket_count=ticket_count)

    async def WithdrawTickets(self, request: pb.WithdrawTicketsRequest, context: Context) -> pb.WithdrawTicketsResponse:
        event_id, ticket_ids = validation.withdraw_tickets(request)
        event = await self._catalog.withdraw_tickets(claim_of(request, event_id, calling.get()), ticket_ids)
        return pb.WithdrawTicketsResponse(event=event_message(event))
