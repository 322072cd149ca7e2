"""Says again, from history, what a service said in a period: the same messages, in the order of their making."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.sql import SQL

from chassis.database import Database
from chassis.publisher import Publisher, PublishError
from ops.terminal import CouldNot

PAGE: Final = 200
COUNT_TIMEOUT_MS: Final = 600_000
ATTEMPTS_MAX: Final = 5
ATTEMPT_PAUSE_S: Final = 2.0
# Rows of transactions that ran at once may be a little out of order.
RESUME_MARGIN: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class Period:
    """From `since` to before `until`, of one routing key or ("") all."""

    since: datetime
    until: datetime
    routing_key: str = ""


@dataclass(frozen=True)
class Span:
    """Where the messages of a period are in history; `last_id` is 0 when there are none."""

    first_id: int
    last_id: int
    count: int


@dataclass(frozen=True)
class _Said:
    history_id: int
    routing_key: str
    message_id: str
    envelope: bytes
    shard: int
    occur_time: datetime


_OF_PERIOD = SQL(
    """routing_key IS NOT NULL AND occur_time >= %(since)s AND occur_time < %(until)s
       AND (%(routing_key)s = '' OR routing_key = %(routing_key)s)"""
)


async def measure(conn: AsyncConnection, period: Period) -> Span:
    """How much there is to say. Raises psycopg.Error."""
    await conn.execute(f"SET LOCAL statement_timeout = {COUNT_TIMEOUT_MS}".encode())
    async with conn.cursor(row_factory=class_row(Span)) as cursor:
        await cursor.execute(
            SQL(
                """SELECT coalesce(min(history_id), 0) AS first_id, coalesce(max(history_id), 0) AS last_id, count(*)
                   FROM history WHERE {}"""
            ).format(_OF_PERIOD),
            vars(period),
        )
        [span] = await cursor.fetchall()
        return span


async def replay(
    database: Database, publisher: Publisher, period: Period, span: Span, *, rate: int, said: Callable[[int], None]
) -> None:
    """Says them, `rate` a second at most, each confirmed; `said` is told how many more were.

    Raises CouldNot, with the time to go on from, when the broker does not take them; psycopg.Error.
    """
    after_id = span.first_id - 1
    while page := await _page(database, period, after_id, span.last_id):
        began = time.monotonic()
        await _say(publisher, page)
        said(len(page))
        after_id = page[-1].history_id
        await asyncio.sleep(max(0.0, len(page) / rate - (time.monotonic() - began)))


async def _page(database: Database, period: Period, after_id: int, last_id: int) -> list[_Said]:
    async with database.transaction() as conn, conn.cursor(row_factory=class_row(_Said)) as cursor:
        await cursor.execute(
            SQL(
                """SELECT history_id, routing_key, message_id::text, envelope, shard, occur_time FROM history
                   WHERE history_id > %(after_id)s AND history_id <= %(last_id)s AND {}
                   ORDER BY history_id LIMIT %(page)s"""
            ).format(_OF_PERIOD),
            vars(period) | {"after_id": after_id, "last_id": last_id, "page": PAGE},
        )
        return await cursor.fetchall()


async def _say(publisher: Publisher, page: list[_Said]) -> None:
    left = page
    for _ in range(ATTEMPTS_MAX):
        outcomes = await asyncio.gather(
            *(publisher.publish(one.routing_key, one.message_id, one.envelope, shard=one.shard) for one in left),
            return_exceptions=True,
        )
        refusals = [outcome for outcome in outcomes if isinstance(outcome, PublishError)]
        left = [one for one, outcome in zip(left, outcomes, strict=True) if outcome is not None]
        if not left:
            return
        await asyncio.sleep(ATTEMPT_PAUSE_S)
    since = min(one.occur_time for one in left) - RESUME_MARGIN
    raise CouldNot(
        f"the broker does not take them ({refusals[0]}); go on later with --since {since:%Y-%m-%dT%H:%M:%S%z}"
    )
