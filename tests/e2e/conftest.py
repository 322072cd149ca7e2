"""The whole product, started once: on the session's servers, in a database and a virtual host of its own."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from deploy.services import NAMES
from deploy.stack import Stack
from tests.chassis.proxy import Proxy, proxy
from tests.conftest import database_like
from tests.e2e.house import SERVICES, House, beside, connected, furnished, remove, shared_addresses
from tests.e2e.office import Office
from tests.gateway.vhosts import vhost


@dataclass
class Annex:
    """A second gateway and a second scheduler of the house. Its gateway reaches the broker over `wire`."""

    stack: Stack
    wire: Proxy
    office: Office

    async def restart_gateway(self) -> None:
        """By SIGTERM, and waits until it serves again."""
        await asyncio.to_thread(self.stack.down, ["gateway"])
        await asyncio.to_thread(self.stack.up, ["gateway"])


@pytest.fixture(scope="session")
async def house(stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    with database_like(stack.env["DATABASE_URL"], template) as database_url, vhost(stack, "house") as amqp_url:
        own = beside(stack, tmp_path_factory.mktemp("house"), database_url=database_url, amqp_url=amqp_url)
        async with furnished(own, SERVICES) as house:
            yield house


@pytest.fixture(scope="session")
async def annex(stack: Stack, house: House, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Annex]:
    env = house.stack.env
    async with proxy(env["AMQP_URL"]) as wire:
        settings = {
            "gateway": shared_addresses(house.stack, ["reservations", "payments"]) | {"AMQP_URL": wire.url},
            "scheduler": shared_addresses(house.stack, ["payments"]),
        }
        run_dir = tmp_path_factory.mktemp("annex")
        own = beside(stack, run_dir, database_url=env["DATABASE_URL"], amqp_url=env["AMQP_URL"], settings=settings)
        try:
            await asyncio.to_thread(own.up, ["scheduler", "gateway"])
            async with connected(own.address("gateway"), own.operator_token) as channel:
                yield Annex(own, wire, Office(channel))
        finally:
            await asyncio.to_thread(remove, own)


@dataclass
class Island:
    """The product on servers of its own, which may be harmed."""

    house: House


@pytest.fixture(scope="session")
async def island(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Island]:
    async with furnished(Stack(tmp_path_factory.mktemp("island")), NAMES) as house:
        yield Island(house)


@pytest.fixture(scope="session")
def office(house: House) -> Office:
    """Callers of the house's gateway."""
    return house.office


@pytest.fixture(scope="module")
async def the_books_balance(house: House) -> AsyncIterator[None]:
    """Checks, after the last test of the module, that its tests left the house in order."""
    yield
    await house.balances()
