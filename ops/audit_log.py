"""`ticketrush audit`: who did what, by hand or by the organisers' calls."""

import json
from typing import Any

import typer
from rich.table import Table

from ops import audit, places, terminal
from ops.options import Json, Limit


def audit_log(*, limit: Limit = 50, as_json: Json = False) -> None:
    """List what operators and organisers did, the newest first: who, when, what, to what and why."""
    found = terminal.run(_found(limit))
    if as_json:
        typer.echo(json.dumps([one | {"audit_time": one["audit_time"].isoformat()} for one in found]))
        return
    table = Table("when", "service", "who", "what", "to what", "why", box=None)
    for one in found:
        when = f"{one['audit_time']:%Y-%m-%d %H:%M:%S}"
        words = (one["operator"], one["action"], one["subject"], one["reason"])
        table.add_row(when, one["service"], *(terminal.words(word) for word in words))
    terminal.console().print(table)


async def _found(limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for schema in places.SCHEMAS:
        async with places.schema(schema) as database, database.transaction() as conn:
            entries = await audit.latest(conn, limit)
            if schema == "reservations":
                entries += await audit.asked(conn, limit)
            found += [{"service": schema, **entry} for entry in entries]
    return sorted(found, key=lambda entry: entry["audit_time"], reverse=True)[:limit]
