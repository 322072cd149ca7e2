"""Messages set aside on purpose."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aio_pika import Message
from aio_pika.abc import AbstractIncomingMessage
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from chassis.batch import CONTENT_TYPE, pack
from chassis.database import Database
from chassis.parking import ParkedMessage, Parking
from contract import keys
from tests.e2e.house import House
from tests.e2e.office import DEADLINE_S
from ticketrush.messages.v1 import messages_pb2 as pb


def aside(envelope: pb.Envelope, queue: str, routing_key: str) -> ParkedMessage:
    """The envelope as it is parked at the end of the retry ladder."""
    return ParkedMessage(
        message_id=envelope.message_id,
        queue=queue,
        routing_key=routing_key,
        kind=envelope.WhichOneof("payload") or "",
        subject_id=envelope.subject_id,
        content_type=CONTENT_TYPE,
        body=pack([envelope.SerializeToString()]),
        reason="ATTEMPTS_EXHAUSTED",
        detail="on purpose",
        attempts=4,
    )


@asynccontextmanager
async def schema_of(house: House, schema: str, role: str = "") -> AsyncIterator[Database]:
    """A pool on one schema of the house, with the rights of the service that it is named for, or of another role."""
    database = Database(house.stack.database_url(role or schema), schema=schema, application="tests")
    await database.open()
    yield database
    await database.close()


async def park(house: House, schema: str, message: ParkedMessage) -> str:
    """Parks it there; its name on the command line."""
    async with schema_of(house, schema) as database:
        await Parking(database).park([message])
    [row] = await parked(house, schema, message_id=message.message_id)
    return f"{schema}/{row['parked_id']}"


async def parked(house: House, schema: str, *, message_id: str) -> list[dict[str, Any]]:
    """The rows of one message, the oldest first."""
    async with await AsyncConnection.connect(house.stack.database_url(schema), row_factory=dict_row) as conn:
        cursor = await conn.execute(
            "SELECT * FROM parked_message WHERE message_id = %s ORDER BY parked_id", (message_id,)
        )
        return await cursor.fetchall()


async def steal(house: House, queue: str) -> pb.Envelope:
    """Takes the one envelope that waits in a queue whose consumer is away."""
    stolen: list[pb.Envelope] = []
    async with house.broker() as channel:
        source = await channel.declare_queue(queue, passive=True)
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        # By consuming: from a shard nothing else is allowed.
        tag = await source.consume(arrived.put)
        message = await asyncio.wait_for(arrived.get(), DEADLINE_S)
        await source.cancel(tag)
        await message.ack()
        stolen.extend(pb.EnvelopeBatch.FromString(message.body).envelopes)
    [envelope] = stolen
    return envelope


async def throw(house: House, routing_key: str, envelope: pb.Envelope) -> None:
    """Says something on the exchange that no service would."""
    async with house.broker() as channel:
        exchange = await channel.get_exchange(keys.EXCHANGE)
        body = pack([envelope.SerializeToString()])
        await exchange.publish(Message(body, content_type=CONTENT_TYPE), routing_key=routing_key)
