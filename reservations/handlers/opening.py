"""OpenPayments: whether reservations can take payments, and room kept for those that they can."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from contract import reasons
from reservations.domain.model import Books
from reservations.domain.money import open_payment
from reservations.handlers.desk import Desk
from reservations.store import books as store


@dataclass(frozen=True)
class Opening:
    """A payment that wants to charge; `amount_minor` 0 is all that is due."""

    payment_id: UUID
    reservation_id: UUID
    buyer_id: str
    amount_minor: int


@dataclass(frozen=True)
class Opened:
    """What may be charged, or why nothing."""

    payment_id: UUID
    refuse_reason: str
    amount_minor: int
    currency: str


class OpeningHandler:
    """Answers the payments service."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def open(self, openings: Sequence[Opening]) -> list[Opened]:
        """Decides each by itself, in order, all in one transaction."""

        async def decision(conn: store.Connection, books: Books) -> list[Opened]:
            await store.lock_reservations(conn, books, {opening.reservation_id for opening in openings})
            await store.lock_what_they_hold(conn, books)
            opened_for = await store.reservations_of(conn, [opening.payment_id for opening in openings])
            return [_decide(books, opening, opened_for) for opening in openings]

        return await self._desk.decide(decision)


def _decide(books: Books, opening: Opening, opened_for: dict[UUID, UUID]) -> Opened:
    reservation = books.reservations.get(opening.reservation_id)
    # A payment pays for one reservation: to any other it is as unknown as that is to it.
    is_of_another = opened_for.get(opening.payment_id, opening.reservation_id) != opening.reservation_id
    if reservation is None or is_of_another:
        return Opened(opening.payment_id, reasons.UNKNOWN_RESERVATION, 0, "")
    reason = open_payment(books, reservation, opening.payment_id, opening.buyer_id, opening.amount_minor)
    amount_minor = 0 if reason else reservation.credits[opening.payment_id].amount_minor
    if not reason:
        opened_for[opening.payment_id] = opening.reservation_id
    return Opened(opening.payment_id, reason, amount_minor, reservation.currency)
