"""Processes that end between any two steps: nothing is lost or doubled, said and not done, done and not said.

`make proof-crashes` tries every point by itself; here each service ends at one of them, all in one go.
"""

from tests.e2e.house import House
from tests.proof.audit import Witness
from tests.proof.scenarios import SCENARIOS
from tests.proof.trial import try_points

POINTS = {
    "reservations": "ack-before",
    "payments": "record-before",
    "scheduler": "commit-after",
    "gateway": "outcome-before",
}
ENDS_MIN = 12


async def test_processes_that_end_at_their_points_leave_no_zombie_and_no_ghost(house: House, heard: Witness) -> None:
    verdict = await try_points(house, heard, POINTS)
    await house.up(*POINTS)
    assert verdict.ends > ENDS_MIN
    untouched = {
        name for name in SCENARIOS if not any(verdict.count(*service_point, name) for service_point in POINTS.items())
    }
    assert not untouched, "scenarios that no end concerned"
