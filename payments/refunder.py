"""Gives money back: takes payments that are REFUND_DUE and asks the provider until it has gone back.

The provider refunds once per payment however often it is asked, so a crash at any point loses and doubles nothing.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from chassis import tracing
from chassis.database import Database, is_transient
from chassis.outbox import Outbox
from payments import backoff, domain, figures, messages, moves, processor, store
from payments.causes import traced
from payments.claims import ClaimLoop
from payments.domain import Payment, Refunded, RefundRefused, RefundResult, Unanswered
from payments.peers import Peers
from payments.recorder import Recorder

log = logging.getLogger(__name__)

REFUNDS_IN_FLIGHT_MAX: Final = 32
RECORD_ALLOWANCE_S: Final = 5.0
LEASE_S: Final = processor.REFUND_TIMEOUT_S + RECORD_ALLOWANCE_S
OVERDUE_AFTER_S: Final = 60.0
OVERDUE_COUNT_INTERVAL_S: Final = 15.0

Attempt = tuple[Payment, RefundResult]


class Refunder:
    """The refunds of one process; several processes may share the table."""

    def __init__(self, database: Database, outbox: Outbox, peers: Peers) -> None:
        self._database = database
        self._outbox = outbox
        self._peers = peers
        self._recorder = Recorder(self._write, name="refunds")
        self.loop = ClaimLoop(
            name="refunds",
            in_flight_max=REFUNDS_IN_FLIGHT_MAX,
            claim=self._claim,
            begin=self._begin,
            give_back=self._give_back,
        )

    async def run(self) -> None:
        """Refunds until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._recorder.run())
            tasks.create_task(self.loop.run())
            tasks.create_task(self._count_overdue_for_ever())

    async def _claim(self, limit: int) -> list[Payment]:
        async with self._database.transaction() as conn:
            return await store.claim_refunds(conn, limit, LEASE_S)

    async def _give_back(self, payments: Sequence[Payment]) -> None:
        async with self._database.transaction() as conn:
            await store.give_back(conn, payments)

    async def _begin(self, payments: list[Payment]) -> None:
        for payment in await traced(self._database, payments):
            self.loop.start(payment, self._refund(payment))

    async def _refund(self, payment: Payment) -> None:
        with tracing.meeting("refund", [payment.traceparent]) as [traceparent]:
            if traceparent:
                payment = replace(payment, traceparent=traceparent)
            result = await processor.refund(self._peers, payment)
            await self._recorder.record((payment, result))

    async def _write(self, attempts: Sequence[Attempt]) -> None:
        with tracing.meeting("record refunds", [payment.traceparent for payment, _ in attempts]) as going_on:
            await self._write_under(attempts, going_on)

    async def _write_under(self, attempts: Sequence[Attempt], traceparents: Sequence[str]) -> None:
        now = datetime.now(UTC)
        done: list[moves.Move] = []
        postponed: list[tuple[Payment, float]] = []
        async with self._database.transaction() as conn:
            locked = await store.lock(conn, [payment.payment_id for payment, _ in attempts])
            for (attempted, result), traceparent in zip(attempts, traceparents, strict=True):
                if not isinstance(result, Refunded):
                    postponed.append(_again(attempted, result))
                elif payment := domain.settle_refund(locked[attempted.payment_id], now):
                    done.append((payment, messages.refund_fact(payment, traceparent)))
            written = await moves.write(conn, self._outbox, done)
            if postponed:
                await store.postpone(conn, postponed)
        self._outbox.publish(written)
        figures.transitions.labels(domain.PaymentState.REFUNDED).inc(len(done))
        if postponed:
            self._tell_postponed(attempts, postponed)

    def _tell_postponed(self, attempts: Sequence[Attempt], postponed: Sequence[tuple[Payment, float]]) -> None:
        figures.refunds_unanswered.inc(len(postponed))
        for payment, result in attempts:
            if isinstance(result, RefundRefused):
                figures.refunds_refused.inc()
                log.error("refund of payment %s is refused and stays due: %s", payment.payment_id, result.problem)
        self.loop.look(min(delay_s for _, delay_s in postponed))

    async def _count_overdue_for_ever(self) -> None:
        while True:
            try:
                async with self._database.transaction() as conn:
                    instant = datetime.now(UTC) - timedelta(seconds=OVERDUE_AFTER_S)
                    figures.refunds_overdue.set(await store.count_refunds_due_since(conn, instant))
            except Exception as error:
                if not is_transient(error):
                    raise
                log.debug("refunds overdue are not counted now: %s", error)
            await asyncio.sleep(OVERDUE_COUNT_INTERVAL_S)


def _again(payment: Payment, result: RefundRefused | Unanswered) -> tuple[Payment, float]:
    attempts = payment.attempts + 1
    wait_s = backoff.refused_s if isinstance(result, RefundRefused) else backoff.unanswered_s
    delay_s = wait_s(attempts, random.random())  # noqa: S311 # jitter
    return replace(payment, attempts=attempts), delay_s
