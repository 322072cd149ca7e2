"""A gateway in this process, put together as in production, on ports of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from chassis.run import Process
from chassis.server import Health, build
from gateway.__main__ import Settings, compose
from tests.chassis.broker import running, until
from ticketrush.v1.catalog_pb2_grpc import CatalogServiceStub
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

if TYPE_CHECKING:  # exist only in the stubs
    from ticketrush.v1.catalog_pb2_grpc import CatalogServiceAsyncStub
    from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceAsyncStub

Ticketing: TypeAlias = "TicketingServiceAsyncStub"
Catalog: TypeAlias = "CatalogServiceAsyncStub"


@dataclass
class Gateway:
    """A gateway and its callers' stubs."""

    process: Process
    ticketing: Ticketing
    catalog: Catalog

    def is_ready(self) -> bool:
        return all(holds() for holds in self.process.checks.values())

    async def drain(self) -> None:
        """What SIGTERM begins with."""
        for step in self.process.drain:
            await step()


@asynccontextmanager
async def serving(
    amqp_url: str, owner_address: str, *, wait_until_ready: bool = True, **other_settings: Any
) -> AsyncIterator[Gateway]:
    process = compose(
        Settings(
            listen_address="127.0.0.1:0",
            metrics_address="127.0.0.1:0",
            amqp_url=amqp_url,
            reservations_address=owner_address,
            payments_address=owner_address,
            **other_settings,
        )
    )
    server, _ = build(process.register, Health(process.checks), limits=process.limits)
    port = server.add_insecure_port(process.settings.listen_address)
    await server.start()
    async with running(*(begin() for begin in process.background)):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            gateway = Gateway(process, TicketingServiceStub(channel), CatalogServiceStub(channel))
            if wait_until_ready:
                await until(gateway.is_ready)
            yield gateway
        await server.stop(None)
    for step in process.close:
        await step()
