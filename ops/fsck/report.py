"""What an inspection found, for people and for programs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from contract.invariants import CLAIMS, Invariant
from ops import terminal

SOUND = 0
BROKEN = 1
COULD_NOT_LOOK = 3


@dataclass
class Verdict:
    """On one invariant. `problem` says why it could not be looked at, whole or in part; "" when it could."""

    invariant: Invariant
    violations: int = 0
    examples: list[str] = field(default_factory=list)
    problem: str = ""
    took_s: float = 0.0


@dataclass(frozen=True)
class UnderWay:
    """Things of one kind that have not come to their end."""

    what: str
    count: int
    examples: Sequence[str]


@dataclass(frozen=True)
class Report:
    """Of one snapshot. `under_way` is None unless it was asked for."""

    snapshot_time: datetime
    verdicts: Sequence[Verdict]
    under_way: Sequence[UnderWay] | None
    took_s: float

    @property
    def exit_code(self) -> int:
        """BROKEN wins over COULD_NOT_LOOK; things under way are BROKEN where none may be."""
        if any(verdict.violations for verdict in self.verdicts):
            return BROKEN
        if any(verdict.problem for verdict in self.verdicts):
            return COULD_NOT_LOOK
        return BROKEN if any(one.count for one in self.under_way or ()) else SOUND

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dumps."""
        return {
            "sound": self.exit_code == SOUND,
            "snapshot_time": self.snapshot_time.isoformat(),
            "took_s": round(self.took_s, 3),
            "invariants": [
                {
                    "number": verdict.invariant.number,
                    "name": verdict.invariant.value,
                    "claim": CLAIMS[verdict.invariant],
                    "violations": verdict.violations,
                    "examples": verdict.examples,
                    "problem": verdict.problem,
                    "took_s": round(verdict.took_s, 3),
                }
                for verdict in self.verdicts
            ],
            "under_way": None
            if self.under_way is None
            else [{"what": one.what, "count": one.count, "examples": list(one.examples)} for one in self.under_way],
        }

    def print(self, console: Console) -> None:
        """A line for each invariant, its examples below it."""
        table = Table(box=None, show_header=False, pad_edge=False)
        for verdict in self.verdicts:
            table.add_row(str(verdict.invariant.number), _state(verdict), Text(CLAIMS[verdict.invariant]))
            for line in (*verdict.examples, *([f"not looked at: {verdict.problem}"] if verdict.problem else [])):
                table.add_row("", "", terminal.words(line, "dim"))
        for one in self.under_way or ():
            state = Text(f"{one.count} under way", style="bold red") if one.count else Text("settled", style="green")
            table.add_row("", state, Text(one.what))
            for line in one.examples:
                table.add_row("", "", terminal.words(line, "dim"))
        console.print(table)
        console.print(
            Text(f"as of {self.snapshot_time:%Y-%m-%d %H:%M:%S %Z}, looked for {self.took_s:.1f} s", style="dim")
        )


def _state(verdict: Verdict) -> Text:
    if verdict.violations:
        return Text(f"{verdict.violations} BROKEN", style="bold red")
    return Text("not known", style="yellow") if verdict.problem else Text("holds", style="green")
