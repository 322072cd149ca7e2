"""Which message goes to which handler, by queue and payload."""

from collections.abc import Mapping

from chassis.consumer import Handler
from chassis.topology import WorkQueue
from contract.keys import RESERVATION_COMMANDS, RESERVATION_MONEY
from reservations.handlers.reserve import ReserveHandler
from reservations.handlers.settle import SettleHandler


def handlers(reserve: ReserveHandler, settle: SettleHandler) -> Mapping[WorkQueue, Mapping[str, Handler]]:
    """The table: queue -> payload -> handler."""
    return {
        RESERVATION_COMMANDS: {"reserve_tickets": reserve},
        RESERVATION_MONEY: {
            "cancel_reservation": settle.cancel_reservation,
            "payment_approved": settle.payment_approved,
            "payment_rejected": settle.payment_rejected,
            "refund_completed": settle.refund_completed,
        },
    }
