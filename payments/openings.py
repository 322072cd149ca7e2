"""Asks reservations which payments may charge: one call for a whole batch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from grpc.aio import AioRpcError

from chassis import tracing
from payments.domain import Payment, Refused, Unanswered, open_for_charge
from payments.peers import Peers
from ticketrush.reservations.v1 import reservations_pb2 as pb

OPEN_TIMEOUT_S: Final = 3.0

# The payment with what is known of its amount, and why it may not be charged (now): None if it may.
Opening = tuple[Payment, Refused | Unanswered | None]


async def open_payments(peers: Peers, payments: Sequence[Payment]) -> list[Opening]:
    """One opening per payment (1 to 256), in order. Never raises for a call that failed: then all are Unanswered."""
    request = pb.OpenPaymentsRequest(
        openings=[
            pb.Opening(
                payment_id=str(payment.payment_id),
                reservation_id=str(payment.reservation_id),
                buyer_id=payment.buyer_id,
                amount_minor=payment.asked_minor,
            )
            for payment in payments
        ]
    )
    try:
        with tracing.meeting("open payments", [payment.traceparent for payment in payments]):
            response = await peers.reservations.OpenPayments(request, timeout=OPEN_TIMEOUT_S)
    except AioRpcError as error:
        unanswered = Unanswered(f"reservations: {error.code().name}: {error.details()}")
        return [(payment, unanswered) for payment in payments]
    results = {result.payment_id: result for result in response.results}
    return [_opening(payment, results.get(str(payment.payment_id))) for payment in payments]


def _opening(payment: Payment, result: pb.OpeningResult | None) -> Opening:
    if result is None:
        return payment, Unanswered("reservations: left out of the answer")
    if result.refuse_reason:
        return replace(payment, currency=result.currency), Refused(result.refuse_reason)
    if result.amount_minor <= 0 or not result.currency:
        return payment, Unanswered("reservations: opened without an amount")
    return open_for_charge(payment, result.amount_minor, result.currency), None
