"""Plays cells on one system: something breaks in a full house and heals, quiet returns, and all of it is judged."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final

from chaos import books, paths, quiet
from chaos.cells import Cell
from chaos.checker.evidence import Evidence
from chaos.checker.verdict import judge
from chaos.faults import Scene
from chaos.load import House, full_house
from chaos.meters import Meters
from chaos.probe import Probe
from chaos.quiet import Overdue
from chaos.record import OK, Record, of_cell
from chaos.result import (
    ALIVE,
    BOUNDED,
    CALLED,
    CLOSED,
    CLOSED_MAX_S,
    IN_TIME,
    OVERDUE_MAX_S,
    RECOVERED,
    RECOVERY_MAX_S,
    Result,
)
from chaos.system import System

WARM_UP_S: Final = 4.0
AFTERWARDS_S: Final = 4.0
WATCHES_CATCH_UP_S: Final = 5.0
POLL_INTERVAL_S: Final = 0.1
TOLD_MAX: Final = 5


class Theatre:
    """One system on which cells are played one after the other, each judged together with all that went before it."""

    def __init__(self, system: System, seed: str) -> None:
        self._system = system
        self._seed = seed
        self._say: Callable[[str], None] = print
        self._meters = Meters(system)
        self._lossy: set[str] = set()
        self._known: set[str] = set()
        self._taken: Counter[str] = Counter()
        self.record = Record()

    async def play(self, cell: Cell, say: Callable[[str], None]) -> Result:
        """What the system does wrong is in the result; `say` is told what is going on.

        Raises StackError, and what the harness itself stumbles over.
        """
        self._say = say
        result = Result(cell.name, cell.what)
        begin = time.monotonic()
        if cell.lossy:
            self._lossy.add(cell.name)
        restarts, ended = self._system.restarts, len(self._system.ended_by_themselves)
        overdue = Overdue()
        async with (
            _beside(self._meters.run(), self._system.supervise(), overdue.watch(self._system)),
            full_house(
                self._system.gateway_address,
                self._system.stack.operator_token,
                self.record,
                cell,
                self._seed,
                buyers=self._system.buyers,
            ) as house,
        ):
            await self._break(cell, house, result, overdue)
            await self._empty(house, result)
        result.overdue_s = overdue.worst_after_s
        if overdue.worst_after_s > OVERDUE_MAX_S:
            result.fail(IN_TIME, f"{overdue.worst_after_s:.1f} s")
        result.restarts = self._system.restarts - restarts
        for name in self._system.ended_by_themselves[ended:]:
            result.fail(ALIVE, name)
        await self._judge(cell, result)
        result.seconds = time.monotonic() - begin
        return result

    async def _break(self, cell: Cell, house: House, result: Result, overdue: Overdue) -> None:
        random = Random(f"{self._seed}/{cell.name}/fault")
        self._say("the house fills")
        await asyncio.sleep(WARM_UP_S)
        self._say(cell.what)
        begin = time.monotonic()
        scene = Scene(self._system, random, self.record, cell.name, result.figures)
        await cell.fault(scene)
        heal = time.monotonic()
        result.fault_s = heal - begin
        for name, (lowest, highest) in cell.bounds.items():
            if not lowest <= scene.figures[name] <= highest:
                result.fail(BOUNDED, f"{name} is {scene.figures[name]:g}, not {lowest:g} to {highest:g}")
        self._say("healed; new calls")
        closing = asyncio.create_task(self._close_what_is_owed(heal))
        probe = Probe(house.clients[0], house.patient, cell.name, random)
        if await probe.confirmed(RECOVERY_MAX_S):
            result.recovery_s = time.monotonic() - heal
        else:
            result.fail(RECOVERED, "they are not")
        overdue.judge_after(OVERDUE_MAX_S)
        await asyncio.sleep(AFTERWARDS_S)
        self._say("the house closes; obligations")
        await house.close()
        left, result.closed_s = await closing
        if left:
            result.fail(CLOSED, _some(left))

    async def _close_what_is_owed(self, heal: float) -> tuple[Collection[str], float | None]:
        """What was owed at the heal and still is at the deadline; and when the last of it was closed."""
        try:
            owed = await quiet.owed_after(self._system, CLOSED_MAX_S)
        except TimeoutError:
            return ["the database does not answer"], None
        left = await quiet.closed(self._system, owed, CLOSED_MAX_S - (time.monotonic() - heal))
        return left, None if left else time.monotonic() - heal

    async def _empty(self, house: House, result: Result) -> None:
        """Waits until nothing moves, and the watches have told it."""
        self._say("quiet")
        left = await quiet.nothing_moves(self._system, CLOSED_MAX_S)
        if left:
            result.fail(CLOSED, f"after the last buyer left: {_some(left)}")
        shown, end = house.patient.event_id, time.monotonic() + WATCHES_CATCH_UP_S
        while not await quiet.is_shown(self._system, self.record, shown) and time.monotonic() < end:
            await asyncio.sleep(POLL_INTERVAL_S)
        result.watches_resumed = house.watches.resumed
        result.sold = len(house.patient.sold) + len(house.hasty.sold)

    async def _judge(self, cell: Cell, result: Result) -> None:
        self._say("the checker")
        await asyncio.to_thread(self._meters.read)
        statement = await books.statement(self._system.provider)
        found = await books.read(self._system.env["DATABASE_URL"], statement)
        evidence = Evidence(self.record, found, self._lossy)
        verdict = await asyncio.to_thread(judge, evidence)
        new = [str(violation) for violation in verdict.violations if str(violation) not in self._known]
        self._known.update(new)
        result.violations += new
        requests = of_cell(self.record.requests, cell.name)
        slowest = max(requests, key=lambda request: request.seconds)
        result.slowest_s = slowest.seconds
        late = sum(request.seconds > cell.calls_within_s for request in requests)
        if late:
            told = f"{late} were not, {slowest.call} {slowest.request_id} after {slowest.seconds:.1f} s"
            result.fail(CALLED, told)
        answers = [answer for request in requests for answer in request.answers]
        result.calls, result.unanswered = len(answers), sum(answer.code != OK for answer in answers)
        result.unknown = sum(request.insists and request.decision is None for request in requests)
        result.lost, result.doubled = verdict.lost[cell.name], verdict.doubled
        taken = paths.taken(evidence, self._meters.sums)
        result.paths, self._taken = taken - self._taken, taken


def _some(lines: Collection[str]) -> str:
    more = f" and {len(lines) - TOLD_MAX} more" if len(lines) > TOLD_MAX else ""
    return ", ".join(sorted(lines)[:TOLD_MAX]) + more


@asynccontextmanager
async def _beside(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs them until the block ends; one that fails ends the block."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(coroutine) for coroutine in coroutines]
        yield
        for task in running:
            task.cancel()
