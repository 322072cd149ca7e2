"""Looks at both schemas in one snapshot, with the processor's statement read so that a live system is no false alarm.

The order makes it right. First the whole statement: what it says, the snapshot must know. Then the snapshot. Then, of
what the snapshot says and the statement did not say yet, the processor is asked again: it must know that now.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from grpc.aio import AioRpcError
from psycopg import AsyncConnection, IsolationLevel, errors
from psycopg.sql import SQL, Identifier

import payments.invariants
import reservations.store.invariants
from chassis.soundness import Check, look
from contract.invariants import Invariant
from ops.fsck import statement
from ops.fsck.crossings import CHARGES, STATEMENT, UNDER_WAY
from ops.fsck.report import Report, UnderWay, Verdict

if TYPE_CHECKING:  # exists only in the stubs
    from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceAsyncStub

CONNECT_TIMEOUT_S: Final = 5
# The largest tables take a statement minutes, far beyond what a service may take.
STATEMENT_TIMEOUT_MS: Final = 1_800_000
WORK_MEMORY_KB: Final = 262_144
APPLICATION: Final = "fsck"

BOTH: Final = "pg_catalog"
_CHECKS: Final = (
    *(("reservations", check) for check in reservations.store.invariants.CHECKS),
    *(("payments", check) for check in payments.invariants.CHECKS),
    (BOTH, CHARGES),
)


class Inspection:
    """One look at a database that holds both schemas."""

    def __init__(self, database_url: str, processor: "PaymentProviderServiceAsyncStub", *, examples_max: int) -> None:
        self._database_url = database_url
        self._processor = processor
        self._examples_max = examples_max
        self._verdicts = {invariant: Verdict(invariant) for invariant in Invariant}

    async def run(self, *, settled: bool) -> Report:
        """Raises psycopg.Error when the database cannot be looked at."""
        began = time.monotonic()
        async with await _connect(self._database_url) as conn:
            has_statement = await self._load_statement(conn)
            async with _snapshot(conn) as snapshot_time:
                for schema, check in _CHECKS:
                    await self._look(conn, schema, check)
                if has_statement:
                    for check in STATEMENT:
                        await self._look(conn, BOTH, check)
                    await self._ask_processor(conn)
                under_way = await self._under_way(conn) if settled else None
        return Report(snapshot_time, list(self._verdicts.values()), under_way, time.monotonic() - began)

    async def _load_statement(self, conn: AsyncConnection[Any]) -> bool:
        verdict = self._verdicts[Invariant.LEDGER]
        began = time.monotonic()
        try:
            await statement.load(conn, self._processor)
        except AioRpcError as error:
            verdict.problem = f"the card processor's statement: {error.code().name}: {error.details()}"
        verdict.took_s += time.monotonic() - began
        return not verdict.problem

    async def _look(self, conn: AsyncConnection[Any], schema: str, check: Check) -> None:
        verdict = self._verdicts[Invariant(check.rule)]
        began = time.monotonic()
        try:
            async with conn.transaction():
                await conn.execute(SQL("SET LOCAL search_path TO {}").format(Identifier(schema)))
                found = await look(conn, check, examples_max=self._examples_max)
        except errors.QueryCanceled as error:
            verdict.problem = str(error)
        else:
            verdict.violations += found.count
            self._show(verdict, found.examples)
        verdict.took_s += time.monotonic() - began

    async def _ask_processor(self, conn: AsyncConnection[Any]) -> None:
        verdict = self._verdicts[Invariant.LEDGER]
        began = time.monotonic()
        try:
            async with aclosing(statement.contradictions(conn, self._processor)) as problems:
                async for problem in problems:
                    verdict.violations += 1
                    self._show(verdict, [problem])
        except AioRpcError as error:
            verdict.problem = f"the card processor: {error.code().name}: {error.details()}"
        verdict.took_s += time.monotonic() - began

    def _show(self, verdict: Verdict, examples: Sequence[str]) -> None:
        verdict.examples += examples[: self._examples_max - len(verdict.examples)]

    async def _under_way(self, conn: AsyncConnection[Any]) -> list[UnderWay]:
        found = [(check.rule, await look(conn, check, examples_max=self._examples_max)) for check in UNDER_WAY]
        return [UnderWay(what, one.count, one.examples) for what, one in found]


async def _connect(database_url: str) -> AsyncConnection[Any]:
    return await AsyncConnection.connect(
        database_url,
        autocommit=True,
        connect_timeout=CONNECT_TIMEOUT_S,
        application_name=APPLICATION,
        options=f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c work_mem={WORK_MEMORY_KB} -c timezone=UTC",
    )


@asynccontextmanager
async def _snapshot(conn: AsyncConnection[Any]) -> AsyncIterator[Any]:
    """All that is read within sees the database at one instant, no earlier than the time that is yielded."""
    await conn.set_autocommit(False)
    await conn.set_isolation_level(IsolationLevel.REPEATABLE_READ)
    await conn.set_read_only(True)
    cursor = await conn.execute("SELECT transaction_timestamp()")
    [(snapshot_time,)] = await cursor.fetchall()
    yield snapshot_time
    await conn.rollback()
