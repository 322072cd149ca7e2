"""A product whose books are at rest, to be broken on purpose in copies; and one at work, to be helped by hand."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.stack import Stack
from tests.conftest import database_like
from tests.e2e.house import SERVICES, House, beside, furnished
from tests.e2e.office import Office
from tests.gateway.vhosts import vhost
from tests.ops.books import Books, copy_store, live_a_life
from tests.ops.desk import Desk


@pytest.fixture(scope="session")
async def books(stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Books]:
    """Nobody works on them any more, so they can be copied."""
    folder = tmp_path_factory.mktemp("books")
    with database_like(stack.env["DATABASE_URL"], template) as database_url:
        with vhost(stack, "books") as amqp_url:
            own = beside(stack, folder / "stack", database_url=database_url, amqp_url=amqp_url)
            async with furnished(own, SERVICES) as house:
                actors = await live_a_life(house)
                await house.kill("gateway", "scheduler", "payments", "reservations", "provider")
                store = folder / "provider.sqlite"
                copy_store(Path(own.env["PROVIDER_STORE_PATH"]), store)
        yield Books(stack.env["DATABASE_URL"], database_url, store, actors)


@pytest.fixture(scope="session")
async def house(stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Every process at work."""
    with database_like(stack.env["DATABASE_URL"], template) as database_url, vhost(stack, "ops") as amqp_url:
        own = beside(stack, tmp_path_factory.mktemp("ops"), database_url=database_url, amqp_url=amqp_url)
        async with furnished(own, SERVICES) as house:
            yield house


@pytest.fixture(scope="session")
def office(house: House) -> Office:
    """Callers of the house's gateway."""
    return house.office


@pytest.fixture(scope="session")
def desk(house: House) -> Desk:
    """Where an operator of the house types, with an operator's rights and no others."""
    return Desk(house.stack.env).without("DATABASE_URL", "AMQP_URL")


UNWRITABLE = "this cannot be noted"


@pytest.fixture
async def unwritable(house: House) -> AsyncIterator[str]:
    """A reason with which no audit entry can be written."""
    for schema in ("reservations", "payments"):
        await house.rows(f"ALTER TABLE {schema}.audit_entry ADD CONSTRAINT drill CHECK (reason <> '{UNWRITABLE}')")
    yield UNWRITABLE
    for schema in ("reservations", "payments"):
        await house.rows(f"ALTER TABLE {schema}.audit_entry DROP CONSTRAINT drill")
