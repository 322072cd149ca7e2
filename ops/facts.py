"""`ticketrush facts replay`."""

import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Final

import typer
from rich.progress import Progress

from chassis.database import Database
from ops import audit, places, terminal
from ops.audit import Doing
from ops.options import Json, Operator, Reason
from ops.replay import Period, Span, measure, replay
from ops.terminal import Refused

ACTION: Final = "facts replay"
RATE_DEFAULT: Final = 500
TIME_FORMATS: Final = ["%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]

facts_app = typer.Typer(no_args_is_help=True, help="What the services told the world.")


class Service(StrEnum):
    """Whose facts."""

    RESERVATIONS = "reservations"
    PAYMENTS = "payments"


@facts_app.callback()
def facts() -> None:
    """Keeps `replay` a command of its own name."""


@facts_app.command(
    "replay", epilog="Example: ticketrush facts replay --since '2026-11-24 20:00:00' --reason 'broker lost'"
)
def replay_facts(
    *,
    since: Annotated[datetime, typer.Option(formats=TIME_FORMATS, help="From then on. Without a zone: local time.")],
    operator: Operator,
    reason: Reason,
    until: Annotated[
        datetime | None, typer.Option(formats=TIME_FORMATS, help="Until before then.", show_default="now")
    ] = None,
    key: Annotated[str, typer.Option("--key", metavar="ROUTING_KEY", help="Only these, as in ticket.sold.")] = "",
    service: Annotated[Service | None, typer.Option(help="Only of this service.", show_default="both")] = None,
    rate: Annotated[int, typer.Option(min=1, max=5_000, help="How many a second at most.")] = RATE_DEFAULT,
    as_json: Json = False,
) -> None:
    """Say again what was said in a period, from history: the same messages under the same ids.

    For listeners that lost some, and for a broker that lost its queues. Whoever heard them before hears them twice,
    which changes nothing. Stopped half-way, it may be started again.
    """
    period = Period(since.astimezone(), until.astimezone() if until else datetime.now(UTC), key)
    schemas = [service.value] if service else list(places.SCHEMAS)
    said = terminal.run(_replay(schemas, period, Doing(operator, ACTION, reason), rate))
    if as_json:
        typer.echo(json.dumps(said))
    else:
        terminal.console().print("said again: " + ", ".join(f"{count} of {schema}" for schema, count in said.items()))


async def _replay(schemas: list[str], period: Period, doing: Doing, rate: int) -> dict[str, int]:
    if period.since >= period.until:
        raise Refused("--since must be before --until, and not in the future")
    async with AsyncExitStack() as exits:
        publisher = await exits.enter_async_context(places.broker())
        databases = {schema: await exits.enter_async_context(places.schema(schema)) for schema in schemas}
        spans = {schema: await _begin(database, period, doing) for schema, database in databases.items()}
        progress = exits.enter_context(Progress(console=terminal.notes()))
        for schema, span in spans.items():
            advance = partial(progress.advance, progress.add_task(schema, total=span.count))
            await replay(databases[schema], publisher, period, span, rate=rate, said=advance)
        return {schema: span.count for schema, span in spans.items()}


async def _begin(database: Database, period: Period, doing: Doing) -> Span:
    """Measures, and notes what is about to be said: a replay that is cut short was one, too."""
    async with database.transaction() as conn:
        span = await measure(conn, period)
        detail = {"since": period.since.isoformat(), "until": period.until.isoformat(), "messages": span.count}
        await audit.record(conn, doing, [period.routing_key or "all routing keys"], detail)
    return span
