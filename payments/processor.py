"""What the card processor's answers mean for a payment. Absence of an answer never means that nothing was charged."""

from typing import Final

import grpc
from grpc.aio import AioRpcError

from chassis.errors import from_upstream
from contract import reasons
from payments.domain import (
    Charged,
    ChargeResult,
    Payment,
    Refunded,
    RefundRefused,
    RefundResult,
    Refused,
    Unanswered,
)
from payments.peers import Peers
from ticketrush.provider.v1 import provider_pb2 as pb

# Longer than the slowest card that is still worth waiting for (5 s).
CHARGE_TIMEOUT_S: Final = 10.0
CANCEL_TIMEOUT_S: Final = 5.0
REFUND_TIMEOUT_S: Final = 10.0

# The call itself is wrong and will be for ever; any other failure may pass.
_WRONG_CALL: Final = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS})
_WRONG_REFUND: Final = _WRONG_CALL | {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}


async def charge(peers: Peers, payment: Payment) -> ChargeResult:
    """Charges the card of an opened PENDING payment, or shows what was decided under its key before."""
    request = pb.ChargeRequest(
        payment_id=str(payment.payment_id),
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        payment_method=payment.payment_method or "",
    )
    try:
        response = await peers.provider.Charge(request, timeout=CHARGE_TIMEOUT_S)
    except AioRpcError as error:
        if error.code() not in _WRONG_CALL:
            return Unanswered(_problem(error))
        unknown = from_upstream(error).reason == reasons.UNKNOWN_PAYMENT_METHOD
        return await give_up(
            peers, payment, reasons.UNKNOWN_PAYMENT_METHOD if unknown else reasons.PROVIDER_UNAVAILABLE
        )
    return _charge_result(response.charge, reasons.PROVIDER_UNAVAILABLE)


async def give_up(peers: Peers, payment: Payment, reason: str) -> ChargeResult:
    """Closes the payment's key at the provider for good: Refused with that reason, unless there was a charge already.

    Without this tombstone a call that was thought lost could still charge the card.
    """
    request = pb.CancelChargeRequest(payment_id=str(payment.payment_id))
    try:
        response = await peers.provider.CancelCharge(request, timeout=CANCEL_TIMEOUT_S)
    except AioRpcError as error:
        return Unanswered(_problem(error))
    return _charge_result(response.charge, reason)


async def refund(peers: Peers, payment: Payment) -> RefundResult:
    """Gives the money of a REFUND_DUE payment back, or shows that it has gone back before."""
    request = pb.RefundRequest(payment_id=str(payment.payment_id))
    try:
        response = await peers.provider.Refund(request, timeout=REFUND_TIMEOUT_S)
    except AioRpcError as error:
        problem = _problem(error)
        return RefundRefused(problem) if error.code() in _WRONG_REFUND else Unanswered(problem)
    if response.charge.refunded_minor != payment.amount_minor:
        return RefundRefused(f"{response.charge.refunded_minor} went back of {payment.amount_minor}")
    return Refunded()


def _charge_result(charge: pb.Charge, cancel_reason: str) -> ChargeResult:
    match charge.state:
        case pb.Charge.STATE_APPROVED if charge.refunded_minor:
            # It was charged in a past that our database, restored, has forgotten, and went back: it buys nothing.
            return Refused(cancel_reason)
        case pb.Charge.STATE_APPROVED:
            return Charged(charge.amount_minor, charge.currency)
        case pb.Charge.STATE_DECLINED:
            return Refused(charge.decline_reason or reasons.CARD_DECLINED)
        case pb.Charge.STATE_CANCELLED:
            return Refused(cancel_reason)
        case _:
            return Unanswered(f"the provider answered state {charge.state}")


def _problem(error: AioRpcError) -> str:
    return f"{error.code().name}: {error.details()}"
