"""The product at work. Not that of the end-to-end tests: a worker that runs both would have two in one virtual host."""

from collections.abc import AsyncIterator

import pytest

from deploy.stack import Stack
from tests.conftest import database_like
from tests.e2e.house import SERVICES, House, beside, furnished
from tests.gateway.vhosts import vhost


@pytest.fixture(scope="module")
async def house(stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    with database_like(stack.env["DATABASE_URL"], template) as database_url, vhost(stack, "security") as amqp_url:
        own = beside(stack, tmp_path_factory.mktemp("security"), database_url=database_url, amqp_url=amqp_url)
        async with furnished(own, SERVICES) as house:
            yield house
