"""Reads the rows of a decision, locked in the one order: reservations, events, allowances, tickets ascending."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from reservations.domain.model import (
    Books,
    Credit,
    CreditState,
    Event,
    EventState,
    Reservation,
    ReservationState,
    Ticket,
    TicketState,
)

Connection = AsyncConnection[Any]

TICKET_COLUMNS = 'event_id, ticket_id, section, "row", seat, position, price_minor, state, version'
RESERVATION_COLUMNS = """reservation_id, event_id, buyer_id, request_id, command_id, state, currency, create_time,
    expire_time, release_time, payment_grace, instalment_hold, instalment_time, reject_reason, total_minor, paid_minor,
    open_minor, refund_due_minor, refunded_minor, version"""


def ticket_of(row: Any) -> Ticket:
    """A ticket from TICKET_COLUMNS."""
    columns = (*row[:7], TicketState(row[7]), row[8])
    return Ticket(*columns)


def reservation_of(row: Any) -> Reservation:
    """A reservation from RESERVATION_COLUMNS and an array of ticket ids; without its credits."""
    columns = (*row[:5], ReservationState(row[5]), *row[6:20], tuple(row[20]))
    return Reservation(*columns)


async def read_clock(conn: Connection, books: Books) -> None:
    """The database's clock, the only one that decides: read once all is locked, so that no wait ages a decision."""
    cursor = await conn.execute("SELECT clock_timestamp()")
    [(books.now,)] = await cursor.fetchall()


def event_lock(event_id: str) -> str:
    """SQL for the key of an event's advisory lock."""
    return f"hashtextextended({event_id}::text, 0)"


async def lock_events(conn: Connection, books: Books, event_ids: Collection[UUID]) -> None:
    """Events stay as they are until the transaction ends: closing and cancelling wait, other decisions do not.

    By a lock beside the row, for those are granted in the order of asking: decisions that share the row's own lock
    would overtake an organiser who wants to close it for as long as the rush lasts.
    """
    await conn.execute(
        f"""SELECT pg_advisory_xact_lock_shared({event_lock("event_id")})
            FROM (SELECT event_id FROM unnest(%s::uuid[]) AS asked (event_id) ORDER BY event_id) AS ascending""",  # noqa: S608 - constant
        (list(event_ids),),
    )
    cursor = await conn.execute(
        """SELECT event_id, currency, hold_duration, payment_grace, instalment_hold, max_tickets_per_buyer,
                  sale_start_time, sale_end_time, state
           FROM event WHERE event_id = ANY(%s)""",
        (list(event_ids),),
    )
    rows: list[Any] = await cursor.fetchall()
    for row in rows:
        columns = (*row[:8], EventState(row[8]))
        books.events[row[0]] = Event(*columns)


async def lock_reservations(conn: Connection, books: Books, reservation_ids: Collection[UUID]) -> None:
    """Reservations by id, with their credits; unknown ids are left out."""
    cursor = await conn.execute(
        f"""SELECT {RESERVATION_COLUMNS},
                   ARRAY(SELECT ticket_id FROM reservation_ticket AS held
                         WHERE held.reservation_id = reservation.reservation_id ORDER BY ticket_id)
            FROM reservation WHERE reservation_id = ANY(%s) ORDER BY reservation_id FOR UPDATE""",  # noqa: S608 - constant columns
        (list(reservation_ids),),
    )
    _add_reservations(books, await cursor.fetchall())
    await _read_credits(conn, books)


async def claim_due_reservations(conn: Connection, books: Books, limit: int) -> None:
    """Holds whose release_time is over, the longest overdue first; those that somebody else decides now are skipped."""
    cursor = await conn.execute(
        f"""WITH due AS (
                SELECT {RESERVATION_COLUMNS} FROM reservation
                WHERE state IN ('HELD', 'PARTIALLY_PAID') AND release_time <= statement_timestamp()
                ORDER BY release_time LIMIT %s FOR UPDATE SKIP LOCKED
            )
            SELECT {RESERVATION_COLUMNS},
                   ARRAY(SELECT ticket_id FROM reservation_ticket AS held
                         WHERE held.reservation_id = due.reservation_id ORDER BY ticket_id)
            FROM due""",  # noqa: S608 - constant columns
        (limit,),
    )
    _add_reservations(books, await cursor.fetchall())
    await _read_credits(conn, books)


def _add_reservations(books: Books, rows: Iterable[Any]) -> None:
    for row in rows:
        reservation = reservation_of(row)
        books.reservations[reservation.reservation_id] = reservation
        books.versions_read[reservation.reservation_id] = reservation.version
        if reservation.holds_tickets:
            books.holding_read.add(reservation.reservation_id)


async def _read_credits(conn: Connection, books: Books) -> None:
    cursor = await conn.execute(
        "SELECT reservation_id, payment_id, amount_minor, state, open_time FROM credit WHERE reservation_id = ANY(%s)",
        (list(books.reservations),),
    )
    async for reservation_id, payment_id, amount_minor, state, open_time in cursor:
        credit = Credit(payment_id, amount_minor, CreditState(state), open_time)
        books.reservations[reservation_id].credits[payment_id] = credit
        books.credits_read[reservation_id, payment_id] = credit.state


async def reservations_of(conn: Connection, payment_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """Which reservation each of these payments has a credit of, if any."""
    cursor = await conn.execute(
        "SELECT payment_id, reservation_id FROM credit WHERE payment_id = ANY(%s)", (list(payment_ids),)
    )
    return dict(await cursor.fetchall())


async def lock_tickets(conn: Connection, books: Books, asked: Iterable[tuple[UUID, UUID]]) -> None:
    """Tickets by (event_id, ticket_id); a ticket of another event is as unknown as one that does not exist."""
    pairs = list(asked)
    cursor = await conn.execute(
        f"""SELECT {TICKET_COLUMNS}
            FROM ticket JOIN unnest(%s::uuid[], %s::uuid[]) AS asked (event_id, ticket_id) USING (event_id, ticket_id)
            ORDER BY event_id, ticket_id FOR UPDATE OF ticket""",  # noqa: S608 - constant columns
        ([event_id for event_id, _ in pairs], [ticket_id for _, ticket_id in pairs]),
    )
    _add_tickets(books, await cursor.fetchall())


async def claim_section(
    conn: Connection, books: Books, event_id: UUID, section: str, limit: int, *, waiting: bool
) -> tuple[list[UUID], int]:
    """The foremost tickets on sale in a section, in seat order, and how many more are on sale (capped at `limit`).

    Without `waiting`, those that somebody else has locked are skipped, and counted among the rest.
    """
    skip = "" if waiting else "SKIP LOCKED"
    cursor = await conn.execute(
        f"""WITH claimed AS (
                SELECT {TICKET_COLUMNS} FROM ticket
                WHERE event_id = %(event_id)s AND section = %(section)s AND state = 'AVAILABLE'
                ORDER BY ticket_id LIMIT %(limit)s FOR UPDATE {skip}
            ), on_sale AS (
                SELECT 1 FROM ticket
                WHERE event_id = %(event_id)s AND section = %(section)s AND state = 'AVAILABLE'
                LIMIT 2 * %(limit)s
            )
            SELECT claimed.*, (SELECT count(*) FROM on_sale) FROM claimed
            UNION ALL
            SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, (SELECT count(*) FROM on_sale)""",  # noqa: S608 - constants
        {"event_id": event_id, "section": section, "limit": limit},
    )
    *rows, (*_, on_sale_count) = await cursor.fetchall()
    _add_tickets(books, rows)
    ticket_ids = sorted(row[1] for row in rows)
    return ticket_ids, max(0, on_sale_count - len(ticket_ids))


def _add_tickets(books: Books, rows: Iterable[Any]) -> None:
    for row in rows:
        ticket = ticket_of(row)
        # A ticket may be locked by name and again by section; the first reading holds what was changed since.
        if ticket.ticket_id not in books.tickets:
            books.tickets[ticket.ticket_id] = books.tickets_read[ticket.ticket_id] = ticket


async def lock_allowances(conn: Connection, books: Books, pairs: Collection[tuple[UUID, str]]) -> None:
    """How many tickets these (event, buyer) have; a pair without a row has none, and cannot be locked."""
    cursor = await conn.execute(
        """SELECT event_id, buyer_id, ticket_count
           FROM allowance
           JOIN unnest(%s::uuid[], %s::text[]) AS asked (event_id, buyer_id) USING (event_id, buyer_id)
           ORDER BY event_id, buyer_id FOR UPDATE OF allowance""",
        ([event_id for event_id, _ in pairs], [buyer_id for _, buyer_id in pairs]),
    )
    async for event_id, buyer_id, ticket_count in cursor:
        books.allowances[event_id, buyer_id] = books.allowances_read[event_id, buyer_id] = ticket_count


async def count_holds(conn: Connection, books: Books, pairs: Collection[tuple[UUID, str]]) -> None:
    """How many holds that are not paid these (event, buyer) have; asked once their allowances are locked."""
    cursor = await conn.execute(
        """SELECT event_id, buyer_id,
                  (SELECT count(*) FROM reservation AS held
                   WHERE held.buyer_id = asked.buyer_id AND held.event_id = asked.event_id
                     AND held.state IN ('HELD', 'PARTIALLY_PAID'))
           FROM unnest(%s::uuid[], %s::text[]) AS asked (event_id, buyer_id)""",
        ([event_id for event_id, _ in pairs], [buyer_id for _, buyer_id in pairs]),
    )
    async for event_id, buyer_id, count in cursor:
        books.open_holds[event_id, buyer_id] = count


async def lock_what_they_hold(conn: Connection, books: Books) -> None:
    """Everything else about the reservations in the books, and the time."""
    reservations = books.reservations.values()
    await lock_events(conn, books, {reservation.event_id for reservation in reservations})
    await lock_allowances(conn, books, {(found.event_id, found.buyer_id) for found in reservations})
    await lock_tickets(
        conn, books, ((found.event_id, ticket_id) for found in reservations for ticket_id in found.ticket_ids)
    )
    await read_clock(conn, books)


async def requests_known(
    conn: Connection, requests: Collection[tuple[str, UUID]]
) -> dict[tuple[str, UUID], tuple[UUID, UUID]]:
    """By (buyer_id, request_id): the reservation_id and command_id that the request was decided under."""
    cursor = await conn.execute(
        """SELECT buyer_id, request_id, reservation_id, command_id
           FROM reservation
           JOIN unnest(%s::text[], %s::uuid[]) AS asked (buyer_id, request_id) USING (buyer_id, request_id)""",
        ([buyer_id for buyer_id, _ in requests], [request_id for _, request_id in requests]),
    )
    return {(row[0], row[1]): (row[2], row[3]) async for row in cursor}
