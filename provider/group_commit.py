"""One SQLite file behind one thread; calls that wait for it share a transaction, and so its fsync."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from chassis import errors

WORKS_PER_TRANSACTION_MAX = 256
WAITING_MAX = 10_000
RETRY_AFTER_S = 1.0
# Another process on the file (an operator's sqlite3) holds us up this long at most.
LOCK_TIMEOUT_S = 5.0

Answer = TypeVar("Answer")
Work = Callable[[sqlite3.Connection], Answer]


class GroupCommit:
    """Runs pieces of work in order of arrival, each whole and alone, and answers them once they are on disk.

    While one transaction commits, the next one gathers. A piece of work answers refusals as values: one that raises
    takes its whole transaction with it. It may run although its caller has gone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None
        self._waiting: deque[tuple[Work[Any], asyncio.Future[Any]]] = deque()
        self._flushing: asyncio.Task[None] | None = None

    async def open(self, schema: str) -> None:
        """Opens or makes the file and applies the schema, which must be idempotent. Raises sqlite3.OperationalError."""
        self._connection = await asyncio.get_running_loop().run_in_executor(self._thread, _connect, self._path, schema)

    async def close(self) -> None:
        """Finishes what waits, then closes the file."""
        if self._flushing:
            await self._flushing
        if self._connection:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
            self._connection = None
        self._thread.shutdown()

    async def run(self, work: Work[Answer]) -> Answer:
        """The answer of the work, committed to disk.

        Raises CallError: RESOURCE_EXHAUSTED when too many wait, UNAVAILABLE when the file cannot be written.
        """
        if len(self._waiting) >= WAITING_MAX:
            raise errors.overloaded("OVERLOADED", "too many calls are waiting for the disk", RETRY_AFTER_S)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, answer))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        return await answer

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), WORKS_PER_TRANSACTION_MAX))]
            try:
                answers = await loop.run_in_executor(self._thread, self._commit, [work for work, _ in batch])
            except Exception as error:  # noqa: BLE001 - whatever it was, it belongs to the callers of this batch
                _fail(error, [answer for _, answer in batch])
            else:
                for (_, answer), value in zip(batch, answers, strict=True):
                    if not answer.done():  # its caller may have gone
                        answer.set_result(value)

    def _commit(self, works: Sequence[Work[Any]]) -> list[Any]:
        if self._connection is None:
            raise errors.unavailable("STOPPING", "the provider is stopping; try again")
        self._connection.execute("BEGIN IMMEDIATE")
        # Commits at the end, rolls back on any error.
        with self._connection:
            return [work(self._connection) for work in works]


def _connect(path: Path, schema: str) -> sqlite3.Connection:
    # isolation_level=None: transactions begin where we say so.
    connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT_S, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    # WAL alone would survive kill -9 but not a power cut: an answer given must be on disk.
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(schema)
    return connection


def _fail(error: Exception, answers: Sequence[asyncio.Future[Any]]) -> None:
    if isinstance(error, sqlite3.OperationalError):
        error = errors.unavailable("STORE_UNAVAILABLE", f"the provider's store does not answer ({error}); try again")
    for answer in answers:
        if not answer.done():
            answer.set_exception(error)
