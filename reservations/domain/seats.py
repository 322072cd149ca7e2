"""Which seats are best: neighbours first, then as close together as can be, the front before the back."""

from collections.abc import Sequence
from itertools import pairwise
from uuid import UUID

from reservations.domain.model import Ticket


def adjacent(free: Sequence[Ticket], quantity: int) -> tuple[UUID, ...]:
    """The first `quantity` neighbours in a row among free tickets in seat order; empty if there are none."""
    run_begin = 0
    for index, ticket in enumerate(free):
        if index > run_begin and not _neighbours(free[index - 1], ticket):
            run_begin = index
        if index - run_begin + 1 == quantity:
            return tuple(found.ticket_id for found in free[run_begin : index + 1])
    return ()


def closest(free: Sequence[Ticket], quantity: int) -> tuple[UUID, ...]:
    """The foremost `quantity` tickets that break into the fewest groups of neighbours; empty if too few are free."""
    if len(free) < quantity:
        return ()
    gaps = [0, *(not _neighbours(left, right) for left, right in pairwise(free))]
    # Sliding window: gaps inside it are those after its first ticket.
    inside = sum(gaps[1:quantity])
    best_begin, best_inside = 0, inside
    for begin in range(1, len(free) - quantity + 1):
        inside += gaps[begin + quantity - 1] - gaps[begin]
        if inside < best_inside:
            best_begin, best_inside = begin, inside
    return tuple(ticket.ticket_id for ticket in free[best_begin : best_begin + quantity])


def _neighbours(left: Ticket, right: Ticket) -> bool:
    return left.position + 1 == right.position and left.row == right.row and left.section == right.section
