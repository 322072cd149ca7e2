"""Grafana's dashboards as code: `python -m deploy.dashboards` writes them from deploy/panels.py."""

import json
from pathlib import Path
from typing import Any, Final

from deploy.panels import DASHBOARDS, Dashboard, Panel

FOLDER: Final = Path(__file__).parent / "observability/dashboards"
# The uid that deploy/observability/grafana/datasources.yml gives it.
_SOURCE: Final = {"type": "prometheus", "uid": "prometheus"}
_WIDTH: Final = 12
_HEIGHT: Final = 8
_COLUMNS: Final = 2
_SCHEMA_VERSION: Final = 39


def render(dashboard: Dashboard) -> str:
    """A dashboard as Grafana's JSON."""
    written = {
        "uid": f"ticketrush-{dashboard.name}",
        "title": f"TicketRush: {dashboard.title}",
        "description": dashboard.question,
        "tags": ["ticketrush"],
        "schemaVersion": _SCHEMA_VERSION,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "panels": [_render_panel(place, panel) for place, panel in enumerate(dashboard.panels)],
    }
    return json.dumps(written, indent=1) + "\n"


def _render_panel(place: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(place, _COLUMNS)
    return {
        "id": place + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + letter), "expr": expr, "legendFormat": legend}
            for letter, (legend, expr) in enumerate(panel.queries.items())
        ],
    }


def main() -> None:
    """Writes every dashboard."""
    for dashboard in DASHBOARDS:
        (FOLDER / f"{dashboard.name}.json").write_text(render(dashboard))


if __name__ == "__main__":
    main()
