"""What is shown: reservations with their tickets, and the tickets of an event, each as of one instant."""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

from reservations.domain.model import Reservation, Ticket, TicketState
from reservations.keyset import Position
from reservations.store.books import RESERVATION_COLUMNS, Connection, reservation_of, ticket_of

ReservationWithTickets = tuple[Reservation, tuple[Ticket, ...]]

TicketRow = tuple[str, str, str, str, int, str, int]
"""ticket_id, section, row, seat, price_minor, state, version."""

_COLUMN_COUNT: Final = RESERVATION_COLUMNS.count(",") + 1

# One statement, so that a reservation and its tickets are of one instant whatever the isolation level. The tickets come
# as parallel arrays (TICKET_COLUMNS without the event): a row per ticket would repeat its reservation each time.
_SHOW_FOUND: Final = f"""
    SELECT {RESERVATION_COLUMNS}, ticket_ids, sections, "rows", seats, positions, prices_minor, states, versions
    FROM found CROSS JOIN LATERAL (
        SELECT array_agg(ticket_id) AS ticket_ids, array_agg(section) AS sections, array_agg("row") AS "rows",
               array_agg(seat) AS seats, array_agg(position) AS positions, array_agg(price_minor) AS prices_minor,
               array_agg(state) AS states, array_agg(version) AS versions
        FROM (
            SELECT ticket.* FROM reservation_ticket AS held JOIN ticket USING (ticket_id)
            WHERE held.reservation_id = found.reservation_id AND ticket.event_id = found.event_id
            ORDER BY ticket_id
        ) AS in_seat_order
    ) AS tickets
"""  # noqa: S608 - constant columns


async def reservation(conn: Connection, reservation_id: UUID) -> ReservationWithTickets | None:
    """The reservation with the tickets that it holds, bought, or last held, in seat order. Its credits are not read."""
    return (await reservations(conn, (reservation_id,))).get(reservation_id)


async def reservations(conn: Connection, ids: Iterable[UUID]) -> dict[UUID, ReservationWithTickets]:
    """As `reservation`, for many; unknown ids are left out."""
    cursor = await conn.execute(
        f"WITH found AS (SELECT * FROM reservation WHERE reservation_id = ANY(%s)) {_SHOW_FOUND}",  # noqa: S608 - constants
        (list(ids),),
    )
    return {row[0]: _with_tickets(row) async for row in cursor}


async def page_of_reservations(
    conn: Connection, *, buyer_id: str, event_id: UUID | None, behind: Position | None, size: int
) -> list[ReservationWithTickets]:
    """Of this buyer (unless empty) and this event (unless None), newest first, `size` at most, behind a position."""
    source, conditions = "reservation", ["true"]
    if buyer_id:
        # Materialised, or a planner that takes the buyer for a frequent one would walk everybody's by create_time.
        source = "(WITH own AS MATERIALIZED (SELECT * FROM reservation WHERE buyer_id = %(buyer_id)s) TABLE own) AS own"
    if event_id:
        conditions.append("event_id = %(event_id)s")
    if behind:
        conditions.append("(create_time, reservation_id) < (%(create_time)s, %(behind_id)s)")
    newest_first = "ORDER BY create_time DESC, reservation_id DESC"
    cursor = await conn.execute(
        f"""WITH found AS (
                SELECT * FROM {source} WHERE {" AND ".join(conditions)} {newest_first} LIMIT %(size)s
            )
            {_SHOW_FOUND} {newest_first}""",  # noqa: S608 - constants, every value is a parameter
        {
            "buyer_id": buyer_id,
            "event_id": event_id,
            "create_time": behind and behind.create_time,
            "behind_id": behind and behind.id,
            "size": size,
        },
    )
    return [_with_tickets(row) async for row in cursor]


async def page_of_tickets(
    conn: Connection, event_id: UUID, *, state: TicketState | None, behind: UUID | None, size: int
) -> Sequence[TicketRow]:
    """Of the event, in this state (unless None), in ascending order of ticket_id, `size` at most, behind a ticket.

    Plain rows: a seat map is read in a hundred pages of a thousand.
    """
    # In ORDER BY a bare ticket_id would be the text that is selected, for which there is no index.
    conditions = ["event_id = %(event_id)s"]
    if state:
        conditions.append("state = %(state)s")
    if behind:
        conditions.append("ticket_id > %(behind)s")
    cursor = await conn.execute(
        f"""SELECT ticket_id::text, section, "row", seat, price_minor, state, version
            FROM ticket WHERE {" AND ".join(conditions)} ORDER BY ticket.ticket_id LIMIT %(size)s""",  # noqa: S608 - constants
        {"event_id": event_id, "state": state, "behind": behind, "size": size},
    )
    return await cursor.fetchall()


async def event_exists(conn: Connection, event_id: UUID) -> bool:
    """Whether there is such an event."""
    cursor = await conn.execute("SELECT FROM event WHERE event_id = %s", (event_id,))
    return await cursor.fetchone() is not None


def _with_tickets(row: tuple[Any, ...]) -> ReservationWithTickets:
    columns, arrays = row[:_COLUMN_COUNT], row[_COLUMN_COUNT:]
    # The arrays of a reservation without tickets are NULL.
    tickets = zip(*arrays, strict=True) if arrays[0] else ()
    event_id = columns[1]
    return reservation_of((*columns, arrays[0] or ())), tuple(ticket_of((event_id, *ticket)) for ticket in tickets)
