"""A queue of this process alone: gone when the process is, made again with each connection, and bounded."""

import logging
from collections.abc import Callable, Sequence
from typing import Final
from uuid import uuid4

from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractQueue
from aiormq.abc import DeliveredMessage
from google.protobuf.message import DecodeError
from pamqp.common import FieldTable
from prometheus_client import Counter

from chassis.connection import Link
from chassis.topology import declare_exchange
from contract import keys
from ticketrush.messages.v1 import messages_pb2 as messages

log = logging.getLogger(__name__)

BYTES_MAX: Final = 64 * 1024 * 1024
DECLARE_TIMEOUT_S: Final = 5.0
# What is lost here costs a PENDING answer or a second read; refusing would make the services wait for us.
_ARGUMENTS: Final[FieldTable] = {"x-max-length-bytes": BYTES_MAX, "x-overflow": "drop-head"}

_garbage = Counter("ticketrush_gateway_garbage_messages", "Messages in our own queues that are no EnvelopeBatch.")


class Inbox:
    """Consumes a queue `gateway.<kind>.<uuid>`, bound to `routing_keys`: another one with each connection.

    `take` is given each envelope. `connected` is called with the queue's name on each new connection, once it is bound
    and consumed and before it counts as up: whatever came before may have been missed.
    """

    def __init__(
        self,
        url: str,
        *,
        kind: str,
        take: Callable[[messages.Envelope], None],
        routing_keys: Sequence[str] = (),
        connected: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._kind = kind
        self.link = Link(url, name=f"gateway.{kind}", setup=self._setup, refresh=self._refresh)
        self._take = take
        self._routing_keys = routing_keys
        self._connected = connected
        self._channel: AbstractChannel | None = None
        self._queue: AbstractQueue | None = None

    async def _setup(self, connection: AbstractConnection) -> None:
        channel = self._channel = await self.link.channel(connection)
        # A broker that froze and goes on clears up after the connection that it took for alive. A queue of that name
        # would be refused to us until then, or go with the old one, and nobody would be told.
        name = f"gateway.{self._kind}.{uuid4().hex}"
        self._queue = await channel.declare_queue(
            name, exclusive=True, auto_delete=True, arguments=_ARGUMENTS, timeout=DECLARE_TIMEOUT_S
        )
        await self._bind(channel, self._queue)
        await self.link.consume(channel, name, self._receive, no_ack=True)
        self._connected(name)

    async def _refresh(self) -> None:
        """A queue that is gone is not made again beside its consumer: asking for it ends the channel, and the link."""
        channel, queue = self._channel, self._queue
        if channel is not None and queue is not None:
            await channel.declare_queue(queue.name, passive=True, timeout=DECLARE_TIMEOUT_S)
            await self._bind(channel, queue)

    async def _bind(self, channel: AbstractChannel, queue: AbstractQueue) -> None:
        if self._routing_keys:
            await declare_exchange(channel, keys.EXCHANGE, passive=True)
        for routing_key in self._routing_keys:
            await queue.bind(keys.EXCHANGE, routing_key, timeout=DECLARE_TIMEOUT_S)

    def _receive(self, message: DeliveredMessage) -> None:
        try:
            batch = messages.EnvelopeBatch.FromString(message.body)
        except DecodeError:
            _garbage.inc()
            log.warning("gateway.%s: dropped a message that is no EnvelopeBatch", self._kind)
            return
        for envelope in batch.envelopes:
            self._take(envelope)
