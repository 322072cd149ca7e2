"""What this gateway accepted and nobody has decided yet, so that whoever asks for it is not told that it is unknown."""

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from ticketrush.v1 import ticketing_pb2 as pb

ENTRIES_MAX: Final = 20_000
# Beyond the last delay after which a command is tried again (600 s); who is not decided by then needs an operator.
AGE_MAX_S: Final = 900.0

Item = TypeVar("Item", pb.Reservation, pb.Payment)


@dataclass(frozen=True, slots=True)
class Accepted(Generic[Item]):
    """What was accepted, from whom, and when (monotonic seconds)."""

    buyer_id: str
    item: Item
    accept_s: float


class Pending(Generic[Item]):
    """The newest ENTRIES_MAX accepted things by id, each for AGE_MAX_S; asked only about what its owner lacks."""

    def __init__(self) -> None:
        self._items: OrderedDict[str, Accepted[Item]] = OrderedDict()

    def add(self, subject_id: str, buyer_id: str, item: Item) -> Item:
        """Remembers it unless the id is known already; returns what is remembered under the id."""
        known = self.find(subject_id)
        if known is not None:
            return known.item
        self._items[subject_id] = Accepted(buyer_id, item, time.monotonic())
        if len(self._items) > ENTRIES_MAX:
            self._items.popitem(last=False)
        return item

    def find(self, subject_id: str) -> Accepted[Item] | None:
        """What was accepted under the id, if it is still remembered."""
        entry = self._items.get(subject_id)
        if entry is None:
            return None
        if time.monotonic() - entry.accept_s > AGE_MAX_S:
            del self._items[subject_id]
            return None
        return entry

    def forget(self, subject_id: str) -> None:
        """Its owner knows it now."""
        self._items.pop(subject_id, None)


def reservation(reservation_id: str, request: pb.ReserveRequest) -> pb.Reservation:
    """How a reservation reads before it is decided."""
    return pb.Reservation(
        reservation_id=reservation_id,
        event_id=request.event_id,
        buyer_id=request.buyer_id,
        state=pb.Reservation.STATE_PENDING,
    )


def payment(payment_id: str, request: pb.PayRequest) -> pb.Payment:
    """How a payment reads before it is stored."""
    return pb.Payment(
        payment_id=payment_id,
        reservation_id=request.reservation_id,
        amount_minor=request.amount_minor,
        state=pb.Payment.STATE_PENDING,
    )
