"""What a reservation costs with the code of now and with that of another checkout: two stacks, turn by turn.

`BENCH_BEFORE` names the other checkout, in which `make venv` has been run.
"""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from bench import subjects
from bench.report import Figure
from bench.scenarios import SCENARIOS, SEATS, PublicOffice, Scenario, on_sale
from chassis.bearer import bearing
from deploy.services import SETTING_PREFIX
from deploy.stack import Stack
from ticketrush.v1.catalog_pb2_grpc import CatalogServiceStub
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

if TYPE_CHECKING:  # it imports us
    from bench.__main__ import Bench

CHECKOUT: Final = "BENCH_BEFORE"
# So few that neither refuses one.
CALLERS: Final = 32
MORE_THAN_ARE_HELD_PER_S: Final = 2_000
UP_TIMEOUT_S: Final = 600
BEFORE, NOW = "before", "now"


async def versions(bench: "Bench", rounds: int, seconds: float) -> list[Figure]:
    """CPU of a hold and of an order, all processes; the ratio of each pair in thousandths."""
    checkout = os.environ.get(CHECKOUT, "")
    if not (Path(checkout) / ".venv/bin/python").exists():
        raise RuntimeError(f"{CHECKOUT} must be the path of another checkout, after `make venv` there")
    found = []
    bench.say("versions: a stack of the other checkout")
    with _stack_of(Path(checkout), bench.stack.run_dir / BEFORE) as stack:
        async with _beside(bench, stack) as other:
            for number in range(rounds + 1):
                for scenario in (SEATS, SCENARIOS["orders"]):
                    turns = [(BEFORE, other), (NOW, bench)]
                    cost = {name: await _cost(one, scenario, seconds) for name, one in _turned(turns, number)}
                    if number:  # what has just started is slow
                        what = scenario.counted.removesuffix("s")
                        found += [Figure(f"us of CPU: {what}, {name}", cost[name]) for name in (BEFORE, NOW)]
                        found.append(Figure(f"CPU, thousandths of before: {what}", 1_000 * cost[NOW] / cost[BEFORE]))
    return found


def _turned(turns: "list[tuple[str, Bench]]", number: int) -> "list[tuple[str, Bench]]":
    """Whoever is first in one round is second in the next."""
    return turns if number % 2 else turns[::-1]


async def _cost(bench: "Bench", scenario: Scenario, seconds: float) -> float:
    """Microseconds of CPU for each of what the scenario counts."""
    errands = round(MORE_THAN_ARE_HELD_PER_S * seconds)
    sale = await on_sale(replace(scenario, errands=errands), bench.public_office)
    played = await bench.play(sale, subjects.ticketrush(bench.stack), seconds, callers=CALLERS)
    if played.failed:
        raise RuntimeError(f"{scenario.name}: {played.failed}: what is refused costs, and is not counted")
    return sum(played.cpu_us.values())


@contextmanager
def _stack_of(checkout: Path, run_dir: Path) -> Iterator[Stack]:
    """Brought up and taken down by its own code; where its processes are is written as ours are."""
    run_dir.mkdir()
    environment = os.environ | {
        f"{SETTING_PREFIX}RUN_DIR": str(run_dir),
        f"{SETTING_PREFIX}GATEWAY_PORT": "0",
        f"{SETTING_PREFIX}HTTP_PORT": "0",
    }

    def told(word: str) -> None:
        command = [str(checkout / ".venv/bin/python"), "-m", "deploy", word]
        subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True, timeout=UP_TIMEOUT_S)

    try:
        told("up")
        yield Stack(run_dir)
    finally:
        told("clean")


@asynccontextmanager
async def _beside(bench: "Bench", stack: Stack) -> "AsyncIterator[Bench]":
    """The same measurements, of that stack."""
    line = grpc.aio.insecure_channel(stack.address(subjects.GATEWAY))
    async with bearing(line, stack.operator_token) as channel:
        office = PublicOffice(CatalogServiceStub(channel), TicketingServiceStub(channel))
        yield replace(bench, stack=stack, public_office=office, rounds=[], figures=[])
