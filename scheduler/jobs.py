"""What time makes due, asked for at each tick. The database decides who does what, so replicas do no harm."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from grpc.aio import AioRpcError
from prometheus_client import Counter, Gauge
from psycopg_pool import PoolTimeout, TooManyRequests

from reservations.handlers.sweeps import EXPIRY_BATCH_MAX, RECONCILE_BATCH_MAX, Sweeps
from reservations.store.changes import Superseded
from ticketrush.payments.v1.payments_pb2 import ReconcilePaymentsRequest

if TYPE_CHECKING:
    # The generated code has only the stub; its asyncio face exists for type checkers.
    from ticketrush.payments.v1.payments_pb2_grpc import PaymentsServiceAsyncStub

log = logging.getLogger(__name__)

SWEEP_INTERVAL_S = 1.0
RECONCILE_INTERVAL_S = 5.0
RECONCILE_TIMEOUT_S = 2.5
SWEEPS_AT_ONCE = 4
"""While some wait for the database, another makes the messages of what it released."""

released = Counter("ticketrush_holds_released", "Holds released because their time was over.")
called_off = Counter("ticketrush_reservations_called_off", "Reservations cancelled together with their event.")
asked_again = Counter(
    "ticketrush_outcomes_asked_again", "Outcomes that were missing and were asked for again.", ("kind",)
)
# Not `job`: that is Prometheus's own word for what it asks.
failed = Counter("ticketrush_job_failures", "Runs of a job that failed; the next tick tries again.", ("job_name",))
succeeded = Gauge(
    "ticketrush_job_last_success_time_seconds", "When a batch of a job last succeeded, Unix time.", ("job_name",)
)
expiry_lag = Gauge(
    "ticketrush_expiry_lag_seconds", "How long the longest overdue hold is over its time; 0 without any."
)

Batch = Callable[[], Awaitable[int]]
"""Does one bounded batch and returns how much it did."""


class Jobs:
    """The jobs of the scheduler."""

    def __init__(self, sweeps: Sweeps, payments: "PaymentsServiceAsyncStub") -> None:
        self._sweeps = sweeps
        self._payments = payments
        self._running = 0
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
        )

    async def start(self) -> None:
        """Starts ticking."""
        table: tuple[tuple[Callable[[], Awaitable[None]], float], ...] = (
            (self.release_due_holds, SWEEP_INTERVAL_S),
            (self.measure_expiry_lag, SWEEP_INTERVAL_S),
            (self.call_off_events, SWEEP_INTERVAL_S),
            (self.reconcile_openings, RECONCILE_INTERVAL_S),
            (self.reconcile_refunds, RECONCILE_INTERVAL_S),
        )
        for job, interval_s in table:
            # Shown before they first count: what begins at 1 has not risen, to those who ask what has.
            failed.labels(job.__name__)
            # Until then as if at the start, so that a job which never succeeds is seen, too.
            succeeded.labels(job.__name__).set_to_current_time()
            self._scheduler.add_job(job, "interval", seconds=interval_s, next_run_time=datetime.now(UTC))
        self._scheduler.start()

    async def drain(self) -> None:
        """Starts nothing more and returns when what runs is done: cancelling it in mid-transaction would waste it."""
        self._stopping = True
        self._scheduler.pause()
        await self._idle.wait()
        self._scheduler.shutdown(wait=False)

    async def release_due_holds(self) -> None:
        """HELD, PARTIALLY_PAID -> EXPIRED; catches up with any backlog."""
        sweeps = (self._repeat("release_due_holds", self._release, EXPIRY_BATCH_MAX) for _ in range(SWEEPS_AT_ONCE))
        await asyncio.gather(*sweeps)

    async def measure_expiry_lag(self) -> None:
        """Apart from the sweep, for it is what must be known when that fails, hangs or has a backlog."""
        await self._repeat("measure_expiry_lag", self._measure_expiry_lag, 1)

    async def call_off_events(self) -> None:
        """Cancels the reservations of cancelled events."""
        await self._repeat("call_off_events", self._call_off, 1)

    async def reconcile_openings(self) -> None:
        """Asks payments to say again what became of charges that have been open for long."""
        await self._repeat("reconcile_openings", self._ask_payments, RECONCILE_BATCH_MAX)

    async def reconcile_refunds(self) -> None:
        """Says again which payments must go back."""
        await self._repeat("reconcile_refunds", self._ask_for_refunds, RECONCILE_BATCH_MAX)

    async def _repeat(self, job: str, batch: Batch, full: int) -> None:
        """Runs batches while they come back full, skipping the ticks meanwhile; stopping does not wait for the rest."""
        self._running += 1
        self._idle.clear()
        try:
            more = True
            while more:
                more = await batch() >= full and not self._stopping
                succeeded.labels(job).set_to_current_time()
        except (psycopg.Error, PoolTimeout, TooManyRequests, AioRpcError, Superseded) as error:
            failed.labels(job).inc()
            log.warning("%s: will be tried again at the next tick: %s", job, error)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _release(self) -> int:
        count = await self._sweeps.expire_due()
        released.inc(count)
        return count

    async def _measure_expiry_lag(self) -> int:
        oldest = await self._sweeps.oldest_due()
        expiry_lag.set((datetime.now(UTC) - oldest).total_seconds() if oldest else 0)
        return 0

    async def _call_off(self) -> int:
        count = await self._sweeps.call_off()
        called_off.inc(count)
        return count

    async def _ask_payments(self) -> int:
        payment_ids = await self._sweeps.open_credits()
        if payment_ids:
            asked_again.labels("opening").inc(len(payment_ids))
            request = ReconcilePaymentsRequest(payment_ids=[str(payment_id) for payment_id in payment_ids])
            answer = await self._payments.ReconcilePayments(request, timeout=RECONCILE_TIMEOUT_S)
            if answer.unknown_payment_ids:
                log.error("credits are open for payments that do not exist: %s", ", ".join(answer.unknown_payment_ids))
        return len(payment_ids)

    async def _ask_for_refunds(self) -> int:
        count = await self._sweeps.ask_for_refunds_again()
        asked_again.labels("refund").inc(count)
        return count
