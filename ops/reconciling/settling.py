"""Brings the books and the card processor together again, each step noted in the audit of payments.

Money that the books do not know goes back to where it came from. The processor is asked while nobody can begin a
payment under the same id; one that begins later finds its charge given back and is REJECTED (payments/processor.py).
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from uuid import UUID

import grpc
from grpc.aio import AioRpcError
from psycopg import AsyncConnection

from chassis.database import Database
from contract import ids
from ops import audit
from ops.audit import Doing
from ops.reconciling.differences import Difference, Remedy
from ticketrush.provider.v1 import provider_pb2 as provider
from ticketrush.v1 import ticketing_pb2 as pb
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

if TYPE_CHECKING:  # exists only in the stubs
    from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceAsyncStub

# All of a batch are asked for at once, under one lock: payments wait no longer than for one answer.
BATCH: Final = 16
REFUND_TIMEOUT_S: Final = 5.0
CALL_TIMEOUT_S: Final = 10.0

# A difference, and why it could not be settled; "" when it was.
Settled = tuple[Difference, str]


async def give_back(
    database: Database,
    processor: "PaymentProviderServiceAsyncStub",
    doing: Doing,
    found: Sequence[Difference],
) -> list[Settled]:
    """Refunds the charges that the books do not know, or notes that they have gone back. Raises psycopg.Error."""
    settled: list[Settled] = []
    for begin in range(0, len(found), BATCH):
        settled += await _give_back(database, processor, doing, found[begin : begin + BATCH])
    return settled


async def _give_back(
    database: Database, processor: "PaymentProviderServiceAsyncStub", doing: Doing, batch: Sequence[Difference]
) -> list[Settled]:
    async with database.transaction() as conn:
        await conn.execute("LOCK TABLE payment IN SHARE ROW EXCLUSIVE MODE")
        begun = await _begun(conn, [one.payment_id for one in batch])
        settled = await asyncio.gather(*(_refund(processor, one, one.payment_id in begun) for one in batch))
        for one, problem in settled:
            if not problem:
                await note(conn, doing, one)
        return settled


async def _begun(conn: AsyncConnection, payment_ids: Sequence[UUID]) -> set[UUID]:
    """Those of which something may still come: somebody has sent the same request again meanwhile."""
    cursor = await conn.execute(
        "SELECT payment_id FROM payment WHERE payment_id = ANY(%s) AND state <> 'REJECTED'", (list(payment_ids),)
    )
    return {payment_id for (payment_id,) in await cursor.fetchall()}


async def _refund(processor: "PaymentProviderServiceAsyncStub", one: Difference, begun: bool) -> Settled:
    if begun:
        return one, "its buyer has sent it again, and the books know it by now: look again"
    if one.remedy is Remedy.NOTE:
        return one, ""
    try:
        request = provider.RefundRequest(payment_id=str(one.payment_id))
        charge = (await processor.Refund(request, timeout=REFUND_TIMEOUT_S)).charge
    except AioRpcError as error:
        return one, f"the processor: {error.code().name}: {error.details()}"
    return one, "" if charge.refunded_minor == charge.amount_minor else f"{charge.refunded_minor} went back"


async def note(conn: AsyncConnection, doing: Doing, one: Difference) -> None:
    """Notes what was done about it; for a charge that is unknown here, fsck asks for this note."""
    detail = {"amount_minor": one.amount_minor, "currency": one.currency, "here": one.state or "unknown"}
    if one.reservation_id:
        detail["reservation_id"] = str(one.reservation_id)
    await audit.record(conn, doing, [f"payment {one.payment_id}"], detail | {"remedy": one.remedy})


def undo(ticketing: TicketingServiceStub, one: Difference, reason: str) -> str:
    """Takes a sale back, or cancels a hold, whose money has gone back; returns why not. Its other payments follow."""
    request_id = str(ids.derived_id(one.payment_id, "reconcile"))
    reservation_id = str(one.reservation_id)
    try:
        if one.remedy is Remedy.TAKE_BACK:
            refund = pb.RefundReservationRequest(request_id=request_id, reservation_id=reservation_id, reason=reason)
            ticketing.RefundReservation(refund, timeout=CALL_TIMEOUT_S)
            return ""
        cancel = pb.CancelReservationRequest(
            request_id=request_id, reservation_id=reservation_id, buyer_id=one.buyer_id
        )
        answer = ticketing.CancelReservation(cancel, timeout=CALL_TIMEOUT_S)
    except grpc.RpcError as error:
        if not isinstance(error, grpc.Call):  # it carries no status: not a call that ended
            raise
        return f"the gateway: {error.code().name}: {error.details()}"
    state = pb.Reservation.State.Name(answer.reservation.state).removeprefix("STATE_")
    return "" if state == "CANCELLED" else f"its reservation is {state}: look again"
