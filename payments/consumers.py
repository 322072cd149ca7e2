"""Which handler takes which payload, per queue."""

from collections.abc import Mapping

from chassis.attempts import Handler
from payments.handlers import Handlers


def charges(handlers: Handlers) -> Mapping[str, Handler]:
    """Of the queue `payments.charges`."""
    return {"request_payment": handlers.request_payments}


def refunds(handlers: Handlers) -> Mapping[str, Handler]:
    """Of the queue `payments.refunds`."""
    return {"request_refund": handlers.request_refunds}
