"""Scenarios that take longer, or ask for something else than answers a second: played by name only."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from bench import subjects
from bench.fronts import rest
from bench.report import Figure, Round
from bench.rushes import backlog, expiring
from bench.scenarios import SCENARIOS, SEATS, books, on_sale
from bench.versions import versions
from bench.watchers import TOKEN_VARIABLE
from contract.access import BUYER
from deploy import issuer
from ticketrush.v1.ticketing_pb2 import ReserveRequest

if TYPE_CHECKING:  # it imports us
    from bench.__main__ import Bench

EVENTS: Final = 100
SEATS_OF_AN_EVENT: Final = 100_000
PAST_OF_AN_EVENT: Final = 50_000
STREAMS: Final = 2_000
LOOK_TIMEOUT_S: Final = 120.0
LOW_RATE_PER_S: Final = 5.0
REST_S: Final = 60.0
QUARTER_S: Final = 900.0
QUARTERS: Final = 4
MORE_THAN_ARE_HELD_PER_S: Final = 2_000
TOKEN_S: Final = 3_600.0
# So few that the slower of two gateways refuses none of them.
UNREFUSED_CALLERS: Final = 32


async def past(bench: "Bench", rounds: int, seconds: float) -> list[Figure]:
    """Sales with nothing behind them, and with ten million tickets and five million reservations."""
    found = [Figure("holds a second, empty", (await _sales(bench, seconds)).per_s) for _ in range(rounds)]
    async with books(bench.stack) as conn:
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
        sale = await on_sale(SEATS, bench.public_office)
        event_id = ReserveRequest.FromString((await sale.requests(bench.public_office, 1))[0]).event_id
        async with _watchers(bench, event_id) as watchers:
            played = await bench.play(sale, subjects.ticketrush(bench.stack), seconds)
            found.append(Figure(f"holds a second, {STREAMS:,} look", played.per_s))
        messages, size, lost = map(int, (await watchers.communicate())[0].split())
        found.append(Figure("messages to those who look, a second", messages / seconds))
        found.append(Figure("MB to those who look, a second", size / seconds / 1e6))
        found.append(Figure("streams lost", lost))
    return found


async def pairs(bench: "Bench", rounds: int, seconds: float) -> list[Figure]:
    """What a reservation costs with one of each service, and with two."""
    found = []
    with subjects.second_of_each(bench.stack) as both:
        await bench.play(SEATS, both, seconds)  # what has just started is slow
        for _ in range(rounds):
            for what, subject in (("one", subjects.ticketrush(bench.stack)), ("two", both)):
                played = await bench.play(SEATS, subject, seconds)
                found.append(Figure(f"us of CPU a hold, {what} of each", sum(played.cpu_us.values())))
                found += [Figure(f"us of CPU a hold, {what} of each, {part}", us) for part, us in played.cpu_us.items()]
                found.append(Figure(f"holds a second, {what} of each", played.per_s))
    return found


async def guarded(bench: "Bench", rounds: int, seconds: float) -> list[Figure]:
    """What TLS, tokens and limits at the public port cost: a hold, and an order, each of a buyer never seen before."""
    found = []
    errands = round(MORE_THAN_ARE_HELD_PER_S * seconds)
    with subjects.gateways(bench.stack) as (unasked, asked):
        for number in range(rounds + 1):
            turns = [("nobody is asked", unasked), ("all are asked", asked)]
            for scenario in (SEATS, SCENARIOS["orders"]):
                one = scenario.counted.removesuffix("s")
                for what, subject in turns if number % 2 else reversed(turns):
                    sale = await on_sale(replace(scenario, errands=errands), bench.public_office)
                    holds = (await sale.requests(bench.public_office, 0))[:: len(sale.methods)]
                    tokens = await asyncio.to_thread(_tokens, bench, holds) if subject is asked else ()
                    played = await bench.play(sale, subject, seconds, callers=UNREFUSED_CALLERS, tokens=tokens)
                    if played.failed:
                        raise RuntimeError(f"{scenario.name}: {played.failed}: refusals cost, and are no {one}")
                    if number:  # what has just started is slow
                        found.append(Figure(f"us of CPU: {one}, {what}", sum(played.cpu_us.values())))
                        found.append(Figure(f"us of CPU: {one}, {what}, gateway", played.cpu_us[subjects.GATEWAY]))
                        found.append(Figure(f"{scenario.counted} a second, {what}", played.per_s))
    return found


def _tokens(bench: "Bench", holds: Sequence[bytes]) -> list[str]:
    """Of the buyer of each hold."""
    key = issuer.read_key(bench.stack.issuer.key_file)
    buyers = (ReserveRequest.FromString(hold).buyer_id for hold in holds)
    return [issuer.signed(key, buyer, [BUYER], TOKEN_S) for buyer in buyers]


async def hour(bench: "Bench", _: int, __: float) -> list[Figure]:
    """A minute at rest, then an hour at a low rate: what the processes take, and whether their memory grows."""
    subject = subjects.ticketrush(bench.stack)
    bench.say(f"hour: {REST_S:.0f} s of rest")
    before = subject.spent()
    await asyncio.sleep(REST_S)
    found = _used("at rest", before, subject.spent(), REST_S)
    sale = await on_sale(SEATS, bench.public_office)
    requests = await sale.requests(bench.public_office, 0)
    first = before = subject.spent()
    for quarter in range(QUARTERS):
        share = requests[quarter::QUARTERS]

        async def made(*_: object, share: Sequence[bytes] = share) -> Sequence[bytes]:
            return share

        played = await bench.play(replace(SEATS, requests=made), subject, QUARTER_S, rate=LOW_RATE_PER_S)
        found.append(Figure("p50 ms at a low rate", played.p50_ms))
        found.append(Figure("p99 ms at a low rate", played.p99_ms))
        if quarter == 0:
            # Caches fill and the allocator settles; what counts is what goes on.
            first = subject.spent()
    last = subject.spent()
    found += _used(f"at {LOW_RATE_PER_S:.0f} a second", before, last, QUARTERS * QUARTER_S)
    hours = (QUARTERS - 1) * QUARTER_S / 3_600
    for name, now in last.items():
        found.append(Figure(f"MB, {name}", now.resident_mb))
        found.append(Figure(f"MB an hour, {name}", (now.resident_mb - first[name].resident_mb) / hours))
    return found


Named = Callable[["Bench", int, float], Awaitable[list[Figure]]]
NAMED: Final[dict[str, Named]] = {
    "expiring": expiring,
    "past": past,
    "streams": streams,
    "backlog": backlog,
    "pairs": pairs,
    "guarded": guarded,
    "hour": hour,
    "rest": rest,
    "versions": versions,
}


def _used(
    when: str, before: Mapping[str, subjects.Spent], after: Mapping[str, subjects.Spent], seconds: float
) -> list[Figure]:
    cpu = {name: (after[name].cpu_s - before[name].cpu_s) / seconds * 1e3 for name in after}
    return [Figure(f"ms of CPU a second {when}, {name}", value) for name, value in cpu.items()]


async def _sales(bench: "Bench", seconds: float) -> Round:
    return await bench.play(SEATS, subjects.ticketrush(bench.stack), seconds)


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
