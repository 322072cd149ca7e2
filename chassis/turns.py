"""Whose turn a queue is: of queues that each serve one consumer at a time, no process keeps more than its share."""

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aio_pika.abc import AbstractChannel
from aiormq.abc import AbstractChannel as Channel
from prometheus_client import Counter

from chassis.topology import DECLARE_TIMEOUT_S

log = logging.getLogger(__name__)

_given_up = Counter("ticketrush_amqp_turns_given_up", "Shards left to another process that had less.", ("queue",))

# Consumes from a queue and returns the consumer tag.
Consume = Callable[[str], Awaitable[str]]
# Nobody's share is less.
SHARE_MIN: Final = 1


class Turns:
    """The consumers of one channel, on queues of which the broker serves each to whoever came first.

    So the process that starts first is served all of them, and the next stands by. The broker does not say whom it
    serves; messages do.
    """

    def __init__(self, channel: Channel, consume: Consume) -> None:
        self._channel = channel
        self._consume = consume
        self._tags: dict[str, str] = {}
        self._busy: set[str] = set()

    async def begin(self, queues: Sequence[str]) -> None:
        """Consumes from the queues."""
        for queue in queues:
            self._tags[queue] = await self._consume(queue)

    def served(self, queue: str) -> None:
        """A message came from it."""
        self._busy.add(queue)

    async def share(self, asking: AbstractChannel, queues: Sequence[str], *, everybody: str) -> None:
        """Goes to the end of the line at those of the queues that have been busy since the last look, beyond our share.

        `everybody` is a queue from which each process consumes: of one that serves one consumer at a time the broker
        counts only that. What came before stays with us until it is acked. Raises aio_pika.exceptions.AMQPError.
        """
        busy = sorted(self._busy.intersection(queues))
        self._busy.clear()
        if len(busy) <= SHARE_MIN:
            return
        known = await asking.declare_queue(everybody, passive=True, timeout=DECLARE_TIMEOUT_S)
        processes = max(1, known.declaration_result.consumer_count or 0)
        share = -(-len(queues) // processes)
        for queue in random.sample(busy, max(0, len(busy) - share)):
            await self._channel.basic_cancel(self._tags[queue])
            self._tags[queue] = await self._consume(queue)
            _given_up.labels(queue).inc()
            log.info("%s: left to another of %d processes", queue, processes)
