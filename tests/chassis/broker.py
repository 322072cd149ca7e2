"""What the tests of the messaging half share: waiting, running things in the background, reading a queue."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aiormq.abc import AbstractChannel as Channel

from ticketrush.messages.v1 import messages_pb2 as pb

DEADLINE_S = 20.0


async def until(condition: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> None:
    """Returns when the condition holds; fails when it does not within DEADLINE_S."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def running(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs them until the block ends."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results), f"ended by itself: {results}"


@asynccontextmanager
async def channel_to(amqp_url: str) -> AsyncIterator[AbstractChannel]:
    """A channel of the test's own."""
    connection = await aio_pika.connect(amqp_url, timeout=DEADLINE_S)
    async with connection:
        yield await connection.channel()


async def close_without_a_reason(channel: Channel) -> None:
    """What aiormq does to whoever waits on a channel whose connection goes in a certain order: a bare Exception."""
    await channel._cancel_tasks(None)  # type: ignore[attr-defined] # how it comes about is a race


def envelope(message_id: str | None = None, **fields: Any) -> pb.Envelope:
    """An envelope with a payload."""
    envelope = pb.Envelope(message_id=message_id or str(uuid4()), **fields)
    if envelope.WhichOneof("payload") is None:
        envelope.reserve_tickets.reservation_id = "r"
    return envelope


async def next_message(queue: AbstractQueue) -> AbstractIncomingMessage:
    """Takes and acks the next message, waiting for it."""
    arrived: list[AbstractIncomingMessage] = []

    async def arrives() -> bool:
        arrived.extend(filter(None, [await queue.get(fail=False)]))
        return bool(arrived)

    await until(arrives)
    await arrived[0].ack()
    return arrived[0]


async def next_batch(queue: AbstractQueue) -> list[str]:
    """The message ids of the envelopes in the next message."""
    batch = pb.EnvelopeBatch.FromString((await next_message(queue)).body)
    return [envelope.message_id for envelope in batch.envelopes]
