"""A service is not let at a schema that is older than its code."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from chassis.settings import PREFIX
from deploy.await_schema import await_schema
from deploy.migrate import migrate
from deploy.stack import Stack
from tests.deploy.test_migrate import PASSWORDS, empty_database, url_of

SCHEMA_OF = {"reservations": "reservations", "scheduler": "reservations", "payments": "payments"}


@pytest.fixture
async def admin_url(own_servers: Stack) -> AsyncIterator[str]:
    async with empty_database(own_servers) as url:
        yield url


async def until_it_waits(service: str, admin_url: str) -> tuple["asyncio.Task[None]", str]:
    """The wait of a service, and the first that it waits for."""
    said: asyncio.Queue[str] = asyncio.Queue()
    waiting = asyncio.create_task(
        await_schema(url_of(service, admin_url), SCHEMA_OF[service], said.put_nowait, interval_s=0.05)
    )
    return waiting, await asyncio.wait_for(said.get(), timeout=30)


@pytest.mark.parametrize("service", SCHEMA_OF)
async def test_it_waits_for_an_empty_database_to_be_migrated(service: str, admin_url: str) -> None:
    waiting, said = await until_it_waits(service, admin_url)
    assert "cannot be looked at" in said
    assert PASSWORDS[f"TICKETRUSH_{service.upper()}_PASSWORD"] not in said
    await migrate(admin_url, PASSWORDS, lambda _: None)
    await asyncio.wait_for(waiting, timeout=30)


async def test_it_waits_for_one_migration_that_is_missing_and_names_it(admin_url: str) -> None:
    await migrate(admin_url, PASSWORDS, lambda _: None)
    async with await psycopg.AsyncConnection.connect(admin_url) as conn:
        last = await conn.execute(
            """DELETE FROM payments.migration WHERE name = (SELECT max(name) FROM payments.migration)
               RETURNING name, checksum"""
        )
        [(name, checksum)] = await last.fetchall()
    waiting, said = await until_it_waits("payments", admin_url)
    assert said == f"schema payments waits for: {name}"
    async with await psycopg.AsyncConnection.connect(admin_url) as conn:
        await conn.execute("INSERT INTO payments.migration (name, checksum) VALUES (%s, %s)", (name, checksum))
    await asyncio.wait_for(waiting, timeout=30)


async def test_the_command_takes_the_settings_of_the_service(admin_url: str, tmp_path: Path) -> None:
    await migrate(admin_url, PASSWORDS, lambda _: None)
    url = tmp_path / "url"
    url.write_text(url_of("scheduler", admin_url) + "\n")
    settings = {"LISTEN_ADDRESS": "127.0.0.1:0", "METRICS_ADDRESS": "127.0.0.1:0", "DATABASE_URL_FILE": str(url)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "deploy.await_schema", "reservations"),
        env=os.environ | {PREFIX + name: value for name, value in settings.items()},
    )
    assert await asyncio.wait_for(process.wait(), timeout=60) == 0


async def test_a_schema_that_is_newer_than_the_code_is_not_waited_for(admin_url: str) -> None:
    await migrate(admin_url, PASSWORDS, lambda _: None)
    async with await psycopg.AsyncConnection.connect(admin_url) as conn:
        await conn.execute("INSERT INTO payments.migration (name, checksum) VALUES ('payments/9999_later.sql', '')")
    async with asyncio.timeout(30):
        await await_schema(url_of("payments", admin_url), "payments", lambda _: None)
