"""What anybody with access to the broker can say and hear."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from contract.keys import EXCHANGE
from ticketrush.messages.v1 import messages_pb2 as messages

CONTENT_TYPE: Final = "application/x-protobuf"
HEARING_DEADLINE_S: Final = 60.0


class Ear:
    """A queue of our own. `queue` may serve as a `reply_to`."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self.heard: list[messages.Envelope] = []
        self._arrived = asyncio.Condition()

    async def hears(self, wanted: Callable[[messages.Envelope], bool]) -> messages.Envelope:
        """The first envelope that is wanted, from the beginning on."""
        async with asyncio.timeout(HEARING_DEADLINE_S), self._arrived:
            await self._arrived.wait_for(lambda: any(map(wanted, self.heard)))
        return next(filter(wanted, self.heard))

    async def take(self, message: AbstractIncomingMessage) -> None:
        async with self._arrived:
            self.heard.extend(messages.EnvelopeBatch.FromString(message.body).envelopes)
            self._arrived.notify_all()


@asynccontextmanager
async def listening(channel: AbstractChannel, *routing_keys: str) -> AsyncIterator[Ear]:
    """Hears what is said under these keys from now on."""
    queue = await channel.declare_queue(f"ear.{uuid4().hex}", exclusive=True, auto_delete=True)
    for routing_key in routing_keys:
        await queue.bind(EXCHANGE, routing_key)
    ear = Ear(queue.name)
    tag = await queue.consume(ear.take, no_ack=True)
    yield ear
    await queue.cancel(tag)


async def say(channel: AbstractChannel, routing_key: str, *envelopes: messages.Envelope) -> None:
    """Publishes these envelopes as one message, as the services do."""
    body = messages.EnvelopeBatch(envelopes=envelopes).SerializeToString()
    await say_bytes(channel, routing_key, body)


async def say_bytes(
    channel: AbstractChannel, routing_key: str, body: bytes, *, content_type: str = CONTENT_TYPE
) -> None:
    """Publishes anything at all."""
    exchange = await channel.get_exchange(EXCHANGE, ensure=False)
    message = aio_pika.Message(
        body, content_type=content_type, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, headers={"shard": 0}
    )
    await exchange.publish(message, routing_key)


def named(subject_id: str) -> Callable[[messages.Envelope], bool]:
    """Wants what is about this reservation or payment."""
    return lambda envelope: envelope.subject_id == subject_id
