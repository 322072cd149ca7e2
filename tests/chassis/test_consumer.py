"""What is taken is handled, however often and in whatever company it takes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aio_pika
import psycopg
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from chassis.batch import CONTENT_TYPE
from chassis.consumer import ENVELOPES_MAX, Consumer, Failure, Poison
from chassis.database import Database
from chassis.delivery import ATTEMPT_HEADER
from chassis.parking import Backstop, Parking
from chassis.publisher import Publisher
from chassis.topology import DELIVERY_LIMIT, WorkQueue, declare, parked_queue
from tests.chassis.broker import envelope, running, until
from tests.chassis.proxy import Proxy
from ticketrush.messages.v1 import messages_pb2 as pb

KEY = "thing.said"
RETRY_DELAYS_S = (0.1, 0.2, 0.3)
KIND = "reserve_tickets"
OTHER_KIND = "cancel_reservation"


@dataclass
class Desk:
    """A service with one queue: what its handler was handed, and the broker around it."""

    database: Database
    wire: Proxy
    channel: AbstractChannel
    work: WorkQueue
    publisher: Publisher
    handle: Callable[[Sequence[str]], Any] = lambda _: None
    batches: list[list[str]] = field(default_factory=list)

    @property
    def handled(self) -> list[str]:
        return [message_id for batch in self.batches for message_id in batch]

    @property
    def inbox(self) -> str:
        return self.work.shard(0)

    @property
    def exchange(self) -> str:
        return self.work.service

    async def handler(self, envelopes: Sequence[pb.Envelope]) -> Sequence[Failure]:
        """`handle` raises, or returns the errors by message id, at once or later."""
        message_ids = [envelope.message_id for envelope in envelopes]
        self.batches.append(message_ids)
        errors = self.handle(message_ids)
        if asyncio.iscoroutine(errors):
            errors = await errors
        return [Failure(one, errors[one.message_id]) for one in envelopes if errors and one.message_id in errors]

    def consumer(self, *, envelopes_max: int = ENVELOPES_MAX) -> Consumer:
        return Consumer(
            self.wire.url,
            queue=self.work,
            exchange=self.exchange,
            handlers={KIND: self.handler, OTHER_KIND: self.handler},
            publisher=self.publisher,
            parking=Parking(self.database),
            envelopes_max=envelopes_max,
            retry_delays_s=RETRY_DELAYS_S,
        )

    async def send(self, *envelopes: pb.Envelope) -> None:
        """One message, straight into the queue."""
        await self.send_body(pb.EnvelopeBatch(envelopes=envelopes).SerializeToString())

    async def send_body(self, body: bytes, content_type: str = CONTENT_TYPE, *, attempt: int = 0) -> None:
        message = aio_pika.Message(body, content_type=content_type, headers={ATTEMPT_HEADER: attempt})
        await self.channel.default_exchange.publish(message, self.inbox)

    async def ready(self) -> int:
        """How many messages wait in the queue, taken by nobody."""
        queue = await self.channel.declare_queue(self.inbox, passive=True)
        return queue.declaration_result.message_count or 0

    async def parked(self) -> list[tuple[Any, ...]]:
        async with self.database.transaction() as conn:
            cursor = await conn.execute("SELECT reason, kind, attempts, body FROM parked_message ORDER BY parked_id")
            return await cursor.fetchall()

    async def reasons(self) -> list[str]:
        return sorted(reason for reason, *_ in await self.parked())

    async def give_back(self, times: int) -> None:
        """Takes the first message and returns it to the queue, so often."""
        queue = await self.channel.get_queue(self.inbox)
        await self.channel.set_qos(prefetch_count=1)
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        tag = await queue.consume(arrived.put)
        for left in reversed(range(times)):
            message = await asyncio.wait_for(arrived.get(), timeout=5)
            if not left:
                await queue.cancel(tag)
            await message.nack(requeue=True)


@pytest.fixture
async def desk(database: Database, wire: Proxy, channel: AbstractChannel, unique: str) -> AsyncIterator[Desk]:
    work = WorkQueue(f"{unique}.work", (KEY,), unique)
    await declare(channel, unique, [work], retry_delays_s=RETRY_DELAYS_S)
    publisher = Publisher(wire.url, exchange=unique, mandatory_keys=frozenset({KEY}), name=unique)
    async with running(publisher.run()):
        yield Desk(database, wire, channel, work, publisher)


async def test_kinds_that_alternate_are_one_batch_each(desk: Desk) -> None:
    other = pb.CancelReservation(reservation_id="r")
    await desk.send(
        envelope("a"),
        envelope("1", cancel_reservation=other),
        envelope("b"),
        envelope("2", cancel_reservation=other),
        envelope("c"),
    )
    async with running(desk.consumer().run()):
        await until(lambda: len(desk.handled) == 5)
    assert desk.batches == [["a", "b", "c"], ["1", "2"]]


async def test_messages_that_wait_are_handled_together_and_in_order(desk: Desk) -> None:
    await desk.send(envelope("a"), envelope("b"))
    await desk.send(envelope("c"))
    async with running(desk.consumer().run()):
        await until(lambda: len(desk.handled) == 3)
    assert desk.handled == ["a", "b", "c"]
    assert await desk.ready() == 0


async def test_a_batch_holds_one_payload_only(desk: Desk) -> None:
    other = pb.Envelope(message_id="other", outcome=pb.Outcome())
    await desk.send(envelope("a"), envelope("b"), other, envelope("c"))
    async with running(desk.consumer().run()):
        await until(lambda: len(desk.handled) == 3)
        await until(lambda: _has(desk, 1))
    assert desk.batches == [["a", "b", "c"]]


async def test_a_message_is_acked_only_after_its_handler_returned(desk: Desk) -> None:
    release = asyncio.Event()

    async def handle(_: Sequence[str]) -> None:
        await release.wait()

    desk.handle = handle
    await desk.send(envelope("a"))
    async with running(desk.consumer().run()):
        await until(lambda: desk.handled == ["a"])
    await until(lambda: _is_ready(desk, 1))  # its consumer died in the middle
    release.set()
    async with running(desk.consumer().run()):
        await until(lambda: desk.handled == ["a", "a"])
        await desk.send(envelope("b"))
        await until(lambda: desk.handled == ["a", "a", "b"])
    await until(lambda: _is_ready(desk, 0))


async def test_a_second_batch_is_taken_beside_the_first_only_when_it_is_full(desk: Desk) -> None:
    release = asyncio.Event()

    async def handle(_: Sequence[str]) -> None:
        await release.wait()

    desk.handle = handle
    async with running(desk.consumer(envelopes_max=2).run()):
        await desk.send(envelope("a"))
        await until(lambda: desk.batches == [["a"]])
        await desk.send(envelope("b"))
        await until(lambda: _is_ready(desk, 0))  # it came, and is not taken
        assert desk.batches == [["a"]]
        for message_id in "cdef":
            await desk.send(envelope(message_id))
        await until(lambda: desk.batches == [["a"], ["b", "c"]])
        await until(lambda: _is_ready(desk, 0))
        assert len(desk.batches) == 2  # there are two at most
        release.set()
        await until(lambda: desk.handled == list("abcdef"))


async def test_the_second_of_two_batches_is_acked_without_the_first(desk: Desk) -> None:
    async def handle(message_ids: Sequence[str]) -> None:
        if "a" in message_ids:
            await asyncio.Event().wait()

    desk.handle = handle
    for message_id in "abcd":
        await desk.send(envelope(message_id))
    async with running(desk.consumer(envelopes_max=2).run()):
        await until(lambda: desk.handled == list("abcd"))
        # More than two wait for the worker that is free: what it takes now it has taken behind its ack of c and d.
        await desk.send(envelope("e"), envelope("f"))
        await until(lambda: desk.handled == list("abcdef"))
    # Its consumer died in the middle of the first.
    await until(lambda: _is_ready(desk, 2))
    desk.handle = lambda _: None
    async with running(desk.consumer().run()):
        await until(lambda: sorted(desk.handled[6:]) == ["a", "b"])


async def test_a_worker_that_fails_beside_another_gives_its_own_batch_back(desk: Desk) -> None:
    """The other is done later: it must not ack what came before it."""
    release, failed = asyncio.Event(), asyncio.Event()
    consumer = desk.consumer(envelopes_max=1)

    async def handler(envelopes: Sequence[pb.Envelope]) -> Sequence[Failure]:
        desk.batches.append([one.message_id for one in envelopes])
        if desk.handled == ["a"]:
            await release.wait()
            failed.set()
            return [Failure(envelope("stranger"), ValueError())]
        if desk.handled == ["a", "b"]:
            release.set()
            await failed.wait()
        return []

    consumer._handlers = {KIND: handler}
    await desk.send(envelope("a"))
    await desk.send(envelope("b"))
    async with running(consumer.run()):
        await until(lambda: desk.handled.count("a") == 2)
    assert await desk.ready() == 0


async def test_what_can_never_work_is_parked_with_its_reason_and_its_neighbours_go_through(desk: Desk) -> None:
    malformed = bytes([0x0A, 3]) + b"\x0a\x01\xff"  # message_id is not UTF-8
    good = pb.EnvelopeBatch(envelopes=[envelope("beside")]).SerializeToString()
    desk.handle = lambda _: {"bad": Poison("no such section")}
    await desk.send_body(b"\xff garbage")
    await desk.send_body(b"")
    await desk.send_body(good, content_type="application/json")
    await desk.send_body(malformed + good)
    await desk.send(pb.Envelope(message_id="empty"), pb.Envelope(message_id="unheard", outcome=pb.Outcome()))
    await desk.send(envelope("good"), envelope("bad"), envelope("too"))
    async with running(desk.consumer().run()):
        await until(lambda: _has(desk, 7))
    assert await desk.reasons() == [
        "MALFORMED",
        "NOT_AN_ENVELOPE",
        "NOT_A_BATCH",
        "NOT_A_BATCH",
        "UNKNOWN_PAYLOAD",
        "UNKNOWN_PAYLOAD",
        "WRONG_CONTENT_TYPE",
    ]
    assert desk.handled == ["beside", "good", "bad", "too"]
    assert await desk.ready() == 0


async def test_text_that_postgresql_cannot_hold_is_parked_all_the_same(desk: Desk) -> None:
    await desk.send(pb.Envelope(message_id="nul\0" + "x" * 1000))
    async with running(desk.consumer().run()):
        await until(lambda: _has(desk, 1))


async def test_a_message_parked_twice_is_there_once(desk: Desk) -> None:
    consumer = desk.consumer()
    await desk.send(pb.Envelope(message_id="empty"))
    async with running(consumer.run()):
        await until(lambda: _has(desk, 1))
        await desk.send(pb.Envelope(message_id="empty"))
        await desk.send(pb.Envelope(message_id="empty", subject_id="another body"), envelope("good"))
        await until(lambda: desk.handled == ["good"])
        await consumer.drain()
    assert await desk.reasons() == ["UNKNOWN_PAYLOAD", "UNKNOWN_PAYLOAD"]


async def test_a_failed_envelope_climbs_the_ladder_alone_and_is_parked_at_its_end(
    desk: Desk, channel: AbstractChannel
) -> None:
    bystander = await channel.declare_queue(exclusive=True)
    await bystander.bind(desk.exchange, KEY)
    await desk.publisher.publish(KEY, "", envelope("before").SerializeToString())
    await bystander.get(timeout=5)
    desk.handle = lambda message_ids: {"bad": ValueError("not now")} if "bad" in message_ids else {}
    await desk.send(envelope("good"), envelope("bad"))
    async with running(desk.consumer().run()):
        await until(lambda: _has(desk, 1))
    # How many batches the two messages came in is the broker's business.
    *first, second, third, fourth = desk.batches
    assert [name for batch in first for name in batch] == ["before", "good", "bad"]
    assert [second, third, fourth] == [["bad"]] * 3
    ((reason, kind, attempts, body),) = await desk.parked()
    assert (reason, kind, attempts) == ("ATTEMPTS_EXHAUSTED", KIND, 4)
    assert pb.EnvelopeBatch.FromString(body).envelopes[0].message_id == "bad"
    assert await bystander.get(fail=False) is None


async def test_a_second_chance_is_enough(desk: Desk) -> None:
    desk.handle = lambda message_ids: {"bad": ValueError("not now")} if len(message_ids) > 1 else {}
    await desk.send(envelope("good"), envelope("bad"))
    async with running(desk.consumer().run()):
        await until(lambda: desk.batches == [["good", "bad"], ["bad"]])
    assert await desk.ready() == 0
    assert await desk.parked() == []


async def test_an_error_of_the_batch_is_looked_for_in_parts(desk: Desk) -> None:
    done: list[str] = []

    def handle(message_ids: Sequence[str]) -> None:
        if "bad" in message_ids:
            raise ValueError("not now")
        done.extend(message_ids)

    desk.handle = handle
    names = [str(number) for number in range(20)]
    await desk.send(*(envelope(name) for name in [*names[:7], "bad", *names[7:]]))
    async with running(desk.consumer().run()):
        await until(lambda: _has(desk, 1))
    assert done == names
    assert desk.batches.count(["bad"]) == 1 + len(RETRY_DELAYS_S)


async def test_what_has_failed_before_is_kept_apart_from_its_neighbours(desk: Desk) -> None:
    await desk.send(envelope("a"))
    await desk.send_body(pb.EnvelopeBatch(envelopes=[envelope("failed")]).SerializeToString(), attempt=1)
    await desk.send(envelope("b"))
    async with running(desk.consumer().run()):
        await until(lambda: len(desk.handled) == 3)
    assert desk.batches == [["a", "b"], ["failed"]]


async def test_bad_luck_is_tried_again_and_never_blamed_on_an_envelope(desk: Desk) -> None:
    errors = [psycopg.errors.DeadlockDetected(), psycopg.errors.SerializationFailure()]

    def handle(_: Sequence[str]) -> None:
        if errors:
            raise errors.pop()

    desk.handle = handle
    await desk.send(envelope("a"), envelope("b"))
    async with running(desk.consumer().run()):
        await until(lambda: len(desk.batches) == 3)
    assert desk.batches == [["a", "b"]] * 3
    assert await desk.ready() == 0


async def test_a_database_that_is_gone_is_waited_for(desk: Desk) -> None:
    """Longer than any number of attempts: nothing is wrong with the messages."""
    errors = [psycopg.OperationalError("the connection is lost") for _ in range(6)]

    def handle(_: Sequence[str]) -> None:
        if errors:
            raise errors.pop()

    desk.handle = handle
    await desk.send(envelope("a"), envelope("b"))
    async with running(desk.consumer().run()):
        await until(lambda: not errors and len(desk.batches) == 7)
    assert desk.batches == [["a", "b"]] * 7
    assert await desk.ready() == 0
    assert await desk.parked() == []


async def test_a_message_that_came_back_three_times_is_taken_alone(desk: Desk) -> None:
    await desk.send(envelope("suspect"))
    await desk.give_back(3)
    await desk.send(envelope("a"))
    await desk.send(envelope("b"))
    async with running(desk.consumer().run()):
        await until(lambda: len(desk.handled) == 3)
    assert sorted(desk.batches) == [["a", "b"], ["suspect"]]


async def test_a_message_that_is_never_acked_lands_in_the_table(desk: Desk) -> None:
    await desk.publisher.publish(KEY, "", envelope("deadly").SerializeToString())
    await desk.give_back(DELIVERY_LIMIT + 1)
    backstop = Backstop(desk.wire.url, service=desk.work.service, parking=Parking(desk.database))
    async with running(backstop.run()):
        await until(lambda: _has(desk, 1))
    async with desk.database.transaction() as conn:
        cursor = await conn.execute("SELECT message_id, queue, routing_key, reason FROM parked_message")
        assert await cursor.fetchall() == [("deadly", desk.work.name, KEY, "DELIVERY_LIMIT")]
    left = await desk.channel.declare_queue(parked_queue(desk.work.service), passive=True)
    assert left.declaration_result.message_count == 0


async def test_a_worker_that_fails_gives_everything_back(desk: Desk) -> None:
    """Here: a handler that names an envelope it was not given."""
    desk.handle = lambda _: None
    consumer = desk.consumer()
    strangers = [Failure(envelope("stranger"), ValueError())]

    async def handler(envelopes: Sequence[pb.Envelope]) -> Sequence[Failure]:
        desk.batches.append([one.message_id for one in envelopes])
        return [strangers.pop()] if strangers else []

    consumer._handlers = {KIND: handler}
    await desk.send(envelope("a"))
    async with running(consumer.run()):
        await until(lambda: desk.handled == ["a", "a"])
    assert await desk.ready() == 0


async def test_a_broker_that_is_gone_is_found_again(desk: Desk) -> None:
    consumer = desk.consumer()
    async with running(consumer.run()):
        await until(lambda: consumer.connected)
        desk.wire.refuse()
        await until(lambda: not consumer.connected)
        await desk.send(envelope("a"))
        desk.wire.accept()
        await until(lambda: desk.handled == ["a"])
        await until(lambda: consumer.connected)


async def test_a_batch_in_hand_outlives_its_connection_and_comes_again(desk: Desk) -> None:
    release = asyncio.Event()

    async def handle(_: Sequence[str]) -> None:
        await release.wait()

    desk.handle = handle
    consumer = desk.consumer()
    await desk.send(envelope("a"))
    async with running(consumer.run()):
        await until(lambda: desk.handled == ["a"])
        desk.wire.cut()
        await until(lambda: not consumer.connected)
        await until(lambda: consumer.connected)
        release.set()
        await until(lambda: desk.handled == ["a", "a"])
        await desk.send(envelope("b"))
        await until(lambda: desk.handled == ["a", "a", "b"])
    await until(lambda: _is_ready(desk, 0))


async def test_a_deleted_queue_is_declared_again(desk: Desk) -> None:
    consumer = desk.consumer()
    async with running(consumer.run()):
        await until(lambda: consumer.connected)
        await desk.channel.queue_delete(desk.inbox)
        await until(lambda: not consumer.connected)
        await until(lambda: consumer.connected)
        await desk.publisher.publish(KEY, "", envelope("a").SerializeToString())
        await until(lambda: desk.handled == ["a"])


async def test_draining_finishes_the_batch_in_hand_and_takes_no_more(desk: Desk) -> None:
    release = asyncio.Event()

    async def handle(_: Sequence[str]) -> None:
        await release.wait()

    desk.handle = handle
    consumer = desk.consumer()
    await desk.send(envelope("in hand"))
    async with running(consumer.run()):
        await until(lambda: desk.handled == ["in hand"])
        await desk.send(envelope("too late"))
        draining = asyncio.create_task(consumer.drain())
        await asyncio.sleep(0)
        release.set()
        await draining
    await until(lambda: _is_ready(desk, 1))
    assert desk.handled == ["in hand"]


async def test_who_has_drained_leaves_what_came_and_was_not_taken_to_others(desk: Desk) -> None:
    """Not only when the process ends: who stands by is served at once."""
    release = asyncio.Event()

    async def handle(_: Sequence[str]) -> None:
        await release.wait()

    desk.handle = handle
    leaving, standing_by = desk.consumer(), desk.consumer()
    await desk.send(envelope("in hand"))
    async with running(leaving.run()):
        await until(lambda: desk.handled == ["in hand"])
        async with running(standing_by.run()):
            await until(lambda: standing_by.connected)
            await desk.send(envelope("next"))
            release.set()
            await leaving.drain()
            await until(lambda: desk.handled == ["in hand", "next"])
            assert not leaving.connected


async def _has(desk: Desk, parked: int) -> bool:
    return len(await desk.parked()) == parked


async def _is_ready(desk: Desk, messages: int) -> bool:
    return await desk.ready() == messages
