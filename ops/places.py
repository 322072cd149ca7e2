"""Where an operator's tools find what they work on, and how they connect to it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from chassis.database import Database
from chassis.publisher import Publisher
from chassis.tls import UnusableCertificateError
from cli.addresses import told, told_by_environment
from cli.within import dial
from contract.keys import EXCHANGE, REQUIRED
from ops.terminal import CouldNot
from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceStub

if TYPE_CHECKING:  # exists only in the stubs
    from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceAsyncStub

APPLICATION: Final = "ops"
SCHEMAS: Final = ("reservations", "payments")
OPERATOR_DATABASE_URL: Final = "OPERATOR_DATABASE_URL"
CONNECTIONS_MAX: Final = 2
BROKER_TIMEOUT_S: Final = 10.0
BROKER_POLL_S: Final = 0.05
DRAIN_TIMEOUT_S: Final = 10.0


def place(variable: str) -> str:
    """An address or URL by its name without prefix. Raises CouldNot."""
    value = told(variable)
    if not value:
        raise CouldNot(
            f"nothing says where to look: set TICKETRUSH_{variable}, or come to where .run/stack.env is (`make up`)"
        )
    return value


def database_url() -> str:
    """Of a role that may look at both schemas: where the environment points, else the operator's. Raises CouldNot."""
    return told_by_environment("DATABASE_URL") or told(OPERATOR_DATABASE_URL) or place("DATABASE_URL")


@asynccontextmanager
async def schema(name: str) -> AsyncIterator[Database]:
    """One of SCHEMAS, with the rights of an operator. Raises CouldNot."""
    url = place(OPERATOR_DATABASE_URL)
    database = Database(url, schema=name, application=APPLICATION, connections_max=CONNECTIONS_MAX)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def provider() -> AsyncIterator["PaymentProviderServiceAsyncStub"]:
    """The card processor. Raises CouldNot."""
    try:
        channel = dial(place("PROVIDER_ADDRESS"), "provider")
    except UnusableCertificateError as error:
        raise CouldNot(
            f"the card processor lets in only who has a certificate, and ours is of no use: {error}"
        ) from error
    async with channel:
        yield PaymentProviderServiceStub(channel)


@asynccontextmanager
async def broker() -> AsyncIterator[Publisher]:
    """The broker, connected; what was said is given time to be confirmed at the end. Raises CouldNot."""
    url = told_by_environment("AMQP_URL") or told("OPERATOR_AMQP_URL") or place("AMQP_URL")
    # Not told it is only that what is said spreads less evenly.
    shards = int(told("SHARDS") or 1)
    publisher = Publisher(
        url, exchange=EXCHANGE, mandatory_keys=REQUIRED, name=APPLICATION, passive=True, shards=shards
    )
    running = asyncio.create_task(publisher.run())
    try:
        await _connected(publisher)
        yield publisher
        await publisher.drain(DRAIN_TIMEOUT_S)
    finally:
        running.cancel()
        await asyncio.wait({running})


async def _connected(publisher: Publisher) -> None:
    end = time.monotonic() + BROKER_TIMEOUT_S
    while not publisher.connected:
        if time.monotonic() > end:
            raise CouldNot(f"the broker does not answer within {BROKER_TIMEOUT_S:.0f} s")
        await asyncio.sleep(BROKER_POLL_S)
