"""The card processor's own statement, beside the tables of one database session.

The processor lists its charges in the order of its decisions, so when the list ends it holds all that were decided by
then; only what was given back while it was read may be missing from it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc.aio import AioRpcError
from psycopg import AsyncConnection

from ops.fsck.crossings import SUSPECTS
from ticketrush.provider.v1 import provider_pb2 as pb

if TYPE_CHECKING:  # exists only in the stubs
    from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceAsyncStub

PAGE_SIZE: Final = 1_000
CALL_TIMEOUT_S: Final = 10.0
SUSPECTS_PER_BATCH: Final = 1_000
ASKED_AT_ONCE_MAX: Final = 32

# What the ledger says of a charge: payment_id, amount, currency, whether the processor has given it back.
_Suspect = tuple[str, int, str, bool]


async def load(conn: AsyncConnection[Any], processor: "PaymentProviderServiceAsyncStub") -> int:
    """Reads the whole statement into the temporary table `statement_charge`; answers how many charges it has.

    Must be done before the snapshot that it is compared with. Raises AioRpcError, psycopg.Error.
    """
    await conn.execute(
        """CREATE TEMPORARY TABLE statement_charge (
               payment_id uuid, amount_minor bigint, refunded_minor bigint, currency text, approved boolean)"""
    )
    count = 0
    async with (
        conn.cursor() as cursor,
        cursor.copy(
            "COPY statement_charge (payment_id, amount_minor, refunded_minor, currency, approved) FROM STDIN"
        ) as copy,
    ):
        async for charge in _charges(processor):
            approved = charge.state == pb.Charge.STATE_APPROVED
            await copy.write_row(
                (charge.payment_id, charge.amount_minor, charge.refunded_minor, charge.currency, approved)
            )
            count += 1
    await conn.execute("ANALYZE statement_charge")
    return count


async def contradictions(
    conn: AsyncConnection[Any], processor: "PaymentProviderServiceAsyncStub"
) -> AsyncGenerator[str, None]:
    """What the snapshot says has happened at the processor and the processor, asked after it, denies.

    Raises AioRpcError when it does not answer, psycopg.Error.
    """
    async with conn.cursor(name="suspects") as cursor:
        await cursor.execute(SUSPECTS)
        while suspects := await cursor.fetchmany(SUSPECTS_PER_BATCH):
            for problem in await _ask(processor, suspects):
                yield problem


async def _charges(processor: "PaymentProviderServiceAsyncStub") -> AsyncIterator[pb.Charge]:
    token = ""
    while True:
        request = pb.ListChargesRequest(page_size=PAGE_SIZE, page_token=token)
        page = await processor.ListCharges(request, timeout=CALL_TIMEOUT_S)
        for charge in page.charges:
            yield charge
        token = page.next_page_token
        if not token:
            return


async def _ask(processor: "PaymentProviderServiceAsyncStub", suspects: Sequence[_Suspect]) -> list[str]:
    at_once = asyncio.Semaphore(ASKED_AT_ONCE_MAX)

    async def ask(suspect: _Suspect) -> str | None:
        async with at_once:
            return _contradiction(suspect, await _charge(processor, suspect[0]))

    return [problem for problem in await asyncio.gather(*map(ask, suspects)) if problem]


async def _charge(processor: "PaymentProviderServiceAsyncStub", payment_id: str) -> pb.Charge:
    try:
        return (await processor.GetCharge(pb.GetChargeRequest(payment_id=payment_id), timeout=CALL_TIMEOUT_S)).charge
    except AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return pb.Charge()


def _contradiction(suspect: _Suspect, charge: pb.Charge) -> str | None:
    payment_id, amount_minor, currency, gone_back = suspect
    charged = charge.state == pb.Charge.STATE_APPROVED
    if charged and (charge.amount_minor, charge.currency) == (amount_minor, currency):
        if not gone_back or charge.refunded_minor == amount_minor:
            return None
        return f"payment {payment_id}: the ledger has given back {amount_minor} {currency}, the processor has not"
    found = f"{charge.amount_minor} {charge.currency}" if charged else "nothing"
    return f"payment {payment_id}: the ledger has charged {amount_minor} {currency}, the processor {found}"
