"""RefundReservation: an organiser takes a sale back."""

from uuid import UUID

from chassis.errors import CallError, failed_precondition, not_found
from contract import access, reasons
from reservations.domain import holds
from reservations.domain.model import Books
from reservations.handlers.desk import Desk
from reservations.messages import reservation_message
from reservations.organiser_requests import Claim, is_first
from reservations.store import books as store
from reservations.store.catalog import organiser_of_reservation
from ticketrush.v1 import ticketing_pb2 as pb


class RefundHandler:
    """Answers organisers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def refund(self, reservation_id: UUID, claim: Claim) -> pb.Reservation:
        """The reservation, CANCELLED. Raises CallError: UNKNOWN_RESERVATION, NOT_CONFIRMED, REQUEST_ID_REUSED."""

        async def decision(conn: store.Connection, books: Books) -> pb.Reservation:
            if not access.may_all(claim.rpc, claim.caller):
                organiser_id = await organiser_of_reservation(conn, reservation_id)
                if not access.may_for_organiser(claim.rpc, claim.caller, organiser_id or ""):
                    raise _unknown(reservation_id)
            await is_first(conn, claim)
            await store.lock_reservations(conn, books, {reservation_id})
            await store.lock_what_they_hold(conn, books)
            reservation = books.reservations.get(reservation_id)
            if reservation is None:
                raise _unknown(reservation_id)
            if reason := holds.refund(books, reservation):
                raise failed_precondition(
                    reason, f"only a CONFIRMED reservation can be refunded, this one is {reservation.state}"
                )
            return reservation_message(reservation, books.tickets_of(reservation))

        return await self._desk.decide(decision)


def _unknown(reservation_id: UUID) -> CallError:
    return not_found(reasons.UNKNOWN_RESERVATION, f"there is no reservation {reservation_id}")
