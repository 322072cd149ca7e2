"""Taking in: deliveries of one queue from a supervised connection, decoded, in order, bounded by the prefetch."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS
from aiormq.abc import AbstractChannel as Channel
from aiormq.abc import DeliveredMessage
from google.protobuf.message import DecodeError
from pamqp.common import FieldTable
from prometheus_client import Counter

from chassis.batch import CONTENT_TYPE, unpack
from chassis.connection import Link, cancelled_from_outside
from chassis.sender import Declare
from ticketrush.messages.v1 import messages_pb2 as pb

log = logging.getLogger(__name__)

# A message that came back so often may be what kills its consumer: it is taken alone, so that only it is in doubt.
ALONE_AFTER_REDELIVERIES: Final = 3
ATTEMPT_HEADER: Final = "attempt"
ROUTING_KEY_HEADER: Final = "routing_key"

_taken = Counter("ticketrush_amqp_consumed_envelopes", "Envelopes taken from a queue.", ("queue",))
_acks_lost = Counter(
    "ticketrush_amqp_acks_lost", "Messages done whose ack found no channel: they come again.", ("queue",)
)


@dataclass(frozen=True, slots=True)
class Flaw:
    """Bytes that hold no envelope, and why."""

    body: bytes
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it came: its envelopes, and what in it is none."""

    channel: Channel
    tag: int
    routing_key: str
    content_type: str
    headers: FieldTable
    envelopes: Sequence[pb.Envelope]
    flaws: Sequence[Flaw]

    @property
    def attempt(self) -> int:
        """How often it went down the retry ladder."""
        return self._number(ATTEMPT_HEADER)

    @property
    def redeliveries(self) -> int:
        """How often it came and was not acked."""
        return self._number("x-delivery-count")

    @property
    def said_as(self) -> str:
        """The routing key it was first published with, which the ladder and dead-lettering replace."""
        death = self._last_death()
        said = self.headers.get(ROUTING_KEY_HEADER) or (death.get("routing-keys") or [self.routing_key])[0]
        return str(said)

    @property
    def died_in(self) -> str:
        """The queue that dead-lettered it last; its own routing key when none did."""
        return str(self._last_death().get("queue", self.routing_key))

    def _number(self, header: str) -> int:
        value = self.headers.get(header)
        return max(value, 0) if isinstance(value, int) else 0

    def _last_death(self) -> dict[str, Any]:
        deaths = self.headers.get("x-death")
        return deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}


class Intake:
    """Consumes from one queue for as long as its link runs. `declare` declares it, on each connect and every 30 s."""

    def __init__(self, url: str, *, queue: str, name: str, prefetch: int, declare: Declare) -> None:
        self.link = Link(url, name=name, setup=self._setup, refresh=self._refresh)
        self._queue = queue
        self._prefetch = prefetch
        self._declare = declare
        self._own: AbstractChannel | None = None
        self._waiting: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._stopped = False

    async def take(self, envelopes_max: int) -> list[Delivery]:
        """Waits for a message, then takes what else waits: whole messages, up to so many envelopes, at least one.

        What is taken came in order over one connection. It must be acked before more is taken.
        """
        while not self._waiting:
            await self._arrived.wait()
        taken = [self._waiting.popleft()]
        count = len(taken[0].envelopes)
        while self._waiting and not _suspect(taken[0]) and not _suspect(self._waiting[0]):
            count += len(self._waiting[0].envelopes)
            if count > envelopes_max:
                break
            taken.append(self._waiting.popleft())
        if not self._waiting:
            self._arrived.clear()
        _taken.labels(self._queue).inc(sum(len(delivery.envelopes) for delivery in taken))
        return taken

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acks what one `take` returned. Without its connection that is impossible, and needless: it comes again."""
        last = deliveries[-1]
        try:
            await last.channel.basic_ack(last.tag, multiple=True)
        except CONNECTION_EXCEPTIONS:
            self._ack_lost(deliveries)
        except asyncio.CancelledError:
            self._ack_lost(deliveries)
            if cancelled_from_outside():
                raise

    def stop(self) -> None:
        """Takes nothing more; what was not taken yet returns to the queue when the link ends."""
        self._stopped = True
        self._forget()

    def _ack_lost(self, deliveries: Sequence[Delivery]) -> None:
        _acks_lost.labels(self._queue).inc(len(deliveries))
        log.info(
            "%s: %d messages were done when the connection was lost; they come again", self._queue, len(deliveries)
        )

    async def _setup(self, connection: AbstractConnection) -> None:
        self._forget()
        self._own = await self.link.channel(connection)
        await self._refresh()
        consuming = await self.link.channel(connection)
        await consuming.set_qos(prefetch_count=self._prefetch)
        channel = await consuming.get_underlay_channel()
        await self.link.consume(consuming, self._queue, lambda message: self._arrive(channel, message))

    async def _refresh(self) -> None:
        if self._own is not None:
            await self._declare(self._own)

    def _forget(self) -> None:
        self._waiting.clear()
        self._arrived.clear()

    def _arrive(self, channel: Channel, message: DeliveredMessage) -> None:
        if not self._stopped:
            self._waiting.append(_decode(channel, message))
            self._arrived.set()


def _suspect(delivery: Delivery) -> bool:
    return delivery.redeliveries >= ALONE_AFTER_REDELIVERIES


def _decode(channel: Channel, message: DeliveredMessage) -> Delivery:
    properties = message.header.properties
    content_type = properties.content_type or ""
    envelopes, flaws = _envelopes(message.body, content_type)
    return Delivery(
        channel=channel,
        tag=message.delivery_tag or 0,
        routing_key=message.routing_key or "",
        content_type=content_type,
        headers=properties.headers or {},
        envelopes=envelopes,
        flaws=flaws,
    )


def _envelopes(body: bytes, content_type: str) -> tuple[Sequence[pb.Envelope], Sequence[Flaw]]:
    if content_type != CONTENT_TYPE:
        return (), (Flaw(body, "WRONG_CONTENT_TYPE", f"content type {content_type!r}, not {CONTENT_TYPE!r}"),)
    try:
        envelopes = list(pb.EnvelopeBatch.FromString(body).envelopes)
    except DecodeError:
        return _envelopes_one_by_one(body)
    if not envelopes:
        return (), (Flaw(body, "NOT_A_BATCH", "no envelope in it"),)
    return envelopes, ()


def _envelopes_one_by_one(body: bytes) -> tuple[Sequence[pb.Envelope], Sequence[Flaw]]:
    try:
        parts = unpack(body)
    except ValueError as error:
        return (), (Flaw(body, "NOT_A_BATCH", str(error)),)
    envelopes: list[pb.Envelope] = []
    flaws: list[Flaw] = []
    for part in parts:
        try:
            envelopes.append(pb.Envelope.FromString(part))
        except DecodeError as error:
            flaws.append(Flaw(part, "NOT_AN_ENVELOPE", str(error)))
    return envelopes, flaws
