"""Where the card processor's statement and the books differ in a way that a restored database explains.

Who restores goes back in time, the processor does not: it has charged, and given back, what is unknown here by now.
"""

from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import class_row

from ops.audit import RECONCILE
from ops.fsck import statement

if TYPE_CHECKING:  # exists only in the stubs
    from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceAsyncStub


class Remedy(StrEnum):
    """What brings both together again; to people in these words."""

    REFUND = "refund the charge"
    NOTE = "note that it has gone back"
    TAKE_BACK = "take the sale back"
    CANCEL = "cancel the hold"
    WAIT = "nothing: the services ask again"


@dataclass(frozen=True)
class Difference:
    """A charge at the processor, and what the books say: `state` of the payment, "" if they know none."""

    payment_id: UUID
    amount_minor: int
    refunded_minor: int
    currency: str
    state: str
    reservation_id: UUID | None
    buyer_id: str
    reservation_state: str

    @property
    def remedy(self) -> Remedy:
        """Money is either in a sale that the books know, or back: which of both is missing here."""
        if self.state in {"", "REJECTED"}:
            return Remedy.NOTE if self.refunded_minor else Remedy.REFUND
        if self.state == "APPROVED" and self.reservation_state == "CONFIRMED":
            return Remedy.TAKE_BACK
        if self.state == "APPROVED" and self.reservation_state in {"HELD", "PARTIALLY_PAID"}:
            return Remedy.CANCEL
        return Remedy.WAIT


# Unknown or REJECTED here: nothing of it will ever be applied. APPROVED here, and back at the buyer: a ticket for
# nothing. PENDING here and decided there: the charger asks under the same key and is told.
_DIFFERENCES: Final = """
    SELECT payment_id, charge.amount_minor, charge.refunded_minor, charge.currency,
           coalesce(payment.state, '') AS state,
           payment.reservation_id, coalesce(payment.buyer_id, '') AS buyer_id,
           coalesce(reservation.state, '') AS reservation_state
    FROM statement_charge AS charge
    LEFT JOIN payments.payment USING (payment_id)
    LEFT JOIN reservations.reservation ON reservation.reservation_id = payment.reservation_id
    WHERE approved AND CASE coalesce(payment.state, '')
        WHEN '' THEN charge.refunded_minor = 0 OR NOT EXISTS (
            SELECT FROM payments.audit_entry WHERE action = %s AND subject = 'payment ' || payment_id)
        WHEN 'REJECTED' THEN charge.refunded_minor = 0
        WHEN 'APPROVED' THEN charge.refunded_minor > 0
        ELSE payment.state = 'PENDING' END
    ORDER BY payment_id"""


async def find(
    conn: AsyncConnection[Any], processor: "PaymentProviderServiceAsyncStub"
) -> tuple[list[Difference], list[str]]:
    """The differences, and what the books say of the processor that it denies, in words: that is for a person.

    Raises AioRpcError, psycopg.Error.
    """
    await statement.load(conn, processor)
    async with conn.cursor(row_factory=class_row(Difference)) as cursor:
        await cursor.execute(_DIFFERENCES, (RECONCILE,))
        differences = await cursor.fetchall()
    async with conn.transaction(), aclosing(statement.contradictions(conn, processor)) as problems:
        denied = [problem async for problem in problems]
    return differences, denied
