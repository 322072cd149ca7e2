"""Ways to stop what is under way in the database at a chosen place, so that something else can run into it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from chassis.database import Database
from reservations.store import books as store
from tests.chassis.broker import until
from tests.reservations.core import Shop


async def waiting_for_locks(database: Database) -> int:
    """How many sessions of the same database wait for a lock."""
    async with database.transaction() as conn:
        cursor = await conn.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        [(count,)] = await cursor.fetchall()
        return int(count)


@asynccontextmanager
async def nobody_can_commit(database: Database) -> AsyncIterator[store.Connection]:
    """Every decision gets as far as the writing of its history, all its own locks taken, and waits there."""
    async with database.pool.connection() as conn:
        await conn.execute("LOCK TABLE history IN SHARE MODE")
        yield conn
        await conn.rollback()


async def one_runs_into_the_other(shop: Shop, first: Awaitable[object], second: Awaitable[object]) -> None:
    """Both are under way before either commits; the first was there first. Raises what they raise."""
    watch = Database(shop.url, schema="reservations", application="watch", connections_max=2)
    await watch.open()
    async with nobody_can_commit(watch):
        running: list[asyncio.Future[object]] = []
        for begin in (first, second):
            running.append(asyncio.ensure_future(begin))
            await until(partial(_stopped, running, watch))
    await asyncio.gather(*running)
    await watch.close()


async def _stopped(running: Sequence[asyncio.Future[object]], watch: Database) -> bool:
    # Who passes over what is locked does not wait for it.
    return running[-1].done() or await waiting_for_locks(watch) == len(running)
