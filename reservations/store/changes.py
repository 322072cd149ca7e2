"""Writes what a decision changed: each row against exactly what was read, or nothing at all."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection, errors

from reservations.domain.model import Books, Reservation, TicketState

Connection = AsyncConnection[Any]

COUNT_SLOTS = 15
"""Slots of event_count that connections share out among them; slot 0 is the catalogue's."""


class Superseded(Exception):
    """Somebody else changed what this decision had read: nothing was written, decide again."""


async def save(conn: Connection, books: Books) -> None:
    """Writes every change of the books. Raises Superseded; the caller's transaction must then be rolled back."""
    new = [found for found in books.reservations.values() if found.reservation_id not in books.versions_read]
    changed = [
        found
        for found in books.reservations.values()
        if books.versions_read.get(found.reservation_id, found.version) != found.version
    ]
    try:
        if new:
            await _insert_reservations(conn, new)
            await _insert_reservation_tickets(conn, new)
        if changed:
            await _update_reservations(conn, changed, books.versions_read)
            await _mark_live(conn, books, changed)
            await _write_credits(conn, books, changed)
        await _update_tickets(conn, books)
        await _write_allowances(conn, books)
        await _add_counts(conn, books)
    except errors.UniqueViolation as error:
        raise Superseded(str(error)) from error


async def _insert_reservations(conn: Connection, new: Sequence[Reservation]) -> None:
    ordered = sorted(new, key=lambda found: found.reservation_id)
    await conn.execute(
        """INSERT INTO reservation (reservation_id, event_id, buyer_id, request_id, command_id, state, reject_reason,
                                    currency, total_minor, create_time, expire_time, release_time, payment_grace,
                                    instalment_hold, version)
           SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::uuid[], %s::uuid[], %s::text[], %s::text[],
                                %s::text[], %s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[],
                                %s::interval[], %s::interval[], %s::bigint[])""",
        _columns(
            (
                found.reservation_id,
                found.event_id,
                found.buyer_id,
                found.request_id,
                found.command_id,
                str(found.state),
                found.reject_reason,
                found.currency,
                found.total_minor,
                found.create_time,
                found.expire_time,
                found.release_time,
                found.payment_grace,
                found.instalment_hold,
                found.version,
            )
            for found in ordered
        ),
    )


async def _insert_reservation_tickets(conn: Connection, new: Sequence[Reservation]) -> None:
    rows = [(found.reservation_id, ticket_id) for found in new for ticket_id in found.ticket_ids]
    if rows:
        await conn.execute(
            """INSERT INTO reservation_ticket (reservation_id, ticket_id, live)
               SELECT reservation_id, ticket_id, true
               FROM unnest(%s::uuid[], %s::uuid[]) AS new (reservation_id, ticket_id)""",
            _columns(rows),
        )


async def _update_reservations(
    conn: Connection, changed: Sequence[Reservation], versions_read: dict[UUID, int]
) -> None:
    cursor = await conn.execute(
        """UPDATE reservation SET
               state = new.state, paid_minor = new.paid_minor, open_minor = new.open_minor,
               refund_due_minor = new.refund_due_minor, refunded_minor = new.refunded_minor,
               release_time = new.release_time, instalment_time = new.instalment_time, version = new.version
           FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
                       %s::timestamptz[], %s::timestamptz[], %s::bigint[])
                AS new (reservation_id, version_read, state, paid_minor, open_minor, refund_due_minor, refunded_minor,
                        release_time, instalment_time, version)
           WHERE reservation.reservation_id = new.reservation_id AND reservation.version = new.version_read""",
        _columns(
            (
                found.reservation_id,
                versions_read[found.reservation_id],
                str(found.state),
                found.paid_minor,
                found.open_minor,
                found.refund_due_minor,
                found.refunded_minor,
                found.release_time,
                found.instalment_time,
                found.version,
            )
            for found in changed
        ),
    )
    _expect(cursor.rowcount, len(changed), "reservation")


async def _mark_live(conn: Connection, books: Books, changed: Sequence[Reservation]) -> None:
    rows = [
        (found.reservation_id, found.holds_tickets)
        for found in changed
        if found.holds_tickets is not (found.reservation_id in books.holding_read)
    ]
    if rows:
        await conn.execute(
            """UPDATE reservation_ticket SET live = new.live
               FROM unnest(%s::uuid[], %s::boolean[]) AS new (reservation_id, live)
               WHERE reservation_ticket.reservation_id = new.reservation_id""",
            _columns(rows),
        )


async def _write_credits(conn: Connection, books: Books, changed: Sequence[Reservation]) -> None:
    credits_now = [(found.reservation_id, credit) for found in changed for credit in found.credits.values()]
    read = books.credits_read
    new = [
        (credit.payment_id, reservation_id, credit.amount_minor, str(credit.state), credit.open_time)
        for reservation_id, credit in credits_now
        if (reservation_id, credit.payment_id) not in read
    ]
    moved = [
        (credit.payment_id, str(state_read), str(credit.state))
        for reservation_id, credit in credits_now
        if (state_read := read.get((reservation_id, credit.payment_id), credit.state)) is not credit.state
    ]
    if new:
        await conn.execute(
            """INSERT INTO credit (payment_id, reservation_id, amount_minor, state, open_time, reconcile_time)
               SELECT payment_id, reservation_id, amount_minor, state, open_time, clock_timestamp() + interval '15 s'
               FROM unnest(%s::uuid[], %s::uuid[], %s::bigint[], %s::text[], %s::timestamptz[])
                    AS new (payment_id, reservation_id, amount_minor, state, open_time)""",
            _columns(new),
        )
    if moved:
        cursor = await conn.execute(
            """UPDATE credit SET state = new.state, reconcile_time = clock_timestamp() + interval '15 s',
                   reconcile_attempts = 0
               FROM unnest(%s::uuid[], %s::text[], %s::text[]) AS new (payment_id, state_read, state)
               WHERE credit.payment_id = new.payment_id AND credit.state = new.state_read""",
            _columns(moved),
        )
        _expect(cursor.rowcount, len(moved), "credit")


async def _update_tickets(conn: Connection, books: Books) -> None:
    rows = [
        (ticket.event_id, ticket.ticket_id, read.version, str(ticket.state), ticket.version)
        for ticket in books.tickets.values()
        if (read := books.tickets_read[ticket.ticket_id]) is not ticket
    ]
    if rows:
        cursor = await conn.execute(
            """UPDATE ticket SET state = new.state, version = new.version
               FROM unnest(%s::uuid[], %s::uuid[], %s::bigint[], %s::text[], %s::bigint[])
                    AS new (event_id, ticket_id, version_read, state, version)
               WHERE ticket.event_id = new.event_id AND ticket.ticket_id = new.ticket_id
                 AND ticket.version = new.version_read""",
            _columns(rows),
        )
        _expect(cursor.rowcount, len(rows), "ticket")


async def _write_allowances(conn: Connection, books: Books) -> None:
    read = books.allowances_read
    changed = {pair: count for pair, count in sorted(books.allowances.items()) if read.get(pair) != count}
    known = [(*pair, read[pair], count) for pair, count in changed.items() if pair in read]
    new = [(*pair, count) for pair, count in changed.items() if pair not in read]
    if known:
        cursor = await conn.execute(
            """UPDATE allowance SET ticket_count = new.ticket_count
               FROM unnest(%s::uuid[], %s::text[], %s::int[], %s::int[])
                    AS new (event_id, buyer_id, count_read, ticket_count)
               WHERE allowance.event_id = new.event_id AND allowance.buyer_id = new.buyer_id
                 AND allowance.ticket_count = new.count_read""",
            _columns(known),
        )
        _expect(cursor.rowcount, len(known), "allowance")
    if new:
        await conn.execute(
            """INSERT INTO allowance (event_id, buyer_id, ticket_count)
               SELECT * FROM unnest(%s::uuid[], %s::text[], %s::int[])""",
            _columns(new),
        )


async def _add_counts(conn: Connection, books: Books) -> None:
    changes: dict[UUID, Counter[TicketState]] = defaultdict(Counter)
    for ticket in books.tickets.values():
        read = books.tickets_read[ticket.ticket_id]
        if read.state is not ticket.state:
            changes[ticket.event_id][read.state] -= 1
            changes[ticket.event_id][ticket.state] += 1
    rows = [
        (event_id, count[TicketState.AVAILABLE], count[TicketState.HELD], count[TicketState.SOLD])
        for event_id, count in sorted(changes.items())
    ]
    if rows:
        # By connection and not by process: those of one process would wait for each other, and in containers every
        # process has the same pid.
        await conn.execute(
            """INSERT INTO event_count AS old (event_id, slot, available, held, sold)
               SELECT event_id, 1 + pg_backend_pid() %% %s, available, held, sold
               FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[])
                    AS change (event_id, available, held, sold)
               ON CONFLICT (event_id, slot) DO UPDATE SET
                   available = old.available + EXCLUDED.available,
                   held = old.held + EXCLUDED.held, sold = old.sold + EXCLUDED.sold""",
            [COUNT_SLOTS, *_columns(rows)],
        )


def _columns(rows: Any) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _expect(written: int, wanted: int, table: str) -> None:
    if written != wanted:
        raise Superseded(f"{table}: wrote {written} of {wanted} rows")
