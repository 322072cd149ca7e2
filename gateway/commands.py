"""Commands: what a request becomes on the broker. The same request, said again, becomes the same command."""

import time
from typing import NamedTuple
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from chassis import tracing
from contract import ids, keys
from ticketrush.messages.v1 import messages_pb2 as messages
from ticketrush.v1 import ticketing_pb2 as pb

_NANOS_PER_S = 1_000_000_000


class Command(NamedTuple):
    """One message to its one required consumer.

    `subject_id` is the reservation or payment it is about; `message_id` tells apart what is asked under one request_id.
    Where the outcome goes is written into the envelope when it is said.
    """

    routing_key: str
    shard: int
    subject_id: str
    message_id: str
    envelope: messages.Envelope


def reserve(request: pb.ReserveRequest) -> Command:
    """The request must be valid. A cart is a set: the order of its tickets makes no other command."""
    event = UUID(request.event_id)
    reservation = ids.reservation_id(event, request.buyer_id, request.request_id)
    command = messages.ReserveTickets(
        reservation_id=str(reservation),
        request_id=request.request_id,
        event_id=request.event_id,
        buyer_id=request.buyer_id,
    )
    if request.HasField("best_available"):
        best = request.best_available
        command.best_available.CopyFrom(best)
        wanted = ["best_available", best.section, str(best.quantity)]
    else:
        ticket_ids = sorted(request.ticket_ids)
        command.ticket_ids.extend(ticket_ids)
        wanted = ["tickets", *ticket_ids]
    body = ("Reserve", request.buyer_id, request.request_id, request.event_id, *wanted)
    envelope = messages.Envelope(reserve_tickets=command)
    return _command(keys.RESERVATION_REQUESTED, reservation, body, envelope)


def pay(request: pb.PayRequest) -> Command:
    """The request must be valid."""
    payment = ids.payment_id(UUID(request.reservation_id), request.buyer_id, request.request_id)
    amount = str(request.amount_minor)
    body = ("Pay", request.buyer_id, request.request_id, request.reservation_id, amount, request.payment_method)
    envelope = messages.Envelope(
        request_payment=messages.RequestPayment(
            payment_id=str(payment),
            request_id=request.request_id,
            reservation_id=request.reservation_id,
            buyer_id=request.buyer_id,
            amount_minor=request.amount_minor,
            payment_method=request.payment_method,
        )
    )
    return _command(keys.PAYMENT_REQUESTED, payment, body, envelope)


def cancel(request: pb.CancelReservationRequest) -> Command:
    """The request must be valid."""
    body = ("CancelReservation", request.buyer_id, request.request_id)
    envelope = messages.Envelope(
        cancel_reservation=messages.CancelReservation(
            reservation_id=request.reservation_id, buyer_id=request.buyer_id, request_id=request.request_id
        )
    )
    return _command(keys.CANCEL_REQUESTED, UUID(request.reservation_id), body, envelope)


def _command(routing_key: str, subject: UUID, body: tuple[str, ...], envelope: messages.Envelope) -> Command:
    envelope.message_id = message_id = str(ids.command_id(subject, *body))
    envelope.subject_id = subject_id = str(subject)
    envelope.traceparent = tracing.traceparent()
    seconds, nanos = divmod(time.time_ns(), _NANOS_PER_S)
    envelope.occur_time.CopyFrom(Timestamp(seconds=seconds, nanos=nanos))
    return Command(routing_key, ids.shard_bits(subject), subject_id, message_id, envelope)
