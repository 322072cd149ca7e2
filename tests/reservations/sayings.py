"""What gateways and the payments service say to reservations, in the tests, and the halls they say it about."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from chassis.callers import OPERATOR, Caller
from gateway import commands
from reservations.handlers.opening import Opening
from reservations.organiser_requests import Claim, claim_of
from ticketrush.messages.v1 import messages_pb2 as msg
from ticketrush.v1 import ticketing_pb2 as pb

ANN, BOB = "ann", "bob"
ORGANISER = Caller("olga", frozenset({OPERATOR}))


@dataclass(frozen=True)
class Hall:
    """An event and its tickets in seat order."""

    event_id: UUID
    ticket_ids: list[UUID]


def reserve(
    hall: Hall,
    *seats: int,
    buyer_id: str = ANN,
    best: tuple[str, int] | None = None,
    ticket_ids: list[str] | None = None,
    request_id: str = "",
    age: timedelta = timedelta(),
) -> msg.Envelope:
    """A Reserve of seats (0 for the first), tickets, or the best (section, quantity), as gateways say it."""
    request = pb.ReserveRequest(
        request_id=request_id or str(uuid4()),
        event_id=str(hall.event_id),
        buyer_id=buyer_id,
        ticket_ids=ticket_ids or [str(hall.ticket_ids[seat]) for seat in seats],
        best_available=pb.BestAvailable(section=best[0], quantity=best[1]) if best else None,
    )
    envelope = commands.reserve(request).envelope
    envelope.occur_time.FromDatetime(datetime.now(UTC) - age)
    return envelope


def cancel(reservation_id: UUID | str, buyer_id: str = ANN) -> msg.Envelope:
    """A CancelReservation as gateways say it."""
    request = pb.CancelReservationRequest(
        request_id=str(uuid4()), buyer_id=buyer_id, reservation_id=str(reservation_id)
    )
    return commands.cancel(request).envelope


def claim(reservation_id: str | UUID, request_id: str = "") -> Claim:
    """What an organiser asks for, once per intention."""
    request = pb.RefundReservationRequest(
        request_id=request_id or str(uuid4()), reservation_id=str(reservation_id), reason="the singer is ill"
    )
    return claim_of(request, UUID(str(reservation_id)), ORGANISER)


def opening(reservation_id: UUID | str, amount_minor: int = 0, buyer_id: str = ANN) -> Opening:
    """A new payment that wants to charge."""
    return Opening(uuid4(), UUID(str(reservation_id)), buyer_id, amount_minor)


def approved(payment: Opening, amount_minor: int = 0) -> msg.Envelope:
    """The card was charged."""
    return _fact(payment_approved=msg.PaymentApproved(payment=_payment(payment, "APPROVED", amount_minor)))


def rejected(payment: Opening, decline_reason: str = "CARD_DECLINED") -> msg.Envelope:
    """The card was not charged."""
    told = _payment(payment, "REJECTED", decline_reason=decline_reason)
    return _fact(payment_rejected=msg.PaymentRejected(payment=told))


def refunded(payment: Opening) -> msg.Envelope:
    """The money is back."""
    return _fact(refund_completed=msg.RefundCompleted(payment=_payment(payment, "REFUNDED")))


def _payment(payment: Opening, state: str, amount_minor: int = 0, decline_reason: str = "") -> pb.Payment:
    return pb.Payment(
        payment_id=str(payment.payment_id),
        reservation_id=str(payment.reservation_id),
        amount_minor=amount_minor or payment.amount_minor,
        currency="EUR",
        state=pb.Payment.State.Value(f"STATE_{state}"),
        decline_reason=decline_reason,
    )


def _fact(**payload: Any) -> msg.Envelope:
    return msg.Envelope(message_id=str(uuid4()), command_id=str(uuid4()), **payload)
