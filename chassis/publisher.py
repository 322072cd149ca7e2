"""Saying things: serialised envelopes go in one by one, travel together, and each learns what became of it."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final

from pamqp.common import FieldTable
from prometheus_client import Counter, Gauge, Histogram

from chassis import tracing
from chassis.batch import BATCH_BYTES_MAX, BATCH_ENVELOPES_MAX, CONTENT_TYPE, pack, properties
from chassis.sender import (
    BUFFER_AGE_S,
    Declare,
    NotSent,
    OutcomeUnknown,
    Overloaded,
    PublishError,
    Rejected,
    Sender,
    Unroutable,
)
from chassis.topology import SHARD_HEADER

__all__ = ["NotSent", "OutcomeUnknown", "Overloaded", "PublishError", "Publisher", "Rejected", "Unroutable"]

log = logging.getLogger(__name__)

# After a batch of more than one: what arrives meanwhile shares the next message, which costs as much as a single one.
LINGER_S: Final = 0.003
# What shares a message is of one slot. Enough of them that shards get about as much each, few enough that what is about
# many events still travels together; with one shard there is one.
SLOTS_A_SHARD: Final = 8
BUFFER_ENVELOPES_MAX: Final = 20_000
BUFFER_BYTES_MAX: Final = 64 * 1024 * 1024

_envelopes = Counter("ticketrush_amqp_published_envelopes", "Envelopes by what became of them.", ("key", "outcome"))
_batch = Histogram(
    "ticketrush_amqp_published_batch_envelopes", "Envelopes per message.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
_buffered = Gauge("ticketrush_amqp_buffered_envelopes", "Envelopes waiting to be sent.", ("connection",))

# message_id, envelope, future, time of arrival. A plain tuple: this is made for every envelope.
_Waiting = tuple[str, bytes, "asyncio.Future[None]", float]


class _Lane:
    """What waits for one routing key and slot, in order; at most one message of it is in flight."""

    __slots__ = ("key", "slot", "waiting")

    def __init__(self, key: str, slot: int) -> None:
        self.key = key
        self.slot = slot
        self.waiting: deque[_Waiting] = deque()


class Publisher:
    """Publishes to one topic exchange, with confirms.

    A message whose routing key is in `mandatory_keys` must reach a queue, else it fails as Unroutable. The exchange is
    declared on each connect and every 30 s, and whatever `declare` declares; with `passive` it must be there.

    `shards` is how many there are of each work queue. Who is told another number than their owners spreads its messages
    less evenly, and that is all: of one shard key all go to one shard.
    """

    def __init__(
        self,
        url: str,
        *,
        exchange: str,
        mandatory_keys: frozenset[str],
        name: str,
        declare: Declare | None = None,
        passive: bool = False,
        shards: int = 1,
    ) -> None:
        self._slots = SLOTS_A_SHARD * shards if shards > 1 else 1
        self._exchange = exchange
        self._mandatory = mandatory_keys
        self._sender = Sender(url, exchange=exchange, name=name, declare=declare, passive=passive)
        self._link = self._sender.link
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0
        self._bytes = 0
        _buffered.labels(name).set_function(lambda: self._count)
        for key in mandatory_keys:
            # Shown before the first, which is an alarm: what begins at 1 has not risen, to those who ask what has.
            _envelopes.labels(key, Unroutable.__name__)

    @property
    def connected(self) -> bool:
        """Whether messages can leave now."""
        return self._link.connected

    async def run(self) -> None:
        """Keeps the connection up until cancelled; what has not been confirmed by then fails."""
        try:
            await self._link.run()
        finally:
            for task in self._tasks | self._sender.outcomes.tasks():
                task.cancel()
            for lane in self._lanes.values():
                self._give_back(lane)

    async def drain(self, timeout_s: float = 3.0) -> None:
        """Returns when nothing waits or is in flight any more, or when the time is over."""
        tasks = self._tasks | self._sender.outcomes.tasks()
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    def publish(self, routing_key: str, message_id: str, envelope: bytes, *, shard: int = 0) -> "asyncio.Future[None]":
        """Takes one serialised Envelope; the future ends with the confirm of its message, or with a PublishError.

        `shard` is the shard key of what it is about. Cancelling the future keeps back an envelope that has not left
        yet; nobody has to await it. Raises ValueError for an envelope above BATCH_BYTES_MAX.
        """
        size = len(envelope)
        if size > BATCH_BYTES_MAX:
            raise ValueError(f"envelope {message_id} has {size} bytes, a message takes {BATCH_BYTES_MAX}")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        waiting = (message_id, envelope, future, loop.time())
        if self._count >= BUFFER_ENVELOPES_MAX or self._bytes + size > BUFFER_BYTES_MAX:
            _fail(routing_key, [waiting], Overloaded)
            return future
        slot = shard % self._slots
        lane = self._lanes.get((routing_key, slot)) or self._open(routing_key, slot)
        lane.waiting.append(waiting)
        self._count += 1
        self._bytes += size
        if (spans := tracing.SWITCH.spans) is not None:
            spans.sending(routing_key, envelope, future)
        return future

    def send_outcome(self, reply_to: str, envelope: bytes) -> None:
        """Sends one serialised Envelope straight to a queue: no confirm, dropped when it cannot leave now."""
        self._sender.outcomes.send(reply_to, envelope)

    async def republish(
        self, exchange: str, routing_key: str, body: bytes, headers: FieldTable, *, content_type: str = CONTENT_TYPE
    ) -> None:
        """Publishes one message to any exchange and returns when it is confirmed. Raises PublishError."""
        try:
            async with asyncio.timeout(BUFFER_AGE_S):
                await self._link.up()
        except TimeoutError:
            raise NotSent from None
        message = properties(headers, content_type=content_type)
        await self._sender.send(exchange, routing_key, body, message, mandatory=True)

    def _open(self, routing_key: str, slot: int) -> _Lane:
        lane = self._lanes[routing_key, slot] = _Lane(routing_key, slot)
        task = asyncio.create_task(self._serve(lane))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return lane

    async def _serve(self, lane: _Lane) -> None:
        """Empties one lane; an empty lane is given up."""
        try:
            while self._unexpired(lane):
                if not self._link.connected:
                    await self._wait_for_link(lane)
                    continue
                batch = self._take(lane)
                await self._send(lane, batch)
                if len(batch) > 1 and len(lane.waiting) < BATCH_ENVELOPES_MAX:
                    await asyncio.sleep(LINGER_S)
        finally:
            del self._lanes[lane.key, lane.slot]
            self._give_back(lane)

    def _give_back(self, lane: _Lane) -> None:
        _fail(lane.key, [self._pop(lane) for _ in range(len(lane.waiting))], NotSent)

    def _unexpired(self, lane: _Lane) -> bool:
        """Gives back what waited too long; whether anything is left."""
        too_old = asyncio.get_running_loop().time() - BUFFER_AGE_S
        expired: list[_Waiting] = []
        while lane.waiting and lane.waiting[0][3] <= too_old:
            expired.append(self._pop(lane))
        if expired:
            log.warning("%s: %d envelopes could not be sent for %s s", lane.key, len(expired), BUFFER_AGE_S)
            _fail(lane.key, expired, NotSent)
        return bool(lane.waiting)

    async def _wait_for_link(self, lane: _Lane) -> None:
        """Returns when connected, or when the oldest envelope has waited long enough."""
        waiting = asyncio.ensure_future(self._link.up())
        try:
            oldest_age_s = asyncio.get_running_loop().time() - lane.waiting[0][3]
            await asyncio.wait({waiting}, timeout=max(0.0, BUFFER_AGE_S - oldest_age_s))
        finally:
            waiting.cancel()

    def _pop(self, lane: _Lane) -> _Waiting:
        waiting = lane.waiting.popleft()
        self._count -= 1
        self._bytes -= len(waiting[1])
        return waiting

    def _take(self, lane: _Lane) -> list[_Waiting]:
        """The next batch, without what nobody wants any more."""
        batch: list[_Waiting] = []
        size = 0
        while lane.waiting and len(batch) < BATCH_ENVELOPES_MAX:
            size += len(lane.waiting[0][1])
            if size > BATCH_BYTES_MAX:
                break
            waiting = self._pop(lane)
            if not waiting[2].done():
                batch.append(waiting)
        return batch

    async def _send(self, lane: _Lane, batch: Sequence[_Waiting]) -> None:
        if not batch:
            return
        body = pack([waiting[1] for waiting in batch])
        mandatory = lane.key in self._mandatory
        _batch.observe(len(batch))
        try:
            message = properties({SHARD_HEADER: lane.slot})
            await self._sender.send(self._exchange, lane.key, body, message, mandatory=mandatory)
        except PublishError as error:
            level = logging.ERROR if isinstance(error, Unroutable) else logging.WARNING
            log.log(level, "%s: %d envelopes from %s on: %s", lane.key, len(batch), batch[0][0], error)
            _fail(lane.key, batch, type(error))
        except asyncio.CancelledError:
            _fail(lane.key, batch, OutcomeUnknown)
            raise
        else:
            _envelopes.labels(lane.key, "confirmed").inc(len(batch))
            for _, _, future, _ in batch:
                if not future.done():
                    future.set_result(None)


def _fail(routing_key: str, batch: Sequence[_Waiting], error: type[PublishError]) -> None:
    if batch:
        _envelopes.labels(routing_key, error.__name__).inc(len(batch))
    for _, _, future, _ in batch:
        if not future.done():
            future.set_exception(error())
            # Marks it as seen: the caller need not await it.
            future.exception()
