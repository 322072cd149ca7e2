"""The services that payments calls, on real gRPC ports in this process, doing what a test's script says."""

# ruff: noqa: N802 # names are gRPC's

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal
from uuid import uuid4

import grpc

from chassis import errors
from chassis.interceptor import Context
from chassis.server import Health, build
from ticketrush.provider.v1 import provider_pb2 as provider
from ticketrush.provider.v1 import provider_pb2_grpc
from ticketrush.reservations.v1 import reservations_pb2 as reservations
from ticketrush.reservations.v1 import reservations_pb2_grpc

Step = Literal[
    "approve",
    "decline",
    "unknown_method",
    "unavailable",
    # Charges, but the caller never hears of it.
    "lose_reply",
    # Answers nothing; charges only when `land` is set.
    "late",
    "refuse",
]


class FakeProvider(provider_pb2_grpc.PaymentProviderServiceServicer):
    """Keeps charges by payment_id as the real one does; each call about a payment takes the next step of its script."""

    def __init__(self) -> None:
        self.charges: dict[str, provider.Charge] = {}
        self.calls: list[tuple[str, str]] = []
        self.script: dict[str, deque[Step]] = defaultdict(deque)
        self.in_flight = 0
        self.in_flight_max = 0
        self.charged = asyncio.Event()
        self.land = asyncio.Event()
        self.landed = asyncio.Event()
        # Cleared: charges wait.
        self.gate = asyncio.Event()
        self.gate.set()
        self._late: set[asyncio.Task[None]] = set()

    def count(self, call: str) -> int:
        """How often it was called."""
        return sum(name == call for name, _ in self.calls)

    def forget_late(self) -> None:
        """Drops the charges that have not landed yet."""
        for task in self._late:
            task.cancel()

    def taken_minor(self) -> int:
        """What it has charged and not given back."""
        return sum(
            charge.amount_minor - charge.refunded_minor
            for charge in self.charges.values()
            if charge.state == provider.Charge.STATE_APPROVED
        )

    async def Charge(self, request: provider.ChargeRequest, _: Context) -> provider.ChargeResponse:
        self.calls.append(("Charge", request.payment_id))
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            await self.gate.wait()
            return await self._charge(request)
        finally:
            self.in_flight -= 1

    async def _charge(self, request: provider.ChargeRequest) -> provider.ChargeResponse:
        step = self._next(request.payment_id)
        if step == "unavailable":
            raise errors.unavailable("SERVICE_UNAVAILABLE", "scripted")
        if step == "unknown_method":
            raise errors.CallError(grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_PAYMENT_METHOD", "scripted")
        if step == "late":
            task = asyncio.create_task(self._land_later(request))
            self._late.add(task)
            await asyncio.Event().wait()
        charge = self._decide(request, declined=step == "decline")
        self.charged.set()
        if step == "lose_reply":
            await asyncio.Event().wait()
        return provider.ChargeResponse(charge=charge)

    async def _land_later(self, request: provider.ChargeRequest) -> None:
        await self.land.wait()
        self._decide(request, declined=False)
        self.landed.set()

    def _decide(self, request: provider.ChargeRequest, *, declined: bool) -> provider.Charge:
        if request.payment_id not in self.charges:
            states = provider.Charge
            self.charges[request.payment_id] = provider.Charge(
                charge_id=str(uuid4()),
                payment_id=request.payment_id,
                amount_minor=request.amount_minor,
                currency=request.currency,
                state=states.STATE_DECLINED if declined else states.STATE_APPROVED,
                decline_reason="CARD_DECLINED" if declined else "",
            )
        return self.charges[request.payment_id]

    async def CancelCharge(self, request: provider.CancelChargeRequest, _: Context) -> provider.CancelChargeResponse:
        self.calls.append(("CancelCharge", request.payment_id))
        if self._next(request.payment_id) == "unavailable":
            raise errors.unavailable("SERVICE_UNAVAILABLE", "scripted")
        tombstone = provider.Charge(payment_id=request.payment_id, state=provider.Charge.STATE_CANCELLED)
        return provider.CancelChargeResponse(charge=self.charges.setdefault(request.payment_id, tombstone))

    async def Refund(self, request: provider.RefundRequest, _: Context) -> provider.RefundResponse:
        self.calls.append(("Refund", request.payment_id))
        step = self._next(request.payment_id)
        if step == "unavailable":
            raise errors.unavailable("SERVICE_UNAVAILABLE", "scripted")
        if step == "refuse":
            raise errors.failed_precondition("REFUND_REFUSED", "scripted")
        charge = self.charges[request.payment_id]
        charge.refunded_minor = charge.amount_minor
        if step == "lose_reply":
            await asyncio.Event().wait()
        return provider.RefundResponse(charge=charge)

    def _next(self, payment_id: str) -> Step:
        steps = self.script[payment_id]
        return steps.popleft() if steps else "approve"

    async def GetCharge(self, request: provider.GetChargeRequest, _: Context) -> provider.GetChargeResponse:
        return provider.GetChargeResponse(charge=self.charges[request.payment_id])

    async def ListCharges(self, _request: provider.ListChargesRequest, _: Context) -> provider.ListChargesResponse:
        return provider.ListChargesResponse(charges=self.charges.values())


class FakeReservations(reservations_pb2_grpc.ReservationsServiceServicer):
    """Opens what it is not told to refuse or to leave out, 50 EUR due each; fails `unavailable` times first."""

    due_minor = 5_000

    def __init__(self) -> None:
        self.refuse: dict[str, str] = {}
        self.leave_out: set[str] = set()
        self.unavailable = 0
        self.batches: list[list[str]] = []
        self.opened = asyncio.Event()

    async def OpenPayments(
        self, request: reservations.OpenPaymentsRequest, _: Context
    ) -> reservations.OpenPaymentsResponse:
        self.batches.append([opening.payment_id for opening in request.openings])
        if self.unavailable > 0:
            self.unavailable -= 1
            raise errors.unavailable("DATABASE_UNAVAILABLE", "scripted")
        self.opened.set()
        return reservations.OpenPaymentsResponse(
            results=[self._open(opening) for opening in request.openings if opening.payment_id not in self.leave_out]
        )

    def _open(self, opening: reservations.Opening) -> reservations.OpeningResult:
        reason = self.refuse.get(opening.payment_id, "")
        return reservations.OpeningResult(
            payment_id=opening.payment_id,
            refuse_reason=reason,
            amount_minor=0 if reason else opening.amount_minor or self.due_minor,
            currency="EUR",
        )


@asynccontextmanager
async def serving(provider_fake: FakeProvider, reservations_fake: FakeReservations) -> AsyncIterator[str]:
    """The address where both answer."""

    def register(server: grpc.aio.Server) -> list[str]:
        provider_pb2_grpc.add_PaymentProviderServiceServicer_to_server(provider_fake, server)
        reservations_pb2_grpc.add_ReservationsServiceServicer_to_server(reservations_fake, server)
        return []

    server, _ = build(register, Health({}))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
        provider_fake.forget_late()
