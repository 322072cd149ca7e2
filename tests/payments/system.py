"""Payments as one process composes it, in the hands of a test: run, killed at a point, and started afresh."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

from psycopg.rows import dict_row

from chassis.attempts import Failure
from chassis.database import Database
from chassis.outbox import Outbox
from chassis.publisher import Publisher
from contract import ids
from payments.charger import Charger
from payments.handlers import Handlers
from payments.peers import Peers
from payments.refunder import Refunder
from tests.chassis.broker import until
from ticketrush.messages.v1 import messages_pb2 as pb

BUYER = "anna"


class System:
    """One process's worth of payments; several may share the database."""

    def __init__(self, database: Database, publisher: Publisher, peers: Peers) -> None:
        self.database = database
        self.outbox = Outbox(database, publisher)
        self.charger = Charger(database, self.outbox, peers)
        self.refunder = Refunder(database, self.outbox, peers)
        self.handlers = Handlers(database, self.outbox, publisher, self.charger, self.refunder)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["System"]:
        """Charges and refunds until the block ends, then dies without a goodbye."""
        tasks = [asyncio.create_task(self.charger.run()), asyncio.create_task(self.refunder.run())]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), f"ended by itself: {results}"

    async def pay(self, *commands: pb.Envelope) -> None:
        """Hands the commands in as the consumer would; all must be decided."""
        failures = await self.handlers.request_payments(commands)
        assert not failures, failures

    async def request_refund(self, *commands: pb.Envelope) -> list[Failure]:
        return list(await self.handlers.request_refunds(commands))

    async def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        async with self.database.transaction() as conn, conn.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query, values)
            return await cursor.fetchall() if cursor.description else []

    async def payment(self, payment_id: str) -> dict[str, Any]:
        [row] = await self.rows("SELECT * FROM payment WHERE payment_id = %s", payment_id)
        return row

    async def until_state(self, payment_id: str, state: str) -> dict[str, Any]:
        """Waits until the payment is there and returns its row."""

        async def reached() -> bool:
            rows = await self.rows("SELECT state FROM payment WHERE payment_id = %s", payment_id)
            return rows == [{"state": state}]

        await until(reached)
        return await self.payment(payment_id)

    async def let_leases_run_out(self) -> None:
        await self.rows("UPDATE payment SET due_time = clock_timestamp() WHERE due_time IS NOT NULL")

    async def history(self, payment_id: str) -> list[tuple[int, str, str | None]]:
        rows = await self.rows(
            "SELECT subject_version, kind, routing_key FROM history WHERE subject_id = %s ORDER BY history_id",
            payment_id,
        )
        return [(row["subject_version"], row["kind"], row["routing_key"]) for row in rows]

    async def facts(self, payment_id: str) -> list[pb.Envelope]:
        rows = await self.rows(
            "SELECT envelope FROM history WHERE subject_id = %s AND routing_key IS NOT NULL ORDER BY history_id",
            payment_id,
        )
        return [pb.Envelope.FromString(row["envelope"]) for row in rows]

    async def ledger(self, payment_id: str) -> dict[str, int]:
        """The balance of each account, over the postings of one payment."""
        rows = await self.rows(
            "SELECT account, sum(amount_minor)::bigint AS balance FROM ledger_entry WHERE payment_id = %s GROUP BY 1",
            payment_id,
        )
        return {row["account"]: row["balance"] for row in rows}


def pay_command(
    *,
    reservation_id: UUID | None = None,
    buyer_id: str = BUYER,
    request_id: str | None = None,
    amount_minor: int = 0,
    payment_method: str = "pm_card_ok",
    reply_to: str = "",
) -> pb.Envelope:
    """A Pay as the gateway sends it."""
    reservation_id = reservation_id or uuid4()
    request_id = request_id or str(uuid4())
    payment_id = ids.payment_id(reservation_id, buyer_id, request_id)
    message_id = ids.command_id(payment_id, "Pay", buyer_id, request_id, str(amount_minor), payment_method)
    return pb.Envelope(
        message_id=str(message_id),
        subject_id=str(payment_id),
        reply_to=reply_to,
        request_payment=pb.RequestPayment(
            payment_id=str(payment_id),
            request_id=request_id,
            reservation_id=str(reservation_id),
            buyer_id=buyer_id,
            amount_minor=amount_minor,
            payment_method=payment_method,
        ),
    )


def refund_command(pay: pb.Envelope, amount_minor: int = 5_000) -> pb.Envelope:
    """What reservations says about a payment that it cannot apply."""
    payment_id = pay.request_payment.payment_id
    return pb.Envelope(
        message_id=str(ids.derived_id(UUID(payment_id), "refund")),
        subject_id=payment_id,
        request_refund=pb.RequestRefund(
            payment_id=payment_id,
            reservation_id=pay.request_payment.reservation_id,
            amount_minor=amount_minor,
            reason="HOLD_ENDED",
        ),
    )


def id_of(command: pb.Envelope) -> str:
    """The payment that a command is about."""
    return command.subject_id
