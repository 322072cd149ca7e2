"""Which seats are best: neighbours first, then in few groups close together, the front before the back."""

from bisect import bisect_left, insort
from collections.abc import Sequence
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
    """`quantity` free tickets in as few groups of neighbours as can be, with the fewest groups in between, foremost.

    Takes and returns seat order. Empty if too few are free.
    """
    if len(free) < quantity:
        return ()
    runs = _runs(free)
    lengths = [len(run) for run in runs]
    group_count = _fewest_groups(lengths, quantity)
    begin, end = _narrowest(lengths, group_count, quantity)
    longest = sorted(range(begin, end), key=lambda index: (-lengths[index], index))[:group_count]
    chosen = [ticket.ticket_id for index in sorted(longest) for ticket in runs[index]]
    return tuple(chosen[:quantity])


def _runs(free: Sequence[Ticket]) -> list[list[Ticket]]:
    runs: list[list[Ticket]] = []
    for ticket in free:
        if runs and _neighbours(runs[-1][-1], ticket):
            runs[-1].append(ticket)
        else:
            runs.append([ticket])
    return runs


def _fewest_groups(lengths: Sequence[int], quantity: int) -> int:
    count = seated = 0
    for length in sorted(lengths, reverse=True):
        if seated >= quantity:
            break
        count, seated = count + 1, seated + length
    return count


def _narrowest(lengths: Sequence[int], group_count: int, quantity: int) -> tuple[int, int]:
    """The first of the shortest stretches of runs in which the `group_count` longest seat everybody."""
    best_begin, best_end = 0, len(lengths)
    begin, inside = 0, list[int]()
    for end, length in enumerate(lengths, start=1):
        insort(inside, length)
        while sum(inside[-group_count:]) >= quantity:
            if end - begin < best_end - best_begin:
                best_begin, best_end = begin, end
            del inside[bisect_left(inside, lengths[begin])]
            begin += 1
    return best_begin, best_end


def _neighbours(left: Ticket, right: Ticket) -> bool:
    return left.position + 1 == right.position and left.row == right.row and left.section == right.section
