"""The SQL on parked_message, one function per statement; on the connection of the schema concerned."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import AsyncConnection
from psycopg.rows import class_row


@dataclass(frozen=True)
class Parked:
    """One message that was set aside, without its bytes."""

    parked_id: int
    message_id: str
    queue: str
    routing_key: str
    kind: str
    subject_id: str
    content_type: str
    body_bytes: int
    reason: str
    detail: str
    attempts: int
    park_time: datetime
    state: str
    settle_time: datetime | None
    settled_by: str | None
    settle_note: str | None


@dataclass(frozen=True)
class Attempt:
    """An attempt to send one message again, named by `redrive_time`."""

    parked_id: int
    queue: str
    routing_key: str
    content_type: str
    body: bytes
    redrive_time: datetime


# Once it is settled nobody needs the bytes of a message that may hold a card's token: a command to pay, or what could
# not be read at all.
_ERASE = "body = CASE WHEN kind IN ('request_payment', '') THEN ''::bytea ELSE body END"


async def find(
    conn: AsyncConnection, *, parked_ids: Sequence[int] | None, queue: str, states: Sequence[str], limit: int
) -> list[Parked]:
    """Messages in these states, the oldest first: those with the ids (None: any), of one queue ("": any)."""
    async with conn.cursor(row_factory=class_row(Parked)) as cursor:
        await cursor.execute(
            """SELECT parked_id, message_id, queue, routing_key, kind, subject_id, content_type,
                      octet_length(body) AS body_bytes, reason, detail, attempts, park_time, state, settle_time,
                      settled_by, settle_note
               FROM parked_message
               WHERE (%(parked_ids)s::bigint[] IS NULL OR parked_id = ANY(%(parked_ids)s))
                 AND (%(queue)s = '' OR queue = %(queue)s) AND state = ANY(%(states)s)
               ORDER BY parked_id LIMIT %(limit)s""",
            {
                "parked_ids": None if parked_ids is None else list(parked_ids),
                "queue": queue,
                "states": list(states),
                "limit": limit,
            },
        )
        return await cursor.fetchall()


async def body(conn: AsyncConnection, parked_id: int) -> bytes:
    """The bytes of a message that is there."""
    cursor = await conn.execute("SELECT body FROM parked_message WHERE parked_id = %s", (parked_id,))
    [(found,)] = await cursor.fetchall()
    return bytes(found)


async def begin_redrive(conn: AsyncConnection, parked_ids: Sequence[int]) -> list[Attempt]:
    """Begins to send those of the messages again that are PARKED. They stay so meanwhile."""
    async with conn.cursor(row_factory=class_row(Attempt)) as cursor:
        await cursor.execute(
            """UPDATE parked_message SET redrive_time = clock_timestamp()
               WHERE state = 'PARKED' AND parked_id = ANY(%s)
               RETURNING parked_id, queue, routing_key, content_type, body, redrive_time""",
            (list(parked_ids),),
        )
        return await cursor.fetchall()


async def end_redrive(conn: AsyncConnection, sent: Sequence[Attempt], operator: str, note: str) -> set[int]:
    """PARKED -> REDRIVEN for what was sent and has not come back since. Returns the ids of these."""
    cursor = await conn.execute(
        f"""UPDATE parked_message
           SET state = 'REDRIVEN', settle_time = clock_timestamp(), settled_by = %s, settle_note = %s, {_ERASE}
           FROM unnest(%s::bigint[], %s::timestamptz[]) AS sent (parked_id, redrive_time)
           WHERE parked_message.parked_id = sent.parked_id AND state = 'PARKED'
             AND parked_message.redrive_time = sent.redrive_time
           RETURNING parked_message.parked_id""",  # noqa: S608 - constant expression
        (operator, note, [one.parked_id for one in sent], [one.redrive_time for one in sent]),
    )
    return {parked_id for (parked_id,) in await cursor.fetchall()}


async def discard(conn: AsyncConnection, parked_ids: Sequence[int], operator: str, note: str) -> list[int]:
    """PARKED -> DISCARDED. Returns the ids of those that were."""
    cursor = await conn.execute(
        f"""UPDATE parked_message
           SET state = 'DISCARDED', settle_time = clock_timestamp(), settled_by = %s, settle_note = %s, {_ERASE}
           WHERE state = 'PARKED' AND parked_id = ANY(%s) RETURNING parked_id""",  # noqa: S608 - constant expression
        (operator, note, list(parked_ids)),
    )
    return sorted(parked_id for (parked_id,) in await cursor.fetchall())
