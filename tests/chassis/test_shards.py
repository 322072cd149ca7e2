"""Work queues in shards: what is about one event goes to one, each serves one consumer, and any number will do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

import pytest
from aio_pika.abc import AbstractChannel

from chassis import connection
from chassis.consumer import Consumer, Failure
from chassis.database import Database
from chassis.parking import Parking
from chassis.publisher import SLOTS_A_SHARD, Publisher, Rejected, Unroutable
from chassis.topology import WorkQueue, declare
from tests.chassis.broker import channel_to, envelope, running, until
from tests.chassis.proxy import proxy
from ticketrush.messages.v1 import messages_pb2 as pb

KEY = "thing.said"
OTHER_KEY = "thing.else"
KIND = "reserve_tickets"
RETRY_DELAYS_S = (0.1, 0.2, 0.3)


@dataclass
class Hall:
    """A service with one work queue, and as many processes of it as a test likes."""

    url: str
    channel: AbstractChannel
    database: Database
    work: WorkQueue
    retry_delays_s: Sequence[float] = RETRY_DELAYS_S
    # Who handled which message.
    handled: list[tuple[str, str]] = field(default_factory=list)
    fails: Callable[[str], bool] = lambda _: False

    @property
    def exchange(self) -> str:
        return self.work.service

    def publisher(self, shards: int) -> Publisher:
        keys = frozenset(self.work.routing_keys)
        return Publisher(self.url, exchange=self.exchange, mandatory_keys=keys, name=self.exchange, shards=shards)

    def consumer(self, name: str, publisher: Publisher, *, shards: int, url: str = "") -> Consumer:
        async def handler(envelopes: Sequence[pb.Envelope]) -> Sequence[Failure]:
            self.handled.extend((name, one.message_id) for one in envelopes)
            return [Failure(one, ValueError("not now")) for one in envelopes if self.fails(one.message_id)]

        return Consumer(
            url or self.url,
            queue=self.work,
            exchange=self.exchange,
            handlers={KIND: handler},
            publisher=publisher,
            parking=Parking(self.database),
            shards=shards,
            retry_delays_s=self.retry_delays_s,
        )

    async def declare(self, shards: int) -> None:
        await declare(self.channel, self.exchange, [self.work], shards=shards, retry_delays_s=self.retry_delays_s)

    async def waiting(self, shards: int) -> list[int]:
        """How many messages wait in the queue for what comes again, and in each shard."""
        counts = []
        for name in self.work.queues(shards):
            queue = await self.channel.declare_queue(name, passive=True)
            counts.append(queue.declaration_result.message_count or 0)
        return counts

    def by(self, name: str) -> list[str]:
        return [message_id for who, message_id in self.handled if who == name]

    @property
    def message_ids(self) -> set[str]:
        return {message_id for _, message_id in self.handled}


@pytest.fixture
def hall(amqp_url: str, channel: AbstractChannel, database: Database, unique: str) -> Hall:
    return Hall(amqp_url, channel, database, WorkQueue(f"{unique}.work", (KEY, OTHER_KEY), unique))


@pytest.fixture
async def publisher(hall: Hall) -> AsyncIterator[Publisher]:
    publisher = hall.publisher(shards=4)
    async with running(publisher.run()):
        yield publisher


def say(publisher: Publisher, shard: int = 0, message_id: str = "", key: str = KEY) -> "asyncio.Future[None]":
    said = envelope(message_id or str(uuid4()))
    return publisher.publish(key, said.message_id, said.SerializeToString(), shard=shard)


async def test_one_shard_is_bound_straight_and_nothing_is_said_twice(hall: Hall, publisher: Publisher) -> None:
    await hall.declare(1)
    await hall.declare(1)
    await asyncio.gather(say(publisher), say(publisher, key=OTHER_KEY))
    await until(lambda: _waits(hall, 1, [0, 2]))


async def test_what_the_release_before_shards_has_bound_is_bound_no_more(hall: Hall, publisher: Publisher) -> None:
    await hall.declare(1)
    old = await hall.channel.get_queue(hall.work.name)
    await old.bind(hall.exchange, KEY)
    await say(publisher)
    await hall.declare(1)
    await say(publisher)
    await until(lambda: _waits(hall, 1, [1, 2]))


@pytest.mark.parametrize("shards", [2, 4])
async def test_each_slot_goes_to_one_shard_and_each_shard_has_some(hall: Hall, shards: int) -> None:
    await hall.declare(shards)
    publisher = hall.publisher(shards)
    async with running(publisher.run()):
        for turn in (1, 2):
            # Apart, so that they are messages of their own.
            await asyncio.gather(*(say(publisher, shard) for shard in range(SLOTS_A_SHARD * shards)))
            await until(lambda turn=turn: _sum_is(hall, shards, turn * SLOTS_A_SHARD * shards))
            again, *counts = await hall.waiting(shards)
            assert again == 0
            assert min(counts) >= 2 * turn
            if turn == 1:
                first = counts
    assert counts == [2 * count for count in first]


async def test_of_one_event_all_goes_to_one_shard_whoever_says_it(hall: Hall, publisher: Publisher) -> None:
    await hall.declare(4)
    event = 0xBEEF
    await asyncio.gather(*(say(publisher, event, key=key) for key in (KEY, OTHER_KEY) for _ in range(5)))
    await asyncio.gather(*(say(publisher, event) for _ in range(5)))
    _, *counts = await hall.waiting(4)
    assert sorted(count > 0 for count in counts) == [False, False, False, True]


async def test_an_exchange_without_shards_gives_back_what_is_mandatory(hall: Hall, publisher: Publisher) -> None:
    await hall.declare(2)
    for number in range(2):
        await hall.channel.queue_delete(hall.work.shard(number))
    with pytest.raises(Unroutable):
        await say(publisher)


async def test_a_full_shard_refuses_through_the_exchange(hall: Hall, publisher: Publisher) -> None:
    hall.work = WorkQueue(hall.work.name, hall.work.routing_keys, hall.work.service, length_max=1)
    await hall.declare(2)
    # The broker counts with a delay of a message or two.
    for _ in range(20):
        await asyncio.wait([say(publisher)])
    with pytest.raises(Rejected):
        await say(publisher)


async def test_a_shard_is_served_to_one_and_another_takes_over(hall: Hall, publisher: Publisher) -> None:
    async with proxy(hall.url) as wire:
        first = hall.consumer("first", publisher, shards=1, url=wire.url)
        second = hall.consumer("second", publisher, shards=1)
        async with running(first.run()):
            await until(lambda: first.connected)
            async with running(second.run()):
                await until(lambda: second.connected)
                # Each a message of its own.
                await asyncio.gather(*(say(publisher, number, f"a{number}") for number in range(20)))
                await until(lambda: len(hall.message_ids) == 20)
                assert hall.by("second") == []
                wire.refuse()
                await asyncio.gather(*(say(publisher, number, f"b{number}") for number in range(20)))
                await until(lambda: len(hall.message_ids) == 40)
                assert set(hall.by("second")) >= {f"b{number}" for number in range(20)}


async def test_whoever_is_frozen_loses_its_shard_though_nobody_closes_its_connection(
    hall: Hall, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the broker sees it: the line is open, and no heartbeat comes any more."""
    monkeypatch.setattr(connection, "HEARTBEAT_S", 1)
    async with proxy(hall.url) as wire:
        frozen = hall.consumer("frozen", publisher, shards=1, url=wire.url)
        async with running(frozen.run()):
            await until(lambda: frozen.connected)
            other = hall.consumer("other", publisher, shards=1)
            async with running(other.run()):
                await until(lambda: other.connected)
                wire.mute()
                await say(publisher, message_id="stuck")
                await until(lambda: hall.by("other") == ["stuck"])
                assert hall.by("frozen") == []


async def test_shards_are_shared_out_though_all_went_to_whoever_came_first(
    hall: Hall, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REFRESH_INTERVAL_S", 0.2)
    shard_of = await where_slots_go(hall, publisher)
    first, second = (hall.consumer(name, publisher, shards=4) for name in ("first", "second"))

    async def served() -> list[int]:
        """How many shards each is served now."""
        hall.handled.clear()
        await asyncio.gather(*(say(publisher, slot, str(slot)) for slot in shard_of))
        await until(lambda: len(hall.message_ids) == len(shard_of))
        return [len({shard_of[int(slot)] for slot in hall.by(name)}) for name in ("first", "second")]

    async def shared_out() -> bool:
        return await served() == [2, 2]

    async with running(first.run()):
        await until(lambda: first.connected)
        async with running(second.run()):
            await until(lambda: second.connected)
            assert await served() == [4, 0]
            await until(shared_out)
        # Nobody else is there: what the second had comes back.
        assert await served() == [4, 0]


async def where_slots_go(hall: Hall, publisher: Publisher) -> dict[int, int]:
    """The shard of each slot."""
    await hall.declare(4)
    found = {}
    for slot in range(4 * SLOTS_A_SHARD):
        await say(publisher, slot)
        _, *counts = await hall.waiting(4)
        [found[slot]] = [number for number, count in enumerate(counts) if count]
        await (await hall.channel.get_queue(hall.work.shard(found[slot]))).purge()
    return found


async def test_any_number_of_shards_follows_any_other_and_nothing_is_lost(hall: Hall, publisher: Publisher) -> None:
    """Said all the while: by who knows the number and by who does not."""
    unaware = hall.publisher(shards=1)
    said: set[str] = set()
    stopped = asyncio.Event()

    async def talk(publisher: Publisher) -> None:
        while not stopped.is_set():
            names = [f"{len(said) + number}" for number in range(20)]
            said.update(names)
            # Never Unroutable: at no moment does a key lead nowhere.
            await asyncio.gather(*(say(publisher, int(name) % 64, name) for name in names))

    await hall.declare(1)
    async with running(unaware.run()):
        talking = [asyncio.create_task(talk(one)) for one in (publisher, unaware)]
        for shards in (1, 4, 2, 1, 3):
            consumer = hall.consumer(f"of {shards}", publisher, shards=shards)
            async with running(consumer.run()):
                await until(lambda name=f"of {shards}": len(hall.by(name)) > 100)
        stopped.set()
        await asyncio.gather(*talking)
        async with running(hall.consumer("last", publisher, shards=1).run()):
            await until(lambda: hall.message_ids == said)
    await until(lambda: _waits(hall, 4, [0] * 5))


async def test_owners_that_are_told_different_numbers_leave_no_key_without_a_queue(
    hall: Hall, publisher: Publisher, amqp_url: str
) -> None:
    """As while one after the other is told of another number: each unbinds what the other has bound."""
    async with channel_to(amqp_url) as other:
        for _ in range(20):
            await asyncio.gather(
                hall.declare(1), declare(other, hall.exchange, [hall.work], shards=2, retry_delays_s=())
            )
            await asyncio.gather(say(publisher), say(publisher, key=OTHER_KEY))


async def test_shards_that_are_left_are_drained_and_nothing_is_said_to_them(hall: Hall, publisher: Publisher) -> None:
    await hall.declare(4)
    await asyncio.gather(*(say(publisher, shard) for shard in range(32)))
    assert min((await hall.waiting(4))[1:]) > 0
    async with running(hall.consumer("two", publisher, shards=2).run()):
        await until(lambda: len(hall.message_ids) == 32)
    await asyncio.gather(*(say(publisher, shard) for shard in range(32)))
    assert (await hall.waiting(4))[3:] == [0, 0]


async def test_what_failed_in_a_shard_comes_again_when_that_is_gone(hall: Hall, publisher: Publisher) -> None:
    # Once, and later than the first consumer needs to be gone.
    hall.retry_delays_s = (2.0,)
    hall.fails = lambda _: True
    four = hall.consumer("four", publisher, shards=4)
    async with running(four.run()):
        await until(lambda: four.connected)
        await asyncio.gather(*(say(publisher, shard, f"m{shard}") for shard in range(32)))
        await until(lambda: len(hall.message_ids) == 32)
        # What it has in hand is acked, and so on the ladder.
        await four.drain()
    for number in range(4):
        await hall.channel.queue_delete(hall.work.shard(number))
    hall.fails = lambda _: False
    async with running(hall.consumer("one", publisher, shards=1).run()):
        await until(lambda: len(set(hall.by("one"))) == 32)


async def _waits(hall: Hall, shards: int, counts: list[int]) -> bool:
    return await hall.waiting(shards) == counts


async def _sum_is(hall: Hall, shards: int, count: int) -> bool:
    return sum(await hall.waiting(shards)) == count
