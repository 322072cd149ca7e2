"""Each alert fires under its fault and only then, ends with it, and leads to its runbook; and the runbook to it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.prometheus import written
from tests.observability.faults import END_MIN, FAULT_BEGIN_MIN, FAULT_END_MIN, FAULTS, Fault
from tests.observability.rules import ALERTS, ROOT, SCRAPES, Alert, alerts

BY_NAME: Final = {alert.name: alert for alert in alerts()}
PAGE: Final = (ROOT / "docs/operations.md").read_text()
SEVERITIES: Final = {"page", "ticket"}
TIMEOUT_S: Final = 60


def ask(promtool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def test_the_rules_and_the_configuration_are_sound(promtool: str) -> None:
    for arguments in (("rules", "--lint-fatal", str(ALERTS)), ("config", "--lint-fatal", str(SCRAPES))):
        done = ask(promtool, "check", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr


def test_what_it_asks_in_containers_is_what_the_table_says() -> None:
    assert SCRAPES.read_text() == written(), "renew it with: make dashboards"


def expectations(fault: Fault) -> list[dict[str, Any]]:
    """Nothing fires before and after; at the fault's last minute its alert does, and no other."""
    alert = BY_NAME[fault.alert]
    annotations = {**alert.annotations, "summary": fault.summary}
    firing = [{"exp_labels": {**alert.labels, **fault.labels}, "exp_annotations": annotations}]
    return [
        {
            "eval_time": f"{minute}m",
            "alertname": name,
            "exp_alerts": firing if minute == FAULT_END_MIN - 1 and name == alert.name else [],
        }
        for minute in (FAULT_BEGIN_MIN - 1, FAULT_END_MIN - 1, END_MIN - 1)
        for name in BY_NAME
    ]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.alert}-{next(iter(fault.series)).split('{')[0]}")
def test_an_alert_fires_under_its_fault_and_not_otherwise(fault: Fault, promtool: str, tmp_path: Path) -> None:
    series = [
        {"series": name, "values": " ".join("_" if value is None else f"{value:g}" for value in line())}
        for name, line in fault.series.items()
    ]
    trial = {"interval": "1m", "input_series": series, "alert_rule_test": expectations(fault)}
    file = tmp_path / "trial.yml"
    file.write_text(json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [trial]}))
    done = ask(promtool, "test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_its_fault() -> None:
    assert {fault.alert for fault in FAULTS} == BY_NAME.keys()


@pytest.mark.parametrize("alert", BY_NAME.values(), ids=lambda alert: alert.name)
def test_an_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(alert: Alert) -> None:
    assert alert.labels["severity"] in SEVERITIES
    assert alert.annotations.keys() == {"summary", "runbook_url"}
    assert alert.annotations["runbook_url"].startswith("docs/operations.md#")


def test_the_table_of_alarms_has_every_alert_with_the_heading_to_which_it_leads() -> None:
    table = PAGE.partition("## The alarms")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| .* \| \[[^\]]+\]\((#[^)]+)\) \|$", table, re.MULTILINE)
    written = {name: heading for names, heading in rows for name in re.findall(r"\w+", names)}
    assert written == {
        alert.name: alert.annotations["runbook_url"].removeprefix("docs/operations.md") for alert in BY_NAME.values()
    }


def test_every_alert_leads_to_a_heading_that_is_there() -> None:
    headings = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    anchors = {"#" + re.sub(r"[^a-z0-9_ -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    led_to = {alert.annotations["runbook_url"].removeprefix("docs/operations.md") for alert in BY_NAME.values()}
    assert led_to <= anchors
