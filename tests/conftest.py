"""One private PostgreSQL and one private RabbitMQ for the whole session; to each test its own database and names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from deploy import postgres
from deploy.stack import Stack

# Databases are made by the hundred: where there is enough memory for them, `make test` lets them lie there.
if place := os.environ.get("PYTEST_DEBUG_TEMPROOT"):
    postgres.ELSEWHERE = Path(place)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        stack.up(("postgres", "rabbitmq"))
        yield stack
    finally:
        stack.clean()


@pytest.fixture(scope="session")
def postgres_url(stack: Stack) -> str:
    """Of the superuser."""
    return stack.env["DATABASE_URL"]


@pytest.fixture(scope="session")
def amqp_url(stack: Stack) -> str:
    return stack.env["AMQP_URL"]


@pytest.fixture(scope="session")
def template(stack: Stack) -> str:
    """Name of a database with every service's schema, role and migrations."""
    stack.migrate()
    return str(psycopg.conninfo.conninfo_to_dict(stack.env["DATABASE_URL"])["dbname"])


@pytest.fixture
def database_url(postgres_url: str, template: str) -> Iterator[str]:
    """Of the superuser, on a fresh copy of the template."""
    with database_like(postgres_url, template) as url:
        yield url


@pytest.fixture
def unique() -> str:
    """A name for what all tests share one broker for: exchanges, queues, services."""
    return f"t{uuid4().hex[:12]}"


@contextmanager
def database_like(admin_url: str, template: str) -> Iterator[str]:
    """The URL of a new database, a copy of another that nobody is connected to."""
    name = f"t{uuid4().hex[:12]}"
    with psycopg.connect(make_conninfo(admin_url, dbname="postgres"), autocommit=True) as conn:
        conn.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(name), Identifier(template)))
        try:
            yield make_conninfo(admin_url, dbname=name)
        finally:
            conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
