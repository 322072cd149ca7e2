"""What cells came to, as data."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

# The promises that time is part of.
RECOVERED: Final = "new calls are confirmed within 40 s of the heal"
CLOSED: Final = "every obligation is closed within 120 s of the heal"
IN_TIME: Final = "no hold outlives its release_time by more than two sweeps once healed"
BOUNDED: Final = "what was measured is within its bounds"
CALLED: Final = "the retry policy brings every call to its end in time"
ALIVE: Final = "no process ends by itself"
PROVED: Final = "the rare paths that it is about were taken"

RECOVERY_MAX_S: Final = 40.0
CLOSED_MAX_S: Final = 120.0
# Two sweeps of the scheduler.
OVERDUE_MAX_S: Final = 2.0


@dataclass
class Result:
    """What a cell came to. Times in seconds; None where it never came to it."""

    cell: str
    what: str
    fault_s: float = 0.0
    recovery_s: float | None = None
    closed_s: float | None = None
    overdue_s: float = 0.0
    # Attempts, and those among them that were not answered.
    calls: int = 0
    unanswered: int = 0
    # How long the unluckiest caller insisted, slow cards aside.
    slowest_s: float = 0.0
    # Requests whose caller never learned what became of them; that were OK'd and left no trace; that had two effects.
    unknown: int = 0
    lost: int = 0
    doubled: int = 0
    restarts: int = 0
    watches_resumed: int = 0
    sold: int = 0
    seconds: float = 0.0
    paths: Counter[str] = field(default_factory=Counter)
    figures: dict[str, float] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    skipped: str = ""

    def fail(self, rule: str, detail: str) -> None:
        """Notes a broken promise."""
        self.violations.append(f"{rule}: {detail}")

    @property
    def held(self) -> bool:
        """Whether every promise was kept."""
        return not self.violations
