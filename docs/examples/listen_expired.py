"""An integrator's consumer: says whose hold ran out, and which tickets are on sale again.

    AMQP_URL=... python docs/examples/listen_expired.py

`.run/stack.env` has the local stack's AMQP_URL. Facts are said at least once: whoever acts on one must remember its
`message_id`, or act in a way that may be repeated. The queue is durable, bounded and yours: what is said while you are
away waits for you, up to its limit, after which the oldest goes first.
"""

import asyncio
import os
import sys

import aio_pika

from ticketrush.messages.v1.messages_pb2 import EnvelopeBatch

EXCHANGE = "tickets"
ROUTING_KEY = "ticket.expired"
QUEUE = "example.expired"
MESSAGES_MAX = 10_000
PREFETCH_MESSAGES = 16


async def main(amqp_url: str) -> None:
    connection = await aio_pika.connect_robust(amqp_url, timeout=5, heartbeat=10)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(PREFETCH_MESSAGES)
        queue = await channel.declare_queue(
            QUEUE, durable=True, arguments={"x-queue-type": "quorum", "x-max-length": MESSAGES_MAX}
        )
        await queue.bind(EXCHANGE, ROUTING_KEY)
        print("listening", flush=True)  # noqa: T201 - an example speaks to a person
        async with queue.iterator() as messages:
            async for message in messages:
                # Acked when the block ends, given back when it raises.
                async with message.process(requeue=True):
                    tell(message.body)


def tell(body: bytes) -> None:
    """One line for each fact in the body of a message."""
    for envelope in EnvelopeBatch.FromString(body).envelopes:
        hold = envelope.tickets_expired.reservation
        seats = ", ".join(f"{ticket.section} {ticket.row}/{ticket.seat}" for ticket in hold.tickets)
        print(f"{envelope.message_id} {hold.buyer_id} lost {seats}", flush=True)  # noqa: T201


if __name__ == "__main__":
    if not os.environ.get("AMQP_URL"):
        sys.stderr.write("Set AMQP_URL to the broker's URL; the local stack's is in .run/stack.env (`make up`).\n")
        sys.exit(2)
    asyncio.run(main(os.environ["AMQP_URL"]))
