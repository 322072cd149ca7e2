"""What the scripted services say, and how a refusal reads to a caller."""

from collections.abc import Callable
from typing import Any

import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status.rpc_status import from_call

from ticketrush.messages.v1 import messages_pb2 as messages
from ticketrush.v1 import ticketing_pb2 as pb


def reservation(command: messages.Envelope, state: "pb.Reservation.State.ValueType", **fields: Any) -> pb.Reservation:
    """The reservation that the ReserveTickets asked for, in this state."""
    asked = command.reserve_tickets
    return pb.Reservation(
        reservation_id=asked.reservation_id,
        event_id=asked.event_id,
        buyer_id=asked.buyer_id,
        state=state,
        version=1,
        **fields,
    )


def held(command: messages.Envelope) -> messages.Outcome:
    return messages.Outcome(reservation=reservation(command, pb.Reservation.STATE_HELD))


def refuse(reason: str) -> Callable[[messages.Envelope], messages.Outcome]:
    return lambda _: messages.Outcome(refuse_reason=reason)


def paid(command: messages.Envelope, state: "pb.Payment.State.ValueType") -> messages.Outcome:
    """The payment that the RequestPayment asked for, in this state, and its reservation."""
    asked = command.request_payment
    return messages.Outcome(
        payment=pb.Payment(payment_id=asked.payment_id, reservation_id=asked.reservation_id, state=state),
        reservation=pb.Reservation(reservation_id=asked.reservation_id, version=2),
    )


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason in the one ErrorInfo of a refusal."""
    info = _detail(error, ErrorInfo())
    assert info.domain == "ticketrush"
    return str(info.reason)


def fields_of(error: grpc.aio.AioRpcError) -> set[str]:
    """The fields that a refusal names."""
    return {violation.field for violation in _detail(error, BadRequest()).field_violations}


def retry_delay_s(error: grpc.aio.AioRpcError) -> float:
    """When to try again, as a refusal says."""
    return float(_detail(error, RetryInfo()).retry_delay.ToNanoseconds() / 1e9)


def _detail(error: grpc.aio.AioRpcError, kind: Any) -> Any:
    status = from_call(error)  # type: ignore[arg-type] # AioRpcError has what it asks for
    assert status is not None
    found = [detail for detail in status.details if detail.Unpack(kind)]
    assert len(found) == 1
    return kind
