"""Scenarios that take longer, or ask for something else than answers a second: played by name only."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from psycopg import AsyncConnection

from bench import subjects
from bench.report import Figure, Round
from bench.scenarios import SCENARIOS, SCHEMA

if TYPE_CHECKING:  # it imports us
    from bench.__main__ import Bench

HOLDS: Final = 100_000
# Until then they are written, and the sales beside them have begun.
RUN_OUT_AFTER_S: Final = 12
FLOOR_PER_S: Final = 8_000
RELEASE_TIMEOUT_S: Final = 300.0
POLL_S: Final = 0.1
EVENTS: Final = 100
SEATS_OF_AN_EVENT: Final = 100_000
PAST_OF_AN_EVENT: Final = 50_000
SQL: Final = Path(__file__).with_name("past.sql")
_SEATS: Final = SCENARIOS["seats"]


async def expiring(bench: "Bench", rounds: int, seconds: float) -> list[Figure]:
    """So many holds run out in the same second: alone, and beside sales."""
    found = []
    for _ in range(rounds):
        found.append(Figure("holds sold a second, calm", (await _sales(bench, seconds)).per_s))
        found.append(Figure("holds released a second, alone", await _released(bench)))
        # As long as a release takes at the floor that is asked for, and its preparation.
        selling = asyncio.create_task(_sales(bench, RUN_OUT_AFTER_S + HOLDS / FLOOR_PER_S))
        found.append(Figure("holds released a second, beside sales", await _released(bench)))
        found.append(Figure("holds sold a second, beside releases", (await selling).per_s))
    return found


async def past(bench: "Bench", rounds: int, seconds: float) -> list[Figure]:
    """Sales with nothing behind them, and with ten million tickets and five million reservations."""
    found = [Figure("holds a second, empty", (await _sales(bench, seconds)).per_s) for _ in range(rounds)]
    async with _books(bench) as conn:
        for number in range(EVENTS):
            bench.say(f"past: event {number + 1} of {EVENTS}")
            await conn.execute("SELECT bench_past(%s, %s, 0, now())", (SEATS_OF_AN_EVENT, PAST_OF_AN_EVENT))
        bench.say("past: analyze")
        await conn.execute("VACUUM (ANALYZE)")
    full = [(await _sales(bench, seconds)).per_s for _ in range(rounds)]
    return [*found, *(Figure("holds a second, ten million tickets", value) for value in full)]


Named = Callable[["Bench", int, float], Awaitable[list[Figure]]]
NAMED: Final[dict[str, Named]] = {"expiring": expiring, "past": past}


async def _sales(bench: "Bench", seconds: float) -> Round:
    return await bench.play(_SEATS, subjects.ticketrush(bench.stack), seconds)


@asynccontextmanager
async def _books(bench: "Bench") -> AsyncIterator[AsyncConnection[Any]]:
    url = bench.stack.env["DATABASE_URL"]
    async with await AsyncConnection.connect(url, options=SCHEMA, autocommit=True) as conn:
        await conn.execute(SQL.read_bytes())
        yield conn


async def _released(bench: "Bench") -> float:
    """How many of HOLDS were released a second, from the instant at which all of them had run out."""
    async with _books(bench) as conn:
        bench.say(f"expiring: {HOLDS:,} holds")
        cursor = await conn.execute(
            "SELECT bench_past(%s, 0, %s, now() + make_interval(secs => %s))",
            (HOLDS, HOLDS, RUN_OUT_AFTER_S),
        )
        [(event_id,)] = await cursor.fetchall()
        left = "SELECT sum(held), extract(epoch FROM clock_timestamp())::float8 FROM event_count WHERE event_id = %s"
        begin = None
        async with asyncio.timeout(RELEASE_TIMEOUT_S):
            while True:
                [(held, now)] = await (await conn.execute(left, (event_id,))).fetchall()
                if held < HOLDS and begin is None:
                    begin = now
                if held == 0 and begin is not None:
                    return HOLDS / float(now - begin)
                await asyncio.sleep(POLL_S)
