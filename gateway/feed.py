"""Streams: how many there may be, and what each has yet to send."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, Generic, TypeVar

from prometheus_client import Counter, Gauge

from chassis.errors import CallError, overloaded, unavailable

STREAMS_MAX: Final = 5_000
RETRY_AFTER_S: Final = 1.0

_open = Gauge("ticketrush_gateway_streams", "Streams that are being served.")
_slow = Counter("ticketrush_gateway_slow_readers", "Streams ended because their reader could not keep up.")

Item = TypeVar("Item")


class Streams:
    """Admits at most STREAMS_MAX streams at once."""

    def __init__(self) -> None:
        self._count = 0
        _open.set_function(lambda: self._count)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """A place for one stream. Raises CallError (RESOURCE_EXHAUSTED, TOO_MANY_STREAMS)."""
        if self._count >= STREAMS_MAX:
            raise overloaded("TOO_MANY_STREAMS", f"{self._count} streams are open already", RETRY_AFTER_S)
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1


class Feed(Generic[Item]):
    """What one stream has yet to send, for one reader. One that holds more than `items_max` ends as SLOW_READER."""

    def __init__(self, items_max: int) -> None:
        self._items_max = items_max
        self._items: deque[Item] = deque()
        self._error: CallError | None = None
        self._changed = asyncio.Event()

    def offer(self, item: Item) -> None:
        """Never waits; without effect on a feed that has ended."""
        if self._error is not None:
            return
        if len(self._items) >= self._items_max:
            _slow.inc()
            self.end(overloaded("SLOW_READER", "the stream fell too far behind; watch again", RETRY_AFTER_S))
            return
        self._items.append(item)
        self._changed.set()

    def end(self, error: CallError) -> None:
        """Nothing more is read from it than this error; the first one counts."""
        if self._error is None:
            self._error = error
            self._items.clear()
            self._changed.set()

    async def next(self) -> Item:
        """The oldest item not read yet. Raises CallError once the feed has ended."""
        while not self._items and self._error is None:
            self._changed.clear()
            await self._changed.wait()
        if self._error is not None:
            # Many feeds may end with one error: each reader has a traceback of its own.
            raise replace(self._error)
        return self._items.popleft()


def stopping() -> CallError:
    """Why streams end when the gateway stops."""
    return unavailable("GATEWAY_STOPPING", "this gateway is stopping; watch again")
