"""The product at work behind its HTTP front."""

from collections.abc import AsyncIterator

import httpx
import pytest

from deploy import frontend
from deploy.services import FRONTEND
from deploy.stack import Stack
from tests.conftest import database_like
from tests.e2e.house import SERVICES, House, beside, furnished
from tests.frontend.visitors import Visitors
from tests.gateway.vhosts import vhost


@pytest.fixture(scope="session")
def program() -> str:
    """The path of the compiled front."""
    return str(frontend.build())


@pytest.fixture(scope="session")
async def house(stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    with database_like(stack.env["DATABASE_URL"], template) as database_url, vhost(stack, "frontend") as amqp_url:
        own = beside(stack, tmp_path_factory.mktemp("frontend"), database_url=database_url, amqp_url=amqp_url)
        async with furnished(own, (*SERVICES, FRONTEND.name)) as house:
            yield house


@pytest.fixture(scope="session")
async def visitors(house: House) -> AsyncIterator[Visitors]:
    """Whoever comes by HTTP."""
    async with httpx.AsyncClient(base_url=f"http://{house.stack.address('frontend')}", timeout=30) as client:
        yield Visitors(client, house.stack.issuer)
