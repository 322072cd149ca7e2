"""Money and cancellations: each batch of one kind locks its reservations, is folded in order, and is answered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from chassis import tracing
from chassis.consumer import Failure, Poison
from contract import reasons
from reservations.domain import holds, money
from reservations.domain.model import AMOUNT_MINOR_MAX, Books, CreditState, Reservation
from reservations.handlers.answers import Answers
from reservations.handlers.desk import Desk
from reservations.messages import reservation_message
from reservations.store import books as store
from ticketrush.messages.v1.messages_pb2 import Envelope
from ticketrush.v1 import ticketing_pb2 as pb

_PAYMENT_STATE = {
    CreditState.APPLIED: pb.Payment.STATE_APPROVED,
    CreditState.REFUND_DUE: pb.Payment.STATE_REFUND_DUE,
    CreditState.REFUNDED: pb.Payment.STATE_REFUNDED,
}


class UnknownReservation(Exception):
    """Money came for a reservation that is not here: it may still come, or a database was restored from the past."""


@dataclass(frozen=True)
class Matter:
    """One message about one reservation. `decide` returns the reason why a call is refused, or ""."""

    envelope: Envelope
    reservation_id: UUID
    decide: Callable[[Books, Reservation], str]
    payment: pb.Payment | None = None
    needs_reservation: bool = True


class SettleHandler:
    """Takes cancellations, approvals, rejections and completed refunds, and answers those that wait."""

    def __init__(self, desk: Desk, answers: Answers) -> None:
        self._desk = desk
        self._answers = answers

    async def cancel_reservation(self, envelopes: Sequence[Envelope]) -> list[Failure]:
        """A buyer gives holds back."""
        return await self._settle(envelopes, _cancellation)

    async def payment_approved(self, envelopes: Sequence[Envelope]) -> list[Failure]:
        """Cards were charged: applied, or to be refunded."""
        return await self._settle(envelopes, _approval)

    async def payment_rejected(self, envelopes: Sequence[Envelope]) -> list[Failure]:
        """Payments came to nothing: their room is free again, the holds live on."""
        return await self._settle(envelopes, _rejection)

    async def refund_completed(self, envelopes: Sequence[Envelope]) -> list[Failure]:
        """Money is back with its buyers."""
        return await self._settle(envelopes, _completed_refund)

    async def _settle(self, envelopes: Sequence[Envelope], read: Callable[[Envelope], Matter]) -> list[Failure]:
        failures: list[Failure] = []
        matters: list[Matter] = []
        for envelope in envelopes:
            try:
                matters.append(read(envelope))
            except ValueError as error:
                failures.append(Failure(envelope, Poison(f"malformed {envelope.WhichOneof('payload')}: {error}")))
        if matters:
            failures += await self._take(matters)
        return failures

    async def _take(self, matters: Sequence[Matter]) -> list[Failure]:
        for matter in matters:
            # What money does is told of its reservation.
            tracing.concerns(matter.envelope, str(matter.reservation_id))

        async def decision(conn: store.Connection, books: Books) -> tuple[Books, list[str], list[Failure]]:
            await store.lock_reservations(conn, books, {matter.reservation_id for matter in matters})
            await store.lock_what_they_hold(conn, books)
            failures: list[Failure] = []
            return books, [_decide(books, matter, failures) for matter in matters], failures

        books, refusals, failures = await self._desk.decide(decision)
        failed = {id(failure.envelope) for failure in failures}
        for matter, refuse_reason in zip(matters, refusals, strict=True):
            if matter.envelope.reply_to and id(matter.envelope) not in failed:
                self._answer(books, matter, refuse_reason)
        return failures

    def _answer(self, books: Books, matter: Matter, refuse_reason: str) -> None:
        reservation = books.reservations.get(matter.reservation_id)
        if refuse_reason or reservation is None or _hidden(matter):
            self._answers.to(matter.envelope, payment=matter.payment, refuse_reason=refuse_reason)
            return
        payment = matter.payment
        if payment:
            credit = reservation.credits.get(UUID(payment.payment_id))
            if credit:
                payment.state = _PAYMENT_STATE.get(credit.state, payment.state)
        shown = reservation_message(reservation, books.tickets_of(reservation))
        self._answers.to(matter.envelope, reservation=shown, payment=payment)


def _decide(books: Books, matter: Matter, failures: list[Failure]) -> str:
    reservation = books.reservations.get(matter.reservation_id)
    if reservation is None:
        if matter.needs_reservation:
            failures.append(Failure(matter.envelope, UnknownReservation(str(matter.reservation_id))))
        return "" if matter.payment else reasons.UNKNOWN_RESERVATION
    try:
        return matter.decide(books, reservation)
    except money.RefundWithoutDebt as error:
        failures.append(Failure(matter.envelope, error))
        return ""


def _hidden(matter: Matter) -> bool:
    # Whoever tried to pay somebody else's reservation does not get to see it.
    return matter.payment is not None and matter.payment.decline_reason == reasons.NOT_YOUR_RESERVATION


def _cancellation(envelope: Envelope) -> Matter:
    command = envelope.cancel_reservation

    def decide(books: Books, reservation: Reservation) -> str:
        if reservation.buyer_id != command.buyer_id:
            return reasons.UNKNOWN_RESERVATION
        return holds.cancel(books, reservation)

    return Matter(envelope, UUID(command.reservation_id), decide, needs_reservation=False)


def _approval(envelope: Envelope) -> Matter:
    payment = envelope.payment_approved.payment
    payment_id = UUID(payment.payment_id)
    if not 0 <= payment.amount_minor <= AMOUNT_MINOR_MAX:
        raise ValueError(f"amount_minor is {payment.amount_minor}")

    def decide(books: Books, reservation: Reservation) -> str:
        money.approve(books, reservation, payment_id, payment.amount_minor)
        return ""

    return Matter(envelope, UUID(payment.reservation_id), decide, payment)


def _rejection(envelope: Envelope) -> Matter:
    payment = envelope.payment_rejected.payment
    payment_id = UUID(payment.payment_id)

    def decide(books: Books, reservation: Reservation) -> str:
        money.reject(books, reservation, payment_id)
        return ""

    # A payment of an unknown reservation was rejected for just that.
    return Matter(envelope, UUID(payment.reservation_id), decide, payment, needs_reservation=False)


def _completed_refund(envelope: Envelope) -> Matter:
    payment = envelope.refund_completed.payment
    payment_id = UUID(payment.payment_id)

    def decide(books: Books, reservation: Reservation) -> str:
        money.complete_refund(books, reservation, payment_id)
        return ""

    return Matter(envelope, UUID(payment.reservation_id), decide, payment)
