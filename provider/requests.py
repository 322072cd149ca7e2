"""What a message must be, judged by itself: requests in, checked values out."""

import re
from typing import Final, Protocol
from uuid import UUID

import grpc

from chassis.errors import CallError, invalid
from contract.reasons import UNKNOWN_PAYMENT_METHOD
from provider.methods import METHODS
from provider.store import Order
from ticketrush.provider.v1 import provider_pb2 as pb

AMOUNT_MINOR_MAX: Final = 1_000_000_000_000
ORDINAL_MAX: Final = 2**63 - 1
"""What SQLite counts to."""
PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 1_000
# The one spelling that this system writes: one key must never have two.
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CURRENCY = re.compile(r"[A-Z]{3}")


class _AboutPayment(Protocol):
    @property
    def payment_id(self) -> str: ...


def payment_id(request: _AboutPayment) -> UUID:
    """The key that the request is about. Raises CallError (INVALID_ARGUMENT)."""
    if violations := _payment_id_violations(request):
        raise invalid(violations)
    return UUID(request.payment_id)


def order(request: pb.ChargeRequest) -> Order:
    """What is to be charged. Raises CallError (INVALID_ARGUMENT, also with reason UNKNOWN_PAYMENT_METHOD)."""
    violations = _payment_id_violations(request)
    if not 0 < request.amount_minor <= AMOUNT_MINOR_MAX:
        violations["amount_minor"] = f"must be 1 to {AMOUNT_MINOR_MAX}"
    if not _CURRENCY.fullmatch(request.currency):
        violations["currency"] = "must be an ISO 4217 code, three capital letters"
    if violations:
        raise invalid(violations)
    if request.payment_method not in METHODS:
        problem = f"unknown; one of {', '.join(METHODS)}"
        raise CallError(
            grpc.StatusCode.INVALID_ARGUMENT, UNKNOWN_PAYMENT_METHOD, problem, violations={"payment_method": problem}
        )
    return Order(UUID(request.payment_id), request.amount_minor, request.currency, request.payment_method)


def page_size(request: pb.ListChargesRequest) -> int:
    """How many charges to show. Raises CallError (INVALID_ARGUMENT)."""
    if not 0 <= request.page_size <= PAGE_SIZE_MAX:
        raise invalid({"page_size": f"must be 0 to {PAGE_SIZE_MAX}"})
    return request.page_size or PAGE_SIZE_DEFAULT


def ordinal(position: str) -> int:
    """After which charge a page begins. Raises ValueError."""
    after = int(position)
    if not 0 <= after <= ORDINAL_MAX:
        raise ValueError(f"{after} is no ordinal")
    return after


def _payment_id_violations(request: _AboutPayment) -> dict[str, str]:
    return {} if _UUID.fullmatch(request.payment_id) else {"payment_id": "must be a UUID in lower case"}
