"""What time does, in bounded batches: holds run out, events called off are settled, missing outcomes are asked for."""

from datetime import datetime
from uuid import UUID

from reservations.domain import holds
from reservations.domain.model import Books
from reservations.handlers.desk import Desk
from reservations.messages import refund_request
from reservations.store import books as store
from reservations.store import sweeps as sql

EXPIRY_BATCH_MAX = 200
CALL_OFF_BATCH_MAX = 200
RECONCILE_BATCH_MAX = 256


class Sweeps:
    """Each call is idempotent, safe beside others of its kind, and says how much it did."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def expire_due(self) -> int:
        """Releases holds whose release_time is over, at most EXPIRY_BATCH_MAX. Fewer means that none is left."""

        async def decision(conn: store.Connection, books: Books) -> int:
            await store.claim_due_reservations(conn, books, EXPIRY_BATCH_MAX)
            if not books.reservations:
                return 0
            await store.lock_what_they_hold(conn, books)
            return sum(holds.expire(books, reservation) for reservation in books.reservations.values())

        return await self._desk.decide(decision)

    async def call_off(self) -> int:
        """Cancels reservations of a cancelled event, at most CALL_OFF_BATCH_MAX; 0 when every event is settled."""

        async def decision(conn: store.Connection, books: Books) -> int:
            while event_id := await sql.event_to_settle(conn):
                if ids := await sql.reservations_of_event(conn, event_id, CALL_OFF_BATCH_MAX):
                    await store.lock_reservations(conn, books, ids)
                    await store.lock_what_they_hold(conn, books)
                    for reservation in books.reservations.values():
                        holds.call_off(books, reservation)
                    return len(ids)
                await sql.mark_settled(conn, event_id)
            return 0

        return await self._desk.decide(decision)

    async def ask_for_refunds_again(self) -> int:
        """Says the command again for credits that have been REFUND_DUE for too long, each later than before."""
        async with self._desk.database.transaction() as conn:
            due = await sql.claim_overdue_refunds(conn, RECONCILE_BATCH_MAX)
            publish = await self._desk.say((refund_request(*row) for row in due), conn)
        publish()
        return len(due)

    async def open_credits(self) -> list[UUID]:
        """Payments whose charge has been OPEN for too long: whoever charges must say again what became of them."""
        async with self._desk.database.transaction() as conn:
            return await sql.claim_overdue_openings(conn, RECONCILE_BATCH_MAX)

    async def oldest_due(self) -> datetime | None:
        """The release_time of the hold that is longest overdue, None when none is."""
        async with self._desk.database.transaction() as conn:
            return await sql.oldest_due(conn)
