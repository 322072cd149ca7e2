"""Scenarios in which much is due at once: holds that run out in the same second, commands said during an outage."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from psycopg import AsyncConnection

from bench import subjects
from bench.report import Figure, percentile
from bench.scenarios import SEATS, WAIT_S, books, on_sale, reserve
from chassis.publisher import Publisher
from contract import keys
from gateway import commands
from ticketrush.v1 import ticketing_pb2 as pb

if TYPE_CHECKING:  # it imports us
    from bench.__main__ import Bench

HOLDS: Final = 100_000
# Longer than it takes to write them.
RUN_OUT_AFTER_S: Final = 12
RELEASE_TIMEOUT_S: Final = 300.0
POLL_S: Final = 0.1
# A command is some 270 bytes, and a shard refuses more than contract.keys.COMMANDS_BYTES_MAX.
COMMANDS: Final = 1_000_000
SEATS_OF_THE_RUSH: Final = 100_000
SAID_AT_ONCE: Final = 10_000
DRAIN_TIMEOUT_S: Final = 1_200.0
PAYERS: Final = 200
PAYERS_PAUSE_S: Final = 0.2


async def expiring(bench: "Bench", rounds: int, seconds: float) -> list[Figure]:
    """So many holds run out in the same second: with nothing else to do, and beside sales."""
    found = []
    for _ in range(rounds):
        found.append(Figure("holds released a second, alone", await _released_alone(bench)))
        found += await _released_beside_sales(bench, seconds)
    return found


async def backlog(bench: "Bench", _: int, __: float) -> list[Figure]:
    """Nearly a million commands that were said while reservations was down, and payments made while they are drained.

    Played once. After a minute a command is too late, and is decided as that.
    """
    stack, office = bench.stack, bench.public_office
    event_id, seats = await office.sale(PAYERS)
    payers = [reserve(event_id, [seat]) for seat in seats[:PAYERS]]
    held = [(await office.ticketing.Reserve(request)).reservation for request in payers]
    await asyncio.to_thread(stack.down, ("reservations",))
    async with books(bench.stack) as conn:
        cursor = await conn.execute("SELECT bench_past(%s, 0, 0, now())", (SEATS_OF_THE_RUSH,))
        [(rush_id,)] = await cursor.fetchall()
        await _say(bench, str(rush_id))
        begin = time.monotonic()
        await asyncio.to_thread(stack.up)
        paying = asyncio.create_task(_pay(bench, held))
        memory: Counter[str] = Counter()
        subject = subjects.ticketrush(stack)
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            while (decided := await _decided(conn, str(rush_id))) < COMMANDS:
                bench.say(f"backlog: {decided:,} of {COMMANDS:,} decided")
                memory |= Counter({name: round(spent.resident_mb) for name, spent in subject.spent().items()})
                await asyncio.sleep(1)
        took_s = time.monotonic() - begin
        waited_ms = sorted(await paying)
    return [
        Figure("commands drained a second", COMMANDS / took_s),
        *(Figure(f"MB at most, {name}", value) for name, value in memory.items()),
        Figure("ms until paid meanwhile, median", percentile(waited_ms, 50)),
        Figure("ms until paid meanwhile, p99", percentile(waited_ms, 99)),
    ]


async def _say(bench: "Bench", event_id: str) -> None:
    """As a gateway would, had it no admission: COMMANDS different ones, confirmed by the broker."""
    publisher = Publisher(
        bench.stack.env["AMQP_URL"], exchange=keys.EXCHANGE, mandatory_keys=keys.REQUIRED, name="backlog"
    )
    running = asyncio.create_task(publisher.run())
    try:
        for said in range(0, COMMANDS, SAID_AT_ONCE):
            bench.say(f"backlog: {said:,} of {COMMANDS:,} said")
            made = [commands.reserve(reserve(event_id, [str(uuid4())])) for _ in range(SAID_AT_ONCE)]
            await asyncio.gather(
                *(
                    publisher.publish(
                        one.routing_key, one.message_id, one.envelope.SerializeToString(), shard=one.shard
                    )
                    for one in made
                )
            )
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _pay(bench: "Bench", held: Sequence[pb.Reservation]) -> list[float]:
    """One after the other; how long each took until it was paid, in ms."""
    waited_ms = []
    for reservation in held:
        begin = time.monotonic()
        paid = await bench.public_office.ticketing.Pay(
            pb.PayRequest(
                request_id=str(uuid4()),
                buyer_id=reservation.buyer_id,
                reservation_id=reservation.reservation_id,
                payment_method="pm_card_ok",
                wait=Duration(seconds=WAIT_S),
            )
        )
        if paid.reservation.state != pb.Reservation.STATE_CONFIRMED:
            raise RuntimeError(f"not paid: {paid}")
        waited_ms.append((time.monotonic() - begin) * 1e3)
        await asyncio.sleep(PAYERS_PAUSE_S)
    return waited_ms


async def _decided(conn: AsyncConnection[Any], event_id: str) -> int:
    cursor = await conn.execute("SELECT count(*) FROM reservation WHERE event_id = %s", (event_id,))
    [(count,)] = await cursor.fetchall()
    return int(count)


async def _released_alone(bench: "Bench") -> float:
    """How many of HOLDS were released a second, from the first to the last."""
    async with books(bench.stack) as conn:
        event_id = await _holds(bench, conn)
        begin, _ = await _left(conn, event_id, below=HOLDS)
        end, _ = await _left(conn, event_id, below=1)
    return HOLDS / (end - begin)


async def _released_beside_sales(bench: "Bench", seconds: float) -> list[Figure]:
    """Sales begin with the first release; what is counted is over before the last."""
    subject = subjects.ticketrush(bench.stack)
    alone = await bench.play(SEATS, subject, seconds)
    sale = await on_sale(SEATS, bench.public_office)
    async with books(bench.stack) as conn:
        event_id = await _holds(bench, conn)
        begin, left_then = await _left(conn, event_id, below=HOLDS)
        beside = await bench.play(sale, subject, seconds)
        end, left_now = await _left(conn, event_id, below=HOLDS)
        await _left(conn, event_id, below=1)
    if not left_now:
        raise RuntimeError("the holds were all released before the sales were over: play fewer --seconds")
    return [
        Figure("holds released a second, beside sales", (left_then - left_now) / (end - begin)),
        Figure("sales beside releases, % of sales alone", 100 * beside.per_s / alone.per_s),
    ]


async def _holds(bench: "Bench", conn: AsyncConnection[Any]) -> str:
    """Their event."""
    bench.say(f"expiring: {HOLDS:,} holds")
    cursor = await conn.execute(
        "SELECT bench_past(%s, 0, %s, now() + make_interval(secs => %s))", (HOLDS, HOLDS, RUN_OUT_AFTER_S)
    )
    [(event_id,)] = await cursor.fetchall()
    return str(event_id)


async def _left(conn: AsyncConnection[Any], event_id: str, *, below: int) -> tuple[float, int]:
    """When fewer than that are held, by the database's clock, and how many are."""
    left = "SELECT extract(epoch FROM clock_timestamp())::float8, sum(held)::int FROM event_count WHERE event_id = %s"
    async with asyncio.timeout(RELEASE_TIMEOUT_S):
        while True:
            [(now, held)] = await (await conn.execute(left, (event_id,))).fetchall()
            if held < below:
                return float(now), int(held)
            await asyncio.sleep(POLL_S)
