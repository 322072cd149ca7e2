"""What becomes of what is said."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from aio_pika.abc import AbstractChannel, AbstractQueue

from chassis import publisher as publisher_module
from chassis import sender
from chassis.publisher import NotSent, OutcomeUnknown, Overloaded, Publisher, Rejected, Unroutable
from chassis.topology import WorkQueue, declare, declare_exchange
from tests.chassis.broker import close_without_a_reason, envelope, next_batch, next_message, running, until
from tests.chassis.proxy import Proxy
from ticketrush.messages.v1 import messages_pb2 as pb

KEY = "thing.said"
UNHEARD = "thing.unheard"


@pytest.fixture
async def publisher(wire: Proxy, unique: str) -> AsyncIterator[Publisher]:
    # Of so many shards that each shard key below is a slot of its own.
    mandatory = frozenset({KEY, UNHEARD})
    publisher = Publisher(wire.url, exchange=unique, mandatory_keys=mandatory, name=unique, shards=8)
    async with running(publisher.run()):
        await until(lambda: publisher.connected)
        yield publisher


@pytest.fixture
async def queue(channel: AbstractChannel, unique: str) -> AbstractQueue:
    """Takes whatever is said as KEY."""
    await declare_exchange(channel, unique)
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind(unique, KEY)
    return queue


def say(publisher: Publisher, *message_ids: str, key: str = KEY, shard: int = 0) -> list["asyncio.Future[None]"]:
    return [
        publisher.publish(key, message_id, envelope(message_id).SerializeToString(), shard=shard)
        for message_id in message_ids
    ]


async def test_what_is_said_in_one_turn_travels_together_and_in_order(
    publisher: Publisher, queue: AbstractQueue
) -> None:
    said = [f"m{number}" for number in range(600)]
    await asyncio.gather(*say(publisher, *said))
    batches = [await next_batch(queue) for _ in range(3)]
    assert [len(batch) for batch in batches] == [256, 256, 88]
    assert [message_id for batch in batches for message_id in batch] == said


async def test_a_message_takes_no_more_bytes_than_it_may(publisher: Publisher, queue: AbstractQueue) -> None:
    big = [envelope(traceparent="x" * 300_000).SerializeToString() for _ in range(2)]
    await asyncio.gather(*(publisher.publish(KEY, "m", one) for one in big))
    assert [len(await next_batch(queue)) for _ in range(2)] == [1, 1]
    with pytest.raises(ValueError, match="600"):
        publisher.publish(KEY, "m", b"x" * 600_000)


async def test_what_is_said_while_a_message_is_in_flight_forms_the_next_one(
    publisher: Publisher, queue: AbstractQueue, wire: Proxy
) -> None:
    wire.mute()
    first = say(publisher, "first")
    await asyncio.sleep(0)  # the lane takes it
    rest = [future for message_id in "abc" for future in say(publisher, message_id)]
    wire.unmute()
    await asyncio.gather(*first, *rest)
    assert await next_batch(queue) == ["first"]
    assert await next_batch(queue) == ["a", "b", "c"]


async def test_a_message_holds_one_shard_and_says_which(publisher: Publisher, queue: AbstractQueue) -> None:
    await asyncio.gather(*say(publisher, "a", shard=1), *say(publisher, "b", shard=2))
    messages = [await next_message(queue) for _ in range(2)]
    assert {message.headers["shard"] for message in messages} == {1, 2}


async def test_a_message_says_what_it_is(publisher: Publisher, queue: AbstractQueue) -> None:
    await asyncio.gather(*say(publisher, "a"))
    message = await next_message(queue)
    assert message.content_type == "application/x-protobuf"
    assert message.type == "ticketrush.messages.v1.EnvelopeBatch"
    assert message.delivery_mode == 2
    assert message.message_id
    assert message.timestamp


@pytest.mark.usefixtures("queue")
async def test_messages_in_flight_keep_their_own_outcomes(publisher: Publisher) -> None:
    """Also when they carry the same envelope: the broker tells returned messages apart by message_id only."""
    heard = [future for shard in range(50) for future in say(publisher, "same", shard=shard)]
    unheard = [future for shard in range(50) for future in say(publisher, "same", shard=shard, key=UNHEARD)]
    assert await asyncio.gather(*heard) == [None] * 50
    errors = await asyncio.gather(*unheard, return_exceptions=True)
    assert [type(error) for error in errors] == [Unroutable] * 50


async def test_what_nobody_is_bound_to_take_is_not_taken(publisher: Publisher) -> None:
    with pytest.raises(Unroutable):
        await say(publisher, "a")[0]
    assert publisher.connected


async def test_a_full_queue_refuses(publisher: Publisher, channel: AbstractChannel, unique: str) -> None:
    await declare(channel, unique, [WorkQueue(f"{unique}.work", (KEY,), unique, length_max=1)])
    # The broker counts with a delay of a message or two.
    for shard in range(20):
        await asyncio.wait(say(publisher, "m", shard=shard))
    with pytest.raises(Rejected):
        await say(publisher, "m")[0]
    assert publisher.connected


async def test_a_silent_broker_leaves_it_unknown_and_is_left(
    publisher: Publisher, queue: AbstractQueue, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "PUBLISH_TIMEOUT_S", 0.2)
    wire.mute()
    (future,) = say(publisher, "lost")
    with pytest.raises(OutcomeUnknown):
        await future
    assert not publisher.connected
    wire.unmute()
    await asyncio.gather(*say(publisher, "heard"))
    # It may have been taken: the bytes were on their way.
    batches = [await next_batch(queue)]
    if batches == [["lost"]]:
        batches = [await next_batch(queue)]
    assert batches == [["heard"]]


async def test_a_cut_connection_leaves_it_unknown_and_is_built_again(
    publisher: Publisher, queue: AbstractQueue, wire: Proxy
) -> None:
    wire.mute()
    (future,) = say(publisher, "lost")
    await asyncio.sleep(0)
    wire.cut()
    with pytest.raises(OutcomeUnknown):
        await future
    wire.unmute()
    await asyncio.gather(*say(publisher, "heard"))
    assert await next_batch(queue) == ["heard"]


async def test_a_channel_closed_without_a_reason_leaves_it_unknown_and_is_opened_again(
    publisher: Publisher, queue: AbstractQueue, wire: Proxy
) -> None:
    wire.mute()
    (future,) = say(publisher, "lost")
    await asyncio.sleep(0)
    confirming = publisher._sender._confirming
    assert confirming
    await close_without_a_reason(confirming)
    with pytest.raises(OutcomeUnknown):
        await future
    wire.unmute()
    await asyncio.gather(*say(publisher, "heard"))
    # The first may have been taken: that is what is unknown.
    batch = await next_batch(queue)
    assert (await next_batch(queue) if batch == ["lost"] else batch) == ["heard"]


async def test_a_deleted_exchange_is_declared_again(
    publisher: Publisher, channel: AbstractChannel, unique: str
) -> None:
    await channel.exchange_delete(unique)
    with pytest.raises(OutcomeUnknown):
        await say(publisher, "lost")[0]
    await until(lambda: publisher.connected)
    with pytest.raises(Unroutable):
        await say(publisher, "no queue")[0]


async def test_without_a_broker_it_is_given_back_unsent(
    publisher: Publisher, wire: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "BUFFER_AGE_S", 0.2)
    wire.refuse()
    await until(lambda: not publisher.connected)
    with pytest.raises(NotSent):
        await say(publisher, "a")[0]
    wire.accept()
    await until(lambda: publisher.connected)


async def test_more_than_the_buffer_holds_is_refused_at_once(
    publisher: Publisher, queue: AbstractQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher_module, "BUFFER_ENVELOPES_MAX", 2)
    first, second, third = say(publisher, "a", "b", "c")
    with pytest.raises(Overloaded):
        await third
    await asyncio.gather(first, second)
    await asyncio.gather(*say(publisher, "d"))
    assert [await next_batch(queue), await next_batch(queue)] == [["a", "b"], ["d"]]


async def test_what_nobody_waits_for_any_more_is_not_sent(publisher: Publisher, queue: AbstractQueue) -> None:
    futures = say(publisher, "a", "b", "c")
    futures[1].cancel()
    await asyncio.gather(futures[0], futures[2])
    assert await next_batch(queue) == ["a", "c"]


async def test_stopping_fails_what_was_not_confirmed(wire: Proxy, unique: str) -> None:
    publisher = Publisher(wire.url, exchange=unique, mandatory_keys=frozenset(), name=unique)
    async with running(publisher.run()):
        await until(lambda: publisher.connected)
        wire.mute()
        in_flight = say(publisher, "a")
        await asyncio.sleep(0)
        waiting = say(publisher, "b")
    assert isinstance(in_flight[0].exception(), OutcomeUnknown)
    assert isinstance(waiting[0].exception(), NotSent)


async def test_stopping_fails_even_what_was_said_in_the_last_instant(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[asyncio.Future[None]] = []

    async def end() -> None:
        said.extend(say(publisher, "a"))
        raise asyncio.CancelledError

    monkeypatch.setattr(publisher._link, "run", end)
    with pytest.raises(asyncio.CancelledError):
        await publisher.run()
    with pytest.raises(NotSent):
        await said[0]


@pytest.mark.usefixtures("queue")
async def test_draining_waits_for_the_confirms(publisher: Publisher) -> None:
    futures = say(publisher, *(str(number) for number in range(300)))
    await publisher.drain()
    assert all(future.done() for future in futures)


async def test_outcomes_of_one_turn_travel_together_and_straight_to_their_queue(
    publisher: Publisher, channel: AbstractChannel
) -> None:
    replies = await channel.declare_queue(exclusive=True)
    for message_id in "abc":
        publisher.send_outcome(replies.name, envelope(message_id).SerializeToString())
    assert await next_batch(replies) == ["a", "b", "c"]


@pytest.mark.usefixtures("queue")
async def test_an_outcome_for_a_queue_that_is_gone_harms_nobody(publisher: Publisher) -> None:
    publisher.send_outcome("nobody", envelope().SerializeToString())
    await publisher.drain()
    await asyncio.gather(*say(publisher, "a"))
    assert publisher.connected


async def test_a_caller_of_republish_learns_its_outcome(
    publisher: Publisher, queue: AbstractQueue, unique: str
) -> None:
    body = pb.EnvelopeBatch(envelopes=[envelope("a")]).SerializeToString()
    await publisher.republish(unique, KEY, body, {})
    assert await next_batch(queue) == ["a"]
    with pytest.raises(Unroutable):
        await publisher.republish(unique, "nobody", body, {})


async def test_what_the_owner_declares_is_there_on_each_connection(
    wire: Proxy, unique: str, channel: AbstractChannel
) -> None:
    work = WorkQueue(f"{unique}.work", (KEY,), unique)
    furniture = partial(declare, exchange=unique, queues=[work])
    publisher = Publisher(wire.url, exchange=unique, mandatory_keys=frozenset({KEY}), name=unique, declare=furniture)
    async with running(publisher.run()):
        await asyncio.gather(*say(publisher, "a"))
        await channel.queue_delete(work.shard(0))
        wire.cut()
        await until(lambda: not publisher.connected)
        await asyncio.gather(*say(publisher, "b"))
