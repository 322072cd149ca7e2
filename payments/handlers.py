"""What payments does when it is asked: begins a payment, begins a refund, says again what it said."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from psycopg import AsyncConnection

from chassis.attempts import Failure, Poison
from chassis.database import Database
from chassis.errors import unavailable
from chassis.outbox import Outbox
from chassis.parking import parked_already
from chassis.publisher import Publisher, PublishError
from contract import keys, reasons
from payments import charger, domain, figures, messages, moves, store
from payments.charger import Charger
from payments.domain import Payment, PaymentRequest, PaymentState
from payments.refunder import Refunder
from payments.repeats import Repeats, decide_repeats
from ticketrush.messages.v1 import messages_pb2 as pb

Request = TypeVar("Request")


@dataclass(frozen=True)
class SaidAgain:
    """What was done about payments whose outcome is missing elsewhere."""

    said: int
    pending: int
    unknown: list[UUID]


class Handlers:
    """The use cases; those that take envelopes are handlers for the chassis's consumer."""

    def __init__(
        self, database: Database, outbox: Outbox, publisher: Publisher, charger: Charger, refunder: Refunder
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._publisher = publisher
        self._charger = charger
        self._refunder = refunder

    async def request_payments(self, envelopes: Sequence[pb.Envelope]) -> Sequence[Failure]:
        """Begins each payment once, PENDING, and hands it to the charger; answers those that repeat a request."""
        now = datetime.now(UTC)
        asked, failures = _read(envelopes, messages.read_payment_request)
        hand_over = self._charger.loop.has_room(len(asked))
        async with self._database.transaction() as conn:
            begun, repeated = await _begin(conn, asked, now, lease_s=charger.LEASE_S if hand_over else 0.0)
            await self._outbox.write(conn, [messages.step(payment, envelope) for envelope, payment in begun])
            repeats = await decide_repeats(conn, repeated)
        figures.transitions.labels(PaymentState.PENDING).inc(len(begun))
        if hand_over:
            self._charger.loop.hand_over([payment for _, payment in begun])
        else:
            self._charger.loop.look()
        self._answer(repeats, now)
        return failures + repeats.failures

    async def request_refunds(self, envelopes: Sequence[pb.Envelope]) -> Sequence[Failure]:
        """Makes each approved payment REFUND_DUE, once; says again that the money has gone back where it has."""
        now = datetime.now(UTC)
        asked, malformed = _read(envelopes, messages.read_refund_request)
        failures: list[Failure] = []
        moved: list[moves.Move] = []
        async with self._database.transaction() as conn:
            payments = await store.lock(conn, [request.payment_id for _, request in asked])
            for envelope, request in asked:
                try:
                    payment = domain.owe_refund(payments.get(request.payment_id), request, now)
                except domain.RefundTooEarly as error:
                    failures.append(Failure(envelope, error))
                except domain.RefundImpossible as error:
                    failures.append(Failure(envelope, Poison(str(error))))
                else:
                    if payment is not None:
                        payments[payment.payment_id] = payment
                        moved.append((payment, messages.step(payment, envelope)))
            written = await moves.write(conn, self._outbox, moved)
            refunded = [known.payment_id for known in payments.values() if known.state is PaymentState.REFUNDED]
            facts = await store.said_facts(conn, refunded)
            parked = await _parked(conn, failures)
        figures.transitions.labels(PaymentState.REFUND_DUE).inc(len(moved))
        self._outbox.publish(written)
        self._refunder.loop.look()
        self._say(facts)
        return malformed + [failure for failure in failures if failure.envelope.message_id not in parked]

    async def say_again(self, payment_ids: Sequence[UUID]) -> SaidAgain:
        """Says the last fact about each payment again, as it was said.

        Raises CallError (UNAVAILABLE) when the broker does not take them, psycopg.Error.
        """
        async with self._database.transaction() as conn:
            payments = await store.find(conn, payment_ids)
            facts = await store.said_facts(conn, payment_ids)
        said = self._say(facts)
        for outcome in await asyncio.gather(*said, return_exceptions=True):
            if isinstance(outcome, PublishError):
                raise unavailable("BROKER_UNAVAILABLE", f"the broker did not take the messages ({outcome}); try again")
        return SaidAgain(
            said=len(facts),
            pending=sum(payment.state is PaymentState.PENDING for payment in payments),
            unknown=sorted(set(payment_ids) - {payment.payment_id for payment in payments}),
        )

    def _answer(self, repeats: Repeats, now: datetime) -> None:
        """A loss costs only an answer, so none of this goes through the outbox."""
        for record in repeats.facts:
            if record.routing_key is not None:
                self._publisher.publish(record.routing_key, str(record.message_id), record.envelope, shard=record.shard)
        for request in repeats.reused:
            if request.reply_to:
                outcome = messages.refusal(request, reasons.REQUEST_ID_REUSED, now)
                self._publisher.send_outcome(request.reply_to, outcome)

    def _say(self, facts: Sequence[store.SaidFact]) -> list["asyncio.Future[None]"]:
        return [
            self._publisher.publish(fact.routing_key, str(fact.message_id), fact.envelope, shard=fact.shard)
            for fact in facts
        ]


async def _begin(
    conn: AsyncConnection, asked: Sequence[tuple[pb.Envelope, PaymentRequest]], now: datetime, *, lease_s: float
) -> tuple[list[tuple[pb.Envelope, Payment]], list[tuple[pb.Envelope, PaymentRequest]]]:
    """Adds what is new, born under a lease; returns the new payments, and the requests whose payment exists."""
    new = [(envelope, request, domain.begin(request, now)) for envelope, request in asked]
    added = await store.insert(conn, [payment for _, _, payment in new], lease_s)
    begun: list[tuple[pb.Envelope, Payment]] = []
    repeated: list[tuple[pb.Envelope, PaymentRequest]] = []
    for envelope, request, payment in new:
        if payment.payment_id in added:
            # A second request for it in this batch repeats the first.
            added.remove(payment.payment_id)
            begun.append((envelope, payment))
        else:
            repeated.append((envelope, request))
    return begun, repeated


async def _parked(conn: AsyncConnection, failures: Sequence[Failure]) -> set[str]:
    # Reservations asks again and again: what waits for a person already is not set aside once more.
    message_ids = [failure.envelope.message_id for failure in failures]
    return await parked_already(conn, keys.PAYMENT_REFUNDS.name, message_ids) if message_ids else set()


def _read(
    envelopes: Sequence[pb.Envelope], read: Callable[[pb.Envelope], Request]
) -> tuple[list[tuple[pb.Envelope, Request]], list[Failure]]:
    requests: list[tuple[pb.Envelope, Request]] = []
    failures: list[Failure] = []
    for envelope in envelopes:
        try:
            requests.append((envelope, read(envelope)))
        except Poison as flaw:
            failures.append(Failure(envelope, flaw))
    return requests, failures
