"""The run as one picture, written by hand as SVG: how soon each cell recovered and closed what it owed."""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final

from chaos.report import Run
from chaos.result import CLOSED_MAX_S, RECOVERY_MAX_S, Result

ROW_PX: Final = 22
LEFT_PX: Final = 230
PLOT_PX: Final = 600
RIGHT_PX: Final = 130
TOP_PX: Final = 64
AXIS_S: Final = CLOSED_MAX_S
RECOVERED: Final = "#2f6fb3"
CLOSED: Final = "#9dc3e6"
BROKEN: Final = "#c0392b"
LIMIT: Final = "#b9770e"


def write_svg(run: Run, path: Path) -> None:
    """One row per cell; the scale is in seconds after the heal."""
    path.write_text("\n".join(_lines(run)) + "\n")


def _lines(run: Run) -> Iterator[str]:
    played = [result for result in run.results if not result.skipped]
    width, height = LEFT_PX + PLOT_PX + RIGHT_PX, TOP_PX + ROW_PX * len(played) + 40
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
    yield '  font-family="sans-serif" font-size="12">'
    yield f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    yield f'<text x="12" y="22" font-size="15">Seconds after the heal (seed {escape(run.seed)})</text>'
    yield from _legend()
    bottom = TOP_PX + ROW_PX * len(played)
    for second in range(0, round(AXIS_S) + 1, 20):
        yield f'<line x1="{_x(second)}" x2="{_x(second)}" y1="{TOP_PX - 4}" y2="{bottom}" stroke="#e3e3e3"/>'
        yield f'<text x="{_x(second)}" y="{bottom + 16}" text-anchor="middle" fill="#555">{second}</text>'
    yield (
        f'<line x1="{_x(RECOVERY_MAX_S)}" x2="{_x(RECOVERY_MAX_S)}" y1="{TOP_PX - 4}" y2="{bottom}" '
        f'stroke="{LIMIT}" stroke-dasharray="4 3"/>'
    )
    for place, result in enumerate(played):
        yield from _row(result, TOP_PX + ROW_PX * place)
    yield "</svg>"


def _legend() -> Iterator[str]:
    entries = (
        (RECOVERED, "new calls confirmed"),
        (CLOSED, "all obligations closed"),
        (LIMIT, "promised for new calls"),
    )
    for place, (colour, text) in enumerate(entries):
        x = LEFT_PX + 190 * place
        yield f'<rect x="{x}" y="34" width="12" height="12" fill="{colour}"/><text x="{x + 18}" y="44">{text}</text>'


def _row(result: Result, y: int) -> Iterator[str]:
    name_colour = "#222" if result.held else BROKEN
    yield f'<text x="{LEFT_PX - 8}" y="{y + 15}" text-anchor="end" fill="{name_colour}">{escape(result.cell)}</text>'
    for seconds, colour, top, thickness in (
        (result.closed_s, CLOSED, 3, 15),
        (result.recovery_s, RECOVERED, 7, 7),
    ):
        reached = AXIS_S if seconds is None else min(seconds, AXIS_S)
        length = max(1.0, _x(reached) - LEFT_PX)
        fill = BROKEN if seconds is None else colour
        yield f'<rect x="{LEFT_PX}" y="{y + top}" width="{length:.1f}" height="{thickness}" fill="{fill}"/>'
    told = "kept" if result.held else f"{len(result.violations)} broken"
    recovered = "never" if result.recovery_s is None else f"{result.recovery_s:.1f} s"
    yield f'<text x="{LEFT_PX + PLOT_PX + 8}" y="{y + 15}" fill="{name_colour}">{recovered}, {told}</text>'


def _x(seconds: float) -> float:
    return LEFT_PX + PLOT_PX * seconds / AXIS_S
