"""A database with nothing but the chassis's own tables, and a broker behind a proxy."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from aio_pika.abc import AbstractChannel
from psycopg.conninfo import make_conninfo

import chassis
from chassis.database import Database
from chassis.migrations import migrate
from tests.chassis.broker import channel_to
from tests.chassis.proxy import Proxy, proxy
from tests.conftest import database_like

SCHEMA = "messages"


@pytest.fixture(scope="session")
async def messages_template(postgres_url: str) -> str:
    """Name of a database with the chassis's migrations in the schema SCHEMA."""
    name = "messages_template"
    with psycopg.connect(make_conninfo(postgres_url, dbname="postgres"), autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name}")
    url = make_conninfo(postgres_url, dbname=name)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"CREATE SCHEMA {SCHEMA}")
    await migrate(url, SCHEMA, [Path(chassis.__path__[0]) / "migrations"])
    return name


@pytest.fixture
def messages_url(postgres_url: str, messages_template: str) -> Iterator[str]:
    with database_like(postgres_url, messages_template) as url:
        yield url


@pytest.fixture
async def database(messages_url: str) -> AsyncIterator[Database]:
    database = Database(messages_url, schema=SCHEMA, application="tests")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def wire(amqp_url: str) -> AsyncIterator[Proxy]:
    """The broker as the code under test reaches it."""
    async with proxy(amqp_url) as between:
        yield between


@pytest.fixture
async def channel(amqp_url: str) -> AsyncIterator[AbstractChannel]:
    """The test's own way to the broker."""
    async with channel_to(amqp_url) as channel:
        yield channel
