"""The whole product for the proofs alone: on the session's servers, in a database and a virtual host of its own."""

from collections.abc import AsyncIterator

import pytest

from deploy.stack import Stack
from tests.conftest import database_like
from tests.e2e.house import SERVICES, House, beside, furnished
from tests.gateway.vhosts import vhost
from tests.proof.audit import Witness, witness


@pytest.fixture(scope="session")
async def house(stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    with database_like(stack.env["DATABASE_URL"], template) as database_url, vhost(stack, "proof") as amqp_url:
        own = beside(stack, tmp_path_factory.mktemp("proof"), database_url=database_url, amqp_url=amqp_url)
        async with furnished(own, SERVICES) as house:
            yield house


@pytest.fixture(scope="session")
async def heard(house: House) -> AsyncIterator[Witness]:
    """Hears all that is said in the house."""
    async with witness(house) as heard:
        yield heard
