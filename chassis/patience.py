"""Streams whose reader takes nothing any more are ended: what they hold is somebody else's."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from grpc.aio import ServicerContext
from prometheus_client import Counter

from chassis.errors import abort, overloaded

STALLED_MAX_S: Final = 10.0
"""How long one message may wait until the reader's window has room for it."""
RETRY_AFTER_S: Final = 1.0

_stalled = Counter("ticketrush_grpc_stalled_readers", "Streams ended because their reader took nothing.")


class Reader:
    """The reader of the stream that the current task serves, watched while it is sent something.

    `leave` is called when gRPC keeps nothing of the stream any more. That is when it has ended; of one that was given
    up it is when its reader has taken the last message and the error behind it, or its connection is gone.
    """

    def __init__(self, context: ServicerContext[Any, Any], leave: Callable[[], None]) -> None:
        self._context = context
        self._leave = leave
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """A message is about to be sent."""
        self._timer = self._loop.call_later(STALLED_MAX_S, self._give_up)

    def took(self) -> None:
        """It is with the reader, or on its way."""
        if self._timer is not None:
            self._timer.cancel()

    def ended(self) -> None:
        """The stream is served no longer."""
        self.took()
        if self._ending is None:
            self._leave()

    def _give_up(self) -> None:
        _stalled.inc()
        self._ending = self._loop.create_task(self._end())

    async def _end(self) -> None:
        # Its task waits in gRPC for the message to leave; it may go once the error is in line behind that.
        if self._task is not None:
            self._loop.call_soon(self._task.cancel)
        error = overloaded("SLOW_READER", "the stream was not read for too long; watch again", RETRY_AFTER_S)
        with suppress(Exception):  # aborting raises; so does a connection that is gone
            await abort(self._context, error)
        self._leave()
