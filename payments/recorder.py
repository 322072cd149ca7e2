"""Writes results in batches: whatever came in while one batch was being written is the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from chassis.attempts import persist
from chassis.database import is_transient

BATCH_MAX: Final = 256

T = TypeVar("T")


class Recorder(Generic[T]):
    """Hands results to `write`, one transaction a call, one call at a time.

    Waits for a database that is gone. How much may wait here is bounded by those who wait for it.
    """

    def __init__(self, write: Callable[[Sequence[T]], Awaitable[None]], *, name: str) -> None:
        self._write = write
        self._name = name
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._arrived = asyncio.Event()

    async def record(self, result: T) -> None:
        """Returns once the result is committed. Raises whatever kept this one from being written."""
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((result, written))
        self._arrived.set()
        await written

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            await self._arrived.wait()
            batch = self._waiting[:BATCH_MAX]
            del self._waiting[:BATCH_MAX]
            if not self._waiting:
                self._arrived.clear()
            await self._settle(batch)

    async def _settle(self, batch: Sequence[tuple[T, "asyncio.Future[None]"]]) -> None:
        """Writes all, or by halves all but the culprits."""
        results = [result for result, _ in batch]
        try:
            await persist(lambda: self._write(results), self._name)
        except Exception as error:  # noqa: BLE001 - told to whoever waits for this result
            if len(batch) == 1 or is_transient(error):
                for _, written in batch:
                    if not written.done():
                        written.set_exception(error)
                return
            middle = len(batch) // 2
            await self._settle(batch[:middle])
            await self._settle(batch[middle:])
        else:
            for _, written in batch:
                if not written.done():
                    written.set_result(None)
