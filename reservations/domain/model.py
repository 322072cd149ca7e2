"""What a decision looks at and changes. One `Books` is the image of all rows that one transaction has locked."""

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

RELEASE_EXTENSION_MAX = timedelta(minutes=10)
"""How far charges under way may keep tickets beyond expire_time."""
AMOUNT_MINOR_MAX = 1_000_000_000_000
"""Of one payment, as the contract has it."""
PAYMENTS_MAX = 20
"""Payments one reservation takes."""
OPEN_HOLDS_MAX = 10
"""Holds of one event that one buyer has not paid, at a time: several carts in several windows, and not a hall that
nobody else can buy and that costs nothing."""


class EventState(StrEnum):
    """Whether an event sells."""

    OPEN = "OPEN"
    CLOSED = "CLOSED"
    CANCELLED = "CANCELLED"


class TicketState(StrEnum):
    """Where a ticket is between the shelf and the buyer."""

    AVAILABLE = "AVAILABLE"
    HELD = "HELD"
    SOLD = "SOLD"
    WITHDRAWN = "WITHDRAWN"


class ReservationState(StrEnum):
    """The life of a reservation; arrows are commented where they are taken."""

    HELD = "HELD"
    PARTIALLY_PAID = "PARTIALLY_PAID"
    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


UNREAD = datetime.min.replace(tzinfo=UTC)
"""The time in books whose clock was not read yet: before everything."""
LIVE_HOLD = (ReservationState.HELD, ReservationState.PARTIALLY_PAID)
"""States in which tickets wait for money."""


class CreditState(StrEnum):
    """What one payment is to its reservation."""

    OPEN = "OPEN"
    APPLIED = "APPLIED"
    CLOSED = "CLOSED"
    REFUND_DUE = "REFUND_DUE"
    REFUNDED = "REFUNDED"


class StepKind(StrEnum):
    """What happened to a reservation; each step is one history row."""

    RESERVED = "RESERVED"
    REJECTED = "REJECTED"
    PAYMENT_OPENED = "PAYMENT_OPENED"
    PARTIALLY_PAID = "PARTIALLY_PAID"
    SOLD = "SOLD"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    MONEY_CHANGED = "MONEY_CHANGED"


@dataclass(slots=True, frozen=True)
class Event:
    """The terms of sale."""

    event_id: UUID
    currency: str
    hold_duration: timedelta
    payment_grace: timedelta
    instalment_hold: timedelta
    max_tickets_per_buyer: int
    sale_start_time: datetime | None
    sale_end_time: datetime | None
    state: EventState


@dataclass(slots=True, frozen=True)
class Ticket:
    """One seat or place as it is at some version."""

    event_id: UUID
    ticket_id: UUID
    section: str
    row: str
    seat: str
    position: int
    price_minor: int
    state: TicketState
    version: int

    def moved_to(self, state: TicketState) -> "Ticket":
        """The same place in another state, one version on. Written out: `replace` costs twice as much."""
        return Ticket(
            self.event_id,
            self.ticket_id,
            self.section,
            self.row,
            self.seat,
            self.position,
            self.price_minor,
            state,
            self.version + 1,
        )


@dataclass(slots=True)
class Credit:
    """One payment's room in a reservation."""

    payment_id: UUID
    amount_minor: int
    state: CreditState
    open_time: datetime


@dataclass(slots=True)
class Reservation:
    """Tickets of one event, held by or sold to one buyer. Amounts in minor units of `currency`."""

    reservation_id: UUID
    event_id: UUID
    buyer_id: str
    request_id: UUID
    command_id: UUID
    state: ReservationState
    currency: str
    create_time: datetime
    expire_time: datetime
    release_time: datetime
    payment_grace: timedelta = timedelta()
    instalment_hold: timedelta = timedelta()
    instalment_time: datetime | None = None
    reject_reason: str = ""
    total_minor: int = 0
    paid_minor: int = 0
    open_minor: int = 0
    refund_due_minor: int = 0
    refunded_minor: int = 0
    version: int = 0
    ticket_ids: tuple[UUID, ...] = ()
    credits: dict[UUID, Credit] = field(default_factory=dict)

    @property
    def due_minor(self) -> int:
        """What is neither paid nor being charged."""
        return self.total_minor - self.paid_minor - self.open_minor

    @property
    def holds_tickets(self) -> bool:
        """Whether its tickets are HELD or SOLD for it."""
        return self.state in LIVE_HOLD or self.state is ReservationState.CONFIRMED

    def set_release_time(self) -> None:
        """Works out until when the tickets are kept: the hold, a charge under way, a part payment, within limits."""
        charges = (credit.open_time for credit in self.credits.values() if credit.state is CreditState.OPEN)
        latest = max((begin + self.payment_grace for begin in charges), default=self.expire_time)
        latest = min(max(latest, self.expire_time), self.expire_time + RELEASE_EXTENSION_MAX)
        if self.instalment_time:
            latest = max(latest, self.instalment_time + self.instalment_hold)
        self.release_time = latest


@dataclass(slots=True, frozen=True)
class Step:
    """One change of one reservation, as things were right after it. `refunds` are the payments that must go back."""

    kind: StepKind
    reservation: Reservation
    tickets: tuple[Ticket, ...]
    occur_time: datetime
    refunds: tuple[Credit, ...] = ()


@dataclass
class Books:
    """The rows one transaction has locked, as it changes them, and the steps it took in order.

    What was read is kept beside it (`..._read`): the store writes against exactly that, or not at all.
    """

    now: datetime = UNREAD
    events: dict[UUID, Event] = field(default_factory=dict)
    tickets: dict[UUID, Ticket] = field(default_factory=dict)
    reservations: dict[UUID, Reservation] = field(default_factory=dict)
    allowances: dict[tuple[UUID, str], int] = field(default_factory=dict)
    open_holds: dict[tuple[UUID, str], int] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    tickets_read: dict[UUID, Ticket] = field(default_factory=dict)
    versions_read: dict[UUID, int] = field(default_factory=dict)
    holding_read: set[UUID] = field(default_factory=set)
    credits_read: dict[tuple[UUID, UUID], CreditState] = field(default_factory=dict)
    allowances_read: dict[tuple[UUID, str], int] = field(default_factory=dict)

    def tickets_of(self, reservation: Reservation) -> tuple[Ticket, ...]:
        """Its tickets as they are now."""
        return tuple(self.tickets[ticket_id] for ticket_id in reservation.ticket_ids)

    def move_tickets(self, ticket_ids: Iterable[UUID], state: TicketState) -> None:
        """Puts tickets into another state, each one version on."""
        for ticket_id in ticket_ids:
            self.tickets[ticket_id] = self.tickets[ticket_id].moved_to(state)

    def within_limit(self, event: Event, buyer_id: str, more: int) -> bool:
        """Whether the buyer may have so many tickets more."""
        limit = event.max_tickets_per_buyer
        return not limit or self.allowances.get((event.event_id, buyer_id), 0) + more <= limit

    def has_room_for_hold(self, event_id: UUID, buyer_id: str) -> bool:
        """Whether the buyer may have one more hold that is not paid."""
        return self.open_holds.get((event_id, buyer_id), 0) < OPEN_HOLDS_MAX

    def count_hold(self, reservation: Reservation) -> None:
        """Counts a new hold to its buyer."""
        key = (reservation.event_id, reservation.buyer_id)
        self.open_holds[key] = self.open_holds.get(key, 0) + 1

    def change_allowance(self, reservation: Reservation, sign: int) -> None:
        """Counts the reservation's tickets to its buyer (+1) or gives them back (-1)."""
        key = (reservation.event_id, reservation.buyer_id)
        self.allowances[key] = self.allowances.get(key, 0) + sign * len(reservation.ticket_ids)

    def take_step(self, kind: StepKind, reservation: Reservation, refunds: Iterable[Credit] = ()) -> None:
        """Raises the version and notes the step with everything as it is now."""
        reservation.version += 1
        tickets = () if kind is StepKind.REJECTED else self.tickets_of(reservation)
        self.steps.append(Step(kind, copy(reservation), tickets, self.now, tuple(copy(credit) for credit in refunds)))
