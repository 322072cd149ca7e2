"""Rules that the data of a schema must obey at any instant, looked at from time to time and shown as numbers."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from prometheus_client import Gauge
from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout, TooManyRequests

from chassis.database import Database

log = logging.getLogger(__name__)

ROUND_INTERVAL_S: Final = 60.0
# Large tables make a round long, not heavy: after each look so many times its own duration is rest.
REST_PER_LOOK: Final = 49
LOOK_TIMEOUT_MS: Final = 300_000
LOOK_MEMORY_KB: Final = 65_536

_violations = Gauge(
    "ticketrush_fsck_violations", "Rows that break an invariant, when it was last looked at.", ("invariant",)
)
_last_run = Gauge(
    "ticketrush_fsck_last_run_time_seconds", "When an invariant was last looked at, Unix time.", ("invariant",)
)


@dataclass(frozen=True)
class Check:
    """A SELECT of one text column with a row for each violation of the rule. It sees one snapshot."""

    rule: str
    sql: str


@dataclass(frozen=True)
class Found:
    """How many violations there are, and some of them."""

    count: int
    examples: Sequence[str]


async def look(conn: AsyncConnection[Any], check: Check, *, examples_max: int) -> Found:
    """Runs one check on the connection's search_path. Raises psycopg.Error."""
    statement = f"""WITH broken (problem) AS MATERIALIZED ({check.sql})
        SELECT (SELECT count(*) FROM broken), ARRAY(SELECT problem FROM broken LIMIT {examples_max:d})"""  # noqa: S608 - constant checks
    cursor = await conn.execute(statement.encode())
    [(count, examples)] = await cursor.fetchall()
    return Found(count, examples)


@asynccontextmanager
async def looking(database: Database) -> AsyncIterator[AsyncConnection[Any]]:
    """A transaction that changes nothing, and may read whole tables without anybody else's noticing."""
    async with database.transaction() as conn:
        await conn.execute("SET TRANSACTION READ ONLY")
        await conn.execute(f"SET LOCAL statement_timeout = {LOOK_TIMEOUT_MS}".encode())
        await conn.execute(f"SET LOCAL work_mem = {LOOK_MEMORY_KB}".encode())
        await conn.execute("SET LOCAL max_parallel_workers_per_gather = 0")
        # Unlike all else that a service asks, a look reads whole tables.
        await conn.execute("SET LOCAL enable_seqscan = on")
        yield conn


class Rounds:
    """Looks at one schema again and again, for the metrics.

    Each check reads its own snapshot, so none is held for long. One core is busy with it for at most one part in
    REST_PER_LOOK + 1 of the time, whatever the tables' size: small ones are looked at every `interval_s`.
    """

    def __init__(self, database: Database, checks: Sequence[Check], *, interval_s: float = ROUND_INTERVAL_S) -> None:
        self._database = database
        self._checks = checks
        self._interval_s = interval_s

    async def run(self) -> None:
        """Goes round until cancelled."""
        while True:
            began = time.monotonic()
            await self._round()
            await asyncio.sleep(max(0.0, began + self._interval_s - time.monotonic()))

    async def _round(self) -> None:
        """A rule whose checks did not all answer keeps its number, and its age tells."""
        counts: Counter[str] = Counter({check.rule: 0 for check in self._checks})
        for check in self._checks:
            began = time.monotonic()
            try:
                found = await self._look(check)
            except (psycopg.Error, PoolTimeout, TooManyRequests) as error:
                log.warning("%s could not be looked at: %s", check.rule, error)
                del counts[check.rule]
            else:
                if found.count:
                    log.error("%d rows break %s, such as: %s", found.count, check.rule, found.examples[0])
                if check.rule in counts:
                    counts[check.rule] += found.count
            await _rest(REST_PER_LOOK * (time.monotonic() - began))
        for rule, count in counts.items():
            _violations.labels(rule).set(count)
            _last_run.labels(rule).set(time.time())

    async def _look(self, check: Check) -> Found:
        async with looking(self._database) as conn:
            return await look(conn, check, examples_max=1)


async def _rest(delay_s: float) -> None:
    await asyncio.sleep(delay_s)
