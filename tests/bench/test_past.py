"""What the bench writes into the books by itself is as sound as what the services write."""

from datetime import UTC, datetime, timedelta

import psycopg

from bench.scenarios import SCHEMA, SQL
from chassis.soundness import look
from reservations.store.invariants import CHECKS


async def test_a_past_that_was_never_lived_is_sound(database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, options=SCHEMA, autocommit=True) as conn:
        await conn.execute(SQL.read_bytes())
        soon = datetime.now(UTC) + timedelta(minutes=1)
        for past, live in ((70, 30), (0, 100), (100, 0)):
            await conn.execute("SELECT bench_past(100, %s, %s, %s)", (past, live, soon))
        for check in CHECKS:
            assert (await look(conn, check, examples_max=1)).examples == [], check.rule
        cursor = await conn.execute("SELECT state, count(*) FROM reservation GROUP BY state ORDER BY state")
        assert await cursor.fetchall() == [("EXPIRED", 170), ("HELD", 130)]
