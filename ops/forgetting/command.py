"""`ticketrush forget-buyer`.

In small transactions, each of which renames some rows and rewrites their history. What is renamed is not found again,
so a run that was cut short is gone on with by the same command: the table `forgetting` keeps the pseudonym until then.
"""

import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Final
from uuid import UUID

import typer
from psycopg import AsyncConnection
from rich.progress import Progress

from chassis.database import Database
from ops import audit, places, terminal
from ops.audit import Doing
from ops.forgetting import envelopes, store
from ops.options import Operator, Reason
from ops.terminal import CouldNot, Refused

ACTION: Final = "forget-buyer"
# Reservations or payments of one transaction, with a handful of history rows each.
BATCH: Final = 100
_PSEUDONYM_BYTES: Final = 16

Rename = Callable[[AsyncConnection], Awaitable[list[UUID]]]
Advance = Callable[[int], None]


def forget_buyer(
    buyer_id: Annotated[str, typer.Argument(metavar="BUYER", help="As in --buyer of the other commands.")],
    *,
    operator: Operator,
    reason: Reason,
) -> None:
    """Put a random pseudonym in the place of a buyer, in every row and every message that is kept. For ever.

    Ids, amounts and states stay as they are; tickets stay sold, but not to the buyer any more. Refused while the buyer
    holds tickets, while a payment has not come to its end, or while a parked message tells of the buyer. Cut short, it
    is gone on with by the same command.
    """
    pseudonym, count = terminal.run(_forget(buyer_id, Doing(operator, ACTION, reason)))
    terminal.console().print(
        f"{count} reservations and payments are {pseudonym}'s now; nothing here tells whose they were"
    )


async def _forget(buyer_id: str, doing: Doing) -> tuple[str, int]:
    if re.search(rf"(?<!\w){re.escape(buyer_id)}(?!\w)", doing.reason):
        raise Refused("the reason names the buyer, and would be kept: say it without the name")
    async with AsyncExitStack() as exits:
        reservations = await exits.enter_async_context(places.schema("reservations"))
        payments = await exits.enter_async_context(places.schema("payments"))
        pseudonym = await _begin(reservations, payments, buyer_id, doing)
        progress = exits.enter_context(Progress(console=terminal.notes()))
        total = await _count(reservations, "reservations", buyer_id) + await _count(payments, "payments", buyer_id)
        task = progress.add_task("forgetting", total=total)

        def advance(done: int) -> None:
            progress.advance(task, done)

        names = (buyer_id, pseudonym)
        await _all(
            payments, names, partial(store.rename_payer, buyer_id=buyer_id, pseudonym=pseudonym, batch=BATCH), advance
        )
        async with reservations.transaction() as conn:
            events = await store.events_owned(conn, buyer_id)
        for event_id in events:
            await _some(
                reservations,
                names,
                partial(store.rename_owner, buyer_id=buyer_id, pseudonym=pseudonym, event_id=event_id),
                advance,
            )
        await _all(
            reservations,
            names,
            partial(store.rename_past, buyer_id=buyer_id, pseudonym=pseudonym, batch=BATCH),
            advance,
        )
        for database, schema in ((payments, "payments"), (reservations, "reservations")):
            await _end(database, schema, buyer_id)
    return pseudonym, total


async def _begin(reservations: Database, payments: Database, buyer_id: str, doing: Doing) -> str:
    """The pseudonym: a new one, or that of a run that was cut short. Raises Refused."""
    async with payments.transaction() as conn, reservations.transaction() as own:
        problems = [
            *await store.lines(own, store.HELD, buyer_id),
            *await store.lines(own, store.CREDITS, buyer_id),
            *await store.lines(conn, store.PAYMENTS, buyer_id),
            *await _parked(own, "reservations", buyer_id),
            *await _parked(conn, "payments", buyer_id),
        ]
        if problems:
            raise Refused(f"not while something is under way: {'; '.join(problems)}")
        begun = await store.begun_as(own, buyer_id) or await store.begun_as(conn, buyer_id)
        if begun is None:
            if not await store.count(own, "reservations", buyer_id) + await store.count(conn, "payments", buyer_id):
                raise Refused(f"nobody has bought anything as {buyer_id}")
            begun = f"forgotten-{secrets.token_hex(_PSEUDONYM_BYTES)}"
            for each in (conn, own):
                await audit.record(each, doing, [f"buyer {begun}"])
        for each in (conn, own):
            await store.begin(each, buyer_id, begun)
    return begun


async def _parked(conn: AsyncConnection, schema: str, buyer_id: str) -> list[str]:
    """Messages that wait for a person and tell of the buyer."""
    return [
        f"parked message {schema}/{parked_id} tells of {buyer_id}"
        for parked_id, state, body in await store.parked_holding(conn, buyer_id)
        if state == "PARKED" and envelopes.names(body, buyer_id)
    ]


async def _count(database: Database, schema: str, buyer_id: str) -> int:
    async with database.transaction() as conn:
        return await store.count(conn, schema, buyer_id)


async def _all(database: Database, names: tuple[str, str], rename: Rename, advance: Advance) -> None:
    while await _some(database, names, rename, advance):
        pass


async def _some(database: Database, names: tuple[str, str], rename: Rename, advance: Advance) -> int:
    async with database.transaction() as conn:
        renamed = await rename(conn)
        await _rewrite(conn, renamed, names)
    advance(len(renamed))
    return len(renamed)


async def _rewrite(conn: AsyncConnection, subject_ids: Sequence[UUID], names: tuple[str, str]) -> None:
    rows = [
        (history_id, envelope, rewritten)
        for history_id, envelope in await store.history_of(conn, subject_ids)
        if (rewritten := envelopes.renamed(envelope, *names)) != envelope
    ]
    if rows and await store.rewrite_history(conn, rows) != len(rows):
        raise CouldNot("somebody else rewrote the same history meanwhile; run it again")


async def _end(database: Database, schema: str, buyer_id: str) -> None:
    """Raises CouldNot when the buyer has come back meanwhile."""
    async with database.transaction() as conn:
        if left := await store.count(conn, schema, buyer_id):
            raise CouldNot(
                f"{buyer_id} has begun something new meanwhile ({left} {schema} are left); run it again later"
            )
        settled = [
            parked_id
            for parked_id, state, body in await store.parked_holding(conn, buyer_id)
            if state != "PARKED" and (not body or envelopes.names(body, buyer_id))
        ]
        await store.erase_parked(conn, settled)
        await store.end(conn, buyer_id)
