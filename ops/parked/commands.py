"""`ticketrush parked list|show|redrive|discard`."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from ops import audit, places, terminal
from ops.audit import Doing
from ops.options import Json, Limit, Operator, Reason
from ops.parked import showing, store
from ops.parked.redrive import ACTION as REDRIVE
from ops.parked.redrive import Redriven, redrive
from ops.parked.showing import Named
from ops.terminal import Refused

DISCARD: Final = "parked discard"
# Of one command; the rest is left to the next one.
SETTLED_AT_ONCE_MAX: Final = 10_000
EXIT_CAME_BACK: Final = 1
EXIT_UNSENT: Final = 3

parked_app = typer.Typer(no_args_is_help=True, help="Messages that could not be taken in and wait for a person.")

Name = tuple[str, int]


class State(StrEnum):
    """Which messages to list."""

    PARKED = "parked"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"


def parked_name(text: str) -> Name:
    """`reservations/17` as schema and id. Raises typer.BadParameter."""
    schema, _, number = text.partition("/")
    if schema not in places.SCHEMAS or not number.isdigit():
        raise typer.BadParameter(f"{text!r} is not like reservations/17 or payments/3")
    return schema, int(number)


Ids = Annotated[list[Any] | None, typer.Argument(metavar="[ID]...", parser=parked_name, help="As the list names them.")]
Queue = Annotated[str, typer.Option("--queue", metavar="NAME", help="All of this queue.")]


@parked_app.command("list", epilog="Example: ticketrush parked list --queue payments.charges")
def list_parked(
    *,
    queue: Queue = "",
    state: Annotated[list[State] | None, typer.Option(help="Repeatable.", show_default="parked")] = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List messages, the oldest first of each service."""
    states = [one.name for one in state or [State.PARKED]]
    found = terminal.run(_find(None, queue, states, limit))
    if as_json:
        typer.echo(json.dumps([showing.as_json(schema, parked) for schema, parked in found]))
    else:
        showing.print_list(found)


@parked_app.command("show", epilog="Example: ticketrush parked show payments/3")
def show(
    parked_id: Annotated[Any, typer.Argument(metavar="ID", parser=parked_name, help="As the list names it.")],
    *,
    raw: Annotated[bool, typer.Option("--raw", help="With its bytes, which may hold a card's token.")] = False,
    as_json: Json = False,
) -> None:
    """Show one message: why it is here, and what it says."""
    (schema, parked), body = terminal.run(_whole(parked_id))
    shown = showing.as_json(schema, parked) | {"envelopes": showing.envelopes(body)}
    if raw:
        shown["body_base64"] = base64.b64encode(body).decode()
    if as_json:
        typer.echo(json.dumps(shown))
    else:
        showing.print_whole(shown)


@parked_app.command("redrive", epilog="Example: ticketrush parked redrive payments/3 --reason 'mended in 1.4.2'")
def redrive_parked(
    ids: Ids = None, *, operator: Operator, reason: Reason, queue: Queue = "", as_json: Json = False
) -> None:
    """Send messages again to the queues they came from, then mark them REDRIVEN.

    Repeating a message is harmless. One that fails again is parked again. Exit codes: 0 all redriven; 1 some came back
    at once; 3 some could not be sent and stay parked.
    """
    done = terminal.run(_redrive(ids, queue, Doing(operator, REDRIVE, reason)))
    if as_json:
        typer.echo(json.dumps({schema: asdict(one) for schema, one in done.items()}))
    else:
        _print_redriven(done)
    if any(one.unsent for one in done.values()):
        raise typer.Exit(EXIT_UNSENT)
    if any(one.came_back for one in done.values()):
        raise typer.Exit(EXIT_CAME_BACK)


@parked_app.command("discard", epilog="Example: ticketrush parked discard payments/3 --reason 'forged'")
def discard(ids: Ids = None, *, operator: Operator, reason: Reason, queue: Queue = "", as_json: Json = False) -> None:
    """Give messages up. They stay in the table, marked DISCARDED; an obligation that one told of is asked for again."""
    done = terminal.run(_discard(ids, queue, Doing(operator, DISCARD, reason)))
    if as_json:
        typer.echo(json.dumps(done))
    else:
        terminal.console().print(f"{sum(map(len, done.values()))} discarded")


async def _find(ids: Sequence[Name] | None, queue: str, states: Sequence[str], limit: int) -> list[Named]:
    found: list[Named] = []
    for schema in places.SCHEMAS:
        numbers = None if ids is None else [number for own, number in ids if own == schema]
        if numbers != []:
            async with places.schema(schema) as database, database.transaction() as conn:
                rows = await store.find(conn, parked_ids=numbers, queue=queue, states=states, limit=limit)
            found += [(schema, parked) for parked in rows]
    return found


async def _whole(parked_id: Name) -> tuple[Named, bytes]:
    found = await _find([parked_id], "", [state.name for state in State], 1)
    if not found:
        raise Refused(f"there is no message {showing.name(*parked_id)}")
    async with places.schema(parked_id[0]) as database, database.transaction() as conn:
        return found[0], await store.body(conn, parked_id[1])


async def _meant(ids: Sequence[Name] | None, queue: str) -> dict[str, list[int]]:
    """The ids that are to be settled, by schema. Raises Refused when one was named that is not parked."""
    if bool(ids) == bool(queue):
        raise Refused("name messages, or a --queue")
    found = await _find(ids or None, queue, [State.PARKED.name], SETTLED_AT_ONCE_MAX)
    missing = set(ids or ()) - {(schema, parked.parked_id) for schema, parked in found}
    if missing:
        names = ", ".join(showing.name(*one) for one in sorted(missing))
        raise Refused(f"not parked, or settled already: {names}")
    schemas = sorted({schema for schema, _ in found})
    return {schema: [parked.parked_id for own, parked in found if own == schema] for schema in schemas}


async def _redrive(ids: Sequence[Name] | None, queue: str, doing: Doing) -> dict[str, Redriven]:
    meant = await _meant(ids, queue)
    done: dict[str, Redriven] = {}
    async with places.broker() as publisher:
        for schema, parked_ids in meant.items():
            async with places.schema(schema) as database:
                done[schema] = await redrive(database, publisher, parked_ids, doing)
    return done


async def _discard(ids: Sequence[Name] | None, queue: str, doing: Doing) -> dict[str, list[int]]:
    done: dict[str, list[int]] = {}
    for schema, parked_ids in (await _meant(ids, queue)).items():
        async with places.schema(schema) as database, database.transaction() as conn:
            done[schema] = await store.discard(conn, parked_ids, doing.operator, doing.reason)
            await audit.record(conn, doing, [f"parked_message {parked_id}" for parked_id in done[schema]])
    return done


def _print_redriven(done: Mapping[str, Redriven]) -> None:
    console = terminal.console()
    console.print(f"{sum(len(one.redriven) for one in done.values())} redriven")
    for schema, one in done.items():
        for parked_id in one.came_back:
            console.print(f"{showing.name(schema, parked_id)} failed again and stays parked", style="yellow")
        for parked_id, problem in one.unsent.items():
            console.print(f"{showing.name(schema, parked_id)} was not sent and stays parked: {problem}", style="red")
