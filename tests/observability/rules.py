"""The alert rules as they are written, and which metrics an expression asks for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy/observability"
ALERTS: Final = FOLDER / "alerts.yml"
SCRAPES: Final = FOLDER / "prometheus.yml"

_WORDS: Final = frozenset({"or", "and", "unless", "bool", "sum", "max", "min", "count"})
_NOT_METRICS: Final = re.compile(
    r"""\{[^}]*\} | \[[^\]]*\] | "[^"]*"  # selectors, ranges, strings
    | \b(?:by|on|ignoring|without)\s*\([^)]*\)  # groupings
    | \b[a-z_]+\s*(?=\()  # functions
    | \b\d[\w.]*  # numbers""",
    re.VERBOSE,
)

_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION: Final = re.compile(r"(\[|\bfor: )(\d+)([smhd])\b")


@dataclass(frozen=True)
class Alert:
    """One rule of alerts.yml."""

    name: str
    expr: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def alerts() -> list[Alert]:
    """All of them, in order."""
    groups = load(ALERTS)["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return [Alert(rule["alert"], rule["expr"], rule["labels"], rule["annotations"]) for rule in rules]


def hurried(times: int) -> str:
    """The file of rules, in which all that lasts (ranges, and how long a rule must hold) lasts so many times less."""

    def less(found: re.Match[str]) -> str:
        before, number, unit = found.groups()
        duration_ms = int(number) * _UNIT_MS[unit] // times
        return f"{before}{duration_ms}ms"

    return _DURATION.sub(less, ALERTS.read_text())


def load(path: Path) -> Any:
    """A file of YAML."""
    return YAML(typ="safe").load(path)


def metrics_in(expr: str) -> set[str]:
    """The names of the series that an expression reads."""
    left = _NOT_METRICS.sub(" ", expr)
    return set(re.findall(r"\b[a-zA-Z_][a-zA-Z0-9_:]*", left)) - _WORDS
