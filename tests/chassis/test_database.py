"""A database that goes silent: nobody waits for it for ever, and nobody is given a connection that died with it."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest
from prometheus_client import REGISTRY
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from yarl import URL

from chassis import database, pooling
from chassis.database import Database, is_database_down
from tests.chassis.broker import running, until
from tests.chassis.proxy import Proxy, proxy

SILENCE_MAX_S = 1.0


@pytest.fixture
async def wire(database_url: str) -> AsyncIterator[Proxy]:
    database = conninfo_to_dict(database_url)
    async with proxy(f"tcp://{database['host']}:{database['port']}") as wire:
        yield wire


@pytest.fixture
async def distant(wire: Proxy, database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """A database behind the wire, with four connections that have been used."""
    url = make_conninfo(database_url, port=URL(wire.url).port)
    distant = Database(url, schema="public", application="test")
    await distant.open()
    await asyncio.gather(*(nap(distant) for _ in range(4)))
    monkeypatch.setattr(database, "SILENCE_MAX_S", SILENCE_MAX_S)
    yield distant
    wire.unmute()
    await distant.close()


async def test_a_statement_on_a_connection_that_went_silent_fails_as_one_on_a_lost_connection(
    wire: Proxy, distant: Database
) -> None:
    wire.mute()
    with pytest.raises(psycopg.OperationalError) as lost:
        await nap(distant)
    assert is_database_down(lost.value)


async def test_a_commit_into_silence_fails_as_one_on_a_lost_connection(wire: Proxy, distant: Database) -> None:
    async def commit_into_silence() -> None:
        async with distant.transaction() as conn:
            await conn.execute("SELECT 1")
            wire.mute()

    with pytest.raises(psycopg.OperationalError) as lost:
        await commit_into_silence()
    assert is_database_down(lost.value)


async def test_a_statement_that_takes_its_time_is_not_taken_for_silence(distant: Database) -> None:
    await nap(distant)
    await asyncio.sleep(2 * SILENCE_MAX_S)
    await nap(distant)


async def test_one_silent_connection_is_enough_to_give_up_those_that_died_with_it(
    wire: Proxy, distant: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(distant.run()):
        await until(lambda: distant.up)
        wire.forget()
        await until(lambda: not distant.up)
        await until(lambda: distant.up)
        await asyncio.gather(*(nap(distant) for _ in range(4)))
    assert sum("silent" in record.message for record in caplog.records) == 1


async def test_the_metrics_tell_of_transactions_and_of_those_that_wait(database_url: str) -> None:
    database = Database(database_url, schema="public", application="test", connections_max=2)
    await database.open()

    def shown(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(f"ticketrush_database_{name}", labels) or 0

    counted, waited = shown("transaction_seconds_count"), shown("wait_seconds_total")
    async with database.transaction(), database.transaction():
        waiting = asyncio.create_task(nap(database))
        await until(lambda: database.pool.get_stats()["requests_waiting"] == 1)
        pooling.show(database.pool.pop_stats())
        assert shown("waiting_transactions") == 1
        assert shown("connections", state="busy") == 2
    await waiting
    async with running(database.run()):
        await until(lambda: shown("waiting_transactions") == 0 and shown("wait_seconds_total") > waited)
    assert shown("connections_max") == 2
    assert shown("transaction_seconds_count") == counted + 3
    with pytest.raises(psycopg.Error):
        await _fails(database)
    assert shown("transaction_seconds_count") == counted + 3
    await database.close()


async def _fails(database: Database) -> None:
    async with database.transaction() as conn:
        await conn.execute("SELECT 1 / 0")


async def nap(database: Database) -> None:
    """Keeps a connection long enough for others to need one of their own."""
    async with database.transaction() as conn:
        await conn.execute("SELECT pg_sleep(0.1)")
