"""What the clock does by itself, on a real database: each job is really started."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import grpc
import psycopg
from prometheus_client import REGISTRY

from chassis.interceptor import Context
from chassis.server import Health, build
from reservations.handlers.sweeps import EXPIRY_BATCH_MAX, Sweeps
from scheduler.jobs import SWEEPS_AT_ONCE, Jobs
from tests.chassis.broker import until
from tests.reservations.core import (
    HOLD_IS_OVER,
    Shop,
    shop,  # noqa: F401 - a fixture
)
from tests.reservations.sayings import claim, reserve
from ticketrush.payments.v1 import payments_pb2 as pb
from ticketrush.payments.v1.payments_pb2_grpc import (
    PaymentsServiceServicer,
    PaymentsServiceStub,
    add_PaymentsServiceServicer_to_server,
)

if TYPE_CHECKING:  # exists only in the stubs
    from ticketrush.payments.v1.payments_pb2_grpc import PaymentsServiceAsyncStub


OVERDUE = timedelta(seconds=20)


class Payments(PaymentsServiceServicer):
    """Notes what it is asked about, and knows of nothing."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def ReconcilePayments(  # noqa: N802 # the name is gRPC's
        self, request: pb.ReconcilePaymentsRequest, _: Context
    ) -> pb.ReconcilePaymentsResponse:
        self.asked += request.payment_ids
        return pb.ReconcilePaymentsResponse(unknown_payment_ids=request.payment_ids)


@asynccontextmanager
async def ticking(sweeps: Sweeps) -> AsyncIterator[Payments]:
    """The jobs of one scheduler, and the payments service that they ask."""
    payments = Payments()

    def register(server: grpc.aio.Server) -> Sequence[str]:
        add_PaymentsServiceServicer_to_server(payments, server)
        return []

    server, _ = build(register, Health({}))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub: PaymentsServiceAsyncStub = PaymentsServiceStub(channel)
        jobs = Jobs(sweeps, stub)
        await jobs.start()
        yield payments
        await jobs.drain()
    await server.stop(None)


async def test_a_hold_whose_time_is_over_is_released(shop: Shop) -> None:  # noqa: F811
    hall = await shop.event()
    held, other = await shop.hold(reserve(hall, 0)), await shop.hold(reserve(await shop.event(), 0))
    await shop.time_passes(hall, HOLD_IS_OVER)
    async with ticking(shop.one.sweeps):

        async def released() -> bool:
            return await shop.state(held) == "EXPIRED"

        await until(released)
    assert await shop.state(other) == "HELD"
    await shop.check(hall)


async def test_stopping_does_not_wait_for_a_backlog(shop: Shop) -> None:  # noqa: F811
    class Endless(Sweeps):
        """Always finds as much as it can take."""

        batches = 0

        async def expire_due(self) -> int:
            self.batches += 1
            await super().expire_due()
            return EXPIRY_BATCH_MAX

    endless = Endless(shop.one.sweeps._desk)
    async with ticking(endless):
        await until(lambda: endless.batches > 2 * SWEEPS_AT_ONCE)


async def test_a_job_that_succeeds_says_when_and_one_that_fails_is_counted(shop: Shop) -> None:  # noqa: F811
    class Broken(Sweeps):
        """Cancels nothing: the database refuses."""

        async def call_off(self) -> int:
            raise psycopg.OperationalError("refused")

    def shown(name: str, job: str) -> float:
        value = REGISTRY.get_sample_value(f"ticketrush_job_{name}", {"job_name": job})
        assert value is not None, f"{job} is not shown before it first counts"
        return value

    async with ticking(Broken(shop.one.sweeps._desk)):
        swept, called_off = (
            shown("last_success_time_seconds", job) for job in ("release_due_holds", "call_off_events")
        )
        await until(lambda: shown("last_success_time_seconds", "release_due_holds") > swept)
        await until(lambda: shown("failures_total", "call_off_events") > 0)
        assert shown("last_success_time_seconds", "call_off_events") == called_off


async def test_how_late_releases_are_is_known_while_they_fail(shop: Shop) -> None:  # noqa: F811
    class Broken(Sweeps):
        """Releases nothing: the database refuses."""

        async def expire_due(self) -> int:
            raise psycopg.OperationalError("refused")

    hall = await shop.event()
    await shop.hold(reserve(hall, 0))
    await shop.time_passes(hall, HOLD_IS_OVER)
    async with ticking(Broken(shop.one.sweeps._desk)):
        await until(lambda: (REGISTRY.get_sample_value("ticketrush_expiry_lag_seconds") or 0) > 0)
    async with ticking(shop.one.sweeps):
        await until(lambda: REGISTRY.get_sample_value("ticketrush_expiry_lag_seconds") == 0)


async def test_payments_are_asked_for_outcomes_that_are_missing(shop: Shop) -> None:  # noqa: F811
    hall = await shop.event()
    payment = await shop.opened(await shop.hold(reserve(hall, 0)))
    await shop.time_passes(hall, OVERDUE)
    async with ticking(shop.one.sweeps) as payments:
        await until(lambda: str(payment.payment_id) in payments.asked)


async def test_refunds_that_are_due_are_asked_for_again(shop: Shop) -> None:  # noqa: F811
    hall = await shop.event()
    bought, payment = await shop.sold(hall, 0)
    await shop.one.refunds.refund(UUID(bought), claim(bought))
    await shop.time_passes(hall, OVERDUE)
    async with ticking(shop.one.sweeps):

        async def asked_again() -> bool:
            return len(await shop.refund_commands(payment)) == 2

        await until(asked_again)


async def test_an_event_called_off_is_settled(shop: Shop) -> None:  # noqa: F811
    hall = await shop.event()
    held, (bought, _) = await shop.hold(reserve(hall, 0)), await shop.sold(hall, 1)
    await shop.rows("UPDATE event SET state = 'CANCELLED' WHERE event_id = %s", hall.event_id)
    async with ticking(shop.one.sweeps):

        async def settled() -> bool:
            return await shop.rows("SELECT settled FROM event WHERE event_id = %s", hall.event_id) == [(True,)]

        await until(settled)
    assert {await shop.state(held), await shop.state(bought)} == {"CANCELLED"}
    await shop.check(hall)
