"""Dashboards and alerts ask for what is really there: the pages of a running house, asked by a real Prometheus."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.dashboards import FOLDER, render
from deploy.panels import DASHBOARDS, Dashboard
from deploy.services import PROCESSES
from deploy.stack import Stack
from tests.e2e.house import House
from tests.e2e.office import eventually
from tests.observability.exporters import ELSEWHERE, PROMETHEUS
from tests.observability.prometheus import Prometheus, looking_at
from tests.observability.rules import alerts, metrics_in

QUERIES: Final = {
    f"{dashboard.name}: {panel.title}: {legend}": expr
    for dashboard in DASHBOARDS
    for panel in dashboard.panels
    for legend, expr in panel.queries.items()
}
PAGE_TIMEOUT_S: Final = 5
DATA_DEADLINE_S: Final = 150.0
# What each kind of metric shows beside its own name.
SUFFIXES: Final = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_a_dashboard_is_what_its_table_says(dashboard: Dashboard) -> None:
    assert (FOLDER / f"{dashboard.name}.json").read_text() == render(dashboard), "renew it with: make dashboards"


def test_there_is_no_other_dashboard() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == {dashboard.name for dashboard in DASHBOARDS}


def shown(stack: Stack) -> set[str]:
    """Every name that any page of the stack has, also of what has not been counted yet."""
    names: set[str] = set()
    for service in PROCESSES:
        url = f"http://{stack.env[service.metrics_address]}/metrics"
        with urlopen(url, timeout=PAGE_TIMEOUT_S) as page:  # our own process on loopback
            families = list(text_string_to_metric_families(page.read().decode()))
        for family in families:
            names |= {family.name + suffix for suffix in SUFFIXES.get(family.type, ("",))}
            names |= {sample.name for sample in family.samples}
    return names


async def test_alerts_and_dashboards_name_only_metrics_that_there_are(house: House) -> None:
    known = await asyncio.to_thread(shown, house.stack) | ELSEWHERE | PROMETHEUS
    asked = QUERIES | {alert.name: alert.expr for alert in alerts()}
    unknown = {where: left for where, expr in asked.items() if (left := metrics_in(expr) - known)}
    assert not unknown


def test_the_table_of_exporters_names_only_what_is_asked_for() -> None:
    exprs = [*QUERIES.values(), *(alert.expr for alert in alerts())]
    assert {name for expr in exprs for name in metrics_in(expr)} >= ELSEWHERE


def test_the_metrics_of_an_expression_are_found() -> None:
    expr = 'max by (job, le) (rate(a_total{b="c", d=~"e.*"}[5m])) / on (job) sum(f:g) > 0.5 or time() - h unless i'
    assert metrics_in(expr) == {"a_total", "f:g", "h", "i"}


@pytest.fixture(scope="module")
async def prometheus(house: House, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    async with looking_at(house.stack, tmp_path_factory.mktemp("prometheus")) as prometheus:
        yield prometheus


async def test_there_are_data_behind_every_panel(prometheus: Prometheus) -> None:
    empty = {where: expr for where, expr in QUERIES.items() if not metrics_in(expr) & ELSEWHERE}
    assert len(empty) > 40

    async def all_have_data() -> bool:
        for where, expr in list(empty.items()):
            if await prometheus.query(expr):
                del empty[where]
        return not empty

    # Tables are counted each 15 s, a rate needs two looks, and invariants are checked at leisure.
    await eventually(all_have_data, lambda: f"no data: {empty}", deadline_s=DATA_DEADLINE_S)


async def test_every_rule_can_be_evaluated_and_none_fires_in_good_times(prometheus: Prometheus) -> None:
    answer = (await prometheus.client.get("/api/v1/rules")).json()
    rules = [rule for group in answer["data"]["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {alert.name for alert in alerts()}

    async def all_were_evaluated() -> bool:
        found = (await prometheus.client.get("/api/v1/rules")).json()
        rules[:] = [rule for group in found["data"]["groups"] for rule in group["rules"]]
        return all(rule["health"] != "unknown" for rule in rules)

    await eventually(all_were_evaluated)
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    assert await prometheus.firing() == set()


async def test_numbers_follow_what_happened(prometheus: Prometheus) -> None:
    """Of the life that the house has had: one seat sold, one refunded, one refusal."""

    async def value(expr: str) -> float | None:
        found = await prometheus.query(expr)
        return float(found[0]["value"][1]) if found else None

    expected = {
        'sum(ticketrush_reservations_decided_total{outcome="HELD"})': 2,
        'sum(ticketrush_reservations_decided_total{outcome="TICKETS_TAKEN"})': 1,
        'max(ticketrush_event_tickets{state="SOLD"})': 1,
        'max(ticketrush_event_tickets{state="AVAILABLE"})': 1,
        'max(ticketrush_money_minor{state="APPROVED", currency="EUR"})': 4_500,
        'max(ticketrush_money_minor{state="REFUNDED", currency="EUR"})': 4_500,
        "count(ticketrush_serving == 1)": 5,
        'min(ticketrush_dependency_up{dependency="database"})': 1,
        'max(ticketrush_database_connections_max{job="reservations"})': 8,
    }
    seen: dict[str, float | None] = {}

    async def all_are_as_expected() -> bool:
        seen.update({expr: await value(expr) for expr in expected})
        return seen == expected

    await eventually(all_are_as_expected, lambda: f"seen: {seen}")


def test_every_panel_file_is_in_the_folder_that_grafana_reads() -> None:
    provider = (Path(FOLDER).parent / "grafana/dashboards.yml").read_text()
    compose = (Path(FOLDER).parents[2] / "docker-compose.yml").read_text()
    assert "path: /var/lib/grafana/dashboards\n" in provider
    assert "./deploy/observability/dashboards:/var/lib/grafana/dashboards:ro\n" in compose
