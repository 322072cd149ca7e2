"""A queue of this process alone: gone when the process is, made again with each connection, and bounded."""

import logging
from collections.abc import Callable, Sequence
from typing import Final
from uuid import uuid4

from aio_pika.abc import AbstractChannel, AbstractConnection
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
    """Consumes the queue `gateway.<kind>.<uuid>`, bound to `routing_keys`; the name stays the same across reconnects.

    `take` is given each envelope. `connected` is called with each new connection, once the queue is bound and consumed
    and before it counts as up: whatever came before may have been missed.
    """

    def __init__(
        self,
        url: str,
        *,
        kind: str,
        take: Callable[[messages.Envelope], None],
        routing_keys: Sequence[str] = (),
        connected: Callable[[], None] = lambda: None,
    ) -> None:
        self.queue = f"gateway.{kind}.{uuid4().hex}"
        self.link = Link(url, name=f"gateway.{kind}", setup=self._setup, refresh=self._declare)
        self._take = take
        self._routing_keys = routing_keys
        self._connected = connected
        self._channel: AbstractChannel | None = None

    async def _setup(self, connection: AbstractConnection) -> None:
        self._channel = await self.link.channel(connection)
        await self._declare()
        await self.link.consume(self._channel, self.queue, self._receive, no_ack=True)
        self._connected()

    async def _declare(self) -> None:
        if self._channel is None:
            return
        queue = await self._channel.declare_queue(
            self.queue, exclusive=True, auto_delete=True, arguments=_ARGUMENTS, timeout=DECLARE_TIMEOUT_S
        )
        if self._routing_keys:
            await declare_exchange(self._channel, keys.EXCHANGE, passive=True)
        for routing_key in self._routing_keys:
            await queue.bind(keys.EXCHANGE, routing_key, timeout=DECLARE_TIMEOUT_S)

    def _receive(self, message: DeliveredMessage) -> None:
        try:
            batch = messages.EnvelopeBatch.FromString(message.body)
        except DecodeError:
            _garbage.inc()
            log.warning("%s: dropped a message that is no EnvelopeBatch", self.queue)
            return
        for envelope in batch.envelopes:
            self._take(envelope)
