"""`ticketrush payments differences|reconcile`."""

import json
from collections.abc import Sequence
from typing import Any, Final

import typer
from psycopg import AsyncConnection
from rich.table import Table

from cli.addresses import gateway_address
from cli.gateway import dial
from cli.money import written
from ops import places, terminal
from ops.audit import RECONCILE, Doing
from ops.fsck.inspection import STATEMENT_TIMEOUT_MS
from ops.options import Json, Limit, Operator, Reason
from ops.reconciling import settling
from ops.reconciling.differences import Difference, Remedy, find
from ops.reconciling.settling import Settled
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

CONNECT_TIMEOUT_S: Final = 5

Found = tuple[list[Difference], list[str]]


def differences(*, limit: Limit = 100, as_json: Json = False) -> None:
    """Show what the card processor did and the books do not know, as after a database came back from the past.

    Exit codes: 0 nothing that the services do not settle by themselves; 1 something; 3 could not look.
    """
    found, denied = terminal.run(_find())
    if as_json:
        typer.echo(json.dumps({"differences": [_as_json(one) for one in found], "denied": denied}))
    else:
        _print([(one, one.remedy) for one in found[:limit]], denied[:limit])
        if (more := max(0, len(found) - limit) + max(0, len(denied) - limit)) > 0:
            terminal.console().print(f"and {more} more")
    raise typer.Exit(1 if denied or any(one.remedy is not Remedy.WAIT for one in found) else 0)


def reconcile(*, operator: Operator, reason: Reason, as_json: Json = False) -> None:
    """Settle what `payments differences` shows.

    Charges that the books do not know go back; sales and holds whose money has gone back are taken back, for which the
    gateway must be up. Each step is noted. Stopped half-way, it may be started again.

    Exit codes: 0 all of it is settled, or comes to its end by itself; 1 the rest is for a person; 3 no answer.
    """
    found, denied = terminal.run(_find())
    doing = Doing(operator, RECONCILE, reason)
    settled = terminal.run(_give_back([one for one in found if one.remedy in {Remedy.REFUND, Remedy.NOTE}], doing))
    settled += _undo([one for one in found if one.remedy in {Remedy.TAKE_BACK, Remedy.CANCEL}], doing)
    # What the services settle by themselves is nobody's to be told of here.
    if as_json:
        steps = [_as_json(one) | {"problem": problem} for one, problem in settled]
        typer.echo(json.dumps({"settled": steps, "denied": denied}))
    else:
        _print(
            [(one, f"not done: {problem}" if problem else f"done: {one.remedy}") for one, problem in settled], denied
        )
    raise typer.Exit(1 if denied or any(problem for _, problem in settled) else 0)


async def _find() -> Found:
    async with (
        places.provider() as processor,
        await AsyncConnection.connect(
            places.place(places.OPERATOR_DATABASE_URL),
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name=places.APPLICATION,
            options=f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c timezone=UTC",
        ) as conn,
    ):
        return await find(conn, processor)


async def _give_back(found: Sequence[Difference], doing: Doing) -> list[Settled]:
    if not found:
        return []
    async with places.schema("payments") as database, places.provider() as processor:
        return await settling.give_back(database, processor, doing, found)


def _undo(found: Sequence[Difference], doing: Doing) -> list[Settled]:
    if not found:
        return []
    settled: list[Settled] = []
    with dial(gateway_address()) as channel:
        ticketing = TicketingServiceStub(channel)
        for one in found:
            problem = settling.undo(ticketing, one, doing.reason)
            settled.append((one, problem))
    done = [one for one, problem in settled if not problem]
    terminal.run(_note(done, doing))
    return settled


async def _note(done: Sequence[Difference], doing: Doing) -> None:
    async with places.schema("payments") as database, database.transaction() as conn:
        for one in done:
            await settling.note(conn, doing, one)


def _as_json(one: Difference) -> dict[str, Any]:
    return {
        "payment_id": str(one.payment_id),
        "amount_minor": one.amount_minor,
        "refunded_minor": one.refunded_minor,
        "currency": one.currency,
        "state": one.state or "UNKNOWN",
        "reservation_id": str(one.reservation_id or ""),
        "reservation_state": one.reservation_state,
        "remedy": one.remedy.name,
    }


def _print(found: Sequence[tuple[Difference, str]], denied: Sequence[str]) -> None:
    table = Table("payment", "charged", "gone back", "here", "reservation", "what to do", box=None)
    for one, word in found:
        table.add_row(
            str(one.payment_id),
            written(one.amount_minor, one.currency),
            "yes" if one.refunded_minor else "no",
            one.state or "unknown",
            one.reservation_state,
            terminal.words(word),
        )
    console = terminal.console()
    console.print(table if found else "nothing: the books know all that the card processor has done")
    for problem in denied:
        console.print(terminal.words(f"for a person: {problem}", "bold red"))
