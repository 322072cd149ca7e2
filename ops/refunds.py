"""`ticketrush refunds list|settle`."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

import typer

from chassis.database import Database
from chassis.outbox import Outbox
from cli.options import uuid
from ops import audit, places, terminal, waiting
from ops.audit import Doing
from ops.options import Json, Limit, Operator, Reason
from ops.terminal import CouldNot, Refused
from payments import by_hand
from payments.domain import Payment

ACTION: Final = "refunds settle"
# The refunder waits longer and longer between its attempts: soon there is a pause that is long enough.
QUIET_WITHIN_S: Final = 120.0
POLL_INTERVAL_S: Final = 1.0

refunds_app = typer.Typer(no_args_is_help=True, help="Money that must go back.")


@refunds_app.command("list", epilog="Example: ticketrush refunds list")
def list_refunds(*, limit: Limit = 100, as_json: Json = False) -> None:
    """List refunds that are due, the oldest first, and what the card processor says of each."""
    found = terminal.run(waiting.waiting(("REFUND_DUE",), timedelta(), limit))
    if as_json:
        typer.echo(json.dumps([waiting.as_json(*one) for one in found]))
    else:
        waiting.print_table(found)


@refunds_app.command("settle", epilog="Example: ticketrush refunds settle PAYMENT_ID --reason 'bank transfer 4711'")
def settle(
    payment_id: Annotated[str, typer.Argument(metavar="PAYMENT_ID", parser=uuid, help="Id of the payment.")],
    *,
    operator: Operator,
    reason: Reason,
) -> None:
    """Record that you have given the money of a payment back by other means, after the card processor refused to.

    Only a payment that is REFUND_DUE, and that the processor has not given back. It becomes REFUNDED, its reservation
    is told, and the ledger shows that the money came from the bank and not through the processor.
    """
    payment = terminal.run(_settle(UUID(payment_id), Doing(operator, ACTION, reason)))
    terminal.console().print(f"payment {payment.payment_id} is settled: its refund was made by hand")


async def _settle(payment_id: UUID, doing: Doing) -> Payment:
    async with places.schema("payments") as database, places.broker() as publisher:
        outbox = Outbox(database, publisher)
        payment = await _taken(database, payment_id)
        await _expect_not_given_back(payment_id)
        try:
            async with database.transaction() as conn:
                written = await by_hand.settle(conn, outbox, payment, datetime.now(UTC))
                detail = {"amount_minor": payment.amount_minor, "currency": payment.currency}
                await audit.record(conn, doing, [f"payment {payment_id}"], detail)
        except by_hand.NotDue as problem:
            raise Refused(str(problem)) from None
        outbox.publish(written)
        await outbox.drain(places.DRAIN_TIMEOUT_S)
        return payment


async def _taken(database: Database, payment_id: UUID) -> Payment:
    end = time.monotonic() + QUIET_WITHIN_S
    while time.monotonic() < end:
        try:
            async with database.transaction() as conn:
                payment = await by_hand.take(conn, payment_id)
        except by_hand.NotDue as problem:
            raise Refused(str(problem)) from None
        if payment:
            return payment
        await asyncio.sleep(POLL_INTERVAL_S)
    raise CouldNot(f"the card processor is asked for the refund of {payment_id} again and again; try later")


async def _expect_not_given_back(payment_id: UUID) -> None:
    async with places.provider() as processor:
        said = await waiting.view(processor, payment_id)
    if said == waiting.NO_ANSWER:
        raise CouldNot("the card processor does not answer whether it has given the money back already")
    if said != "approved":
        raise Refused(f"the card processor says that this payment is {said}: there is nothing to give back by hand")
