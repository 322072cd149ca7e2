"""What operators did by hand: who, what, to what, when and why, in the transaction of the change itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb


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
    """The latest entries of this schema, the newest first."""
    cursor = await conn.execute(
        """SELECT audit_time, operator, action, subject, reason, detail
           FROM audit_entry ORDER BY audit_id DESC LIMIT %s""",
        (limit,),
    )
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
