"""A run for people and for machines: a table on the terminal, JSON, and a picture."""

import json
import shutil
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from chaos import paths
from chaos.record import Record
from chaos.result import PROVED, Result

VIOLATIONS_TOLD_MAX: Final = 12


@dataclass(frozen=True)
class Run:
    """All cells of a run. `required` are the rare paths without which it proves nothing."""

    seed: str
    results: Sequence[Result]
    required: Collection[str]

    @property
    def taken(self) -> Counter[str]:
        """How often each rare path was taken."""
        return sum((result.paths for result in self.results), Counter[str]())

    @property
    def problems(self) -> list[str]:
        """Every broken promise, and every path that was required and not taken."""
        broken = [f"{result.cell}: {line}" for result in self.results for line in result.violations]
        return broken + [f"{PROVED}: no {path}" for path in sorted(self.required) if not self.taken[path]]


def show(run: Run, console: Console) -> None:
    """The table, the rare paths, and whatever went wrong."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", title=f"chaos, seed {run.seed}")
    table.add_column("cell", no_wrap=True)
    for column in ("fault s", "recovered s", "closed s", "overdue s", "slowest s", "calls", "unanswered"):
        table.add_column(column, justify="right")
    for column in ("unknown", "lost", "doubled", "restarts", "sold"):
        table.add_column(column, justify="right")
    table.add_column("promises")
    for result in run.results:
        table.add_row(*_row(result))
    console.print(table)
    for result in run.results:
        if result.figures:
            console.print(f"{result.cell}: " + ", ".join(f"{name} {value:g}" for name, value in result.figures.items()))
    counted = ", ".join(f"{path} {run.taken[path]}" for path in paths.ALL)
    console.print(f"rare paths: {counted}")
    for line in run.problems[:VIOLATIONS_TOLD_MAX]:
        console.print(line, style="red", markup=False, soft_wrap=True)
    if len(run.problems) > VIOLATIONS_TOLD_MAX:
        console.print(f"and {len(run.problems) - VIOLATIONS_TOLD_MAX} more, all in the JSON", style="red")


def _row(result: Result) -> list[str]:
    if result.skipped:
        return [result.cell, *[""] * 12, f"[yellow]not played: {result.skipped}[/]"]
    kept = "[green]kept[/]" if result.held else f"[red]{len(result.violations)} broken[/]"
    numbers = (
        result.calls,
        result.unanswered,
        result.unknown,
        result.lost,
        result.doubled,
        result.restarts,
        result.sold,
    )
    return [
        result.cell,
        f"{result.fault_s:.1f}",
        _seconds(result.recovery_s),
        _seconds(result.closed_s),
        f"{result.overdue_s:.1f}",
        f"{result.slowest_s:.1f}",
        *map(str, numbers),
        kept,
    ]


def _seconds(value: float | None) -> str:
    return "[red]never[/]" if value is None else f"{value:.1f}"


def line(result: Result) -> str:
    """One cell in one line, for those who wait."""
    if result.skipped:
        return f"{result.cell:30} [yellow]not played: {result.skipped}[/]"
    kept = (
        "[green]kept[/]" if result.held else f"[red]{len(result.violations)} broken: {escape(result.violations[0])}[/]"
    )
    recovered, closed = _seconds(result.recovery_s), _seconds(result.closed_s)
    return f"{result.cell:30} recovered after {recovered} s, all closed after {closed} s, {result.calls} calls: {kept}"


def keep_logs(run_dir: Path, record: Record, out: Path) -> None:
    """What somebody who looks for the cause needs: the logs of all processes, and every word that clients were told."""
    kept = out / "logs"
    kept.mkdir(parents=True, exist_ok=True)
    for log in (*run_dir.glob("*.log"), *run_dir.glob("*/*.log")):
        shutil.copy(log, kept / log.relative_to(run_dir).as_posix().replace("/", "-"))
    with (kept / "record.jsonl").open("w") as file:
        file.writelines(json.dumps(asdict(request)) + "\n" for request in record.requests)
        file.writelines(json.dumps(asdict(sight)) + "\n" for sight in record.sights)


def write_json(run: Run, path: Path) -> None:
    """Everything, for machines."""
    document = {
        "seed": run.seed,
        "kept": not run.problems,
        "paths": dict(run.taken),
        "required_paths": sorted(run.required),
        "problems": run.problems,
        "cells": [vars(result) for result in run.results],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
