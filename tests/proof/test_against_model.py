"""The real handlers and SQL in lockstep with the exhaustive model: after every move both are in the same world.

`make proof-model` goes on for longer; a run that took none of one of the rare ways fails.
"""

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.model.machine import LIVE, Machine, Move, Scenario, World, start
from tests.model.test_model import SCENARIOS
from tests.proof import moves
from tests.proof.twin import Databases, Twin

SECONDS = float(os.environ.get("PROOF_MODEL_SECONDS", "15"))
# A run so long has taken every rare way, or there is none.
LONG_FROM_S = 120
WAYS_PER_ROUND = 5
STEPS = 40
RARE = (
    "late approval",
    "revival",
    "charge landed late",
    "charge found when it was given up",
    "tombstone",
    "reply lost",
    "message lost",
    "message in vain",
    "command repeated",
    "said again",
    "sale taken back",
)
# Most of what is interesting happens to a charge that is under way, and to what comes of it.
_UNDER_WAY = ("reserve 0", "pay 0", "open 0", "call charge 0")
BEGINNINGS = (
    (),
    _UNDER_WAY,
    (*_UNDER_WAY, "expire 0"),
    (*_UNDER_WAY, "expire 0", "charge 0: C"),
    (*_UNDER_WAY, "charge 0: C", "A0 arrives"),
    (*_UNDER_WAY, "charge 0: C", "A0 arrives", "reserve 1", "pay 1"),
    (*_UNDER_WAY, "pay 1", "expire 0", "reserve 1"),
    (*_UNDER_WAY, "pay 1", "pay 2"),
)
Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Lockstep(RuleBasedStateMachine):
    """Draws a move of the model, makes it in both, compares."""

    run: Run
    databases: Databases
    taken: Counter[str]

    @initialize(scenario=st.sampled_from(SCENARIOS), beginning=st.sampled_from(BEGINNINGS))
    def begin(self, scenario: Scenario, beginning: Sequence[str]) -> None:
        self.machine = Machine(scenario)
        self.world = start(scenario)
        self.twin = Twin(scenario, self.databases)
        self.run(self.twin.begin())
        for name in beginning:
            # As far as the scenario goes that way.
            for possible, after in self.machine.progress(self.world):
                if possible == name:
                    self._make(name, after)
                    break

    @rule(data=st.data())
    def the_system_goes_on(self, data: st.DataObject) -> None:
        self._move(data, [move for move in self.machine.progress(self.world) if move[1] != self.world])

    @rule(data=st.data())
    def somebody_or_something_interferes(self, data: st.DataObject) -> None:
        self._move(data, list(self.machine.mischief(self.world)))

    @precondition(lambda self: any(pay.wire for pay in self.world.pays))
    @rule(data=st.data())
    def a_message_arrives_in_vain(self, data: st.DataObject) -> None:
        on_the_wire = [(index, letter) for index, pay in enumerate(self.world.pays) for letter in pay.wire]
        index, letter = data.draw(st.sampled_from(on_the_wire))
        effects = dict(self.machine.progress(self.world))
        arrivals = (f"{letter}{index} arrives", f"{letter}{index} arrives again")
        if all(effects.get(name, self.world) == self.world for name in arrivals):
            self.taken["message in vain"] += 1
            self.run(moves.in_vain(self.twin, index, letter))

    @rule(data=st.data())
    def a_command_is_said_again(self, data: st.DataObject) -> None:
        """A repeated Pay that is decided has its fact said again, as if it were asked for by a reconciler."""
        index = data.draw(st.integers(0, len(self.world.reservations) - 1))
        if self.world.reservations[index] != "-":
            self.taken["command repeated"] += 1
            self.run(moves.reserve(self.twin, index))
        index = data.draw(st.integers(0, len(self.world.pays) - 1))
        pay = self.world.pays[index]
        if pay.state != "-":
            self.run(moves.pay(self.twin, index))
            if pay.state not in "PO":
                self._say(index, "J" if pay.state == "R" else "A")

    @invariant()
    def both_are_in_the_same_world(self) -> None:
        if hasattr(self, "twin"):
            assert self.run(self.twin.world()) == self.world

    def teardown(self) -> None:
        """Left alone, both come to the same end."""
        if hasattr(self, "twin"):
            while ahead := [move for move in self.machine.progress(self.world) if move[1] != self.world]:
                self._make(*ahead[0])
            self.both_are_in_the_same_world()

    def _move(self, data: st.DataObject, possible: list[Move]) -> None:
        if possible:
            self._make(*data.draw(st.sampled_from(possible)))

    def _make(self, name: str, after: World) -> None:
        self.taken.update(rare_ways(self.machine.scenario, self.world, name, after))
        self.run(moves.move(self.twin, name))
        self.world = after

    def _say(self, index: int, letter: str) -> None:
        pays = list(self.world.pays)
        pays[index] = pays[index].said(letter)
        self.world = self.world._replace(pays=tuple(pays))


def rare_ways(scenario: Scenario, world: World, name: str, after: World) -> Iterator[str]:
    """Which rare ways a move takes."""
    if "reply lost" in name:
        yield "reply lost"
    if "is lost" in name:
        yield "message lost"
    if name.startswith("say "):
        yield "said again"
    if "organiser refunds" in name:
        yield "sale taken back"
    for (owner, _), pay, now in zip(scenario.payments, world.pays, after.pays, strict=True):
        state = world.reservations[owner]
        if (pay.credit, now.credit) == ("O", "D"):
            yield "late approval"
        if (pay.credit, now.credit, state) == ("O", "A", "E"):
            yield "revival"
        if (pay.charge, now.charge) == ("-", "C") and state not in LIVE:
            yield "charge landed late"
        if pay.charge != now.charge == "T":
            yield "tombstone"
        if "give up" in name and pay.charge == "C" and (pay.state, now.state) == ("O", "A"):
            yield "charge found when it was given up"


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """A loop of the test's own: Hypothesis calls its rules outside of any."""
    with asyncio.Runner() as runner:
        yield runner.run


@pytest.fixture
def databases(database_url: str, run: Run) -> Iterator[Databases]:
    made: Databases = run(_opened(database_url))
    yield made
    run(made.close())


async def _opened(url: str) -> Databases:
    databases = Databases(url)
    await databases.open()
    return databases


@pytest.mark.timeout(SECONDS + 240)
def test_after_every_move_the_real_system_and_the_model_are_in_the_same_world(
    databases: Databases, run: Run, capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
) -> None:
    taken: Counter[str] = Counter()
    machine = type("Lockstep", (Lockstep,), {"run": staticmethod(run), "databases": databases, "taken": taken})
    way = settings(
        max_examples=WAYS_PER_ROUND,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        # Each step costs a few transactions: what failed is shown as it was found.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    end = time.monotonic() + SECONDS
    for rounds in itertools.count(1):
        # Each round has ways of its own, the same in every run.
        run_state_machine_as_test(seed(rounds)(machine), settings=way)
        if time.monotonic() > end:
            break
    if SECONDS >= LONG_FROM_S:
        shown = ", ".join(f"{rare}: {taken[rare]}" for rare in RARE)
        with capsys.disabled():
            pytestconfig.get_terminal_writer().line(f"\n{rounds} rounds of {WAYS_PER_ROUND} ways; {shown}")
    missed = [rare for rare in RARE if not taken[rare]]
    assert not missed or SECONDS < LONG_FROM_S, f"not taken once in {SECONDS} s: {missed}; taken: {taken}"
