"""Dashboards and alerts ask for what is really there: the pages of a running house, asked by a real Prometheus."""

import asyncio
from pathlib import Path
from typing import Final
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.dashboards import FOLDER, render
from deploy.panels import DASHBOARDS, Dashboard
from deploy.services import PROCESSES
from deploy.stack import Stack
from tests.e2e.house import SERVICES, House
from tests.e2e.office import eventually
from tests.observability.exporters import ELSEWHERE, PROMETHEUS
from tests.observability.prometheus import Prometheus
from tests.observability.rules import alerts, metrics_in
from tests.observability.traffic import live, traffic

QUERIES: Final = {
    f"{dashboard.name}: {panel.title}: {legend}": expr
    for dashboard in DASHBOARDS
    for panel in dashboard.panels
    for legend, expr in panel.queries.items()
}
PAGE_TIMEOUT_S: Final = 5
DATA_DEADLINE_S: Final = 150.0
# Nobody else buys meanwhile, so these stand still while Prometheus catches up.
_MONEY: Final = "SELECT sum(amount_minor)::float FROM payments.payment WHERE state = '%s' AND currency = 'EUR'"
TOLD_BY_TABLES: Final = {
    'sum(ticketrush_reservations_decided_total{outcome="HELD"})': (
        "SELECT count(*) FROM reservations.reservation WHERE state <> 'REJECTED'"
    ),
    'sum(ticketrush_reservations_decided_total{outcome="TICKETS_TAKEN"})': (
        "SELECT count(*) FROM reservations.reservation WHERE reject_reason = 'TICKETS_TAKEN'"
    ),
    'max(ticketrush_money_minor{state="APPROVED", currency="EUR"})': _MONEY % "APPROVED",
    'max(ticketrush_money_minor{state="REFUNDED", currency="EUR"})': _MONEY % "REFUNDED",
}
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


async def test_there_are_data_behind_every_panel_under_load(house: House, prometheus: Prometheus) -> None:
    empty = dict(QUERIES)
    assert len(empty) >= 50

    async def all_have_data() -> bool:
        for where, expr in list(empty.items()):
            if await prometheus.numbers(expr):
                del empty[where]
        return not empty

    # Tables are counted each 15 s, a rate needs two looks, and invariants are checked at leisure.
    async with traffic(house):
        await eventually(all_have_data, lambda: f"no data: {empty}", deadline_s=DATA_DEADLINE_S)


async def test_every_rule_can_be_evaluated_and_none_fires_in_good_times(prometheus: Prometheus) -> None:
    rules = await prometheus.rules()
    assert {rule["name"] for rule in rules} == {alert.name for alert in alerts()}

    async def all_were_evaluated() -> bool:
        rules[:] = await prometheus.rules()
        return all(rule["health"] != "unknown" for rule in rules)

    await eventually(all_were_evaluated)
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    assert await prometheus.firing() == {}


async def test_numbers_are_what_the_tables_say(house: House, prometheus: Prometheus) -> None:
    """After one seat has been sold, one taken back, and one refused to somebody."""
    sale = await house.office.put_on_sale(2)
    await live(house.office, sale, *sale.tickets)
    shown = f'max(ticketrush_event_tickets{{event_id="{sale.event_id}", state="%s"}})'
    expected = {
        shown % "SOLD": 1,
        shown % "AVAILABLE": 1,
        "count(ticketrush_serving == 1)": len(SERVICES),
        'min(ticketrush_dependency_up{dependency="database"})': 1,
        'max(ticketrush_database_connections_max{job="reservations"})': 8,
    }
    for expr, sql in TOLD_BY_TABLES.items():
        [[expected[expr]]] = await house.rows(sql)
    seen: dict[str, float] = {}

    async def all_are_as_expected() -> bool:
        seen.update({expr: sum(await prometheus.numbers(expr)) for expr in expected})
        return seen == expected

    await eventually(all_are_as_expected, lambda: f"seen: {seen}, expected: {expected}")


def test_every_panel_file_is_in_the_folder_that_grafana_reads() -> None:
    provider = (Path(FOLDER).parent / "grafana/dashboards.yml").read_text()
    compose = (Path(FOLDER).parents[2] / "docker-compose.yml").read_text()
    assert "path: /var/lib/grafana/dashboards\n" in provider
    assert "./deploy/observability/dashboards:/var/lib/grafana/dashboards:ro\n" in compose
