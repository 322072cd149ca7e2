"""The services behind the gateway as they meet it on the broker: they hear commands, answer them, and say facts."""

import asyncio
from collections.abc import Callable

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage

from chassis.topology import declare
from contract import keys
from ticketrush.messages.v1 import messages_pb2 as messages

COMMAND_QUEUES = (*keys.RESERVATIONS_QUEUES, *keys.PAYMENTS_QUEUES)
COMMAND_QUEUE_NAMES = tuple(name for queue in COMMAND_QUEUES for name in queue.queues(1))

Decide = Callable[[messages.Envelope], messages.Outcome | None]


def silent(_: messages.Envelope) -> None:
    """Decides nothing."""


class Consumers:
    """Takes every command of a broker, and answers what `decide` says."""

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self._arrived = asyncio.Condition()
        self.heard: list[messages.Envelope] = []
        self.decide: Decide = silent

    async def open(self) -> None:
        """Declares the command queues, and listens on them."""
        await declare(self._channel, keys.EXCHANGE, COMMAND_QUEUES, retry_delays_s=())
        for name in COMMAND_QUEUE_NAMES:
            queue = await self._channel.get_queue(name)
            await queue.consume(self._take)

    async def forget(self) -> None:
        """Drops what was said before."""
        await declare(self._channel, keys.EXCHANGE, COMMAND_QUEUES, retry_delays_s=())
        for name in COMMAND_QUEUE_NAMES:
            await (await self._channel.get_queue(name)).purge()

    async def hears(self, count: int) -> list[messages.Envelope]:
        """All commands so far, once there are `count`."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.heard) >= count)
        return self.heard

    async def answer(self, command: messages.Envelope, outcome: messages.Outcome) -> None:
        """Sends the outcome to whoever awaits it."""
        envelope = messages.Envelope(command_id=command.message_id, outcome=outcome)
        await self._say(self._channel.default_exchange, command.reply_to, envelope)

    async def say(self, routing_key: str, fact: messages.Envelope) -> None:
        """Says a fact to the world."""
        await self._say(await self._channel.get_exchange(keys.EXCHANGE, ensure=False), routing_key, fact)

    async def answer_garbage(self, command: messages.Envelope) -> None:
        """Sends what is no EnvelopeBatch to whoever awaits the outcome."""
        await self._channel.default_exchange.publish(aio_pika.Message(b"\xff\xff"), command.reply_to)

    async def _say(self, exchange: AbstractExchange, routing_key: str, envelope: messages.Envelope) -> None:
        body = messages.EnvelopeBatch(envelopes=[envelope]).SerializeToString()
        await exchange.publish(
            aio_pika.Message(body, content_type="application/x-protobuf"), routing_key, mandatory=False
        )

    async def _take(self, message: AbstractIncomingMessage) -> None:
        for command in messages.EnvelopeBatch.FromString(message.body).envelopes:
            async with self._arrived:
                self.heard.append(command)
                self._arrived.notify_all()
            if (outcome := self.decide(command)) is not None:
                await self.answer(command, outcome)
        await message.ack()
