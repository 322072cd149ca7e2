"""Scenarios that take longer, or ask for something else than answers a second: played by name only."""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from psycopg import AsyncConnection

from bench import subjects
from bench.report import Figure, Round, percentile
from bench.scenarios import SCENARIOS, SCHEMA, WAIT_S, reserve
from chassis.publisher import Publisher
from contract import keys
from gateway import commands
from loadgen import TOKEN_VARIABLE
from ticketrush.v1 import ticketing_pb2 as pb

if TYPE_CHECKING:  # it imports us
    from bench.__main__ import Bench

HOLDS: Final = 100_000
# Longer than it takes to write them.
RUN_OUT_AFTER_S: Final = 12
RELEASE_TIMEOUT_S: Final = 300.0
POLL_S: Final = 0.1
EVENTS: Final = 100
SEATS_OF_AN_EVENT: Final = 100_000
PAST_OF_AN_EVENT: Final = 50_000
STREAMS: Final = 2_000
LOOK_TIMEOUT_S: Final = 120.0
COMMANDS: Final = 1_000_000
SAID_AT_ONCE: Final = 10_000
DRAIN_TIMEOUT_S: Final = 1_200.0
PAYERS: Final = 200
PAYERS_PAUSE_S: Final = 0.2
SQL: Final = Path(__file__).with_name("past.sql")
_SEATS: Final = SCENARIOS["seats"]


async def expiring(bench: "Bench", rounds: int, _: float) -> list[Figure]:
    """So many holds run out in the same second, with nothing else to do."""
    return [Figure("holds released a second, alone", await _released(bench)) for _ in range(rounds)]


async def past(bench: "Bench", rounds: int, seconds: float) -> list[Figure]:
    """Sales with nothing behind them, and with ten million tickets and five million reservations."""
    found = [Figure("holds a second, empty", (await _sales(bench, seconds)).per_s) for _ in range(rounds)]
    async with _books(bench) as conn:
        for number in range(EVENTS):
            bench.say(f"past: event {number + 1} of {EVENTS}")
            await conn.execute("SELECT bench_past(%s, %s, 0, now())", (SEATS_OF_AN_EVENT, PAST_OF_AN_EVENT))
        bench.say("past: analyze")
        await conn.execute("VACUUM (ANALYZE)")
    full = [(await _sales(bench, seconds)).per_s for _ in range(rounds)]
    return [*found, *(Figure("holds a second, ten million tickets", value) for value in full)]


async def streams(bench: "Bench", rounds: int, seconds: float) -> list[Figure]:
    """Sales while so many look at the seat map."""
    found = []
    for _ in range(rounds):
        found.append(Figure("holds a second, nobody looks", (await _sales(bench, seconds)).per_s))
        event_id, seats = await bench.public_office.sale(_SEATS.errands)
        requests = [reserve(event_id, [seat]).SerializeToString() for seat in seats[: _SEATS.errands]]

        async def on_sale(*_: object, requests: Sequence[bytes] = requests) -> Sequence[bytes]:
            return requests

        async with _watchers(bench, event_id) as watchers:
            played = await bench.play(replace(_SEATS, requests=on_sale), subjects.ticketrush(bench.stack), seconds)
            found.append(Figure(f"holds a second, {STREAMS:,} look", played.per_s))
        messages, size, lost = map(int, (await watchers.communicate())[0].split())
        found.append(Figure("messages to those who look, a second", messages / seconds))
        found.append(Figure("MB to those who look, a second", size / seconds / 1e6))
        found.append(Figure("streams lost", lost))
    return found


async def backlog(bench: "Bench", _: int, __: float) -> list[Figure]:
    """A million commands that were said while reservations was down, and payments made while they are drained.

    Played once. After a minute a command is too late, and is decided as that.
    """
    stack, office = bench.stack, bench.public_office
    event_id, seats = await office.sale(PAYERS)
    payers = [reserve(event_id, [seat]) for seat in seats[:PAYERS]]
    held = [(await office.ticketing.Reserve(request)).reservation for request in payers]
    await asyncio.to_thread(stack.down, ("reservations",))
    async with _books(bench) as conn:
        cursor = await conn.execute("SELECT bench_past(%s, 0, 0, now())", (SEATS_OF_AN_EVENT,))
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


Named = Callable[["Bench", int, float], Awaitable[list[Figure]]]
NAMED: Final[dict[str, Named]] = {"expiring": expiring, "past": past, "streams": streams, "backlog": backlog}


async def _sales(bench: "Bench", seconds: float) -> Round:
    return await bench.play(_SEATS, subjects.ticketrush(bench.stack), seconds)


@asynccontextmanager
async def _books(bench: "Bench") -> AsyncIterator[AsyncConnection[Any]]:
    url = bench.stack.env["DATABASE_URL"]
    async with await AsyncConnection.connect(url, options=SCHEMA, autocommit=True) as conn:
        await conn.execute(SQL.read_bytes())
        yield conn


@asynccontextmanager
async def _watchers(bench: "Bench", event_id: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """All of them see the seat map; they are told to end afterwards."""
    command = (sys.executable, "-m", "bench.watchers", bench.stack.address("gateway"), event_id, str(STREAMS))
    environment = os.environ | {TOKEN_VARIABLE: bench.stack.operator_token}
    watchers = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environment)
    try:
        bench.say(f"streams: {STREAMS:,} begin to look")
        async with asyncio.timeout(LOOK_TIMEOUT_S):
            if watchers.stdout is None or not await watchers.stdout.readline():
                raise RuntimeError("they cannot look")
        yield watchers
    finally:
        if watchers.returncode is None:
            watchers.terminate()


async def _say(bench: "Bench", event_id: str) -> None:
    """As a gateway would, had it no admission: COMMANDS different ones, confirmed by the broker."""
    publisher = Publisher(
        bench.stack.env["AMQP_URL"], exchange=keys.EXCHANGE, mandatory_keys=keys.REQUIRED, name="backlog"
    )
    running = asyncio.create_task(publisher.run())
    try:
        for said in range(0, COMMANDS, SAID_AT_ONCE):
            bench.say(f"backlog: {said:,} of {COMMANDS:,} said")
            made = [commands.reserve(reserve(event_id, [str(uuid4())]), reply_to="") for _ in range(SAID_AT_ONCE)]
            await asyncio.gather(
                *(publisher.publish(one.routing_key, one.message_id, one.envelope, shard=one.shard) for one in made)
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


async def _released(bench: "Bench") -> float:
    """How many of HOLDS were released a second, from the first to the last."""
    async with _books(bench) as conn:
        bench.say(f"expiring: {HOLDS:,} holds")
        cursor = await conn.execute(
            "SELECT bench_past(%s, 0, %s, now() + make_interval(secs => %s))",
            (HOLDS, HOLDS, RUN_OUT_AFTER_S),
        )
        [(event_id,)] = await cursor.fetchall()
        left = "SELECT sum(held), extract(epoch FROM clock_timestamp())::float8 FROM event_count WHERE event_id = %s"
        begin = None
        async with asyncio.timeout(RELEASE_TIMEOUT_S):
            while True:
                [(held, now)] = await (await conn.execute(left, (event_id,))).fetchall()
                if held < HOLDS and begin is None:
                    begin = now
                if held == 0 and begin is not None:
                    return HOLDS / float(now - begin)
                await asyncio.sleep(POLL_S)
