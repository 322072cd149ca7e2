"""No order of events loses a ticket, a payment or a cent; and the model would see it if one did."""

from dataclasses import replace

import pytest

from tests.model.machine import Flaw, Scenario
from tests.model.search import search

ONE_SEAT = Scenario(
    "two buyers and one seat", carts=(frozenset({1}), frozenset({1})), totals=(2, 2), payments=((0, 2), (1, 2))
)
OVERLAPPING = Scenario(
    "overlapping carts", carts=(frozenset({1, 2}), frozenset({2, 3})), totals=(2, 2), payments=((0, 2), (1, 2))
)
INSTALMENTS = Scenario(
    "instalments and a charge too many", carts=(frozenset({1}),), totals=(2,), payments=((0, 1), (0, 1), (0, 1))
)
TWO_IN_FULL = Scenario(
    "two full payments and a rival",
    carts=(frozenset({1}), frozenset({1})),
    totals=(2, 2),
    payments=((0, 2), (0, 2)),
)
# Those that show most flaws soonest come first.
SCENARIOS = (TWO_IN_FULL, INSTALMENTS, ONE_SEAT, OVERLAPPING)
WORLDS_MIN = 10_000


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_in_every_world_that_can_come_all_rules_hold(scenario: Scenario) -> None:
    found = search(scenario)
    assert not found.broken, str(found)
    assert found.worlds > WORLDS_MIN, "a search that saw so little proves nothing"


@pytest.mark.parametrize("flaw", [flaw for flaw in Flaw if flaw], ids=lambda flaw: str(flaw.name))
def test_the_model_finds_what_each_guard_is_for(flaw: Flaw) -> None:
    assert any(search(replace(scenario, flaw=flaw)).broken for scenario in SCENARIOS), (
        "without its guard nothing breaks"
    )
