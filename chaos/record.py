"""What clients asked and what they were told, word for word: the one witness that shares nothing with the services."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from ticketrush.v1 import ticketing_pb2 as pb

Call = Literal["Reserve", "Pay", "Cancel", "Refund"]

OK: Final = "OK"
# Cards that take their time by themselves.
SLOW_CARDS: Final = frozenset({"pm_card_slow", "pm_card_lost_reply"})
# What ends a call without saying what became of it: the same request may be sent again.
UNANSWERED: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED"})


@dataclass(frozen=True, slots=True)
class ToldReservation:
    """A reservation as it was shown. States without the prefix STATE_."""

    reservation_id: str
    event_id: str
    buyer_id: str
    state: str
    ticket_ids: tuple[str, ...]
    total_minor: int
    paid_minor: int
    refund_due_minor: int
    refunded_minor: int
    reject_reason: str
    version: int


@dataclass(frozen=True, slots=True)
class ToldPayment:
    """A payment as it was shown."""

    payment_id: str
    reservation_id: str
    amount_minor: int
    state: str
    decline_reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """How one attempt ended; times in seconds since the epoch. `reason` is that of an error."""

    begin_s: float
    end_s: float
    code: str
    reason: str = ""
    reservation: ToldReservation | None = None
    payment: ToldPayment | None = None


@dataclass(slots=True)
class Request:
    """One request_id: what it asked for, and every answer to it in the order of arrival."""

    call: Call
    request_id: str
    buyer_id: str
    event_id: str
    cell: str
    reservation_id: str = ""
    ticket_ids: tuple[str, ...] = ()
    # Of the best tickets there are, when no tickets are named.
    quantity: int = 0
    amount_minor: int = 0
    payment_method: str = ""
    answers: list[Answer] = field(default_factory=list)
    # Its caller says it until it is decided.
    insists: bool = False

    @property
    def decision(self) -> Answer | None:
        """The first answer that says what became of it."""
        return next((answer for answer in self.answers if self.is_decided_by(answer)), None)

    @property
    def seconds(self) -> float:
        """How long its caller insisted until it was decided; 0 for those who did not wait, or for a slow card."""
        if not self.insists or not self.answers or self.payment_method in SLOW_CARDS:
            return 0.0
        return (self.decision.end_s if self.decision else float("inf")) - self.answers[0].begin_s

    def is_decided_by(self, answer: Answer) -> bool:
        """Whether an answer says what became of the request: a decision, or a refusal that will not change."""
        if answer.code != OK:
            return answer.code not in UNANSWERED
        if self.call == "Pay":
            return answer.payment is not None and answer.payment.state != "PENDING"
        state = answer.reservation.state if answer.reservation else ""
        # Another state means that the cancellation is still on its way.
        return state in {"CANCELLED", "EXPIRED"} if self.call == "Cancel" else state not in {"", "PENDING"}


@dataclass(frozen=True, slots=True)
class Sight:
    """A reservation that was read, by Get or on a watch: never older than what was told before `begin_s`."""

    begin_s: float
    end_s: float
    reservation: ToldReservation


@dataclass
class Record:
    """Everything that all clients of a run asked, were told and saw."""

    requests: list[Request] = field(default_factory=list)
    sights: list[Sight] = field(default_factory=list)
    # Reads that were refused though they asked for what had been shown before.
    failed_reads: list[str] = field(default_factory=list)
    # What open watches said last: by event and ticket its state and version; by reservation what it was.
    seat_maps: dict[str, dict[str, tuple[str, int]]] = field(default_factory=dict)
    followed: dict[str, ToldReservation] = field(default_factory=dict)
    # Reservations whose watch ended by itself, each with the state it ended at.
    endings: list[tuple[str, str]] = field(default_factory=list)


def told_reservation(shown: pb.Reservation) -> ToldReservation:
    """What the message says."""
    return ToldReservation(
        reservation_id=shown.reservation_id,
        event_id=shown.event_id,
        buyer_id=shown.buyer_id,
        state=pb.Reservation.State.Name(shown.state).removeprefix("STATE_"),
        ticket_ids=tuple(sorted(ticket.ticket_id for ticket in shown.tickets)),
        total_minor=shown.total_minor,
        paid_minor=shown.paid_minor,
        refund_due_minor=shown.refund_due_minor,
        refunded_minor=shown.refunded_minor,
        reject_reason=shown.reject_reason,
        version=shown.version,
    )


def told_payment(shown: pb.Payment) -> ToldPayment:
    """What the message says."""
    return ToldPayment(
        payment_id=shown.payment_id,
        reservation_id=shown.reservation_id,
        amount_minor=shown.amount_minor,
        state=pb.Payment.State.Name(shown.state).removeprefix("STATE_"),
        decline_reason=shown.decline_reason,
    )


def of_cell(requests: Sequence[Request], cell: str) -> list[Request]:
    """Those made while one cell was played."""
    return [request for request in requests if request.cell == cell]
