"""What rounds gave: medians, spread and ratios, as tables."""

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

IN_FLIGHT: Final = 256
RUSH: Final = f"{IN_FLIGHT} callers"
OURS: Final = "TicketRush"
_NAMES: Final = ("scenario", "subject", "load")
_NUMBERS: Final = ("a second", "spread", "TicketRush : it", "p50 ms", "p99 ms", "p99.9 ms", "CPU us each", "failed")
_LATENCIES: Final = ("p50_ms", "p99_ms", "p999_ms")


@dataclass
class Round:
    """What one subject did in one round.

    Latencies in ms, 0 if unknown; failures by code; CPU by part in us for each of what was counted.
    """

    scenario: str
    subject: str
    load: str
    per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    failed: dict[str, int] = field(default_factory=dict)
    cpu_us: dict[str, float] = field(default_factory=dict)
    resident_mb: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Figure:
    """One number of one round of a scenario that has other questions than the usual ones."""

    what: str
    value: float


def told(figures: Sequence[Figure]) -> Iterator[str]:
    """A line for each kind of figure: the median of its rounds and their spread."""
    kinds: dict[str, list[float]] = {}
    for figure in figures:
        kinds.setdefault(figure.what, []).append(figure.value)
    for what, values in kinds.items():
        yield f"{what}: {statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


def table_of(found: Sequence[Round]) -> tuple[Sequence[str], list[list[str]]]:
    """Columns and rows: medians of all rounds, their spread, and the ratio of ours to each other of the same turn."""
    rows = []
    groups = _grouped(found)
    for (scenario, subject, load), rounds in groups.items():
        speeds = [one.per_s for one in rounds]
        ours = groups.get((scenario, OURS, RUSH), [])
        ratio = ""
        if subject != OURS and len(ours) == len(rounds):
            ratio = f"{statistics.median(a.per_s / b.per_s for a, b in zip(ours, rounds, strict=True)):.2f}"
        rows.append(
            [
                scenario,
                subject,
                load,
                f"{statistics.median(speeds):,.0f}",
                f"{min(speeds):,.0f} to {max(speeds):,.0f}",
                ratio,
                *(_known(statistics.median(getattr(one, name) for one in rounds), 1) for name in _LATENCIES),
                _known(statistics.median(sum(one.cpu_us.values()) for one in rounds), 0),
                _failures(rounds),
            ]
        )
    return (*_NAMES, *_NUMBERS), rows


def _known(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if value else ""


def _failures(rounds: Sequence[Round]) -> str:
    """How many calls failed, and with what."""
    failed = sum((Counter(one.failed) for one in rounds), Counter[str]())
    return ", ".join(f"{count} {code}" for code, count in failed.items()) or "0"


def parts_of(found: Sequence[Round]) -> Iterator[str]:
    """Where our CPU went, and how much memory there was at most: a line for each load of each scenario."""
    for (scenario, subject, load), rounds in _grouped(found).items():
        if subject == OURS:
            cpu = {name: statistics.median(one.cpu_us[name] for one in rounds) for name in rounds[0].cpu_us}
            memory = {name: max(one.resident_mb[name] for one in rounds) for name in rounds[0].resident_mb}
            parts = ", ".join(f"{name} {us:.0f} us ({memory[name]:.0f} MB)" for name, us in cpu.items())
            yield f"{scenario}, {load}: {parts}"


def show(found: Sequence[Round], console: Console) -> None:
    """For people at a terminal."""
    columns, rows = table_of(found)
    table = Table(box=SIMPLE_HEAD, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in _NUMBERS else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for line in parts_of(found):
        console.print(line, soft_wrap=True)


def markdown(found: Sequence[Round]) -> str:
    """For docs/performance.md."""
    columns, rows = table_of(found)
    lines = [columns, ["---"] * len(_NAMES) + ["---:"] * len(_NUMBERS), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "".join(f"\n- {line}" for line in parts_of(found))


def _grouped(found: Sequence[Round]) -> dict[tuple[str, str, str], list[Round]]:
    groups: dict[tuple[str, str, str], list[Round]] = {}
    for one in found:
        groups.setdefault((one.scenario, one.subject, one.load.partition(",")[0]), []).append(one)
    return groups


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The value that so many percent of the ascending values do not exceed; 0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0
