"""The life of a payment. Pure: `now` is an argument."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Final
from uuid import UUID

AMOUNT_MAX_MINOR: Final = 1_000_000_000_000
PAYMENT_METHOD_LENGTH_MAX: Final = 64

# A hold never outlives its end by more than 10 minutes: whoever pays later than that waits for nothing.
CHARGE_GIVE_UP_AFTER_S: Final = 600.0


class PaymentState(StrEnum):
    """Where a payment is; drawn in docs/states.md."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    REFUND_DUE = "REFUND_DUE"
    REFUNDED = "REFUNDED"


_MOVES: Final = frozenset(
    {
        # The card was charged.
        (PaymentState.PENDING, PaymentState.APPROVED),
        # Reservations refused to open it, the card was declined, or the charge was given up and its key closed.
        (PaymentState.PENDING, PaymentState.REJECTED),
        # Reservations could not apply it, or took it back.
        (PaymentState.APPROVED, PaymentState.REFUND_DUE),
        # The provider gave it back.
        (PaymentState.REFUND_DUE, PaymentState.REFUNDED),
    }
)


@dataclass(frozen=True, slots=True)
class Payment:
    """One attempt to pay, whole or in part.

    `amount_minor` is what was charged or, once `opened`, is to be charged; before that what was asked (0: all due).
    """

    payment_id: UUID
    reservation_id: UUID
    buyer_id: str
    request_id: UUID
    asked_minor: int
    payment_method_digest: bytes
    payment_method: str | None = field(repr=False)
    state: PaymentState
    version: int
    amount_minor: int
    currency: str
    opened: bool
    decline_reason: str
    reply_to: str
    command_id: str
    create_time: datetime
    state_time: datetime
    attempts: int
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class PaymentRequest:
    """What a buyer asks for, and the call that waits for it (`reply_to` empty: nobody)."""

    payment_id: UUID
    reservation_id: UUID
    buyer_id: str
    request_id: UUID
    amount_minor: int
    payment_method: str = field(repr=False)
    reply_to: str
    command_id: str
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """What must go back: the whole of a payment."""

    payment_id: UUID
    reservation_id: UUID
    amount_minor: int


class RefundTooEarly(Exception):
    """The payment is unknown or not charged yet, so there is nothing to give back so far: ask again later."""


class RefundImpossible(Exception):
    """What is to go back was never charged like that."""


@dataclass(frozen=True, slots=True)
class Charged:
    """The card was charged this much."""

    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was charged, and never will be under this payment."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refunded:
    """The money has gone back, whole."""


@dataclass(frozen=True, slots=True)
class RefundRefused:
    """The provider will not give the money back: a person must look at it. `problem` is for the log."""

    problem: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Nobody knows, or not yet: to be asked again. `problem` is for the log."""

    problem: str


ChargeResult = Charged | Refused | Unanswered
RefundResult = Refunded | RefundRefused | Unanswered


def payment_method_digest(payment_id: UUID, payment_method: str) -> bytes:
    """Tells whether two requests name the same card, after the token itself is erased. 16 bytes."""
    return blake2b(payment_method.encode(), digest_size=16, salt=payment_id.bytes).digest()


def begin(request: PaymentRequest, now: datetime) -> Payment:
    """The payment that a request starts."""
    return Payment(
        payment_id=request.payment_id,
        reservation_id=request.reservation_id,
        buyer_id=request.buyer_id,
        request_id=request.request_id,
        asked_minor=request.amount_minor,
        payment_method_digest=payment_method_digest(request.payment_id, request.payment_method),
        payment_method=request.payment_method,
        state=PaymentState.PENDING,
        version=1,
        amount_minor=request.amount_minor,
        currency="",
        opened=False,
        decline_reason="",
        reply_to=request.reply_to,
        command_id=request.command_id,
        create_time=now,
        state_time=now,
        attempts=0,
        traceparent=request.traceparent,
    )


def is_same_request(payment: Payment, request: PaymentRequest) -> bool:
    """Whether the request says again what the payment with its buyer and request_id came from."""
    digest = payment_method_digest(payment.payment_id, request.payment_method)
    return (payment.reservation_id, payment.asked_minor, payment.payment_method_digest) == (
        request.reservation_id,
        request.amount_minor,
        digest,
    )


def open_for_charge(payment: Payment, amount_minor: int, currency: str) -> Payment:
    """The payment with what reservations keep room for. No change of state: the credit there says the same."""
    return replace(payment, opened=True, amount_minor=amount_minor, currency=currency)


def settle_charge(payment: Payment, attempted: Payment, result: Charged | Refused, now: datetime) -> Payment | None:
    """The payment after its charge was decided; None when that came too late or again.

    `attempted` is the payment as the attempt knew it, with the amount that was opened.
    """
    if payment.state is not PaymentState.PENDING:
        return None
    known = replace(payment, opened=attempted.opened, amount_minor=attempted.amount_minor, currency=attempted.currency)
    if isinstance(result, Charged):
        # What the provider took is the truth, whatever was asked of it.
        charged = replace(known, amount_minor=result.amount_minor, currency=result.currency)
        return _move(charged, PaymentState.APPROVED, now)
    return _move(replace(known, decline_reason=result.reason), PaymentState.REJECTED, now)


def owe_refund(payment: Payment | None, request: RefundRequest, now: datetime) -> Payment | None:
    """The payment once its money must go back; None when it must already, or has gone back.

    Raises RefundTooEarly for an unknown payment (None) or a PENDING one, RefundImpossible for one that was not charged
    or is not the one meant.
    """
    if payment is None or payment.state is PaymentState.PENDING:
        raise RefundTooEarly(f"payment {request.payment_id} is {payment.state if payment else 'unknown'}")
    if payment.state is PaymentState.REJECTED:
        raise RefundImpossible(f"payment {request.payment_id} is REJECTED")
    if (payment.reservation_id, payment.amount_minor) != (request.reservation_id, request.amount_minor):
        raise RefundImpossible(
            f"payment {request.payment_id} is {payment.amount_minor} for reservation {payment.reservation_id},"
            f" not {request.amount_minor} for {request.reservation_id}"
        )
    return _move(payment, PaymentState.REFUND_DUE, now) if payment.state is PaymentState.APPROVED else None


def settle_refund(payment: Payment, now: datetime) -> Payment | None:
    """The payment once its money has gone back; None when that was known."""
    return _move(payment, PaymentState.REFUNDED, now) if payment.state is PaymentState.REFUND_DUE else None


def is_given_up(payment: Payment, now: datetime) -> bool:
    """Whether no charge may be started for it any more, only closed."""
    return now - payment.create_time >= timedelta(seconds=CHARGE_GIVE_UP_AFTER_S)


def _move(payment: Payment, state: PaymentState, now: datetime) -> Payment:
    if (payment.state, state) not in _MOVES:
        raise ValueError(f"payment {payment.payment_id}: {state} may not follow {payment.state}")
    return replace(payment, state=state, version=payment.version + 1, state_time=now, payment_method=None, attempts=0)
