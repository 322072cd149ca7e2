"""Tickets as organisers make them and take them off sale."""

from collections.abc import Sequence
from uuid import UUID

from reservations.domain.model import TicketState
from reservations.layout import Place
from reservations.store.books import Connection


async def insert_tickets(conn: Connection, event_id: UUID, ticket_ids: Sequence[UUID], places: Sequence[Place]) -> int:
    """New tickets on sale, one for each place; answers how many there are new: a seat that exists makes none.

    Waits for transactions that are about to make the same seats.
    """
    sections, rows, seats, positions, prices_minor = zip(*places, strict=True)
    cursor = await conn.execute(
        """INSERT INTO ticket (event_id, ticket_id, section, "row", seat, position, price_minor, state, version)
           SELECT %s, ticket_id, section, "row", seat, position, price_minor, 'AVAILABLE', 1
           FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::int[], %s::bigint[])
                AS new (ticket_id, section, "row", seat, position, price_minor)
           ON CONFLICT (event_id, section, "row", seat) WHERE seat <> '' DO NOTHING""",
        (event_id, list(ticket_ids), list(sections), list(rows), list(seats), list(positions), list(prices_minor)),
    )
    return cursor.rowcount


async def analyze_tickets(conn: Connection) -> None:
    """Tells the planner what the table holds now; left out while somebody else does."""
    await conn.execute("SELECT analyze_tickets()")


async def missing_tickets(conn: Connection, event_id: UUID, ticket_ids: Sequence[UUID]) -> list[UUID]:
    """Those of the ids under which the event has no ticket, ascending."""
    cursor = await conn.execute(
        """SELECT asked.ticket_id FROM unnest(%s::uuid[]) AS asked (ticket_id)
           WHERE NOT EXISTS (SELECT FROM ticket WHERE event_id = %s AND ticket_id = asked.ticket_id)
           ORDER BY asked.ticket_id""",
        (list(ticket_ids), event_id),
    )
    return [row[0] async for row in cursor]


async def lock_tickets(conn: Connection, event_id: UUID, ticket_ids: Sequence[UUID]) -> dict[UUID, TicketState]:
    """The states of these tickets of the event, locked in ascending order; ids that it does not have are left out."""
    cursor = await conn.execute(
        "SELECT ticket_id, state FROM ticket WHERE event_id = %s AND ticket_id = ANY(%s) ORDER BY ticket_id FOR UPDATE",
        (event_id, list(ticket_ids)),
    )
    return {ticket_id: TicketState(state) async for ticket_id, state in cursor}


async def withdraw_tickets(conn: Connection, event_id: UUID, ticket_ids: Sequence[UUID]) -> None:
    """These tickets are WITHDRAWN, each one version on. They must be locked and on sale."""
    await conn.execute(
        "UPDATE ticket SET state = 'WITHDRAWN', version = version + 1 WHERE event_id = %s AND ticket_id = ANY(%s)",
        (event_id, list(ticket_ids)),
    )
