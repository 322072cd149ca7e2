"""PostgreSQL: one bounded pool a process, visible transactions, and the two questions a retry must ask of an error."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.types.array import ListBinaryDumper
from psycopg_pool import AsyncConnectionPool, PoolTimeout, TooManyRequests

from chassis import pooling, tracing

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5
POOL_WAIT_TIMEOUT_S = 5.0
POOL_WAITING_MAX = 200
RECONNECT_TIMEOUT_S = 5.0
CONNECTION_LIFETIME_S = 1800.0
STATEMENT_TIMEOUT_MS = 10_000
LOCK_TIMEOUT_MS = 3_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000
CHECK_INTERVAL_S = 0.5
# The server itself ends a statement after STATEMENT_TIMEOUT_MS and says so: whoever says nothing for longer is gone.
SILENCE_MAX_S = 12.0

RV = TypeVar("RV")

_TRANSIENT = (
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.LockNotAvailable,
    errors.QueryCanceled,
    errors.IdleInTransactionSessionTimeout,
)
_DOWN = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.ReadOnlySqlTransaction,
    errors.TooManyConnections,
    PoolTimeout,
    TooManyRequests,
)


def is_database_down(error: BaseException) -> bool:
    """Whether no transaction can be had at all for now: wait for the database, nothing is wrong with the work."""
    if isinstance(error, _DOWN):
        return True
    # A connection that broke under a statement carries no SQLSTATE.
    return isinstance(error, psycopg.OperationalError) and error.sqlstate is None


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may well succeed when it is run again."""
    return isinstance(error, _TRANSIENT) or is_database_down(error)


class Database:
    """A pool of connections to one schema.

    `up` tells whether a writable database answered lately; `run` keeps it true to the facts.
    """

    def __init__(self, url: str, *, schema: str, application: str, connections_max: int = 8) -> None:
        options = {
            "search_path": schema,
            "statement_timeout": STATEMENT_TIMEOUT_MS,
            "lock_timeout": LOCK_TIMEOUT_MS,
            "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT_MS,
            "timezone": "UTC",
            # A plan is kept for as long as the statement is prepared. One made for a table that was empty reads all of
            # it later, in the middle of the rush; ours are all to be answered from indexes.
            "enable_seqscan": "off",
            # Takes the ban on sequential scans for a cost worth compiling for.
            "jit": "off",
        }
        conninfo = make_conninfo(
            url,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name=application,
            options=" ".join(f"-c {name}={value}" for name, value in options.items()),
        )
        self.up = False
        self.pool = AsyncConnectionPool(
            conninfo,
            min_size=1,
            max_size=connections_max,
            open=False,
            timeout=POOL_WAIT_TIMEOUT_S,
            max_waiting=POOL_WAITING_MAX,
            max_lifetime=CONNECTION_LIFETIME_S,
            # The default backs off to minutes and would sleep on after the database is back.
            reconnect_timeout=RECONNECT_TIMEOUT_S,
            configure=_configure,
            name=application,
            connection_class=_Connection,
        )

    async def open(self) -> None:
        """Starts connecting in the background; does not wait for the database."""
        await self.pool.open(wait=False)

    async def close(self) -> None:
        """Closes every connection."""
        await self.pool.close()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Once COMMIT is sent, cancelling the task waits for its answer: a commit whose outcome nobody reads would be
        neither published nor retried on purpose. Raises psycopg.Error and psycopg_pool.PoolTimeout.
        """
        async with self.pool.connection() as conn:
            _raise_lost_cancellation()
            begin = time.monotonic()
            with tracing.step("database transaction"):
                yield conn
                await _shielded_commit(conn)
            pooling.transaction_seconds.observe(time.monotonic() - begin)

    async def run(self) -> None:
        """Watches the database until cancelled."""
        while True:
            was_up = self.up
            self.up = await self._answers()
            pooling.show(self.pool.pop_stats())
            if self.up != was_up:
                log.info("database is up" if self.up else "database is down, waiting for it")
            await asyncio.sleep(CHECK_INTERVAL_S)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(POOL_WAIT_TIMEOUT_S), self.pool.connection() as conn:
                cursor = await conn.execute("SELECT NOT pg_is_in_recovery()")
                row = await cursor.fetchone()
                return bool(row and row[0])
        except (psycopg.Error, TimeoutError):
            # The others are as old: handed out one by one, each would cost its user a failure, or SILENCE_MAX_S.
            await self.pool.drain()
            return False


class _Connection(AsyncConnection[Any]):
    """Takes a server that says nothing for SILENCE_MAX_S for a lost connection.

    A network that swallows what is sent tells nobody, and no timeout of the server's reaches us then.
    """

    async def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        alarm = asyncio.get_running_loop().call_later(SILENCE_MAX_S, self._hang_up)
        try:
            return await super().wait(gen, interval, timeout)
        finally:
            alarm.cancel()

    def _hang_up(self) -> None:
        log.warning("the database has been silent for %s s, giving up this connection", SILENCE_MAX_S)
        with socket.socket(fileno=os.dup(self.pgconn.socket)) as end:
            end.shutdown(socket.SHUT_RDWR)


def _raise_lost_cancellation() -> None:
    # The pool waits with wait_for, which before Python 3.12 loses a cancellation that meets the connection it waited
    # for: a loop that was told to end would go on for ever.
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _configure(conn: AsyncConnection) -> None:
    # As text, which is the default, an array costs us four times as much, a timestamp in it ten times.
    conn.adapters.register_dumper(list, ListBinaryDumper)
    await _refuse_standby(conn)


async def _refuse_standby(conn: AsyncConnection) -> None:
    cursor = await conn.execute("SELECT pg_is_in_recovery()")
    row = await cursor.fetchone()
    await conn.rollback()
    if row and row[0]:
        raise psycopg.OperationalError("this server is a standby")


async def _shielded_commit(conn: AsyncConnection) -> None:
    commit = asyncio.ensure_future(conn.commit())
    try:
        await asyncio.shield(commit)
    except asyncio.CancelledError:
        await asyncio.wait({commit})
        raise
