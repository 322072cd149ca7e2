"""Whoever attacks the gateway's port below the level of calls keeps nobody else from it, and leaves nothing behind."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import RstStreamFrame

from chassis.server import STREAMS_PER_CONNECTION_MAX
from tests.e2e.house import House, connected
from tests.e2e.office import Office, Reservation, Sale, eventually, new_id
from tests.security import http2_attacks

ROOT: Final = Path(__file__).parents[2]
BEGUN_WITHIN_S: Final = 60.0
SERVED_WITHIN_S: Final = 120.0
SAMPLE_INTERVAL_S: Final = 0.05
GOOD_CALLERS: Final = 3
CALLS_EACH: Final = 5
MIB: Final = 1_048_576
# What an attack may cost: a tenth of what the gateway has anyway, and what 2,000 connections and their buffers take.
MEMORY_MIB: Final = 64


class Measure(NamedTuple):
    """How much of an attack must have been made before it counts, and what it may cost the gateway meanwhile."""

    at_least: int
    memory_mib: int = MEMORY_MIB


ATTACKS: Final = {
    # Of each connection STREAMS_PER_CONNECTION_MAX streams wait to be taken up, with 30 KB each.
    "rapid_reset": Measure(10_000, 320),
    "whole_then_reset": Measure(1_000),
    # gRPC keeps about a tenth of what comes until the stream ends, and a gigabyte and more comes.
    "endless_headers": Measure(100, 640),
    # Each connection has the 40 MB of one bomb decoded at a time, eight at once at the worst, and the attacks before it
    # have left gaps into which they do not fit: 80, 131 and 354 MiB were seen.
    "header_bomb": Measure(50, 448),
    "many_headers": Measure(500),
    "slow_body": Measure(1_000),
    "slow_greeting": Measure(1_000),
    "no_window": Measure(500),
    "ping_flood": Measure(10_000),
    "settings_flood": Measure(10_000),
    "idle": Measure(2_000),
    "invalid_frames": Measure(100),
    "garbage": Measure(100),
}


@dataclass
class Attack:
    """A process that attacks, and how much it has done so far."""

    name: str
    lines: asyncio.StreamReader
    made: int = 0
    connections: int = 0

    async def listen(self) -> None:
        """Until it ends."""
        while line := await self.lines.readline():
            counted = json.loads(line)
            self.made, self.connections = counted.get("done", 0), counted.get("connections", 0)

    async def has_begun(self) -> None:
        async def so_much() -> bool:
            return self.made >= ATTACKS[self.name].at_least

        await eventually(so_much, lambda: f"{self.name}: only {self.made}", deadline_s=BEGUN_WITHIN_S)

    async def goes_on(self, made: int) -> None:
        """Returns when it has done more than this."""

        async def has_more() -> bool:
            return self.made > made

        await eventually(has_more, lambda: f"{self.name} ended at {made}", deadline_s=BEGUN_WITHIN_S)


@asynccontextmanager
async def attacked(house: House, name: str, sale: Sale) -> AsyncIterator[Attack]:
    """The gateway's port is attacked until the block ends."""
    environment = os.environ | {"TOKEN": house.stack.operator_token, "EVENT_ID": sale.event_id}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.security.http2_attacks", name, house.stack.address("gateway"),
        stdin=PIPE, stdout=PIPE, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    attack = Attack(name, process.stdout)
    listening = asyncio.create_task(attack.listen())
    try:
        await attack.has_begun()
        yield attack
        assert process.returncode is None, f"{name} ended by itself"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await listening


def memory_mib(pid: int) -> float:
    """What the process has of real memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def good_callers(house: House, sale: Sale) -> list[Reservation]:
    """What those get who call in good order, each over a connection that is made now."""

    async def one(name: str) -> list[Reservation]:
        async with connected(house.stack.address("gateway"), house.stack.operator_token) as line:
            office = Office(line)
            held = [await office.reserve(sale, f"{name}-{new_id()}", [sale.tickets[0]]) for _ in range(CALLS_EACH)]
            return [await office.reservation(reservation) for reservation in held]

    async with asyncio.timeout(SERVED_WITHIN_S):
        served = await asyncio.gather(*(one(f"good{number}") for number in range(GOOD_CALLERS)))
    return [reservation for each in served for reservation in each]


@pytest.fixture(scope="module")
async def sale(house: House) -> Sale:
    return await house.office.put_on_sale(1_000, price_minor=0)


async def test_streams_that_are_reset_count_until_the_gateway_is_done_with_them(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", house.stack.operator_token)
    block = http2_attacks.request(http2_attacks.RESERVE)
    host, _, port = house.stack.address("gateway").rpartition(":")
    line = await http2_attacks.dial((host, int(port)))
    try:
        await line.send(http2_attacks.greeting())
        ids = [line.stream_id() for _ in range(10 * STREAMS_PER_CONNECTION_MAX)]
        opened = b"".join(
            frame.serialize() for one in ids for frame in (http2_attacks.opened(one, block), RstStreamFrame(one))
        )
        sending = asyncio.create_task(line.send(opened))
        async with asyncio.timeout(SERVED_WITHIN_S):
            refused = await http2_attacks.hears(line, RstStreamFrame)
        sending.cancel()
    finally:
        line.writer.transport.abort()
    assert isinstance(refused, RstStreamFrame)
    assert refused.error_code == ErrorCodes.ENHANCE_YOUR_CALM


def test_every_attack_that_there_is_is_made() -> None:
    assert ATTACKS.keys() == http2_attacks.ATTACKS.keys()


@pytest.mark.parametrize("name", ATTACKS)
async def test_good_callers_are_served_while_it_goes_on_and_nothing_is_left_of_it(
    house: House, sale: Sale, name: str
) -> None:
    pid = house.stack.pid("gateway")
    assert pid is not None

    async def is_serving() -> bool:
        # What the attack has left in its buffers it works through first.
        return await asyncio.to_thread(house.stack.is_serving, "gateway")

    await good_callers(house, sale)
    files, before = open_files(pid), memory_mib(pid)
    most = before
    async with attacked(house, name, sale) as attack:
        made = attack.made
        serving = asyncio.create_task(good_callers(house, sale))
        while not serving.done():
            most = max(most, memory_mib(pid))
            await asyncio.sleep(SAMPLE_INTERVAL_S)
        served = await serving
        if name not in {"idle", "no_window"}:
            await attack.goes_on(made)
    assert len(served) == GOOD_CALLERS * CALLS_EACH
    assert house.stack.pid("gateway") == pid
    await eventually(is_serving, lambda: "it serves nobody any more")
    assert most - before < ATTACKS[name].memory_mib, f"{before:.0f} -> {most:.0f} MiB"

    async def come_back() -> bool:
        return open_files(pid) <= files

    await eventually(come_back, lambda: f"{open_files(pid)} files are open, before it were {files}")
