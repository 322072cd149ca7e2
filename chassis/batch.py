"""The body of every AMQP message: one EnvelopeBatch, put together from envelopes that are already serialised."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from uuid import uuid4

from pamqp.commands import Basic
from pamqp.common import FieldTable

from ticketrush.messages.v1 import messages_pb2 as pb

BATCH_ENVELOPES_MAX: Final = 256
BATCH_BYTES_MAX: Final = 512 * 1024
CONTENT_TYPE: Final = "application/x-protobuf"
BATCH_TYPE: Final = pb.EnvelopeBatch.DESCRIPTOR.full_name

_TAG: Final = bytes([pb.EnvelopeBatch.ENVELOPES_FIELD_NUMBER << 3 | 2])
_VARINT_BYTES_MAX: Final = 10
_TRANSIENT: Final = 1
_PERSISTENT: Final = 2


def pack(envelopes: Iterable[bytes]) -> bytes:
    """The serialised EnvelopeBatch of serialised envelopes, in their order."""
    parts: list[bytes] = []
    for envelope in envelopes:
        parts += (_prefix(len(envelope)), envelope)
    return b"".join(parts)


def unpack(body: bytes) -> list[bytes]:
    """The serialised envelopes of a serialised EnvelopeBatch. Raises ValueError for any other bytes.

    For a batch that protobuf refuses as a whole, so that one malformed envelope does not take its neighbours along.
    """
    envelopes: list[bytes] = []
    at = 0
    while at < len(body):
        if not body.startswith(_TAG, at):
            raise ValueError("not an EnvelopeBatch")
        length, begin = _varint(body, at + len(_TAG))
        at = begin + length
        if at > len(body):
            raise ValueError("an envelope is cut short")
        envelopes.append(body[begin:at])
    return envelopes


def _varint(body: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends."""
    value = shift = 0
    for end, byte in enumerate(body[at : at + _VARINT_BYTES_MAX], at + 1):
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, end
        shift += 7
    raise ValueError("not a varint")


def split(envelopes: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cuts into runs that each fit one message."""
    begin = size = 0
    for end, envelope in enumerate(envelopes):
        size += len(envelope)
        if end > begin and (end - begin == BATCH_ENVELOPES_MAX or size > BATCH_BYTES_MAX):
            yield envelopes[begin:end]
            begin, size = end, len(envelope)
    if begin < len(envelopes):
        yield envelopes[begin:]


def properties(headers: FieldTable, *, content_type: str = CONTENT_TYPE, transient: bool = False) -> Basic.Properties:
    """The AMQP properties of one message.

    The message_id is new each time: two publishes of one message_id in flight on a channel would swap their outcomes.
    """
    return Basic.Properties(
        content_type=content_type,
        headers=headers,
        delivery_mode=_TRANSIENT if transient else _PERSISTENT,
        message_id=uuid4().hex,
        timestamp=datetime.now(UTC),
        message_type=BATCH_TYPE,
    )


@lru_cache(maxsize=8192)
def _prefix(length: int) -> bytes:
    """Tag and length (a varint) of one element of EnvelopeBatch.envelopes."""
    varint = bytearray()
    while length > 0x7F:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    varint.append(length)
    return _TAG + varint
