"""What organisers asked for under which request_id."""

from dataclasses import dataclass
from uuid import UUID

from reservations.store.books import Connection


@dataclass(slots=True, frozen=True)
class StoredRequest:
    """A request that had its effect."""

    body_hash: bytes
    ticket_count: int


async def insert(
    conn: Connection,
    request_id: UUID,
    *,
    call: str,
    body_hash: bytes,
    subject_id: UUID,
    ticket_count: int,
    asked_by: str,
    reason: str,
) -> bool:
    """Whether the request_id is new. Waits for a transaction that is about to store the same one."""
    cursor = await conn.execute(
        """INSERT INTO organiser_request (request_id, call, body_hash, subject_id, ticket_count, asked_by, reason)
           VALUES (%s, %s, %s, %s, %s, %s, %s)
           ON CONFLICT (request_id) DO NOTHING""",
        (request_id, call, body_hash, subject_id, ticket_count, asked_by, reason),
    )
    return cursor.rowcount == 1


async def find(conn: Connection, request_id: UUID) -> StoredRequest | None:
    """The request under this id."""
    cursor = await conn.execute(
        "SELECT body_hash, ticket_count FROM organiser_request WHERE request_id = %s", (request_id,)
    )
    row = await cursor.fetchone()
    return StoredRequest(*row) if row else None
