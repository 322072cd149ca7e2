"""What rounds gave: medians, spread and ratios, as a table for people."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

IN_FLIGHT: Final = 256
RUSH: Final = f"{IN_FLIGHT} callers"
_NUMBERS: Final = ("a second", "spread", "TicketRush : it", "p50 ms", "p99 ms", "p99.9 ms", "CPU us each", "failed")
_LATENCIES: Final = ("p50_ms", "p99_ms", "p999_ms")


@dataclass
class Round:
    """What one subject did in one round. Latencies in ms; CPU by part in us for each of what was counted."""

    scenario: str
    subject: str
    load: str
    per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    failed: int = 0
    cpu_us: dict[str, float] = field(default_factory=dict)
    resident_mb: dict[str, float] = field(default_factory=dict)


def show(found: Sequence[Round], console: Console) -> None:
    """Medians of all rounds, their spread, and the ratio to TicketRush's of the same round."""
    table = Table(box=SIMPLE_HEAD, header_style="bold")
    for column in ("scenario", "subject", "load"):
        table.add_column(column)
    for column in _NUMBERS:
        table.add_column(column, justify="right")
    groups: dict[tuple[str, str, str], list[Round]] = {}
    for one in found:
        groups.setdefault((one.scenario, one.subject, one.load.partition(",")[0]), []).append(one)
    for (scenario, subject, load), rounds in groups.items():
        speeds = [one.per_s for one in rounds]
        ours = groups.get((scenario, "TicketRush", RUSH), [])
        ratio = ""
        if subject != "TicketRush" and len(ours) == len(rounds):
            ratio = f"{statistics.median(a.per_s / b.per_s for a, b in zip(ours, rounds, strict=True)):.2f}"
        table.add_row(
            scenario,
            subject,
            load,
            f"{statistics.median(speeds):,.0f}",
            f"{min(speeds):,.0f} to {max(speeds):,.0f}",
            ratio,
            *(f"{statistics.median(getattr(one, name) for one in rounds):.1f}" for name in _LATENCIES),
            f"{statistics.median(sum(one.cpu_us.values()) for one in rounds):.0f}",
            str(sum(one.failed for one in rounds)),
        )
    console.print(table)
    _show_parts(groups, console)


def _show_parts(groups: dict[tuple[str, str, str], list[Round]], console: Console) -> None:
    """Where TicketRush's CPU went, and its memory."""
    for (scenario, subject, load), rounds in groups.items():
        if subject == "TicketRush":
            cpu = {name: statistics.median(one.cpu_us[name] for one in rounds) for name in rounds[0].cpu_us}
            memory = {name: max(one.resident_mb[name] for one in rounds) for name in rounds[0].resident_mb}
            parts = ", ".join(f"{name} {us:.0f} us ({memory[name]:.0f} MB)" for name, us in cpu.items())
            console.print(f"{scenario}, {load}: {parts}", soft_wrap=True)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value that so many percent of the ascending values do not exceed; 0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0
