"""What reservations answers over gRPC besides the catalogue: the reads and the refund it owns, and OpenPayments."""

from collections.abc import Sequence
from uuid import UUID

from chassis.callers import calling
from chassis.errors import invalid
from chassis.interceptor import Context
from reservations.checks import Checks
from reservations.handlers.opening import Opening, OpeningHandler
from reservations.handlers.refund import RefundHandler
from reservations.organiser_requests import claim_of
from reservations.reads_servicer import Reads, ReadsServicer
from ticketrush.reservations.v1 import reservations_pb2 as internal
from ticketrush.reservations.v1.reservations_pb2_grpc import ReservationsServiceServicer
from ticketrush.v1 import ticketing_pb2 as pb

OPENINGS_MAX = 256
REASON_LENGTH_MAX = 200


class TicketingServicer(ReadsServicer):
    """The part of TicketingService that reservations owns; the gateway sends it on."""

    def __init__(self, reads: Reads, refunds: RefundHandler) -> None:
        super().__init__(reads)
        self._refunds = refunds

    async def RefundReservation(
        self, request: pb.RefundReservationRequest, context: Context
    ) -> pb.RefundReservationResponse:
        checks = Checks()
        checks.uuid("request_id", request.request_id)
        reservation_id = checks.uuid("reservation_id", request.reservation_id)
        checks.text("reason", request.reason, length_max=REASON_LENGTH_MAX)
        checks.end()
        reservation = await self._refunds.refund(reservation_id, claim_of(request, reservation_id, calling.get()))
        return pb.RefundReservationResponse(reservation=reservation)


class ReservationsServicer(ReservationsServiceServicer):
    """For the payments service."""

    def __init__(self, opening: OpeningHandler) -> None:
        self._opening = opening

    async def OpenPayments(
        self, request: internal.OpenPaymentsRequest, context: Context
    ) -> internal.OpenPaymentsResponse:
        opened = await self._opening.open(_openings(request.openings))
        return internal.OpenPaymentsResponse(
            results=[
                internal.OpeningResult(
                    payment_id=str(found.payment_id),
                    refuse_reason=found.refuse_reason,
                    amount_minor=found.amount_minor,
                    currency=found.currency,
                )
                for found in opened
            ]
        )


def _openings(asked: Sequence[internal.Opening]) -> list[Opening]:
    if not 1 <= len(asked) <= OPENINGS_MAX:
        raise invalid({"openings": f"must have 1 to {OPENINGS_MAX} entries"})
    if any(one.amount_minor < 0 for one in asked):
        raise invalid({"openings": "must not have negative amounts"})
    try:
        return [
            Opening(UUID(one.payment_id), UUID(one.reservation_id), one.buyer_id, one.amount_minor) for one in asked
        ]
    except ValueError as error:
        raise invalid({"openings": f"must have UUIDs: {error}"}) from error
