"""One message as it came, decoded: its envelopes, and what in it is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiormq.abc import AbstractChannel, DeliveredMessage
from google.protobuf.message import DecodeError
from pamqp.common import FieldTable

from chassis.batch import CONTENT_TYPE, unpack
from chassis.topology import SHARD_HEADER
from ticketrush.messages.v1 import messages_pb2 as pb

# Of a message on the retry ladder: the steps it has taken, and the routing key it was first published with.
ATTEMPT_HEADER: Final = "attempt"
ROUTING_KEY_HEADER: Final = "routing_key"
# Headers say what anybody likes. More than that of anything nobody counts, and a column takes it.
NUMBER_MAX: Final = 2**31 - 2


@dataclass(frozen=True, slots=True)
class Flaw:
    """Bytes that hold no envelope, and why."""

    body: bytes
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it came: its envelopes, and what in it is none."""

    channel: AbstractChannel
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

    @property
    def shard(self) -> int:
        """Of what it is about; 0 if it does not say."""
        return self._number(SHARD_HEADER)

    def _number(self, header: str) -> int:
        value = self.headers.get(header)
        return min(max(value, 0), NUMBER_MAX) if isinstance(value, int) else 0

    def _last_death(self) -> dict[str, Any]:
        deaths = self.headers.get("x-death")
        return deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}


def decode(channel: AbstractChannel, message: DeliveredMessage) -> Delivery:
    """Reads a message. What cannot be read is a Flaw; never raises."""
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
