"""A fresh schema `payments`, the peers' stand-ins, and an exchange of the test's own."""

from collections.abc import AsyncIterator, Callable

import pytest

from chassis.database import Database
from chassis.publisher import Publisher
from payments.peers import Peers
from tests.chassis.broker import running, until
from tests.payments.fakes import FakeProvider, FakeReservations, serving
from tests.payments.system import System


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, schema="payments", application="tests")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def publisher(amqp_url: str, unique: str) -> AsyncIterator[Publisher]:
    publisher = Publisher(amqp_url, exchange=unique, mandatory_keys=frozenset(), name=unique)
    async with running(publisher.run()):
        await until(lambda: publisher.connected)
        yield publisher


@pytest.fixture
async def provider() -> FakeProvider:
    return FakeProvider()


@pytest.fixture
async def reservations() -> FakeReservations:
    return FakeReservations()


@pytest.fixture
async def peers(provider: FakeProvider, reservations: FakeReservations) -> AsyncIterator[Peers]:
    async with serving(provider, reservations) as address:
        peers = Peers(reservations_address=address, provider_address=address)
        yield peers
        await peers.close()


@pytest.fixture
def new_system(database: Database, publisher: Publisher, peers: Peers) -> Callable[[], System]:
    """Starts another process's worth of payments on the same database."""
    return lambda: System(database, publisher, peers)


@pytest.fixture
def system(new_system: Callable[[], System]) -> System:
    return new_system()
