"""The SQL of forgetting, one function per statement; on the connection of the schema concerned."""

from collections.abc import Sequence
from uuid import UUID

from psycopg import AsyncConnection

HELD = """SELECT 'reservation ' || reservation_id || ' is ' || state FROM reservation
          WHERE buyer_id = %s AND state IN ('HELD', 'PARTIALLY_PAID') LIMIT 5"""
CREDITS = """SELECT 'payment ' || payment_id || ' of reservation ' || reservation_id || ' is ' || credit.state
             FROM reservation JOIN credit USING (reservation_id)
             WHERE buyer_id = %s AND credit.state IN ('OPEN', 'REFUND_DUE') LIMIT 5"""
PAYMENTS = """SELECT 'payment ' || payment_id || ' is ' || state FROM payment
              WHERE buyer_id = %s AND state IN ('PENDING', 'REFUND_DUE') LIMIT 5"""
COUNT = {
    "reservations": "SELECT count(*) FROM reservation WHERE buyer_id = %s",
    "payments": "SELECT count(*) FROM payment WHERE buyer_id = %s",
}


async def lines(conn: AsyncConnection, query: str, buyer_id: str) -> list[str]:
    """What one of HELD, CREDITS and PAYMENTS finds, in words."""
    cursor = await conn.execute(query.encode(), (buyer_id,))
    return [line for (line,) in await cursor.fetchall()]


async def count(conn: AsyncConnection, schema: str, buyer_id: str) -> int:
    """How many reservations, or payments, bear the name."""
    cursor = await conn.execute(COUNT[schema].encode(), (buyer_id,))
    [(found,)] = await cursor.fetchall()
    return int(found)


async def begun_as(conn: AsyncConnection, buyer_id: str) -> str | None:
    """The name that this buyer's is becoming, if a forgetting was begun and has not ended."""
    cursor = await conn.execute("SELECT new_name FROM forgetting WHERE old_name = %s", (buyer_id,))
    row = await cursor.fetchone()
    return str(row[0]) if row else None


async def begin(conn: AsyncConnection, buyer_id: str, pseudonym: str) -> None:
    """From now on it can be gone on with."""
    await conn.execute(
        "INSERT INTO forgetting (old_name, new_name) VALUES (%s, %s) ON CONFLICT DO NOTHING", (buyer_id, pseudonym)
    )


async def end(conn: AsyncConnection, buyer_id: str) -> None:
    """Nothing links the two names any more."""
    await conn.execute("DELETE FROM forgetting WHERE old_name = %s", (buyer_id,))


async def events_owned(conn: AsyncConnection, buyer_id: str) -> list[UUID]:
    """The events that the buyer has tickets of."""
    cursor = await conn.execute(
        "SELECT DISTINCT event_id FROM reservation WHERE buyer_id = %s AND state = 'CONFIRMED'", (buyer_id,)
    )
    return [event_id for (event_id,) in await cursor.fetchall()]


async def rename_owner(conn: AsyncConnection, buyer_id: str, pseudonym: str, event_id: UUID) -> list[UUID]:
    """What the buyer owns of an event is somebody else's; none while he holds more of it. Returns the reservations."""
    cursor = await conn.execute("SELECT rename_owner(%s, %s, %s)", (buyer_id, pseudonym, event_id))
    return [found for (found,) in await cursor.fetchall()]


async def rename_past(conn: AsyncConnection, buyer_id: str, pseudonym: str, batch: int) -> list[UUID]:
    """The same for some of the reservations that are over."""
    cursor = await conn.execute("SELECT rename_past(%s, %s, %s)", (buyer_id, pseudonym, batch))
    return [found for (found,) in await cursor.fetchall()]


async def rename_payer(conn: AsyncConnection, buyer_id: str, pseudonym: str, batch: int) -> list[UUID]:
    """The same for some of the payments that are over."""
    cursor = await conn.execute("SELECT rename_payer(%s, %s, %s)", (buyer_id, pseudonym, batch))
    return [found for (found,) in await cursor.fetchall()]


async def history_of(conn: AsyncConnection, subject_ids: Sequence[UUID]) -> list[tuple[int, bytes]]:
    """history_id and envelope of all that was said of these."""
    cursor = await conn.execute(
        "SELECT history_id, envelope FROM history WHERE subject_id = ANY(%s) ORDER BY history_id", (list(subject_ids),)
    )
    return await cursor.fetchall()


async def rewrite_history(conn: AsyncConnection, rows: Sequence[tuple[int, bytes, bytes]]) -> int:
    """(history_id, envelope as read, envelope); returns how many were still as read."""
    cursor = await conn.execute(
        "SELECT rewrite_history(%s::bigint[], %s::bytea[], %s::bytea[])",
        [list(column) for column in zip(*rows, strict=True)],
    )
    [(rewritten,)] = await cursor.fetchall()
    return int(rewritten)


async def parked_holding(conn: AsyncConnection, text: str) -> list[tuple[int, str, bytes]]:
    """parked_id, state and body of messages in which these bytes are."""
    cursor = await conn.execute(
        """SELECT parked_id, state, body FROM parked_message
           WHERE position(convert_to(%(text)s, 'UTF8') in body) > 0 OR position(%(text)s in detail) > 0""",
        {"text": text},
    )
    return await cursor.fetchall()


async def erase_parked(conn: AsyncConnection, parked_ids: Sequence[int]) -> None:
    """These settled messages keep what became of them, and lose what they said."""
    await conn.execute(
        "UPDATE parked_message SET body = '', detail = '' WHERE parked_id = ANY(%s) AND state <> 'PARKED'",
        (list(parked_ids),),
    )
