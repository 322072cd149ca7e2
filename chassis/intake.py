"""Taking in: batches of one or several queues from a supervised connection, in order, bounded by the prefetch."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq.abc import AbstractChannel as Channel
from aiormq.abc import DeliveredMessage
from prometheus_client import Counter

from chassis.connection import Link, cancelled_from_outside, naming_losses
from chassis.delivery import Delivery, decode
from chassis.sender import Declare
from chassis.turns import Turns

log = logging.getLogger(__name__)

# A message that came back so often may be what kills its consumer: it is taken alone, so that only it is in doubt.
ALONE_AFTER_REDELIVERIES: Final = 3
# While one batch waits for the database, another is worked out. Only when it is full: two small ones would cost more.
BATCHES_AT_ONCE: Final = 2

_taken = Counter("ticketrush_amqp_consumed_envelopes", "Envelopes taken from a queue.", ("queue",))
_acks_lost = Counter("ticketrush_amqp_acks_lost", "Messages done whose ack found no channel.", ("queue",))

Settle = Callable[[Sequence[Delivery]], Awaitable[None]]
Find = Callable[[AbstractConnection], Awaitable[Sequence[str]]]


class Intake:
    """Consumes queues in batches that they share: on each connect those that `find` finds.

    `declare` declares them, on each connect and every 30 s. `name` stands for them all, to the log and in numbers.

    A batch is up to `envelopes_max` envelopes in whole messages, at least one, in the order of arrival, all over one
    connection. While one is in hand, another is taken only when it is full. Of each queue `prefetch` messages are here.
    Of those `shared` with other processes no more are kept than our part; each consumes from the queue `name` as well.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        find: Find,
        prefetch: int,
        envelopes_max: int,
        declare: Declare,
        shared: Sequence[str] = (),
    ) -> None:
        self._link = Link(url, name=name, setup=self._setup, refresh=self._refresh)
        self._name = name
        self._find = find
        self._prefetch = prefetch
        self._envelopes_max = envelopes_max
        self._declare = declare
        self._shared = shared
        self._turns: Turns | None = None
        self._own: AbstractChannel | None = None
        self._consuming: Channel | None = None
        self._waiting: deque[Delivery] = deque()
        self._waiting_envelopes = 0
        # In the order in which they were taken.
        self._in_hand: list[Sequence[Delivery]] = []
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopped = False

    @property
    def connected(self) -> bool:
        """Whether it is consuming."""
        return self._link.connected

    async def run(self, settle: Settle) -> None:
        """Hands batches to `settle`, at most BATCHES_AT_ONCE, and acks each when that returns, until cancelled.

        When it raises, the batch comes again; its messages come alone after ALONE_AFTER_REDELIVERIES, and are dead-
        lettered at the delivery limit.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._link.run())
            for _ in range(BATCHES_AT_ONCE):
                tasks.create_task(self._work(settle))

    async def drain(self, timeout_s: float) -> None:
        """Takes nothing more; returns when the batch in hand is acked, or when the time is over.

        Then it leaves the broker, for what came and was not taken to go to others, who stand by for it.
        """
        self._stopped = True
        self._forget()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("%s: a batch is not done after %s s; it comes again", self._name, timeout_s)
        self._link.leave()

    async def _work(self, settle: Settle) -> None:
        while True:
            batch = await self._take()
            try:
                await settle(batch)
                await self._ack(batch)
            except Exception:
                log.exception("%s: giving %d messages back", self._name, len(batch))
                # Nothing of this connection is taken any more, nor acked: an ack covers what came before.
                self._consuming = None
                self._forget()
                self._link.drop("its worker failed")
            finally:
                self._in_hand.remove(batch)
                if not self._in_hand:
                    self._idle.set()
                self._changed.set()

    async def _take(self) -> list[Delivery]:
        while not self._may_take():
            self._changed.clear()
            await self._changed.wait()
        taken = [self._waiting.popleft()]
        count = len(taken[0].envelopes)
        while self._waiting and not _suspect(taken[0]) and not _suspect(self._waiting[0]):
            if count + len(self._waiting[0].envelopes) > self._envelopes_max:
                break
            taken.append(self._waiting.popleft())
            count += len(taken[-1].envelopes)
        self._waiting_envelopes -= count
        self._in_hand.append(taken)
        self._idle.clear()
        _taken.labels(self._name).inc(count)
        return taken

    def _may_take(self) -> bool:
        if not self._waiting or not self._in_hand:
            return bool(self._waiting)
        alone = _suspect(self._waiting[0]) or _suspect(self._in_hand[0][0])
        return self._waiting_envelopes >= self._envelopes_max and not alone

    async def _ack(self, batch: Sequence[Delivery]) -> None:
        """Acks a batch. Without its connection that is impossible, and needless: it comes again."""
        channel = batch[0].channel
        if channel is not self._consuming:
            self._ack_lost(batch)
            return
        try:
            with naming_losses():
                if self._in_hand[0] is batch:
                    # With all before it, of which nothing is left to be done.
                    await channel.basic_ack(batch[-1].tag, multiple=True)
                    return
                for delivery in batch:
                    await channel.basic_ack(delivery.tag)
        except CONNECTION_EXCEPTIONS:
            self._ack_lost(batch)
        except asyncio.CancelledError:
            self._ack_lost(batch)
            if cancelled_from_outside():
                raise

    def _ack_lost(self, batch: Sequence[Delivery]) -> None:
        _acks_lost.labels(self._name).inc(len(batch))
        log.info("%s: %d messages were done when the connection was lost, and come again", self._name, len(batch))

    async def _setup(self, connection: AbstractConnection) -> None:
        self._forget()
        self._turns = None
        self._own = await self._link.channel(connection)
        queues = await self._find(connection)
        await self._refresh()
        channel = await self._link.channel(connection)
        await channel.set_qos(prefetch_count=self._prefetch)
        consuming = self._consuming = await channel.get_underlay_channel()
        turns = Turns(
            consuming, lambda queue: self._link.consume(channel, queue, partial(self._arrive, consuming, turns, queue))
        )
        await turns.begin(queues)
        self._turns = turns

    async def _refresh(self) -> None:
        if self._own is not None:
            await self._declare(self._own)
            if self._turns is not None:
                await self._turns.share(self._own, self._shared, everybody=self._name)

    def _forget(self) -> None:
        self._waiting.clear()
        self._waiting_envelopes = 0

    def _arrive(self, channel: Channel, turns: Turns, queue: str, message: DeliveredMessage) -> None:
        turns.served(queue)
        if channel is self._consuming and not self._stopped:
            delivery = decode(channel, message)
            self._waiting.append(delivery)
            self._waiting_envelopes += len(delivery.envelopes)
            self._changed.set()


def _suspect(delivery: Delivery) -> bool:
    return delivery.redeliveries >= ALONE_AFTER_REDELIVERIES
