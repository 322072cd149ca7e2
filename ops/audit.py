"""What people did to what others see: who, what, to what, when and why, in the transaction of the change itself.

Operators' commands note it in `audit_entry`; what was asked for by the catalogue's and the refunds' RPCs is in
`organiser_request`, which only reservations has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

# What fsck asks for: that a charge which the books do not know has gone back is somebody's word.
RECONCILE: Final = "payments reconcile"


@dataclass(frozen=True)
class Doing:
    """What a person does, and why."""

    operator: str
    action: str
    reason: str


async def record(
    conn: AsyncConnection, doing: Doing, subjects: Sequence[str], detail: Mapping[str, Any] | None = None
) -> None:
    """Notes it for each subject; to be committed with the change."""
    await conn.execute(
        """INSERT INTO audit_entry (operator, action, subject, reason, detail)
           SELECT %s, %s, subject, %s, %s FROM unnest(%s::text[]) AS done (subject)""",
        (doing.operator, doing.action, doing.reason, Jsonb(dict(detail or {})), list(subjects)),
    )


async def latest(conn: AsyncConnection, limit: int) -> list[dict[str, Any]]:
    """What operators' commands did to this schema, the newest first."""
    return await _rows(
        conn,
        """SELECT audit_time, operator, action, subject, reason, detail
           FROM audit_entry ORDER BY audit_id DESC LIMIT %s""",
        limit,
    )


async def asked(conn: AsyncConnection, limit: int) -> list[dict[str, Any]]:
    """What was asked for by RPC, in the same words, the newest first."""
    return await _rows(
        conn,
        """SELECT create_time AS audit_time, asked_by AS operator,
                  substring(call FROM '([A-Za-z]+)Request$') AS action,
                  CASE WHEN call LIKE '%%.RefundReservationRequest' THEN 'reservation ' ELSE 'event ' END || subject_id
                      AS subject,
                  reason, jsonb_build_object('request_id', request_id) AS detail
           FROM organiser_request ORDER BY create_time DESC LIMIT %s""",
        limit,
    )


async def _rows(conn: AsyncConnection, query: LiteralString, limit: int) -> list[dict[str, Any]]:
    cursor = await conn.execute(query, (limit,))
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
