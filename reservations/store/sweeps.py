"""Finds what time has made due."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from reservations.domain.model import Credit, CreditState, StepKind
from reservations.store.books import Connection

# 15 s, doubled each time, at most an hour.
_NEXT_RECONCILE = """
    reconcile_attempts = reconcile_attempts + 1,
    reconcile_time = clock_timestamp() + least(interval '1 hour', interval '15 s' * 2 ^ least(reconcile_attempts, 10))
"""


# A message about the payment waits for a person: to ask again would only have it parked once more.
_NOT_PARKED = """NOT EXISTS (
    SELECT FROM parked_message WHERE state = 'PARKED' AND subject_id = credit.payment_id::text)"""


async def event_to_settle(conn: Connection) -> UUID | None:
    """A cancelled event that may still have reservations to cancel.

    It is not locked: decisions lock reservations before events, and a lock on the event first would be the deadlock.
    Several that settle the same event wait for each other's reservations, and find them cancelled.
    """
    cursor = await conn.execute(
        "SELECT event_id FROM event WHERE state = 'CANCELLED' AND NOT settled ORDER BY event_id LIMIT 1"
    )
    row = await cursor.fetchone()
    return row[0] if row else None


async def reservations_of_event(conn: Connection, event_id: UUID, limit: int) -> list[UUID]:
    """Reservations of an event that hold or own tickets."""
    cursor = await conn.execute(
        """SELECT reservation_id FROM reservation
           WHERE event_id = %s AND state IN ('HELD', 'PARTIALLY_PAID', 'CONFIRMED') LIMIT %s""",
        (event_id, limit),
    )
    return [row[0] for row in await cursor.fetchall()]


async def mark_settled(conn: Connection, event_id: UUID) -> None:
    """Every reservation of the event is cancelled."""
    await conn.execute("UPDATE event SET settled = true WHERE event_id = %s", (event_id,))


async def claim_overdue_refunds(conn: Connection, limit: int) -> Sequence[tuple[UUID, Credit, StepKind, datetime]]:
    """Credits that are REFUND_DUE past their reconcile_time and about which nothing is parked. Next time later.

    Each is (reservation_id, credit, cause, now).
    """
    cursor = await conn.execute(
        f"""WITH due AS (
                SELECT payment_id FROM credit
                WHERE state = 'REFUND_DUE' AND reconcile_time <= statement_timestamp() AND {_NOT_PARKED}
                ORDER BY reconcile_time LIMIT %s FOR UPDATE SKIP LOCKED
            ), claimed AS (
                UPDATE credit SET {_NEXT_RECONCILE} FROM due WHERE credit.payment_id = due.payment_id
                RETURNING credit.reservation_id, credit.payment_id, credit.amount_minor, credit.open_time
            )
            SELECT reservation_id, payment_id, amount_minor, open_time, state = 'CANCELLED', clock_timestamp()
            FROM claimed JOIN reservation USING (reservation_id)""",  # noqa: S608 - constant expression
        (limit,),
    )
    return [
        (
            reservation_id,
            Credit(payment_id, amount_minor, CreditState.REFUND_DUE, open_time),
            StepKind.CANCELLED if cancelled else StepKind.EXPIRED,
            now,
        )
        async for reservation_id, payment_id, amount_minor, open_time, cancelled, now in cursor
    ]


async def claim_overdue_openings(conn: Connection, limit: int) -> list[UUID]:
    """Payments whose credit is OPEN past its reconcile_time and about which nothing is parked. Next time later."""
    cursor = await conn.execute(
        f"""WITH due AS (
                SELECT payment_id FROM credit
                WHERE state = 'OPEN' AND reconcile_time <= statement_timestamp() AND {_NOT_PARKED}
                ORDER BY reconcile_time LIMIT %s FOR UPDATE SKIP LOCKED
            )
            UPDATE credit SET {_NEXT_RECONCILE} FROM due WHERE credit.payment_id = due.payment_id
            RETURNING credit.payment_id""",  # noqa: S608 - constant expression
        (limit,),
    )
    return [row[0] for row in await cursor.fetchall()]


async def oldest_due(conn: Connection) -> datetime | None:
    """The earliest release_time that is over."""
    cursor = await conn.execute(
        """SELECT min(release_time) FROM reservation
           WHERE state IN ('HELD', 'PARTIALLY_PAID') AND release_time <= statement_timestamp()"""
    )
    row = await cursor.fetchone()
    return row[0] if row else None
