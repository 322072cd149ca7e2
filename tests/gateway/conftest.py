"""A gateway between a broker and owners that are scripted."""

import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from chassis.server import Health, build
from deploy.stack import Stack
from tests.chassis.broker import channel_to
from tests.chassis.proxy import Proxy, proxy
from tests.gateway.consumers import Consumers
from tests.gateway.running import Gateway, serving
from tests.gateway.servicer import Owner
from tests.gateway.vhosts import vhost


@pytest.fixture(scope="session")
def broker_url(stack: Stack) -> Iterator[str]:
    """A virtual host for the gateway's tests: they share one exchange with nobody else's."""
    with vhost(stack, "gateway") as url:
        yield url


@pytest.fixture
def empty_broker_url(stack: Stack) -> Iterator[str]:
    """A virtual host in which nothing is declared."""
    with vhost(stack, "gateway") as url:
        yield url


@pytest.fixture
async def owner() -> Owner:
    return Owner()  # type: ignore[abstract] # what it does not script is UNIMPLEMENTED


@pytest.fixture
async def owner_address(owner: Owner) -> AsyncIterator[str]:
    server, _ = build(owner.register, Health({}))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
async def consumers(broker_url: str) -> AsyncIterator[Consumers]:
    async with channel_to(broker_url) as channel:
        consumers = Consumers(channel)
        await consumers.forget()
        await consumers.open()
        yield consumers


@pytest.fixture
async def wire(broker_url: str) -> AsyncIterator[Proxy]:
    """The broker as the gateway reaches it."""
    async with proxy(broker_url) as between:
        yield between


@pytest.fixture
async def gateway(
    wire: Proxy,
    owner_address: str,
    consumers: Consumers,  # noqa: ARG001 # must listen before anything is said
) -> AsyncIterator[Gateway]:
    async with serving(wire.url, owner_address) as gateway:
        yield gateway


@pytest.fixture
async def gateway_to_nobody(
    broker_url: str,
    consumers: Consumers,  # noqa: ARG001 # must listen before anything is said
) -> AsyncIterator[tuple[Gateway, int]]:
    """A gateway whose owners are down, and the port on which it looks for them."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port: int = reserved.getsockname()[1]
    async with serving(broker_url, f"127.0.0.1:{port}") as gateway:
        yield gateway, port
