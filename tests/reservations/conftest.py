"""The catalogue and the reads on a real gRPC port, over a database of the test's own."""

from collections.abc import AsyncIterator, Sequence

import grpc
import pytest

from chassis.database import Database
from chassis.outbox import Outbox
from chassis.paging import PageTokens
from chassis.publisher import Publisher
from chassis.server import Health, add_part, build
from reservations.catalog import Catalog
from reservations.catalog_servicer import CatalogServicer
from reservations.reads_servicer import Reads, ReadsServicer
from tests.chassis.broker import running, until
from tests.reservations.core import shop  # noqa: F401 - a fixture
from tests.reservations.organiser import CatalogStub, TicketingStub
from ticketrush.v1 import ticketing_pb2
from ticketrush.v1.catalog_pb2_grpc import CatalogServiceStub, add_CatalogServiceServicer_to_server
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

_TICKETING = ticketing_pb2.DESCRIPTOR.services_by_name["TicketingService"]


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, schema="reservations", application="reservations")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def outbox(database: Database, amqp_url: str, unique: str) -> AsyncIterator[Outbox]:
    """Says things to the exchange `unique`."""
    publisher = Publisher(amqp_url, exchange=unique, mandatory_keys=frozenset(), name="reservations")
    async with running(publisher.run()):
        await until(lambda: publisher.connected)
        yield Outbox(database, publisher)
        await publisher.drain()


@pytest.fixture
async def channel_to_reservations(database: Database, outbox: Outbox) -> AsyncIterator[grpc.aio.Channel]:
    def register(server: grpc.aio.Server) -> Sequence[str]:
        tokens = PageTokens()
        add_CatalogServiceServicer_to_server(CatalogServicer(Catalog(database, outbox), tokens), server)
        return [add_part(server, _TICKETING, ReadsServicer(Reads(database, tokens)))]

    server, _ = build(register, Health({}))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


@pytest.fixture
def catalog(channel_to_reservations: grpc.aio.Channel) -> CatalogStub:
    return CatalogServiceStub(channel_to_reservations)


@pytest.fixture
def reads(channel_to_reservations: grpc.aio.Channel) -> TicketingStub:
    return TicketingServiceStub(channel_to_reservations)
