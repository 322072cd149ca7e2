"""The points around a COMMIT: which use case it belongs to, and whose rows it writes."""

import sys
from types import FrameType
from typing import Any, Final
from uuid import UUID

from psycopg import AsyncConnection

from chassis import database
from tests.proof.fuse import Fuse

# Between a use case and its COMMIT.
_UNDERNEATH: Final = {__name__, "contextlib", "chassis.database", "reservations.handlers.desk"}
# What a transaction has written so far, by service.
_HISTORY: Final = "SELECT subject_id FROM history WHERE xmin = pg_current_xact_id()::xid"
_CREDITS: Final = "SELECT payment_id FROM credit WHERE xmin = pg_current_xact_id()::xid"
_PAYMENTS: Final = "SELECT payment_id FROM payment WHERE xmin = pg_current_xact_id()::xid"
_WRITTEN: Final = {
    "reservations": f"{_HISTORY} UNION {_CREDITS}",
    "scheduler": f"{_HISTORY} UNION {_CREDITS}",
    "payments": f"{_HISTORY} UNION {_PAYMENTS}",
}


def wrap(service: str, fuse: Fuse, *, behind: bool) -> None:
    """The fuse is told of every transaction that wrote anything, right before or behind its COMMIT."""
    commit = database._shielded_commit

    async def wrapped(conn: AsyncConnection[Any]) -> None:
        use_case, subjects = _use_case(sys._getframe()), await _subjects(conn, service)
        if subjects is not None and not behind:
            fuse.blow(use_case, subjects)
        await commit(conn)
        if subjects is not None and behind:
            fuse.blow(use_case, subjects)

    database._shielded_commit = wrapped


async def _subjects(conn: AsyncConnection[Any], service: str) -> list[UUID] | None:
    """None for a transaction that wrote nothing; an empty list for one that wrote about nobody in particular."""
    cursor = await conn.execute("SELECT pg_current_xact_id_if_assigned() IS NULL")
    [(wrote_nothing,)] = await cursor.fetchall()
    if wrote_nothing:
        return None
    cursor = await conn.execute(_WRITTEN[service].encode())
    return [subject for (subject,) in await cursor.fetchall()]


def _use_case(frame: FrameType | None) -> str:
    """The outermost function of the first module up the stack that is a user of transactions."""
    while frame is not None and frame.f_globals["__name__"] in _UNDERNEATH:
        frame = frame.f_back
    module = name = ""
    while frame is not None:
        module = module or frame.f_globals["__name__"]
        if frame.f_globals["__name__"] == module:
            name = frame.f_code.co_qualname
        frame = frame.f_back
    return name
