"""Where messages wait for a person: a table beside the service's own data, and the backstop queue drained into it."""

import asyncio
import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from aio_pika.abc import AbstractChannel, AbstractConnection
from prometheus_client import Counter
from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout, TooManyRequests

from chassis.attempts import persist
from chassis.batch import CONTENT_TYPE, pack
from chassis.database import Database
from chassis.delivery import Delivery, Flaw
from chassis.intake import Intake
from chassis.topology import DELIVERY_LIMIT, declare_parked_queue, parked_queue, work_queue_of
from ticketrush.messages.v1 import messages_pb2 as pb

log = logging.getLogger(__name__)

DETAIL_CHARS_MAX: Final = 2_000
NAME_CHARS_MAX: Final = 255
# Longer than any hold lives: by then a command about one can only be refused.
GIVE_UP_AFTER_DAYS: Final = 30
GIVE_UP_INTERVAL_S: Final = 3_600.0
GIVE_UP_BATCH: Final = 500
BACKSTOP_PREFETCH: Final = 16
BACKSTOP_ENVELOPES_MAX: Final = 500

_parked = Counter("ticketrush_amqp_parked_messages", "Messages set aside for a person.", ("queue", "reason"))


@dataclass(frozen=True, slots=True)
class ParkedMessage:
    """One message as it is set aside: published again to `queue` with its body and content type, it is tried again."""

    message_id: str
    queue: str
    routing_key: str
    kind: str
    subject_id: str
    content_type: str
    body: bytes
    reason: str
    detail: str
    attempts: int


class Parking:
    """The table `parked_message` of a service's schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def park(self, messages: Sequence[ParkedMessage]) -> None:
        """Returns when all are committed. Waits for a database that is gone. Raises psycopg.Error.

        What is parked already, by queue, message_id and body, stays as it is; whoever is sending it again is told that
        it has come back.
        """
        if messages:
            await persist(lambda: self._insert(messages), "parking")
        for message in messages:
            _parked.labels(message.queue, message.reason).inc()
            log.error("parked %s of %s: %s: %s", message.message_id, message.queue, message.reason, message.detail)

    async def give_up_old_for_ever(self, kind: str) -> None:
        """Gives up what of this kind has waited GIVE_UP_AFTER_DAYS, with its bytes, now and then, until cancelled."""
        while True:
            try:
                given_up = await self._give_up_old(kind)
            except (psycopg.Error, PoolTimeout, TooManyRequests) as error:
                log.warning("parking: what is old could not be given up: %s", error)
                given_up = 0
            if given_up:
                log.error("parking: gave %d of %s up: nobody settled them for %s d", given_up, kind, GIVE_UP_AFTER_DAYS)
            await asyncio.sleep(0 if given_up == GIVE_UP_BATCH else GIVE_UP_INTERVAL_S)

    async def _give_up_old(self, kind: str) -> int:
        async with self._database.transaction() as conn:
            cursor = await conn.execute(
                """UPDATE parked_message
                   SET state = 'DISCARDED', settle_time = clock_timestamp(), settled_by = 'nobody',
                       settle_note = 'too old to be of use', body = ''
                   WHERE parked_id IN (
                       SELECT parked_id FROM parked_message
                       WHERE state = 'PARKED' AND kind = %s AND park_time < now() - make_interval(days => %s)
                       ORDER BY parked_id LIMIT %s FOR UPDATE SKIP LOCKED)""",
                (kind, GIVE_UP_AFTER_DAYS, GIVE_UP_BATCH),
            )
            return cursor.rowcount

    async def _insert(self, messages: Sequence[ParkedMessage]) -> None:
        async with self._database.transaction() as conn, conn.cursor() as cursor:
            await cursor.executemany(
                """INSERT INTO parked_message (message_id, queue, routing_key, kind, subject_id, content_type, body,
                                               reason, detail, attempts)
                   VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
                   ON CONFLICT (queue, message_id, sha256(body)) WHERE state = 'PARKED'
                   DO UPDATE SET redrive_time = NULL""",
                [_row(message) for message in messages],
            )


async def parked_already(conn: AsyncConnection, queue: str, message_ids: Sequence[str]) -> set[str]:
    """Those of the messages, by message_id, that wait for a person and are not being sent again just now."""
    cursor = await conn.execute(
        """SELECT DISTINCT message_id FROM parked_message
           WHERE state = 'PARKED' AND redrive_time IS NULL AND queue = %s AND message_id = ANY(%s)""",
        (queue, list(message_ids)),
    )
    return {message_id for (message_id,) in await cursor.fetchall()}


def parked_flaw(flaw: Flaw, delivery: Delivery, queue: str, attempts: int) -> ParkedMessage:
    """Bytes without an envelope, as they came."""
    return ParkedMessage(
        message_id=_digest(flaw.body),
        queue=queue,
        routing_key=delivery.said_as,
        kind="",
        subject_id="",
        content_type=delivery.content_type,
        body=flaw.body,
        reason=flaw.reason,
        detail=flaw.detail,
        attempts=attempts,
    )


def parked_envelope(
    envelope: pb.Envelope, delivery: Delivery, queue: str, *, reason: str, detail: str, attempts: int
) -> ParkedMessage:
    """One envelope as a message of its own."""
    serialised = envelope.SerializeToString()
    return ParkedMessage(
        message_id=envelope.message_id or _digest(serialised),
        queue=queue,
        routing_key=delivery.said_as,
        kind=envelope.WhichOneof("payload") or "",
        subject_id=envelope.subject_id,
        content_type=CONTENT_TYPE,
        body=pack([serialised]),
        reason=reason,
        detail=detail,
        attempts=attempts,
    )


class Backstop:
    """Drains the queue behind the delivery limit of a service's work queues into the table. One per service."""

    def __init__(self, url: str, *, service: str, parking: Parking) -> None:
        async def furniture(channel: AbstractChannel) -> None:
            await declare_parked_queue(channel, service)

        async def find(_: AbstractConnection) -> Sequence[str]:
            return (parked_queue(service),)

        self._parking = parking
        self._intake = Intake(
            url,
            name=parked_queue(service),
            find=find,
            prefetch=BACKSTOP_PREFETCH,
            envelopes_max=BACKSTOP_ENVELOPES_MAX,
            declare=furniture,
        )

    @property
    def connected(self) -> bool:
        """Whether it is consuming."""
        return self._intake.connected

    async def run(self) -> None:
        """Drains until cancelled."""
        await self._intake.run(self._park)

    async def _park(self, deliveries: Sequence[Delivery]) -> None:
        await self._parking.park([message for delivery in deliveries for message in _given_up(delivery)])


def _given_up(delivery: Delivery) -> Iterator[ParkedMessage]:
    # Not its shard, which may be gone by the time that it is sent again.
    queue = work_queue_of(delivery.died_in)
    for flaw in delivery.flaws:
        yield parked_flaw(flaw, delivery, queue, DELIVERY_LIMIT)
    for envelope in delivery.envelopes:
        yield parked_envelope(
            envelope, delivery, queue, reason="DELIVERY_LIMIT", detail="never acked", attempts=DELIVERY_LIMIT
        )


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _row(message: ParkedMessage) -> tuple[object, ...]:
    return (
        _text(message.message_id),
        _text(message.queue),
        _text(message.routing_key),
        _text(message.kind),
        _text(message.subject_id),
        _text(message.content_type),
        message.body,
        message.reason,
        _text(message.detail, DETAIL_CHARS_MAX),
        message.attempts,
    )


def _text(value: str, chars_max: int = NAME_CHARS_MAX) -> str:
    """What came from outside may be of any length, and hold the one character that PostgreSQL's text cannot."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}")[:chars_max]
