"""A buyer's name in messages."""

from collections.abc import Iterator

from google.protobuf.message import DecodeError, Message

from ticketrush.messages.v1 import messages_pb2 as pb

_BUYER = "buyer_id"
_REQUEST = "request_id"


def renamed(envelope: bytes, old_name: str, new_name: str) -> bytes:
    """The envelope with another buyer in the place of this one.

    A command of his loses its request_id: with it, a guess of the name could be tried on the ids derived from both.
    """
    message = pb.Envelope.FromString(envelope)
    for part in _parts_naming(message, old_name):
        setattr(part, _BUYER, new_name)
        if _REQUEST in part.DESCRIPTOR.fields_by_name:
            part.ClearField(_REQUEST)
    return message.SerializeToString()


def names(body: bytes, buyer_id: str) -> bool:
    """Whether a message tells of the buyer. What is no EnvelopeBatch does where it holds the name at all."""
    try:
        batch = pb.EnvelopeBatch.FromString(body)
    except DecodeError:
        return buyer_id.encode() in body
    return any(True for _ in _parts_naming(batch, buyer_id))


def _parts_naming(message: Message, buyer_id: str) -> Iterator[Message]:
    if getattr(message, _BUYER, None) == buyer_id:
        yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else (value,):
                yield from _parts_naming(part, buyer_id)
