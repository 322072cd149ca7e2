"""All scenarios at once, while services end at named points and are started again; then everything must add up."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.e2e.house import SERVICES, House
from tests.proof import audit
from tests.proof.audit import Witness
from tests.proof.fuse import marks
from tests.proof.scenarios import SCENARIOS
from tests.proof.stage import Stage
from tests.proof.victim import Victim

TRIAL_TIMEOUT_S: Final = 240.0
# What waits for its time, has it come: as if a while had passed since the process ended.
_LEASES: Final = (
    "UPDATE reservations.outbox SET lease_time = statement_timestamp()",
    "UPDATE payments.outbox SET lease_time = statement_timestamp()",
    "UPDATE payments.payment SET due_time = statement_timestamp() WHERE state IN ('PENDING', 'REFUND_DUE')",
    """UPDATE reservations.credit SET reconcile_time = statement_timestamp(), reconcile_attempts = 0
       WHERE state IN ('OPEN', 'REFUND_DUE')""",
)


@dataclass(frozen=True)
class Verdict:
    """How often processes ended, and what passed their points: (service, point, detail, scenario or "")."""

    ends: int
    passed: frozenset[tuple[str, str, str, str]]

    def count(self, service: str, point: str, scenario: str) -> int:
        """In how many ways the scenario passed the point: by routing keys, queues, use cases."""
        wanted = (service, point, scenario)
        return sum((passing, at, about) == wanted for passing, at, _, about in self.passed)


async def try_points(house: House, witness: Witness, points: Mapping[str, str]) -> Verdict:
    """Plays all scenarios while each named service ends at its point (service -> point; "" only counts).

    A service ends once for every scenario and kind of thing that comes to its point. Fails with all that is wrong.
    The named services do not run afterwards.
    """
    memories = {name: house.stack.run_dir / f"{name}.marks" for name in points}
    for memory in memories.values():
        memory.unlink(missing_ok=True)

    async def leases_run_out() -> None:
        for sql in _LEASES:
            await house.rows(sql)

    victims = [
        Victim(house.stack, name, point=point, memory=memories[name], ended=leases_run_out)
        for name, point in points.items()
    ]
    async with asyncio.timeout(TRIAL_TIMEOUT_S):
        await house.kill(*points)
        await house.up(*(name for name in SERVICES if name not in points))
        stages = await _play_with(house, victims)
        await audit.everything_adds_up(house, witness, stages.values())
    of_shard = {shard: name for name, stage in stages.items() for shard in stage.shards}
    passed = frozenset(
        (name, mark.point, mark.detail, of_shard.get(mark.shard, ""))
        for name, memory in memories.items()
        for mark in marks(memory)
    )
    return Verdict(sum(victim.ends for victim in victims), passed)


async def play(house: House) -> dict[str, Stage]:
    """All scenarios to their ends."""
    stages = {name: Stage(house) for name in SCENARIOS}
    async with asyncio.TaskGroup() as scenes:
        for name, scenario in SCENARIOS.items():
            scenes.create_task(scenario(stages[name]))
    return stages


async def _play_with(house: House, victims: Sequence[Victim]) -> dict[str, Stage]:
    """Returns when all scenarios have ended, nothing is under way, and the victims have stopped when asked to."""
    try:
        async with asyncio.TaskGroup() as lives:
            for victim in victims:
                lives.create_task(victim.live())
            for victim in victims:
                await victim.serves()
            stages = await play(house)
            await house.settled()
            for victim in victims:
                await victim.serves()
                victim.stop()
    except BaseExceptionGroup as group:
        raise _first(group) from None
    return stages


def _first(error: BaseException) -> BaseException:
    """What failed first; the rest was cancelled for it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
