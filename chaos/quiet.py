"""What is still under way in a system, seen from its databases: obligations, and holds that outlive their time."""

import asyncio
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final

import psycopg

from chaos.record import Record
from chaos.system import System

POLL_INTERVAL_S: Final = 0.25

# Each owes somebody something: a message, an answer from the processor, money.
_OBLIGATIONS: Final = """
    SELECT 'message ' || history_id FROM reservations.outbox
    UNION ALL SELECT 'message of payments ' || history_id FROM payments.outbox
    UNION ALL SELECT 'payment ' || payment_id FROM payments.payment WHERE state IN ('PENDING', 'REFUND_DUE')
    UNION ALL SELECT 'credit ' || payment_id FROM reservations.credit WHERE state IN ('OPEN', 'REFUND_DUE')
    UNION ALL SELECT 'overdue hold ' || reservation_id FROM reservations.reservation
              WHERE state IN ('HELD', 'PARTIALLY_PAID') AND release_time < clock_timestamp()"""
_HOLDS: Final = """
    SELECT 'hold ' || reservation_id FROM reservations.reservation WHERE state IN ('HELD', 'PARTIALLY_PAID')"""
_OVERDUE: Final = """
    SELECT coalesce(max(extract(epoch FROM clock_timestamp() - release_time)), 0)::float8
    FROM reservations.reservation WHERE state IN ('HELD', 'PARTIALLY_PAID') AND release_time < clock_timestamp()"""


async def obligations(system: System, *, holds: bool = False) -> frozenset[str]:
    """What is owed now; with `holds` also the holds that live. Raises psycopg.Error."""
    sql = f"{_OBLIGATIONS} UNION ALL {_HOLDS}" if holds else _OBLIGATIONS
    async with system.database() as conn:
        cursor = await conn.execute(sql.encode())
        return frozenset(row[0] for row in await cursor.fetchall())


async def owed_after(system: System, deadline_s: float) -> frozenset[str]:
    """What is owed as soon as the database answers again. Raises TimeoutError."""
    async with asyncio.timeout(deadline_s):
        while True:
            try:
                return await obligations(system)
            except psycopg.Error:
                await asyncio.sleep(POLL_INTERVAL_S)


async def closed(system: System, owed: Collection[str], deadline_s: float) -> Collection[str]:
    """Returns when none of these is owed any more, or what still is when the time is over."""
    end = time.monotonic() + deadline_s
    left = frozenset(owed)
    while left and time.monotonic() < end:
        # A database that is still coming up tells nothing yet.
        with suppress(psycopg.Error):
            left &= await obligations(system)
        if left:
            await asyncio.sleep(POLL_INTERVAL_S)
    return left


async def nothing_moves(system: System, deadline_s: float) -> Collection[str]:
    """Returns when nothing is owed and no hold lives, or what still is when the time is over."""
    end = time.monotonic() + deadline_s
    while left := await obligations(system, holds=True):
        if time.monotonic() > end:
            break
        await asyncio.sleep(POLL_INTERVAL_S)
    return left


async def is_shown(system: System, record: Record, event_id: str) -> bool:
    """Whether the watched seat map of the event shows what the database holds."""
    async with system.database() as conn:
        cursor = await conn.execute(
            "SELECT ticket_id::text, state, version FROM reservations.ticket WHERE event_id = %s", (event_id,)
        )
        truth = {row[0]: (row[1], row[2]) for row in await cursor.fetchall()}
    return truth == record.seat_maps[event_id]


class Overdue:
    """How far the most overdue hold was over its release_time, at any moment and once the system had healed."""

    def __init__(self) -> None:
        self.worst_s = 0.0
        self.worst_after_s = 0.0
        self._judged_from_s = float("inf")

    def judge_after(self, seconds: float) -> None:
        """From then on nothing excuses an overdue hold."""
        self._judged_from_s = time.monotonic() + seconds

    async def watch(self, system: System) -> None:
        """Looks again and again until cancelled."""
        while True:
            try:
                async with system.database() as conn:
                    while True:
                        await self._look(conn)
                        await asyncio.sleep(POLL_INTERVAL_S)
            except psycopg.Error:
                await asyncio.sleep(POLL_INTERVAL_S)

    async def _look(self, conn: psycopg.AsyncConnection[Any]) -> None:
        cursor = await conn.execute(_OVERDUE.encode())
        late_s = max((row[0] for row in await cursor.fetchall()), default=0.0)
        self.worst_s = max(self.worst_s, late_s)
        if time.monotonic() >= self._judged_from_s:
            self.worst_after_s = max(self.worst_after_s, late_s)
