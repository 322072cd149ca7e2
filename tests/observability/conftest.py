"""The whole product behind its HTTP front, looked at by a Prometheus that asks all that it asks in a deployment."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.broker import virtual_host
from deploy.debian import program
from deploy.facts import RABBITMQ_METRICS_ADDRESS
from deploy.services import FRONTEND
from deploy.stack import Stack
from tests.conftest import database_like
from tests.e2e.house import SERVICES, House, beside, furnished
from tests.gateway.vhosts import vhost
from tests.observability.exporters import postgres_exporter
from tests.observability.prometheus import Broker, Prometheus, looking_at


@pytest.fixture(scope="session")
def promtool() -> str:
    return program("prometheus", "promtool")


@pytest.fixture(scope="module")
async def house(stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    with database_like(stack.env["DATABASE_URL"], template) as database_url, vhost(stack, "seen") as amqp_url:
        own = beside(stack, tmp_path_factory.mktemp("seen"), database_url=database_url, amqp_url=amqp_url)
        async with furnished(own, (*SERVICES, FRONTEND.name)) as house:
            yield house


@pytest.fixture(scope="module")
async def prometheus(stack: Stack, house: House, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    # Other tests have virtual hosts of their own in this broker, and queues in them that nobody takes from.
    broker = Broker(stack.env[RABBITMQ_METRICS_ADDRESS], virtual_host(house.stack.env["AMQP_URL"]))
    folder = await asyncio.to_thread(tmp_path_factory.mktemp, "prometheus")
    async with (
        postgres_exporter(house.stack.env["DATABASE_URL"], folder) as database,
        looking_at(house.stack, folder, broker=broker, database=database) as prometheus,
    ):
        yield prometheus
