"""What was committed is said: history and outbox rows in the caller's transaction, the broker after the commit.

The row is born leased to the process that writes it, which publishes from memory. Whoever finds a row whose lease ran
out says it again. No transaction is ever open across the broker.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID

import psycopg
from prometheus_client import Counter, Gauge
from psycopg import AsyncConnection

from chassis.attempts import persist
from chassis.batch import BATCH_BYTES_MAX
from chassis.database import Database
from chassis.publisher import Publisher
from chassis.sender import BUFFER_AGE_S, PUBLISH_TIMEOUT_S

log = logging.getLogger(__name__)

LEASE_S: Final = 15.0
DELETE_LINGER_S: Final = 0.05
DELETE_BATCH: Final = 5_000
RELAY_INTERVAL_S: Final = 1.0
RELAY_BATCH: Final = 500
FIGURES_INTERVAL_S: Final = 5.0
DEPTH_COUNTED_MAX: Final = 100_000

_depth = Gauge("ticketrush_outbox_depth", f"Messages not confirmed yet, counted up to {DEPTH_COUNTED_MAX}.")
_age = Gauge("ticketrush_outbox_oldest_age_seconds", "Age of the oldest message not confirmed yet; 0 without any.")
_relayed = Counter("ticketrush_outbox_relayed_messages", "Messages said again after their lease ran out.")


@dataclass(frozen=True, slots=True)
class Record:
    """One step of a subject, and the message that tells of it; without a routing key it is kept but not said."""

    subject_id: UUID
    subject_version: int
    kind: str
    routing_key: str | None
    message_id: UUID
    envelope: bytes
    shard: int = 0


@dataclass(frozen=True, slots=True)
class _Said:
    history_id: int
    routing_key: str
    message_id: str
    envelope: bytes
    shard: int


Written = Sequence[_Said]


class Outbox:
    """The outbox of one schema, for one process. Several processes may share the table."""

    def __init__(self, database: Database, publisher: Publisher, *, lease_s: float = LEASE_S) -> None:
        if lease_s <= BUFFER_AGE_S + PUBLISH_TIMEOUT_S:
            raise ValueError("the lease must outlive the publisher's own attempt, or rows are said twice at once")
        self._database = database
        self._publisher = publisher
        self._lease_s = lease_s
        self._in_flight = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._confirmed: list[int] = []
        self._any_confirmed = asyncio.Event()

    async def write(self, conn: AsyncConnection, records: Sequence[Record]) -> Written:
        """Writes all records in the caller's transaction; `publish` what it returns once that is committed.

        Raises ValueError for an envelope that fits no message.
        """
        if not records:
            return ()
        largest = max(len(record.envelope) for record in records)
        if largest > BATCH_BYTES_MAX:
            raise ValueError(f"an envelope of {largest} bytes could never be said: a message takes {BATCH_BYTES_MAX}")
        cursor = await conn.execute(
            """WITH written AS (
                   INSERT INTO history (subject_id, subject_version, kind, routing_key, shard, message_id, envelope)
                   SELECT subject_id, subject_version, kind, routing_key, shard, message_id, envelope
                   FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::text[], %s::integer[], %s::uuid[], %s::bytea[])
                       WITH ORDINALITY AS record (subject_id, subject_version, kind, routing_key, shard, message_id,
                                                  envelope, place)
                   ORDER BY place
                   RETURNING history_id, routing_key
               ), owed AS (
                   INSERT INTO outbox (history_id, lease_time)
                   SELECT history_id, statement_timestamp() + make_interval(secs => %s)
                   FROM written WHERE routing_key IS NOT NULL
               )
               SELECT history_id FROM written ORDER BY history_id""",
            (
                [record.subject_id for record in records],
                [record.subject_version for record in records],
                [record.kind for record in records],
                [record.routing_key for record in records],
                [record.shard for record in records],
                [record.message_id for record in records],
                [record.envelope for record in records],
                self._lease_s,
            ),
        )
        # Identities were drawn in the order of the records.
        return [
            _Said(history_id, record.routing_key, str(record.message_id), record.envelope, record.shard)
            for (history_id,), record in zip(await cursor.fetchall(), records, strict=True)
            if record.routing_key is not None
        ]

    def publish(self, written: Written) -> None:
        """Hands over what was committed. What the broker confirms is deleted, the rest is left to the relay."""
        self._publish(written)

    async def run(self) -> None:
        """Deletes what was confirmed, says again what was not, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._delete_for_ever())
            tasks.create_task(self._relay_for_ever())
            tasks.create_task(self._measure_for_ever())

    async def drain(self, timeout_s: float = 3.0) -> None:
        """Returns when what was published is confirmed and deleted, or when the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._quiet.wait()
                await self._delete_confirmed()
        except TimeoutError:
            log.warning("outbox: %d messages not confirmed yet are left to the relay", self._in_flight)

    def _publish(self, written: Written) -> list["asyncio.Future[None]"]:
        futures = []
        for said in written:
            future = self._publisher.publish(said.routing_key, said.message_id, said.envelope, shard=said.shard)
            future.add_done_callback(partial(self._answered, said.history_id))
            futures.append(future)
        if futures:
            self._in_flight += len(futures)
            self._quiet.clear()
        return futures

    def _answered(self, history_id: int, future: "asyncio.Future[None]") -> None:
        self._in_flight -= 1
        if self._in_flight == 0:
            self._quiet.set()
        if not future.cancelled() and future.exception() is None:
            self._confirmed.append(history_id)
            self._any_confirmed.set()

    async def _delete_for_ever(self) -> None:
        while True:
            await self._any_confirmed.wait()
            await asyncio.sleep(DELETE_LINGER_S)
            await self._delete_confirmed()

    async def _delete_confirmed(self) -> None:
        self._any_confirmed.clear()
        confirmed, self._confirmed = self._confirmed, []
        for begin in range(0, len(confirmed), DELETE_BATCH):
            batch = confirmed[begin : begin + DELETE_BATCH]
            try:
                await persist(partial(self._delete, batch), "outbox")
            except psycopg.Error as error:
                log.warning("outbox: %d confirmed messages will be said again: %s", len(batch), error)

    async def _delete(self, history_ids: Sequence[int]) -> None:
        async with self._database.transaction() as conn:
            # A delete lost in a crash only says the message once more.
            await conn.execute("SET LOCAL synchronous_commit = off")
            await conn.execute("DELETE FROM outbox WHERE history_id = ANY(%s)", (history_ids,))

    async def _relay_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RELAY_INTERVAL_S)
            try:
                while self._publisher.connected and await self._relay() == RELAY_BATCH:
                    log.info("outbox: relayed %d messages, more are due", RELAY_BATCH)
            except psycopg.Error as error:
                log.warning("outbox: the relay waits for the database: %s", error)

    async def _relay(self) -> int:
        """Takes what is due, says it, and returns how many it were once each has its answer."""
        due = await self._take()
        if due:
            log.warning("outbox: saying %d messages again", len(due))
            _relayed.inc(len(due))
            await asyncio.wait(self._publish(due))
        return len(due)

    async def _take(self) -> Written:
        async with self._database.transaction() as conn:
            cursor = await conn.execute(
                """WITH due AS (
                       SELECT history_id FROM outbox WHERE lease_time < statement_timestamp()
                       ORDER BY lease_time, history_id LIMIT %s FOR UPDATE SKIP LOCKED
                   ), leased AS (
                       UPDATE outbox SET lease_time = statement_timestamp() + make_interval(secs => %s)
                       FROM due WHERE outbox.history_id = due.history_id
                       RETURNING outbox.history_id
                   )
                   SELECT history_id, routing_key, message_id::text, envelope, shard
                   FROM leased JOIN history USING (history_id) ORDER BY history_id""",
                (RELAY_BATCH, self._lease_s),
            )
            return [_Said(*row) for row in await cursor.fetchall()]

    async def _measure_for_ever(self) -> None:
        while True:
            try:
                await self._measure()
            except psycopg.Error as error:
                log.debug("outbox: not measured: %s", error)
            await asyncio.sleep(FIGURES_INTERVAL_S)

    async def _measure(self) -> None:
        async with self._database.transaction() as conn:
            cursor = await conn.execute(
                """SELECT count(*), coalesce(extract(epoch FROM statement_timestamp() - min(occur_time)), 0)::float8
                   FROM (SELECT history_id FROM outbox ORDER BY history_id LIMIT %s) AS owed
                   JOIN history USING (history_id)""",
                (DEPTH_COUNTED_MAX,),
            )
            row = await cursor.fetchone()
        if row is not None:
            _depth.set(row[0])
            _age.set(row[1])
