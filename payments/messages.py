"""Between payments and what is said about them: rows and commands on one side, protobuf and envelopes on the other."""

import re
from datetime import datetime
from typing import Final
from uuid import UUID

from chassis import tracing
from chassis.attempts import Poison
from chassis.outbox import Record
from chassis.timestamps import timestamp_of
from contract import ids, keys
from payments.domain import (
    AMOUNT_MAX_MINOR,
    PAYMENT_METHOD_LENGTH_MAX,
    Payment,
    PaymentRequest,
    PaymentState,
    RefundRequest,
)
from ticketrush.messages.v1 import messages_pb2 as pb
from ticketrush.v1 import ticketing_pb2

_BUYER_ID: Final = re.compile(r"[A-Za-z0-9._@:-]{1,64}")
_PAYMENT_METHOD: Final = re.compile(rf"[^\0]{{1,{PAYMENT_METHOD_LENGTH_MAX}}}")


def read_payment_request(envelope: pb.Envelope) -> PaymentRequest:
    """The request of a `request_payment`. Raises Poison naming the first wrong field."""
    command = envelope.request_payment
    if not _BUYER_ID.fullmatch(command.buyer_id):
        raise Poison("buyer_id is malformed")
    if not 0 <= command.amount_minor <= AMOUNT_MAX_MINOR:
        raise Poison(f"amount_minor is {command.amount_minor}")
    if not _PAYMENT_METHOD.fullmatch(command.payment_method):
        raise Poison("payment_method is malformed")
    return PaymentRequest(
        payment_id=_uuid("payment_id", command.payment_id),
        reservation_id=_uuid("reservation_id", command.reservation_id),
        buyer_id=command.buyer_id,
        request_id=_uuid("request_id", command.request_id),
        amount_minor=command.amount_minor,
        payment_method=command.payment_method,
        reply_to=envelope.reply_to.replace("\0", ""),
        command_id=str(_uuid("message_id", envelope.message_id)),
        traceparent=tracing.about(envelope.subject_id),
    )


def read_refund_request(envelope: pb.Envelope) -> RefundRequest:
    """The request of a `request_refund`. Raises Poison naming the first wrong field."""
    command = envelope.request_refund
    _uuid("message_id", envelope.message_id)
    return RefundRequest(
        payment_id=_uuid("payment_id", command.payment_id),
        reservation_id=_uuid("reservation_id", command.reservation_id),
        amount_minor=command.amount_minor,
    )


def payment_message(payment: Payment) -> ticketing_pb2.Payment:
    """The payment as the public contract shows it."""
    return ticketing_pb2.Payment(
        payment_id=str(payment.payment_id),
        reservation_id=str(payment.reservation_id),
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        state=ticketing_pb2.Payment.State.Value(f"STATE_{payment.state}"),
        decline_reason=payment.decline_reason,
        create_time=timestamp_of(payment.create_time),
    )


def charge_fact(payment: Payment, reply_to: str, command_id: str, traceparent: str) -> Record:
    """What became of the charge, and whom to answer: approved (also when it was refunded since), or rejected."""
    message = payment_message(payment)
    envelope = pb.Envelope(reply_to=reply_to, command_id=command_id, traceparent=traceparent)
    if payment.state is PaymentState.REJECTED:
        envelope.payment_rejected.payment.CopyFrom(message)
        return _fact(payment, envelope, "rejected", keys.PAYMENT_REJECTED)
    envelope.payment_approved.payment.CopyFrom(message)
    return _fact(payment, envelope, "approved", keys.PAYMENT_APPROVED)


def refund_fact(payment: Payment, traceparent: str = "") -> Record:
    """That the money has gone back."""
    done = pb.RefundCompleted(payment=payment_message(payment))
    envelope = pb.Envelope(refund_completed=done, traceparent=traceparent)
    return _fact(payment, envelope, "refunded", keys.REFUND_COMPLETED)


def step(payment: Payment, command: pb.Envelope) -> Record:
    """A step of the payment that nobody is told of, kept with the command that caused it; never with a card's token."""
    kept = pb.Envelope()
    kept.CopyFrom(command)
    if traceparent := tracing.about(command.subject_id):
        # Where payments itself goes on, whenever it does.
        kept.traceparent = traceparent
    if kept.HasField("request_payment"):
        kept.request_payment.ClearField("payment_method")
    return Record(
        subject_id=payment.payment_id,
        subject_version=payment.version,
        kind=str(kept.WhichOneof("payload")),
        routing_key=None,
        message_id=UUID(command.message_id),
        envelope=kept.SerializeToString(),
        shard=ids.shard_bits(payment.payment_id),
    )


def refusal(request: PaymentRequest, reason: str, now: datetime) -> bytes:
    """The outcome, serialised, for a call that is refused."""
    return pb.Envelope(
        message_id=str(ids.derived_id(UUID(request.command_id), "outcome")),
        occur_time=timestamp_of(now),
        subject_id=str(request.payment_id),
        command_id=request.command_id,
        outcome=pb.Outcome(refuse_reason=reason),
    ).SerializeToString()


def _fact(payment: Payment, envelope: pb.Envelope, role: str, routing_key: str) -> Record:
    message_id = ids.derived_id(payment.payment_id, role)
    envelope.message_id = str(message_id)
    envelope.occur_time.CopyFrom(timestamp_of(payment.state_time))
    envelope.subject_id = str(payment.payment_id)
    envelope.subject_version = payment.version
    return Record(
        subject_id=payment.payment_id,
        subject_version=payment.version,
        kind=str(envelope.WhichOneof("payload")),
        routing_key=routing_key,
        message_id=message_id,
        envelope=envelope.SerializeToString(),
        shard=ids.shard_bits(payment.payment_id),
    )


def _uuid(field: str, value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError:
        raise Poison(f"{field} is not a UUID") from None
