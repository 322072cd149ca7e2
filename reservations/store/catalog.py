"""Events as organisers see them: their terms, their state, their counts."""

from dataclasses import astuple, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from reservations.domain.model import EventState
from reservations.keyset import Position
from reservations.store.books import Connection, event_lock


@dataclass(slots=True, frozen=True)
class Terms:
    """What organisers may change, under the names of the contract."""

    name: str
    venue: str
    start_time: datetime | None
    hold_duration: timedelta
    payment_grace: timedelta
    instalment_hold: timedelta
    max_tickets_per_buyer: int  # 0 for no limit
    sale_start_time: datetime | None
    sale_end_time: datetime | None


@dataclass(slots=True, frozen=True)
class CatalogEvent:
    """One event with everything about it."""

    event_id: UUID
    currency: str
    state: EventState
    create_time: datetime
    version: int
    organiser_id: str
    terms: Terms
    available_count: int = 0
    held_count: int = 0
    sold_count: int = 0


_TERMS: Final = ", ".join(field.name for field in fields(Terms))
_VALUES: Final = ", ".join(["%s"] * len(fields(Terms)))
_COLUMNS: Final = f"event_id, currency, state, create_time, version, organiser_id, {_TERMS}"
_TERMS_BEGIN: Final = 6
_TERMS_END: Final = _TERMS_BEGIN + len(fields(Terms))

# Each connection counts in one of several slots; the sum holds.
_WITH_COUNTS: Final = f"""
    SELECT {_COLUMNS}, available, held, sold
    FROM found CROSS JOIN LATERAL (
        SELECT coalesce(sum(available), 0)::bigint AS available, coalesce(sum(held), 0)::bigint AS held,
               coalesce(sum(sold), 0)::bigint AS sold
        FROM event_count WHERE event_count.event_id = found.event_id
    ) AS counts
"""  # noqa: S608 - constant columns


async def insert_event(conn: Connection, event_id: UUID, organiser_id: str, currency: str, terms: Terms) -> None:
    """A new event, open, created now, in version 1."""
    await conn.execute(
        f"""INSERT INTO event (event_id, organiser_id, currency, state, create_time, version, {_TERMS})
            VALUES (%s, %s, %s, 'OPEN', clock_timestamp(), 1, {_VALUES})""",  # noqa: S608 - constant columns
        (event_id, organiser_id, currency, *astuple(terms)),
    )


async def organiser_of(conn: Connection, event_id: UUID) -> str | None:
    """Who created the event, "" for nobody in particular; None if there is no such event. It never changes."""
    cursor = await conn.execute("SELECT organiser_id FROM event WHERE event_id = %s", (event_id,))
    row = await cursor.fetchone()
    return str(row[0]) if row else None


async def organiser_of_reservation(conn: Connection, reservation_id: UUID) -> str | None:
    """Who created the event of the reservation; None if there is no such reservation, or no such event."""
    cursor = await conn.execute(
        "SELECT organiser_id FROM reservation JOIN event USING (event_id) WHERE reservation_id = %s", (reservation_id,)
    )
    row = await cursor.fetchone()
    return str(row[0]) if row else None


async def update_event(conn: Connection, event_id: UUID, terms: Terms, state: EventState) -> None:
    """The event has these terms and this state, and is one version on. It must be locked."""
    await conn.execute(
        f"""UPDATE event SET ({_TERMS}) = ({_VALUES}), state = %s, version = version + 1
            WHERE event_id = %s""",  # noqa: S608 - constant columns
        (*astuple(terms), str(state), event_id),
    )


async def event(conn: Connection, event_id: UUID) -> CatalogEvent | None:
    """The event as it is now."""
    cursor = await conn.execute(
        f"WITH found AS (SELECT * FROM event WHERE event_id = %s) {_WITH_COUNTS}",  # noqa: S608 - constant columns
        (event_id,),
    )
    row = await cursor.fetchone()
    return _event(row) if row else None


async def lock_event(conn: Connection, event_id: UUID) -> CatalogEvent | None:
    """The event, locked: decisions that sell its tickets have ended, new ones wait. Its counts are not read."""
    await conn.execute(f"SELECT pg_advisory_xact_lock({event_lock('%s')})", (event_id,))
    cursor = await conn.execute(
        f"SELECT {_COLUMNS} FROM event WHERE event_id = %s FOR UPDATE",  # noqa: S608 - constant columns
        (event_id,),
    )
    row = await cursor.fetchone()
    return _event(row) if row else None


async def page_of_events(conn: Connection, *, behind: Position | None, size: int) -> list[CatalogEvent]:
    """The newest first, `size` at most, behind a position."""
    where = "WHERE (create_time, event_id) < (%(create_time)s, %(behind_id)s)" if behind else ""
    newest_first = "ORDER BY create_time DESC, event_id DESC"
    cursor = await conn.execute(
        f"""WITH found AS (SELECT * FROM event {where} {newest_first} LIMIT %(size)s)
            {_WITH_COUNTS} {newest_first}""",  # noqa: S608 - constants, every value is a parameter
        {"create_time": behind and behind.create_time, "behind_id": behind and behind.id, "size": size},
    )
    return [_event(row) async for row in cursor]


async def add_available(conn: Connection, event_id: UUID, count: int) -> None:
    """Counts so many tickets more (or, negative, fewer) on sale, in the catalogue's own slot."""
    await conn.execute(
        """INSERT INTO event_count AS old (event_id, slot, available, held, sold) VALUES (%s, 0, %s, 0, 0)
           ON CONFLICT (event_id, slot) DO UPDATE SET available = old.available + EXCLUDED.available""",
        (event_id, count),
    )


def _event(row: tuple[Any, ...]) -> CatalogEvent:
    event_id, currency, state, create_time, version, organiser_id = row[:_TERMS_BEGIN]
    terms = Terms(*row[_TERMS_BEGIN:_TERMS_END])
    return CatalogEvent(
        event_id, currency, EventState(state), create_time, version, organiser_id, terms, *row[_TERMS_END:]
    )
