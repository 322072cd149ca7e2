"""The whole process: from the command on the broker to the fact on the broker, through kill -9 and SIGTERM."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractQueue

from chassis.batch import CONTENT_TYPE, pack
from chassis.database import Database
from chassis.healthcheck import is_serving
from contract import keys
from deploy.stack import Stack
from tests.chassis.broker import channel_to, next_message, until
from tests.gateway.vhosts import vhost
from tests.payments.fakes import FakeProvider, FakeReservations, serving
from tests.payments.process import PaymentsProcess
from tests.payments.system import id_of, pay_command, refund_command
from ticketrush.messages.v1 import messages_pb2 as pb

FACTS = (keys.PAYMENT_APPROVED, keys.PAYMENT_REJECTED, keys.REFUND_COMPLETED)


@pytest.fixture
def broker_url(stack: Stack, unique: str) -> Iterator[str]:
    with vhost(stack, unique) as url:
        yield url


@pytest.fixture
async def channel(broker_url: str) -> AsyncIterator[AbstractChannel]:
    async with channel_to(broker_url) as channel:
        yield channel


@pytest.fixture
async def facts(channel: AbstractChannel) -> AbstractQueue:
    """Takes what reservations would take."""
    await channel.declare_exchange(keys.EXCHANGE, "topic", durable=True)
    queue = await channel.declare_queue(exclusive=True)
    for key in FACTS:
        await queue.bind(keys.EXCHANGE, key)
    return queue


@pytest.fixture
async def process(
    broker_url: str, database_url: str, provider: FakeProvider, reservations: FakeReservations
) -> AsyncIterator[PaymentsProcess]:
    async with serving(provider, reservations) as address:
        process = PaymentsProcess(
            amqp_url=broker_url,
            database_url=database_url,
            reservations_address=address,
            provider_address=address,
        )
        try:
            await process.start()
            yield process
        finally:
            await process.kill()


async def test_it_charges_refunds_and_says_so_and_stops_cleanly(
    process: PaymentsProcess, channel: AbstractChannel, facts: AbstractQueue, provider: FakeProvider
) -> None:
    await _until_serving(process)
    command = pay_command(reply_to="gateway.1")
    await _say(channel, keys.PAYMENT_REQUESTED, command)
    approved = await _next(facts)
    assert (approved.WhichOneof("payload"), approved.subject_id) == ("payment_approved", id_of(command))
    assert (approved.reply_to, approved.command_id) == ("gateway.1", command.message_id)
    await _say(channel, keys.REFUND_REQUESTED, refund_command(command))
    assert (await _next(facts)).WhichOneof("payload") == "refund_completed"
    assert provider.taken_minor() == 0
    assert await process.stop() == 0
    assert "pm_card" not in "".join(process.lines)


async def test_killed_with_a_card_under_way_it_charges_once_and_says_so_after_the_restart(
    process: PaymentsProcess,
    channel: AbstractChannel,
    facts: AbstractQueue,
    provider: FakeProvider,
    database: Database,
) -> None:
    command = pay_command()
    provider.script[id_of(command)].append("lose_reply")
    await _until_serving(process)
    await _say(channel, keys.PAYMENT_REQUESTED, command)
    await provider.charged.wait()
    await process.kill()
    async with database.transaction() as conn:
        await conn.execute("UPDATE payment SET due_time = clock_timestamp()")
    await process.start()
    assert (await _next(facts)).subject_id == id_of(command)
    assert provider.taken_minor() == 5_000


async def test_it_stops_in_time_with_a_slow_card_under_way(
    process: PaymentsProcess, channel: AbstractChannel, facts: AbstractQueue, provider: FakeProvider
) -> None:
    assert facts.name
    provider.gate.clear()
    await _until_serving(process)
    await _say(channel, keys.PAYMENT_REQUESTED, pay_command())
    await until(lambda: provider.in_flight == 1)
    assert await process.stop() == 0


async def _until_serving(process: PaymentsProcess) -> None:
    async def serves() -> bool:
        return await asyncio.to_thread(is_serving, process.address)

    await until(serves)


async def _say(channel: AbstractChannel, routing_key: str, command: pb.Envelope) -> None:
    exchange = await channel.get_exchange(keys.EXCHANGE)
    body = pack([command.SerializeToString()])
    await exchange.publish(Message(body, content_type=CONTENT_TYPE), routing_key)


async def _next(queue: AbstractQueue) -> pb.Envelope:
    [envelope] = pb.EnvelopeBatch.FromString((await next_message(queue)).body).envelopes
    return envelope
