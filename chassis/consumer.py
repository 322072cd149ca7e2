"""One work queue, taken in batches: handled, and acked only when every envelope is done, to come again, or parked."""

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from typing import Final

from aio_pika.abc import AbstractChannel, AbstractConnection
from pamqp.common import FieldTable
from prometheus_client import Counter, Histogram

from chassis import logs, tracing
from chassis.attempts import Failure, Handler, Poison, apply
from chassis.batch import pack
from chassis.delivery import ATTEMPT_HEADER, ROUTING_KEY_HEADER, Delivery
from chassis.intake import Intake
from chassis.parking import ParkedMessage, Parking, parked_envelope, parked_flaw
from chassis.publisher import Publisher, PublishError
from chassis.topology import (
    RETRY_DELAYS_S,
    SHARD_HEADER,
    WorkQueue,
    declare,
    left_over,
    retry_exchange,
    unbind_left_over,
)
from ticketrush.messages.v1 import messages_pb2 as pb

__all__ = ["Consumer", "Failure", "Handler", "Poison"]

log = logging.getLogger(__name__)

# Two full messages.
ENVELOPES_MAX: Final = 512
# A message holds what waited when it was said, often a single envelope, 256 at most: a batch must find enough of them.
PREFETCH_MESSAGES: Final = 64
RETRIES_IN_FLIGHT_MAX: Final = 64
RETRY_PAUSE_MAX_S: Final = 5.0

_batch = Histogram(
    "ticketrush_amqp_consumed_batch_envelopes",
    "Envelopes per transaction.",
    ("queue",),
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
)
_retried = Counter("ticketrush_amqp_retried_envelopes", "Envelopes sent down the retry ladder.", ("queue", "delay_s"))

_Item = tuple[pb.Envelope, Delivery]


class Consumer:
    """Takes one work queue to its handlers, chosen by the name of the payload.

    Handlers get all of a batch that is of one payload, in order of arrival; what they return as Failure with a Poison
    is parked, with any other error it comes back after each of `retry_delays_s` and is parked after the last.
    The queue is declared on each connect and every 30 s, in so many `shards`. What a larger number of these has left is
    consumed as well, and nothing is said to it any more.
    """

    def __init__(
        self,
        url: str,
        *,
        queue: WorkQueue,
        exchange: str,
        handlers: Mapping[str, Handler],
        publisher: Publisher,
        parking: Parking,
        shards: int = 1,
        prefetch_messages: int = PREFETCH_MESSAGES,
        envelopes_max: int = ENVELOPES_MAX,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
    ) -> None:
        left: Sequence[int] = ()

        async def furniture(channel: AbstractChannel) -> None:
            await declare(channel, exchange, [queue], shards=shards, retry_delays_s=retry_delays_s)
            await unbind_left_over(channel, queue, left)

        async def find(connection: AbstractConnection) -> Sequence[str]:
            nonlocal left
            left = await left_over(connection, queue, shards)
            return (*queue.queues(shards), *map(queue.shard, left))

        self._queue = queue.name
        self._handlers = handlers
        self._publisher = publisher
        self._parking = parking
        self._ladder = [(delay_s, retry_exchange(exchange, delay_s)) for delay_s in retry_delays_s]
        self._intake = Intake(
            url,
            name=queue.name,
            find=find,
            prefetch=prefetch_messages,
            envelopes_max=envelopes_max,
            declare=furniture,
            shared=queue.queues(shards)[1:] if shards > 1 else (),
        )

    @property
    def connected(self) -> bool:
        """Whether it is consuming."""
        return self._intake.connected

    async def run(self) -> None:
        """Consumes until cancelled."""
        await self._intake.run(self._settle)

    async def drain(self, timeout_s: float = 3.0) -> None:
        """Takes nothing more; returns when the batch in hand is acked, or when the time is over."""
        await self._intake.drain(timeout_s)

    async def _settle(self, deliveries: Sequence[Delivery]) -> None:
        """Returns when every envelope is done, or has left as a confirmed message, or is parked and committed."""
        items = [(envelope, delivery) for delivery in deliveries for envelope in delivery.envelopes]
        parked = [
            parked_flaw(flaw, delivery, self._queue, delivery.attempt + 1)
            for delivery in deliveries
            for flaw in delivery.flaws
        ]
        retried: list[tuple[_Item, Exception]] = []
        by_kind: dict[tuple[str | None, bool], list[_Item]] = {}
        for item in items:
            # One transaction a kind and not one for each change of kind: no message may rely on its place among others.
            # What has failed before is kept apart, so that it does not make its neighbours fail again and again.
            by_kind.setdefault((item[0].WhichOneof("payload"), item[1].attempt > 0), []).append(item)
        for (kind, _), run in by_kind.items():
            for item, error in await self._handle(kind, run):
                if isinstance(error, Poison):
                    parked.append(self._park(item, error.reason, error))
                elif item[1].attempt >= len(self._ladder):
                    parked.append(self._park(item, "ATTEMPTS_EXHAUSTED", error))
                else:
                    retried.append((item, error))
        await self._parking.park(parked)
        for begin in range(0, len(retried), RETRIES_IN_FLIGHT_MAX):
            await asyncio.gather(*(self._retry(*one) for one in retried[begin : begin + RETRIES_IN_FLIGHT_MAX]))

    async def _handle(self, kind: str | None, run: Sequence[_Item]) -> list[tuple[_Item, Exception]]:
        """What failed of those of one payload."""
        handler = self._handlers.get(kind) if kind else None
        if handler is None:
            return [(item, _UnknownPayload(f"nobody here handles {kind!r}")) for item in run]
        _batch.labels(self._queue).observe(len(run))
        items = {id(item[0]): item for item in run}
        envelopes = [envelope for envelope, _ in run]
        with tracing.handling(f"{self._queue} process", envelopes):
            failures = await apply(handler, envelopes, f"{self._queue}: {kind}")
        return [(items[id(failure.envelope)], failure.error) for failure in failures]

    def _park(self, item: _Item, reason: str, error: Exception) -> ParkedMessage:
        envelope, delivery = item
        detail = f"{type(error).__name__}: {error}"
        return parked_envelope(
            envelope, delivery, self._queue, reason=reason, detail=detail, attempts=delivery.attempt + 1
        )

    async def _retry(self, item: _Item, error: Exception) -> None:
        """Returns when the envelope is confirmed on the next step of the ladder, however long the broker refuses."""
        envelope, delivery = item
        delay_s, exchange = self._ladder[delivery.attempt]
        # Only our own headers: with x-death among them the broker would take the ladder for a cycle and drop messages.
        headers: FieldTable = {
            ATTEMPT_HEADER: delivery.attempt + 1,
            ROUTING_KEY_HEADER: delivery.said_as,
            SHARD_HEADER: delivery.shard,
        }
        body = pack([envelope.SerializeToString()])
        about = logs.ids_of(envelope)
        log.warning("%s: %s again in %s s: %r", self._queue, envelope.message_id, delay_s, error, extra=about)
        while True:
            try:
                await self._publisher.republish(exchange, self._queue, body, headers)
            except PublishError as refusal:
                log.warning("%s: %s is kept until the broker takes it: %s", self._queue, envelope.message_id, refusal)
                await asyncio.sleep(random.uniform(0, RETRY_PAUSE_MAX_S))  # noqa: S311 # jitter
            else:
                _retried.labels(self._queue, delay_s).inc()
                return


class _UnknownPayload(Poison):
    reason = "UNKNOWN_PAYLOAD"
