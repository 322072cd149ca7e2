"""Every crash point times every scenario, on a stack of its own: `make proof-crashes` (ARGS=charge: some).

First all passages of all points are counted. Then each point has a trial, in which its service must have ended at least
once about every scenario that was counted there.
"""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table

from deploy.services import NAMES
from deploy.stack import Stack
from tests.e2e.house import House, furnished
from tests.proof.audit import Witness, rare_ways, witness
from tests.proof.points import CALLS_OF, points_of
from tests.proof.scenarios import SCENARIOS
from tests.proof.trial import Verdict, try_points

console: Final = Console(width=150)


class Row(NamedTuple):
    """One point, how often its service ended there by scenario, and what was wrong."""

    service: str
    point: str
    ends: int
    by_scenario: dict[str, int]
    seconds: float
    problem: str


async def prove(wanted: Sequence[tuple[str, str]]) -> tuple[list[Row], Counter[str]]:
    """A row for each wanted (service, point), and how often rare ways were taken.

    After a failure the next trial has a new stack.
    """
    rows: list[Row] = []
    rare: Counter[str] = Counter()
    while len(rows) < len(wanted):
        async with _new_house() as (house, heard):
            counted = await try_points(house, heard, dict.fromkeys(CALLS_OF, ""))
            console.print(f"counted {len(counted.passed)} passages of all points")
            while len(rows) < len(wanted):
                row = await _try(house, heard, *wanted[len(rows)], counted)
                rows.append(row)
                console.print(f"{len(rows)}/{len(wanted)} {row.service} {row.point}: {row.ends} ends", end=", ")
                console.print(f"{row.seconds:.0f} s {row.problem or 'all adds up'}")
                if row.problem:
                    break
            rare.update(await rare_ways(house, heard))
    return rows, rare


async def _try(house: House, heard: Witness, service: str, point: str, counted: Verdict) -> Row:
    begin = time.monotonic()
    try:
        verdict = await try_points(house, heard, {service: point})
    except Exception as error:  # noqa: BLE001 # the other rows are to be seen too
        return Row(service, point, 0, {}, time.monotonic() - begin, f"{type(error).__name__}: {error}")
    by_scenario = {name: verdict.count(service, point, name) for name in SCENARIOS}
    missing = [name for name in SCENARIOS if counted.count(service, point, name) and not by_scenario[name]]
    problem = f"never ended about: {', '.join(missing)}" if missing else "" if verdict.ends else "nobody came to it"
    return Row(service, point, verdict.ends, by_scenario, time.monotonic() - begin, problem)


@asynccontextmanager
async def _new_house() -> AsyncIterator[tuple[House, Witness]]:
    stack = Stack(Path(tempfile.mkdtemp(prefix="crashes-")), say=console.print)
    async with furnished(stack, NAMES) as house, witness(house) as heard:
        yield house, heard


def _print(rows: Sequence[Row]) -> None:
    table = Table(title="How often a process ended, by point and scenario")
    for heading in ("service", "point", *SCENARIOS, "processes", "s", ""):
        table.add_column(heading)
    for row in rows:
        counts = [str(row.by_scenario.get(name, 0) or "") for name in SCENARIOS]
        result = row.problem.partition("\n")[0][:40] or "ok"
        table.add_row(row.service, row.point, *counts, str(row.ends), f"{row.seconds:.0f}", result)
    console.print(table)


def main() -> None:
    """Exit code 0 when all held."""
    everything = [(service, point) for service in CALLS_OF for point in points_of(service)]
    wanted = [row for row in everything if all(word in " ".join(row) for word in sys.argv[1:])]
    begin = time.monotonic()
    rows, rare = asyncio.run(prove(wanted))
    _print(rows)
    for way, count in rare.items():
        console.print(f"{count:>6} {way}")
    bad = sum(bool(row.problem) for row in rows)
    if wanted == everything:
        # A run that took none of them proves nothing about them.
        bad += sum(not count for count in rare.values())
    ends = sum(row.ends for row in rows)
    console.print(f"{len(rows)} points, {ends} processes ended, {bad} failures, {time.monotonic() - begin:.0f} s")
    sys.exit(1 if bad or not rows else 0)


if __name__ == "__main__":
    main()
