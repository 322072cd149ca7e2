"""What was committed is said, whatever dies in between; what was not, never."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from aio_pika.abc import AbstractChannel, AbstractQueue

from chassis.database import Database
from chassis.outbox import Outbox, Record, Written
from chassis.publisher import Publisher
from tests.chassis.broker import envelope, next_batch, running, until
from tests.chassis.proxy import Proxy

KEY = "thing.said"
UNHEARD = "thing.unheard"


@dataclass
class Bench:
    """A process's outbox, the database behind it, and a queue that takes KEY."""

    database: Database
    publisher: Publisher
    outbox: Outbox
    queue: AbstractQueue
    exchange: str

    async def commit(self, *records: Record) -> Written:
        async with self.database.transaction() as conn:
            return await self.outbox.write(conn, records)

    async def owed(self) -> int:
        return await self._count("SELECT count(*) FROM outbox")

    async def kept(self) -> int:
        return await self._count("SELECT count(*) FROM history")

    async def _count(self, statement: LiteralString) -> int:
        async with self.database.transaction() as conn:
            cursor = await conn.execute(statement)
            row = await cursor.fetchone()
            assert row is not None
            return int(row[0])

    async def run_out(self) -> None:
        """All leases are over, as if time had passed."""
        async with self.database.transaction() as conn:
            await conn.execute("UPDATE outbox SET lease_time = statement_timestamp() - interval '1 second'")


@pytest.fixture
async def bench(database: Database, wire: Proxy, channel: AbstractChannel, unique: str) -> AsyncIterator[Bench]:
    publisher = Publisher(wire.url, exchange=unique, mandatory_keys=frozenset({KEY, UNHEARD}), name=unique)
    async with running(publisher.run()):
        await until(lambda: publisher.connected)
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(unique, KEY)
        yield Bench(database, publisher, Outbox(database, publisher), queue, unique)


def record(routing_key: str | None = KEY, *, message_id: UUID | None = None, version: int = 1) -> Record:
    message_id = message_id or uuid4()
    return Record(
        subject_id=uuid4(),
        subject_version=version,
        kind="thing_said",
        routing_key=routing_key,
        message_id=message_id,
        envelope=envelope(str(message_id)).SerializeToString(),
    )


def ids(*records: Record) -> list[str]:
    return [str(record.message_id) for record in records]


async def test_what_is_committed_is_said_in_order_and_no_longer_owed(bench: Bench) -> None:
    records = [record(version=number) for number in range(100)]
    async with running(bench.outbox.run()):
        bench.outbox.publish(await bench.commit(*records))
        assert await next_batch(bench.queue) == ids(*records)
        await until(lambda: _owes(bench, 0))
    assert await bench.kept() == 100


async def test_what_is_rolled_back_is_never_said(bench: Bench) -> None:
    async with running(bench.outbox.run()):
        async with bench.database.transaction() as conn:
            await bench.outbox.write(conn, [record()])
            await conn.rollback()
        kept = record()
        bench.outbox.publish(await bench.commit(kept))
        assert await next_batch(bench.queue) == ids(kept)
    assert await bench.kept() == 1


async def test_a_record_without_routing_key_is_kept_and_not_said(bench: Bench) -> None:
    said = record()
    async with running(bench.outbox.run()):
        bench.outbox.publish(await bench.commit(record(None), said, record(None)))
        bench.outbox.publish(await bench.commit(record(None)))
        assert await next_batch(bench.queue) == ids(said)
    assert await bench.kept() == 4


async def test_a_process_that_dies_after_its_commit_is_spoken_for(bench: Bench) -> None:
    orphan = record()
    await bench.commit(orphan)
    await bench.run_out()
    async with running(bench.outbox.run()):
        assert await next_batch(bench.queue) == ids(orphan)
        await until(lambda: _owes(bench, 0))


async def test_what_another_process_is_saying_is_left_to_it(bench: Bench) -> None:
    await bench.commit(record())
    assert await Outbox(bench.database, bench.publisher)._take() == []
    await bench.run_out()
    assert len(await Outbox(bench.database, bench.publisher)._take()) == 1


async def test_two_relays_never_take_the_same_message(bench: Bench) -> None:
    await bench.commit(*(record() for _ in range(900)))
    await bench.run_out()
    relays = [Outbox(bench.database, bench.publisher) for _ in range(6)]
    taken = [said.history_id for takes in await asyncio.gather(*(relay._take() for relay in relays)) for said in takes]
    assert len(taken) == len(set(taken)) == 900


async def test_a_relay_does_not_wait_for_what_another_is_taking(bench: Bench) -> None:
    await bench.commit(record(), record())
    await bench.run_out()
    async with bench.database.transaction() as conn:
        await conn.execute("SELECT FROM outbox ORDER BY history_id LIMIT 1 FOR UPDATE")
        assert len(await bench.outbox._take()) == 1


async def test_what_nobody_is_bound_to_take_is_said_again(bench: Bench, channel: AbstractChannel) -> None:
    unheard = record(UNHEARD)
    async with running(bench.outbox.run()):
        bench.outbox.publish(await bench.commit(unheard))
        await bench.outbox.drain()
        assert await bench.owed() == 1
        late = await channel.declare_queue(exclusive=True)
        await late.bind(bench.exchange, UNHEARD)
        await bench.run_out()
        assert await next_batch(late) == ids(unheard)
        await until(lambda: _owes(bench, 0))


async def test_what_the_broker_never_confirmed_is_said_again(bench: Bench, wire: Proxy) -> None:
    lost = record()
    async with running(bench.outbox.run()):
        wire.mute()
        bench.outbox.publish(await bench.commit(lost))
        await asyncio.sleep(0)
        wire.cut()
        await until(lambda: not bench.publisher.connected)
        wire.unmute()
        await bench.run_out()
        assert await next_batch(bench.queue) == ids(lost)
        await until(lambda: _owes(bench, 0))


async def test_a_backlog_larger_than_one_batch_is_worked_off(bench: Bench) -> None:
    await bench.commit(*(record() for _ in range(1_200)))
    await bench.run_out()
    async with running(bench.outbox.run()):
        await until(lambda: _owes(bench, 0))


async def test_draining_deletes_what_is_confirmed(bench: Bench) -> None:
    bench.outbox.publish(await bench.commit(*(record() for _ in range(300))))
    await bench.outbox.drain()
    assert await bench.owed() == 0


async def test_the_same_message_may_be_said_twice_in_one_transaction(bench: Bench) -> None:
    """As a reconciler does."""
    message_id = uuid4()
    bench.outbox.publish(await bench.commit(record(message_id=message_id), record(message_id=message_id)))
    assert await next_batch(bench.queue) == [str(message_id)] * 2
    await bench.outbox.drain()
    assert await bench.owed() == 0


@pytest.mark.parametrize("change", ["UPDATE history SET kind = ''", "DELETE FROM history", "TRUNCATE history"])
async def test_history_cannot_be_changed(bench: Bench, change: LiteralString) -> None:
    await bench.commit(record())
    async with bench.database.transaction() as conn:
        with pytest.raises(psycopg.errors.RestrictViolation):
            await conn.execute(change)


async def test_what_fits_no_message_is_refused_before_the_commit(bench: Bench) -> None:
    """After it, nothing could ever say it."""
    too_large = replace(record(), envelope=b"x" * 600_000)
    with pytest.raises(ValueError, match="600000"):
        await bench.commit(record(), too_large)
    assert await bench.kept() == 0


async def test_a_lease_shorter_than_the_publishers_attempt_is_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="lease"):
        Outbox(bench.database, bench.publisher, lease_s=5)


async def _owes(bench: Bench, messages: int) -> bool:
    return await bench.owed() == messages
