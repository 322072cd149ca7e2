"""Ids that are derived, not drawn: a gateway without a store recognises a retry, and any id tells its event's shard.

All are UUIDv8 (RFC 9562): 16 bits of hash(event_id), then bits derived from what the id names.
"""

from hashlib import blake2b
from uuid import UUID

_SHARD_SHIFT = 112
_VARIANT_AND_VERSION_MASK = ~((0xF << 76) | (0x3 << 62))
_VARIANT_AND_VERSION = (0x8 << 76) | (0x2 << 62)


def _digest(*parts: str, size_bytes: int) -> int:
    # A separator that no field may hold, so that ("a", "bc") and ("ab", "c") differ.
    return int.from_bytes(blake2b("\0".join(parts).encode(), digest_size=size_bytes).digest(), "big")


def _uuid8(shard_bits: int, low_bits: int) -> UUID:
    value = (shard_bits << _SHARD_SHIFT) | low_bits
    return UUID(int=(value & _VARIANT_AND_VERSION_MASK) | _VARIANT_AND_VERSION)


def shard_bits(subject_id: UUID) -> int:
    """The shard key: 16 bits that all ids of one event share. How many shards there are changes nothing about it."""
    return subject_id.int >> _SHARD_SHIFT


def event_id(request_id: str) -> UUID:
    """Id of the event that a CreateEvent with this request_id creates."""
    bits = _digest("CreateEvent", request_id, size_bytes=14)
    return _uuid8(bits >> 96, bits)


def reservation_id(event: UUID, buyer_id: str, request_id: str) -> UUID:
    """Id of the reservation that a Reserve with this request_id makes."""
    return _uuid8(shard_bits(event), _digest("Reserve", buyer_id, request_id, size_bytes=14))


def payment_id(reservation: UUID, buyer_id: str, request_id: str) -> UUID:
    """Id of the payment that a Pay with this request_id makes."""
    return _uuid8(shard_bits(reservation), _digest("Pay", buyer_id, request_id, size_bytes=14))


def ticket_id(event: UUID, request_id: str, ordinal: int) -> UUID:
    """Id of the ticket at a place (0 to 2**24 - 1) in a CreateTickets: ascending in seat order within the request."""
    bits = _digest("CreateTickets", str(event), request_id, size_bytes=8)
    return _uuid8(shard_bits(event), (bits >> 32) << 80 | (bits & 0xFFFF_FFFF) << 24 | ordinal)


def command_id(subject: UUID, *body: str) -> UUID:
    """Id of the command with this body about this subject: the same body again has the same id, another has another."""
    return _uuid8(shard_bits(subject), _digest(str(subject), *body, size_bytes=14))


def derived_id(subject: UUID, role: str) -> UUID:
    """Id of the one message of this role about this subject, however often it is said."""
    return _uuid8(shard_bits(subject), _digest(role, str(subject), size_bytes=14))
