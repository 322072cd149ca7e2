"""Callers who follow the documented retry policy and write down every word they are told."""

import asyncio
import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from chaos.record import OK, UNANSWERED, Answer, Record, Request, Sight, told_payment, told_reservation
from chassis import channels
from chassis.bearer import bearing
from chassis.errors import DETAILS_KEY
from ticketrush.v1 import ticketing_pb2 as pb
from ticketrush.v1.catalog_pb2_grpc import CatalogServiceStub
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

if TYPE_CHECKING:  # exist only in the stubs
    from ticketrush.v1.catalog_pb2_grpc import CatalogServiceAsyncStub
    from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceAsyncStub

# The retry policy: the same request_id again, later each time.
ATTEMPT_TIMEOUT_S: Final = 5.0
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_MAX_S: Final = 2.0
# How long a buyer insists before giving up without an answer.
PATIENCE_S: Final = 170.0
WAIT_S: Final = 2.0
# The only section of the house.
SECTION: Final = "floor"


def dial(address: str, token: str) -> grpc.aio.Channel:
    """A channel to the gateway, whose calls bear the token; to be made in the loop that uses it."""
    # Each a connection of its own, as callers on different machines have.
    line = channels.dial(address, ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
    return bearing(line, token)


@dataclass(frozen=True)
class Refused:
    """An error as its details tell it. `retry_after_s` is 0 without RetryInfo."""

    code: str
    reason: str
    retry_after_s: float


class Client:
    """One caller on one channel; `random` draws its backoffs."""

    def __init__(self, channel: grpc.aio.Channel, record: Record, random: Random) -> None:
        self.ticketing: TicketingServiceAsyncStub = TicketingServiceStub(channel)
        self.catalog: CatalogServiceAsyncStub = CatalogServiceStub(channel)
        self._record = record
        self._random = random

    def begin(self, request: Request) -> Request:
        """Writes a request down, before anything is said."""
        self._record.requests.append(request)
        return request

    async def insist(
        self, request: Request, *, wait_s: float = WAIT_S, patience_s: float = PATIENCE_S
    ) -> Answer | None:
        """Says the request until it is decided; None when patience ends first."""
        request.insists = True
        give_up_at = time.monotonic() + patience_s
        backoff_s = BACKOFF_FIRST_S
        while time.monotonic() < give_up_at:
            answer, least_s = await self._say(request, wait_s, ATTEMPT_TIMEOUT_S)
            if request.is_decided_by(answer):
                return answer
            await asyncio.sleep(max(least_s, backoff_s * self._random.uniform(0.5, 1.0)))
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
        return None

    async def say(self, request: Request, *, wait_s: float = WAIT_S, timeout_s: float = ATTEMPT_TIMEOUT_S) -> Answer:
        """Says it once."""
        return (await self._say(request, wait_s, timeout_s))[0]

    async def look(self, reservation_id: str, *, patience_s: float = PATIENCE_S) -> pb.Reservation | None:
        """Reads a reservation, again until it is shown; None when patience ends first, or when it is refused."""
        give_up_at = time.monotonic() + patience_s
        backoff_s = BACKOFF_FIRST_S
        while time.monotonic() < give_up_at:
            begin_s = time.time()
            try:
                message = pb.GetReservationRequest(reservation_id=reservation_id)
                shown = (await self.ticketing.GetReservation(message, timeout=ATTEMPT_TIMEOUT_S)).reservation
            except grpc.aio.AioRpcError as error:
                if error.code().name not in UNANSWERED:
                    self._record.failed_reads.append(f"{reservation_id}: {error.code().name} {error.details()}")
                    return None
                await asyncio.sleep(backoff_s * self._random.uniform(0.5, 1.0))
                backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
            else:
                if shown.state != pb.Reservation.STATE_PENDING:
                    self._record.sights.append(Sight(begin_s, time.time(), told_reservation(shown)))
                return shown
        return None

    async def _say(self, request: Request, wait_s: float, timeout_s: float) -> tuple[Answer, float]:
        """The answer, and how long the caller is asked to wait at least before the next attempt."""
        begin_s = time.time()
        try:
            answer: Any = await self._send(request, wait_s, timeout_s)
        except grpc.aio.AioRpcError as error:
            refused = understand(error)
            told = Answer(begin_s, time.time(), refused.code, refused.reason or (error.details() or "")[:80])
            least_s = refused.retry_after_s
        else:
            has_payment = request.call == "Pay"
            told = Answer(
                begin_s,
                time.time(),
                OK,
                reservation=told_reservation(answer.reservation) if answer.HasField("reservation") else None,
                payment=told_payment(answer.payment) if has_payment and answer.HasField("payment") else None,
            )
            least_s = 0.0
        request.answers.append(told)
        return told, least_s

    async def _send(self, request: Request, wait_s: float, timeout_s: float) -> Any:
        wait = Duration()
        wait.FromMilliseconds(round(wait_s * 1_000))
        request_id, buyer_id = request.request_id, request.buyer_id
        match request.call:
            case "Reserve":
                reserve = pb.ReserveRequest(
                    request_id=request_id,
                    buyer_id=buyer_id,
                    wait=wait,
                    event_id=request.event_id,
                    ticket_ids=request.ticket_ids,
                )
                if request.quantity:
                    reserve.best_available.section, reserve.best_available.quantity = SECTION, request.quantity
                return await self.ticketing.Reserve(reserve, timeout=timeout_s)
            case "Pay":
                pay = pb.PayRequest(
                    request_id=request_id,
                    buyer_id=buyer_id,
                    wait=wait,
                    reservation_id=request.reservation_id,
                    amount_minor=request.amount_minor,
                    payment_method=request.payment_method,
                )
                return await self.ticketing.Pay(pay, timeout=timeout_s)
            case "Cancel":
                cancel = pb.CancelReservationRequest(
                    request_id=request_id, buyer_id=buyer_id, wait=wait, reservation_id=request.reservation_id
                )
                return await self.ticketing.CancelReservation(cancel, timeout=timeout_s)
            case "Refund":
                refund = pb.RefundReservationRequest(
                    request_id=request_id, reservation_id=request.reservation_id, reason="the chair is broken"
                )
                return await self.ticketing.RefundReservation(refund, timeout=timeout_s)


def understand(error: grpc.aio.AioRpcError) -> Refused:
    """What an error says of itself."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return told(error.code().name, Status.FromString(value))
    return Refused(error.code().name, "", 0.0)


def told(code: str, status: Status) -> Refused:
    """What the details of a refusal say."""
    info, retry = ErrorInfo(), RetryInfo()
    for detail in status.details:
        _ = detail.Unpack(info) or detail.Unpack(retry)
    return Refused(code, info.reason, retry.retry_delay.ToMilliseconds() / 1_000)
