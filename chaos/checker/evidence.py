"""All that is known, indexed for the rules."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from chaos.books import Books, Charge, Credit, Payment, Reservation, Step
from chaos.record import Record, ToldReservation


@dataclass(frozen=True)
class Violation:
    """A promise that was broken: which, and by what."""

    rule: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}"


@dataclass
class Evidence:
    """The record and the books of a run, at a moment at which nothing moves.

    In `lossy` cells messages that the broker had confirmed were destroyed: what was only PENDING then may be gone.
    """

    record: Record
    books: Books
    lossy: Collection[str] = ()

    @cached_property
    def reservations(self) -> dict[str, Reservation]:
        return {row.reservation_id: row for row in self.books.reservations}

    @cached_property
    def payments(self) -> dict[str, Payment]:
        return {row.payment_id: row for row in self.books.payments}

    @cached_property
    def credits(self) -> dict[str, Credit]:
        return {row.payment_id: row for row in self.books.credits}

    @cached_property
    def charges(self) -> dict[str, Charge]:
        return {row.payment_id: row for row in self.books.charges}

    @cached_property
    def reserved(self) -> dict[tuple[str, str], Reservation]:
        """By buyer_id and request_id."""
        return {(row.buyer_id, row.request_id): row for row in self.books.reservations}

    @cached_property
    def paid(self) -> dict[tuple[str, str], Payment]:
        """By buyer_id and request_id."""
        return {(row.buyer_id, row.request_id): row for row in self.books.payments}

    @cached_property
    def tickets_of(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = defaultdict(list)
        for held in self.books.held:
            found[held.reservation_id].append(held.ticket_id)
        return {reservation_id: tuple(sorted(tickets)) for reservation_id, tickets in found.items()}

    @cached_property
    def steps_of(self) -> dict[str, list[Step]]:
        found: dict[str, list[Step]] = defaultdict(list)
        for step in (*self.books.steps, *self.books.payment_steps):
            found[step.subject_id].append(step)
        return found

    @cached_property
    def taken_back(self) -> set[str]:
        """Reservations whose sale a person asked to take back."""
        return {request.reservation_id for request in self.record.requests if request.call == "Refund"}

    @cached_property
    def told(self) -> dict[str, list[tuple[float, ToldReservation]]]:
        """By reservation, everything that anybody was shown of it, with the time at which it was shown."""
        found: dict[str, list[tuple[float, ToldReservation]]] = defaultdict(list)
        for request in self.record.requests:
            for answer in request.answers:
                if answer.reservation and answer.reservation.state != "PENDING":
                    found[answer.reservation.reservation_id].append((answer.end_s, answer.reservation))
        for sight in self.record.sights:
            found[sight.reservation.reservation_id].append((sight.end_s, sight.reservation))
        return found
