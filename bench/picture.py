"""The measurement as one picture, written by hand as SVG: how many a second, with the spread."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from bench.report import OURS, RUSH, Round

ROW_PX: Final = 22
GAP_PX: Final = 14
LEFT_PX: Final = 200
PLOT_PX: Final = 560
RIGHT_PX: Final = 110
TOP_PX: Final = 52
OUR_COLOUR: Final = "#2f6fb3"
OTHER_COLOUR: Final = "#9dc3e6"
SPREAD_COLOUR: Final = "#444"


def write_svg(found: Sequence[Round], path: Path) -> None:
    """Bars are medians of all rounds at full load, thin lines reach from the slowest round to the fastest."""
    scenarios: dict[str, dict[str, list[float]]] = {}
    for one in found:
        if one.load == RUSH or "clients" in one.load:
            scenarios.setdefault(one.scenario, {}).setdefault(one.subject, []).append(one.per_s)
    path.write_text("\n".join(_lines(scenarios)) + "\n")


def _lines(scenarios: Mapping[str, Mapping[str, Sequence[float]]]) -> Iterator[str]:
    rows = sum(map(len, scenarios.values()))
    width = LEFT_PX + PLOT_PX + RIGHT_PX
    height = TOP_PX + ROW_PX * rows + GAP_PX * len(scenarios) + 20
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
    yield '  font-family="sans-serif" font-size="12">'
    yield f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    yield f'<text x="12" y="24" font-size="15">Answers a second, {RUSH}: median, slowest and fastest round</text>'
    y = TOP_PX
    for scenario, subjects in scenarios.items():
        # Each scenario has a scale of its own: what counts is the ratio within it.
        most = max(max(speeds) for speeds in subjects.values())
        for place, (subject, speeds) in enumerate(subjects.items()):
            yield from _row(scenario if place == 0 else "", subject, speeds, most, y)
            y += ROW_PX
        y += GAP_PX
    yield "</svg>"


def _row(scenario: str, subject: str, speeds: Sequence[float], most: float, y: int) -> Iterator[str]:
    median, colour = statistics.median(speeds), OUR_COLOUR if subject == OURS else OTHER_COLOUR
    low, high = (LEFT_PX + PLOT_PX * speed / most for speed in (min(speeds), max(speeds)))
    yield f'<text x="12" y="{y + 15}" font-weight="bold">{escape(scenario)}</text>'
    yield f'<text x="{LEFT_PX - 8}" y="{y + 15}" text-anchor="end">{escape(subject)}</text>'
    yield f'<rect x="{LEFT_PX}" y="{y + 3}" width="{PLOT_PX * median / most:.1f}" height="15" fill="{colour}"/>'
    yield f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 10.5}" y2="{y + 10.5}" stroke="{SPREAD_COLOUR}"/>'
    yield f'<text x="{LEFT_PX + PLOT_PX + 8}" y="{y + 15}">{median:,.0f}/s</text>'
