"""Whose trace a payment goes on in: that of the command that caused its last step, which history keeps."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from chassis import tracing
from chassis.database import Database, is_transient
from payments import store
from payments.domain import Payment
from ticketrush.messages.v1 import messages_pb2 as pb

log = logging.getLogger(__name__)


async def traced(database: Database, payments: Sequence[Payment]) -> list[Payment]:
    """The payments, each with its trace context. While nobody traces nothing is asked."""
    unknown = [payment.payment_id for payment in payments if not payment.traceparent]
    if tracing.SWITCH.spans is None or not unknown:
        return list(payments)
    try:
        async with database.transaction() as conn:
            steps = await store.last_steps(conn, unknown)
    except Exception as error:
        if not is_transient(error):
            raise
        log.debug("traces end here, for the database does not answer: %s", error)
        return list(payments)
    known = {payment_id: pb.Envelope.FromString(envelope).traceparent for payment_id, envelope in steps.items()}
    return [
        payment if payment.traceparent else replace(payment, traceparent=known.get(payment.payment_id, ""))
        for payment in payments
    ]
