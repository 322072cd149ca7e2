"""Charges cards: takes PENDING payments, has them opened, charges those that may be, records what became of each.

A crash at any point loses and doubles nothing: the row stays PENDING, is claimed again when its lease runs out, opened
again (an opened payment stays opened), and charged again under the same key at the provider.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from chassis import tracing
from chassis.database import Database
from chassis.outbox import Outbox
from contract import reasons
from payments import backoff, domain, figures, messages, moves, processor, store
from payments.causes import traced
from payments.claims import HANDED_AGE_MAX_S, ClaimLoop
from payments.domain import ChargeResult, Payment, Unanswered
from payments.openings import OPEN_TIMEOUT_S, open_payments
from payments.peers import Peers
from payments.recorder import Recorder

log = logging.getLogger(__name__)

CHARGES_IN_FLIGHT_MAX: Final = 64
RECORD_ALLOWANCE_S: Final = 5.0
# Outlives the whole attempt: otherwise two processes would work on one payment (which charges once all the same).
LEASE_S: Final = HANDED_AGE_MAX_S + OPEN_TIMEOUT_S + processor.CHARGE_TIMEOUT_S + RECORD_ALLOWANCE_S

# A payment with the amount that was opened, and what became of the attempt to charge it.
Attempt = tuple[Payment, ChargeResult]


class Charger:
    """The charges of one process; several processes may share the table."""

    def __init__(self, database: Database, outbox: Outbox, peers: Peers) -> None:
        self._database = database
        self._outbox = outbox
        self._peers = peers
        self._recorder = Recorder(self._write, name="charges")
        self.loop = ClaimLoop(
            name="charges",
            in_flight_max=CHARGES_IN_FLIGHT_MAX,
            claim=self._claim,
            begin=self._begin,
            give_back=self._give_back,
        )

    async def run(self) -> None:
        """Charges until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._recorder.run())
            tasks.create_task(self.loop.run())

    async def _claim(self, limit: int) -> list[Payment]:
        async with self._database.transaction() as conn:
            return await store.claim_charges(conn, limit, LEASE_S)

    async def _give_back(self, payments: Sequence[Payment]) -> None:
        async with self._database.transaction() as conn:
            await store.give_back(conn, payments)

    async def _begin(self, payments: list[Payment]) -> None:
        """Charges at once what was opened in an earlier attempt, and the others as soon as they are opened."""
        payments = await traced(self._database, payments)
        for payment in payments:
            if payment.opened:
                self.loop.start(payment, self._charge(payment))
        unopened = [payment for payment in payments if not payment.opened]
        if unopened:
            for payment, refused in await open_payments(self._peers, unopened):
                if refused is None:
                    self.loop.start(payment, self._charge(payment))
                else:
                    self.loop.start(payment, self._recorder.record((payment, refused)))

    async def _charge(self, payment: Payment) -> None:
        with tracing.meeting("charge", [payment.traceparent]) as [traceparent]:
            if traceparent:
                payment = replace(payment, traceparent=traceparent)
            if domain.is_given_up(payment, datetime.now(UTC)):
                result = await processor.give_up(self._peers, payment, reasons.PROVIDER_UNAVAILABLE)
            else:
                result = await processor.charge(self._peers, payment)
            await self._recorder.record((payment, result))

    async def _write(self, attempts: Sequence[Attempt]) -> None:
        with tracing.meeting("record charges", [payment.traceparent for payment, _ in attempts]) as going_on:
            await self._write_under(attempts, going_on)

    async def _write_under(self, attempts: Sequence[Attempt], traceparents: Sequence[str]) -> None:
        now = datetime.now(UTC)
        decided: list[moves.Move] = []
        postponed: list[tuple[Payment, float]] = []
        async with self._database.transaction() as conn:
            locked = await store.lock(conn, [payment.payment_id for payment, _ in attempts])
            for (attempted, result), traceparent in zip(attempts, traceparents, strict=True):
                if isinstance(result, Unanswered):
                    postponed.append(_again(attempted))
                elif payment := domain.settle_charge(locked[attempted.payment_id], attempted, result, now):
                    fact = messages.charge_fact(payment, payment.reply_to, payment.command_id, traceparent)
                    decided.append((payment, fact))
            written = await moves.write(conn, self._outbox, decided)
            if postponed:
                await store.postpone(conn, postponed)
        self._outbox.publish(written)
        for payment, _ in decided:
            figures.transitions.labels(payment.state).inc()
        if postponed:
            self._tell_postponed(attempts, postponed)

    def _tell_postponed(self, attempts: Sequence[Attempt], postponed: Sequence[tuple[Payment, float]]) -> None:
        figures.charges_unanswered.inc(len(postponed))
        problem = next(result.problem for _, result in attempts if isinstance(result, Unanswered))
        log.warning("%d payments to be charged again, the first: %s", len(postponed), problem)
        self.loop.look(min(delay_s for _, delay_s in postponed))


def _again(payment: Payment) -> tuple[Payment, float]:
    attempts = payment.attempts + 1
    delay_s = backoff.unanswered_s(attempts, random.random())  # noqa: S311 # jitter
    return replace(payment, attempts=attempts), delay_s
