"""A stack with servers of its own, and the Prometheus that looks at it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from deploy.facts import RABBITMQ_METRICS_ADDRESS
from deploy.services import NAMES
from deploy.stack import Stack
from tests.e2e.house import House, furnished
from tests.observability.alarms.harm import HURRY
from tests.observability.exporters import postgres_exporter
from tests.observability.prometheus import Broker, Prometheus, looking_at


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with furnished(Stack(tmp_path_factory.mktemp("harmed")), NAMES) as house:
        yield house


@pytest.fixture(scope="module")
async def prometheus(house: House, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    env = house.stack.env
    folder = await asyncio.to_thread(tmp_path_factory.mktemp, "prometheus")
    async with (
        postgres_exporter(env["DATABASE_URL"], folder) as database,
        looking_at(
            house.stack, folder, broker=Broker(env[RABBITMQ_METRICS_ADDRESS], "/"), database=database, hurry=HURRY
        ) as prometheus,
    ):
        yield prometheus
