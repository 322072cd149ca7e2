"""Between the domain and protobuf: what reservations shows, says and answers."""

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from uuid import UUID

from chassis import tracing
from chassis.consumer import Poison
from chassis.outbox import Record
from chassis.timestamps import datetime_of, timestamp_of
from contract import ids, keys, reasons
from contract.texts import CONTROL
from reservations.domain.holds import ReserveTickets, SeatsWanted
from reservations.domain.model import Credit, Reservation, ReservationState, Step, StepKind, Ticket, TicketState
from ticketrush.messages.v1 import messages_pb2 as msg
from ticketrush.v1 import ticketing_pb2 as pb

_TICKET_STATE = {state: pb.Ticket.State.Value(f"STATE_{state}") for state in TicketState}
_RESERVATION_STATE = {state: pb.Reservation.State.Value(f"STATE_{state}") for state in ReservationState}

# How each step is told to the world; a step without a key is kept in history only.
_FACTS: dict[StepKind, tuple[str | None, str]] = {
    StepKind.RESERVED: (keys.RESERVED, "tickets_reserved"),
    StepKind.REJECTED: (keys.REJECTED, "reservation_rejected"),
    StepKind.PAYMENT_OPENED: (None, "reservation_updated"),
    StepKind.PARTIALLY_PAID: (keys.PARTIALLY_PAID, "tickets_partially_paid"),
    StepKind.SOLD: (keys.SOLD, "tickets_sold"),
    StepKind.EXPIRED: (keys.EXPIRED, "tickets_expired"),
    StepKind.CANCELLED: (keys.CANCELLED, "tickets_cancelled"),
    StepKind.MONEY_CHANGED: (keys.RESERVATION_UPDATED, "reservation_updated"),
}
_REFUND_REQUESTED = "REFUND_REQUESTED"

TICKETS_MAX = 100
"""Tickets of one reservation."""
SECTION_LENGTH_MAX = 64
_BUYER = re.compile(r"[A-Za-z0-9._@:-]{1,64}")


def ticket_message(ticket: Ticket) -> pb.Ticket:
    """A ticket as the public contract shows it."""
    return pb.Ticket(
        ticket_id=str(ticket.ticket_id),
        section=ticket.section,
        row=ticket.row,
        seat=ticket.seat,
        price_minor=ticket.price_minor,
        state=_TICKET_STATE[ticket.state],
        version=ticket.version,
    )


def reservation_message(reservation: Reservation, tickets: Sequence[Ticket]) -> pb.Reservation:
    """A reservation as the public contract shows it, with these tickets."""
    return pb.Reservation(
        reservation_id=str(reservation.reservation_id),
        event_id=str(reservation.event_id),
        buyer_id=reservation.buyer_id,
        state=_RESERVATION_STATE[reservation.state],
        tickets=[ticket_message(ticket) for ticket in tickets],
        total_minor=reservation.total_minor,
        paid_minor=reservation.paid_minor,
        open_minor=reservation.open_minor,
        refund_due_minor=reservation.refund_due_minor,
        refunded_minor=reservation.refunded_minor,
        currency=reservation.currency,
        create_time=timestamp_of(reservation.create_time),
        expire_time=timestamp_of(reservation.expire_time),
        release_time=timestamp_of(reservation.release_time),
        reject_reason=reservation.reject_reason,
        version=reservation.version,
    )


def records(steps: Iterable[Step]) -> Iterator[Record]:
    """History rows of these steps: one fact each, and a refund command for each payment that must go back."""
    for step in steps:
        yield _fact(step)
        for credit in step.refunds:
            yield refund_request(step.reservation.reservation_id, credit, step.kind, step.occur_time)


def _fact(step: Step) -> Record:
    routing_key, payload = _FACTS[step.kind]
    subject_id, version = step.reservation.reservation_id, step.reservation.version
    message_id = ids.derived_id(subject_id, f"{version}")
    envelope = msg.Envelope(
        message_id=str(message_id),
        occur_time=timestamp_of(step.occur_time),
        subject_id=str(subject_id),
        subject_version=version,
        traceparent=tracing.about(str(subject_id)),
    )
    getattr(envelope, payload).reservation.CopyFrom(reservation_message(step.reservation, step.tickets))
    return Record(
        subject_id,
        version,
        step.kind,
        routing_key,
        message_id,
        envelope.SerializeToString(),
        ids.shard_bits(subject_id),
    )


def refund_request(reservation_id: UUID, credit: Credit, cause: StepKind, now: datetime) -> Record:
    """The command to give one payment back: the same message however often it is said."""
    message_id = ids.derived_id(credit.payment_id, "refund")
    envelope = msg.Envelope(
        message_id=str(message_id),
        occur_time=timestamp_of(now),
        subject_id=str(credit.payment_id),
        traceparent=tracing.about(str(reservation_id)),
        request_refund=msg.RequestRefund(
            payment_id=str(credit.payment_id),
            reservation_id=str(reservation_id),
            amount_minor=credit.amount_minor,
            reason="CANCELLED" if cause is StepKind.CANCELLED else reasons.HOLD_ENDED,
        ),
    )
    return Record(
        credit.payment_id,
        0,
        _REFUND_REQUESTED,
        keys.REFUND_REQUESTED,
        message_id,
        envelope.SerializeToString(),
        ids.shard_bits(credit.payment_id),
    )


def reserve_command(envelope: msg.Envelope) -> ReserveTickets:
    """The command in an envelope. Raises Poison when it is malformed: the gateway lets none through."""
    body = envelope.reserve_tickets
    try:
        best = (
            SeatsWanted(body.best_available.section, body.best_available.quantity)
            if body.HasField("best_available")
            else None
        )
        command = ReserveTickets(
            UUID(body.reservation_id),
            UUID(body.event_id),
            body.buyer_id,
            UUID(body.request_id),
            UUID(envelope.message_id),
            datetime_of(envelope.occur_time),
            tuple(UUID(ticket_id) for ticket_id in body.ticket_ids),
            best,
        )
    except ValueError as error:
        raise Poison(f"malformed ReserveTickets: {error}") from error
    if not _BUYER.fullmatch(command.buyer_id):
        raise Poison("malformed ReserveTickets: buyer_id")
    if command.best and (len(command.best.section) > SECTION_LENGTH_MAX or CONTROL.search(command.best.section)):
        raise Poison("malformed ReserveTickets: section")
    quantity = command.best.quantity if command.best else len(command.ticket_ids)
    if not 1 <= quantity <= TICKETS_MAX or len(set(command.ticket_ids)) != len(command.ticket_ids):
        raise Poison(f"malformed ReserveTickets: {quantity} tickets, or one twice")
    return command
