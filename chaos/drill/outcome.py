"""What a drill came to, as data."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime


@dataclass
class Outcome:
    """Times in seconds, money in minor units."""

    target: datetime | None = None
    backup_s: float = 0.0
    # How far back from the end of the database the point in time lies, and how old the newest thing was that could have
    # been restored instead.
    forgotten_s: float = 0.0
    archive_lag_s: float = 0.0
    # From the beginning of the restore: until the database takes writes, until a new buyer has tickets, until nothing
    # is open and fsck is content.
    restored_s: float = 0.0
    selling_s: float = 0.0
    settled_s: float = 0.0
    # Sales that buyers were told of: before the point in time, and after it.
    told_before: int = 0
    told_after: int = 0
    kept: int = 0
    taken_back: int = 0
    lost: int = 0
    lost_minor: int = 0
    # Charges at the processor that no ticket stands for and that are back.
    given_back: int = 0
    given_back_minor: int = 0
    remedies: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    problems: list[str] = field(default_factory=list)

    def expect(self, holds: bool, problem: str) -> None:
        """Notes the problem unless it holds."""
        if not holds:
            self.problems.append(problem)
