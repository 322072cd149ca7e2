"""`ticketrush outbox`: what was committed and the broker has not confirmed yet."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import typer
from psycopg import AsyncConnection
from psycopg.rows import class_row
from rich.table import Table

from ops import places, terminal
from ops.options import Json


@dataclass(frozen=True)
class Owed:
    """What is owed under one routing key. `overdue`: whoever wrote it did not get to say it, the relay must."""

    routing_key: str
    depth: int
    overdue: int
    oldest_time: datetime
    oldest_age_s: float


def outbox(*, as_json: Json = False) -> None:
    """Show how much each service still has to say, by routing key, and how old the oldest is.

    A depth that stays, with an age that grows, means that the broker does not take it.
    """
    owed = terminal.run(_owed())
    if as_json:
        typer.echo(json.dumps({schema: _as_json(found) for schema, found in owed.items()}))
        return
    table = Table("service", "routing key", "depth", "overdue", "oldest for", box=None)
    for schema, found in owed.items():
        for one in found:
            age = str(timedelta(seconds=round(one.oldest_age_s)))
            table.add_row(schema, terminal.words(one.routing_key), str(one.depth), str(one.overdue), age)
    console = terminal.console()
    console.print(table if table.row_count else "nothing: all that was committed has been said")


def _as_json(found: list[Owed]) -> dict[str, Any]:
    oldest_age_s = max((one.oldest_age_s for one in found), default=0.0)
    by_key = [asdict(one) | {"oldest_time": one.oldest_time.isoformat()} for one in found]
    return {"depth": sum(one.depth for one in found), "oldest_age_s": oldest_age_s, "by_key": by_key}


async def _owed() -> dict[str, list[Owed]]:
    owed: dict[str, list[Owed]] = {}
    for schema in places.SCHEMAS:
        async with places.schema(schema) as database, database.transaction() as conn:
            owed[schema] = await _by_key(conn)
    return owed


async def _by_key(conn: AsyncConnection) -> list[Owed]:
    async with conn.cursor(row_factory=class_row(Owed)) as cursor:
        await cursor.execute(
            """SELECT coalesce(routing_key, '') AS routing_key, count(*) AS depth,
                      count(*) FILTER (WHERE lease_time < clock_timestamp()) AS overdue, min(occur_time) AS oldest_time,
                      extract(epoch FROM clock_timestamp() - min(occur_time))::float8 AS oldest_age_s
               FROM outbox JOIN history USING (history_id) GROUP BY routing_key ORDER BY min(occur_time)"""
        )
        return await cursor.fetchall()
