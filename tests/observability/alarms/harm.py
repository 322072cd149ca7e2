"""A stack of its own is harmed, and a real Prometheus tells of it: each alert fires under its fault, and ends with it.

Rules are HURRY times as quick here: that shortens how long a fault must last and how long it is remembered, and nothing
else. That their own times are right, promtool says in test_alerts.py. `make proof-alerts` takes them as they are.
"""

import os
from typing import Final

from tests.e2e.office import eventually
from tests.observability.prometheus import Prometheus

HURRY: Final = int(os.environ.get("PROOF_ALERTS_HURRY", "20"))
# A round of all invariants takes a minute, more on a busy machine; a rule looks back for an hour at most.
DEADLINE_S: Final = 240.0 + 3_600.0 / HURRY


async def fires(prometheus: Prometheus, *alerts: str) -> None:
    """Returns once all of them do; some may have ended again before the last has begun."""
    missing = set(alerts)

    async def none_is_missing() -> bool:
        missing.difference_update(await prometheus.firing())
        return not missing

    await eventually(none_is_missing, lambda: f"does not fire: {missing}", deadline_s=DEADLINE_S)


async def all_is_quiet(prometheus: Prometheus) -> None:
    """Returns once no alert fires, whichever it is."""
    firing: dict[str, str] = {}

    async def none_fires() -> bool:
        firing.clear()
        firing.update(await prometheus.firing())
        return not firing

    await eventually(none_fires, lambda: "still fires: " + "\n".join(firing.values()), deadline_s=DEADLINE_S)
