"""The end of a transaction: committed or not, and known to whoever began it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from psycopg import AsyncConnection

from chassis.database import Database
from tests.chassis.broker import until

SLOW_COMMIT = """
    CREATE TABLE note (text text);
    CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON note DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION take_time()"""


@pytest.fixture
async def notes(database_url: str) -> AsyncIterator[Database]:
    """A database with the table `note`, whose commits take half a second."""
    notes = Database(database_url, schema="public", application="test")
    await notes.open()
    async with notes.transaction() as conn:
        await conn.execute(SLOW_COMMIT)
    yield notes
    await notes.close()


async def test_a_commit_under_way_is_not_cut_short_when_its_task_is_cancelled(notes: Database) -> None:
    async def write() -> None:
        async with notes.transaction() as conn:
            await conn.execute("INSERT INTO note VALUES ('kept')")

    writing = asyncio.create_task(write())

    async def is_committing() -> bool:
        async with notes.transaction() as conn:
            cursor = await conn.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'"
            )
            return await cursor.fetchall() == [(1,)]

    await until(is_committing)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    async with notes.transaction() as conn:
        cursor = await conn.execute("SELECT text FROM note")
        assert await cursor.fetchall() == [("kept",)]


async def test_what_raises_is_rolled_back(notes: Database) -> None:
    async def fail() -> None:
        async with notes.transaction() as conn:
            await conn.execute("INSERT INTO note VALUES ('not kept')")
            raise LookupError("whatever goes wrong")

    with pytest.raises(LookupError):
        await fail()
    async with notes.transaction() as conn:
        cursor = await conn.execute("SELECT count(*) FROM note")
        assert await cursor.fetchall() == [(0,)]


async def test_a_cancellation_that_the_pool_swallows_begins_no_transaction(
    notes: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, getconn = asyncio.Event(), notes.pool.getconn

    async def deaf_getconn(timeout: float | None = None) -> AsyncConnection:
        waits.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return await getconn(timeout)

    monkeypatch.setattr(notes.pool, "getconn", deaf_getconn)
    begun = False

    async def begin() -> None:
        nonlocal begun
        async with notes.transaction():
            begun = True

    beginning = asyncio.create_task(begin())
    await waits.wait()
    beginning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await beginning
    assert not begun
