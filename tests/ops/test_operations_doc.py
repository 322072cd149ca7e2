"""docs/operations.md names only what exists: metrics, commands with their options, and headings."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

import chassis
import gateway
import payments
import reservations
import scheduler
from tests.cli.lines import unknown_options

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text()
HEADINGS = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def metrics() -> set[str]:
    """The names under which all our processes show numbers."""
    for package in (chassis, gateway, payments, reservations, scheduler):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    return {name for name in REGISTRY._names_to_collectors if name.startswith(("ticketrush_", "grpc_"))}


def test_every_metric_exists(metrics: set[str]) -> None:
    named = set(re.findall(r"\b(?:ticketrush|grpc_server)_[a-z_]+", PAGE))
    assert named
    assert named - metrics == set()


def test_every_link_leads_to_a_heading() -> None:
    anchors = {re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in HEADINGS}
    links = set(re.findall(r"\]\(#([^)]+)\)", PAGE))
    assert links - anchors == set()


def test_every_alarm_has_a_heading_of_its_own() -> None:
    table = PAGE.partition("## The alarms")[2].partition("\n## ")[0]
    alarms = re.findall(r"\[([^\]]+)\]\(#", table)
    assert len(alarms) >= 15
    assert len(alarms) == len(set(alarms))
    assert set(alarms) <= set(HEADINGS)


def commands_named() -> set[str]:
    """What the page tells people to type, in blocks and in the middle of a line."""
    blocks = re.findall(r"^ticketrush ([^#\n]+)", PAGE, re.MULTILINE)
    inline = re.findall(r"`ticketrush ([^`]+)`", PAGE)
    return {line.strip() for line in (*blocks, *inline)}


@pytest.mark.parametrize("line", sorted(commands_named()))
def test_every_command_exists_with_its_options(line: str) -> None:
    assert unknown_options(line) == set()
