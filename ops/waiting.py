"""Payments that have not come to their end, and what the card processor says about them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import grpc
from grpc.aio import AioRpcError
from psycopg import AsyncConnection
from psycopg.rows import class_row
from rich.table import Table

from cli.money import written
from ops import places, terminal
from ticketrush.provider.v1 import provider_pb2 as pb

if TYPE_CHECKING:  # exists only in the stubs
    from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceAsyncStub

CALL_TIMEOUT_S: Final = 5.0
ASKED_AT_ONCE_MAX: Final = 16
NO_ANSWER: Final = "no answer"


@dataclass(frozen=True)
class Waiting:
    """A payment that is PENDING or REFUND_DUE; tried again at `due_time`, or being worked on until then."""

    payment_id: UUID
    reservation_id: UUID
    buyer_id: str
    state: str
    amount_minor: int
    currency: str
    state_time: datetime
    age_s: float
    attempts: int
    due_time: datetime


async def waiting(states: Sequence[str], older_than: timedelta, limit: int) -> list[tuple[Waiting, str]]:
    """Payments in these states for longer than that, the oldest first, each with what the processor says of it."""
    async with places.schema("payments") as database, database.transaction() as conn:
        found = await _find(conn, states, older_than, limit)
    async with places.provider() as processor:
        return list(zip(found, await _views(processor, found), strict=True))


def as_json(found: Waiting, processor: str) -> dict[str, Any]:
    """Plain values."""
    return {
        "payment_id": str(found.payment_id),
        "reservation_id": str(found.reservation_id),
        "buyer_id": found.buyer_id,
        "state": found.state,
        "amount_minor": found.amount_minor,
        "currency": found.currency,
        "since": found.state_time.isoformat(),
        "age_s": round(found.age_s, 1),
        "attempts": found.attempts,
        "next_attempt_time": found.due_time.isoformat(),
        "processor": processor,
    }


def print_table(found: Sequence[tuple[Waiting, str]]) -> None:
    """A line each."""
    table = Table(
        "payment", "reservation", "buyer", "state", "amount", "for", "attempts", "next", "processor", box=None
    )
    for one, processor in found:
        table.add_row(
            str(one.payment_id),
            str(one.reservation_id),
            terminal.words(one.buyer_id),
            one.state,
            written(one.amount_minor, one.currency) if one.amount_minor else "all that is due",
            str(timedelta(seconds=round(one.age_s))),
            str(one.attempts),
            f"{one.due_time:%H:%M:%S}",
            processor,
        )
    terminal.console().print(table)


async def _find(conn: AsyncConnection, states: Sequence[str], older_than: timedelta, limit: int) -> list[Waiting]:
    async with conn.cursor(row_factory=class_row(Waiting)) as cursor:
        # A branch per state: the partial indexes serve no list of them.
        await cursor.execute(
            """SELECT payment_id, reservation_id, buyer_id, state, amount_minor, currency, state_time,
                      extract(epoch FROM clock_timestamp() - state_time)::float8 AS age_s, attempts, due_time
               FROM (SELECT * FROM payment WHERE state = 'PENDING'
                     UNION ALL SELECT * FROM payment WHERE state = 'REFUND_DUE') AS unfinished
               WHERE state = ANY(%s) AND state_time <= clock_timestamp() - %s::interval
               ORDER BY state_time LIMIT %s""",
            (list(states), older_than, limit),
        )
        return await cursor.fetchall()


async def _views(processor: "PaymentProviderServiceAsyncStub", found: Sequence[Waiting]) -> list[str]:
    at_once = asyncio.Semaphore(ASKED_AT_ONCE_MAX)

    async def ask(one: Waiting) -> str:
        async with at_once:
            return await view(processor, one.payment_id)

    return await asyncio.gather(*map(ask, found))


async def view(processor: "PaymentProviderServiceAsyncStub", payment_id: UUID) -> str:
    """In a word: `unknown`, `approved`, `declined`, `cancelled`, `refunded`, or NO_ANSWER."""
    try:
        request = pb.GetChargeRequest(payment_id=str(payment_id))
        charge = (await processor.GetCharge(request, timeout=CALL_TIMEOUT_S)).charge
    except AioRpcError as error:
        return "unknown" if error.code() is grpc.StatusCode.NOT_FOUND else NO_ANSWER
    if charge.refunded_minor:
        return "refunded"
    return pb.Charge.State.Name(charge.state).removeprefix("STATE_").lower()
