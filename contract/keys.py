"""Routing keys of the topic exchange, who must take them, and which payload each carries."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from chassis.topology import WorkQueue

EXCHANGE: Final = "tickets"

RESERVATION_REQUESTED: Final = "ticket.reservation.requested"
CANCEL_REQUESTED: Final = "ticket.reservation.cancel_requested"
PAYMENT_REQUESTED: Final = "ticket.payments.requested"
REFUND_REQUESTED: Final = "ticket.refunds.requested"

PAYMENT_APPROVED: Final = "ticket.payments.approved"
PAYMENT_REJECTED: Final = "ticket.payments.rejected"
REFUND_COMPLETED: Final = "ticket.refunds.completed"

RESERVED: Final = "ticket.reserved"
REJECTED: Final = "ticket.reservation.rejected"
PARTIALLY_PAID: Final = "ticket.partially_paid"
SOLD: Final = "ticket.sold"
CANCELLED: Final = "ticket.cancelled"
EXPIRED: Final = "ticket.expired"
RESERVATION_UPDATED: Final = "ticket.reservation.updated"
EVENT_UPDATED: Final = "ticket.event.updated"

# A command is some 270 bytes: a backlog of a million fits.
COMMANDS_BYTES_MAX: Final = 512 * 1024 * 1024
RESERVATION_COMMANDS: Final = WorkQueue(
    "reservations.commands", (RESERVATION_REQUESTED,), service="reservations", bytes_max=COMMANDS_BYTES_MAX
)
# Money has its own queues: it never waits behind a rush of Reserve commands.
RESERVATION_MONEY: Final = WorkQueue(
    "reservations.money",
    (CANCEL_REQUESTED, PAYMENT_APPROVED, PAYMENT_REJECTED, REFUND_COMPLETED),
    service="reservations",
)
PAYMENT_CHARGES: Final = WorkQueue("payments.charges", (PAYMENT_REQUESTED,), service="payments")
PAYMENT_REFUNDS: Final = WorkQueue("payments.refunds", (REFUND_REQUESTED,), service="payments")

RESERVATIONS_QUEUES: Final = (RESERVATION_COMMANDS, RESERVATION_MONEY)
PAYMENTS_QUEUES: Final = (PAYMENT_CHARGES, PAYMENT_REFUNDS)

REQUIRED: Final = frozenset(key for queue in (*RESERVATIONS_QUEUES, *PAYMENTS_QUEUES) for key in queue.routing_keys)
"""Keys that a consumer is bound to take: a message of theirs that comes back unrouted is an alarm."""

WATCHED: Final = (RESERVED, REJECTED, PARTIALLY_PAID, SOLD, CANCELLED, EXPIRED, RESERVATION_UPDATED, EVENT_UPDATED)
"""Facts for whoever listens, gateways among them. None of them is REQUIRED: then `mandatory` would prove nothing."""

SAID_BY: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "gateway": (RESERVATION_REQUESTED, CANCEL_REQUESTED, PAYMENT_REQUESTED),
        "reservations": (*WATCHED, REFUND_REQUESTED),
        "payments": (PAYMENT_APPROVED, PAYMENT_REJECTED, REFUND_COMPLETED),
        # Says what is left over of the outbox that it shares with reservations.
        "scheduler": (*WATCHED, REFUND_REQUESTED),
    }
)
"""What each service may say; the broker refuses it anything else."""
