"""Numbers that the tables know and no process: counted from time to time, at leisure."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from prometheus_client import Gauge
from psycopg_pool import PoolTimeout, TooManyRequests

from chassis.database import Database
from chassis.soundness import REST_PER_LOOK, looking

log = logging.getLogger(__name__)

INTERVAL_S: Final = 15.0
SERIES_MAX: Final = 200
"""Of one census; whatever it finds beyond is not shown."""

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Census:
    """A SELECT whose rows have the values of the gauge's labels and, last, a number. What it no longer finds goes."""

    gauge: Gauge
    sql: str


PARKED: Final = Census(
    Gauge("ticketrush_parked_messages", "Messages that were set aside and wait for a person.", ("queue",)),
    "SELECT queue, count(*) FROM parked_message WHERE state = 'PARKED' GROUP BY queue ORDER BY queue",
)


class Censuses:
    """Counts again and again, for the metrics; a count that takes long is followed by a longer rest."""

    def __init__(self, database: Database, censuses: Sequence[Census], *, interval_s: float = INTERVAL_S) -> None:
        self._database = database
        self._shown: dict[Census, Mapping[Labels, float]] = {census: {} for census in censuses}
        self._interval_s = interval_s

    async def run(self) -> None:
        """Counts until cancelled."""
        while True:
            began = time.monotonic()
            for census, before in self._shown.items():
                try:
                    found = await self._take(census)
                except (psycopg.Error, PoolTimeout, TooManyRequests) as error:
                    log.warning("not counted: %s", error)
                else:
                    _show(census.gauge, before, found)
                    self._shown[census] = found
            await asyncio.sleep(max(self._interval_s, REST_PER_LOOK * (time.monotonic() - began)))

    async def _take(self, census: Census) -> dict[Labels, float]:
        async with looking(self._database) as conn:
            cursor = await conn.execute(census.sql.encode())
            rows: list[tuple[Any, ...]] = await cursor.fetchmany(SERIES_MAX)
        return {tuple(labels): float(number) for *labels, number in rows}


def _show(gauge: Gauge, before: Mapping[Labels, float], found: Mapping[Labels, float]) -> None:
    for labels, number in found.items():
        gauge.labels(*labels).set(number)
    for labels in before.keys() - found.keys():
        gauge.remove(*labels)
