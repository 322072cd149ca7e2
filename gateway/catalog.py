"""CatalogService in public: every call is passed on to its owner as it stands, checks included."""

from collections.abc import Sequence

import grpc

from chassis.interceptor import Context
from gateway.owners import Owners, forward
from ticketrush.v1 import catalog_pb2 as pb
from ticketrush.v1 import catalog_pb2_grpc


class CatalogServicer(catalog_pb2_grpc.CatalogServiceServicer):
    """The organiser's side; docs of each RPC are in catalog.proto."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        """Adds the service to the server; answers its full name."""
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server(self, server)
        return [pb.DESCRIPTOR.services_by_name["CatalogService"].full_name]

    async def CreateEvent(self, request: pb.CreateEventRequest, context: Context) -> pb.CreateEventResponse:
        return await forward(self._owners.catalog.CreateEvent, request, context)

    async def UpdateEvent(self, request: pb.UpdateEventRequest, context: Context) -> pb.UpdateEventResponse:
        return await forward(self._owners.catalog.UpdateEvent, request, context)

    async def GetEvent(self, request: pb.GetEventRequest, context: Context) -> pb.GetEventResponse:
        return await forward(self._owners.catalog.GetEvent, request, context)

    async def ListEvents(self, request: pb.ListEventsRequest, context: Context) -> pb.ListEventsResponse:
        return await forward(self._owners.catalog.ListEvents, request, context)

    async def CloseEvent(self, request: pb.CloseEventRequest, context: Context) -> pb.CloseEventResponse:
        return await forward(self._owners.catalog.CloseEvent, request, context)

    async def CancelEvent(self, request: pb.CancelEventRequest, context: Context) -> pb.CancelEventResponse:
        return await forward(self._owners.catalog.CancelEvent, request, context)

    async def CreateTickets(self, request: pb.CreateTicketsRequest, context: Context) -> pb.CreateTicketsResponse:
        return await forward(self._owners.catalog.CreateTickets, request, context)

    async def WithdrawTickets(self, request: pb.WithdrawTicketsRequest, context: Context) -> pb.WithdrawTicketsResponse:
        return await forward(self._owners.catalog.WithdrawTickets, request, context)
