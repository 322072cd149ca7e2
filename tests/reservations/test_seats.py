"""Which seats are best, held against every choice there is, over small halls."""

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

import pytest

from reservations.domain.model import Ticket
from reservations.domain.seats import adjacent, closest
from tests.reservations.ledger import ticket

SEATS = 9


def halls() -> Iterator[list[Ticket]]:
    """Every way in which nine seats, as one row and as two rows of four and five, can be free."""
    one_row = [ticket(ordinal) for ordinal in range(SEATS)]
    two_rows = [ticket(ordinal, row="A" if ordinal < 4 else "B") for ordinal in range(SEATS)]
    for hall in (one_row, two_rows):
        for taken in range(2**SEATS):
            yield [seat for ordinal, seat in enumerate(hall) if not taken >> ordinal & 1]


def group_count(seats: Sequence[Ticket]) -> int:
    return 1 + sum(left.position + 1 != right.position or left.row != right.row for left, right in pairwise(seats))


def fewest_groups(free: Sequence[Ticket], quantity: int) -> int:
    return min(group_count(choice) for choice in combinations(free, quantity))


@pytest.mark.parametrize("quantity", range(1, 6))
def test_the_foremost_neighbours_are_found_whenever_there_are_any(quantity: int) -> None:
    for free in halls():
        windows = (free[begin : begin + quantity] for begin in range(len(free) - quantity + 1))
        together = next((window for window in windows if group_count(window) == 1), [])
        assert adjacent(free, quantity) == tuple(seat.ticket_id for seat in together)


@pytest.mark.parametrize("quantity", range(1, 6))
def test_a_party_that_cannot_sit_together_is_split_into_as_few_groups_as_can_be(quantity: int) -> None:
    for free in halls():
        chosen = closest(free, quantity)
        if len(free) < quantity:
            assert chosen == ()
            continue
        seats = [seat for seat in free if seat.ticket_id in chosen]
        assert len(seats) == quantity
        assert chosen == tuple(seat.ticket_id for seat in seats), "in seat order"
        assert group_count(seats) == fewest_groups(free, quantity)


def test_of_equally_few_groups_those_that_are_closest_together_are_chosen() -> None:
    free = [ticket(ordinal) for ordinal in (0, 1, 5, 10, 11, 13, 14)]
    assert closest(free, 4) == tuple(seat.ticket_id for seat in free[3:])


def test_of_equally_close_groups_the_foremost_are_chosen() -> None:
    free = [ticket(ordinal) for ordinal in (0, 1, 3, 4, 6, 7)]
    assert closest(free, 4) == tuple(seat.ticket_id for seat in free[:4])


def test_seats_of_two_rows_are_no_neighbours() -> None:
    assert adjacent([ticket(1, row="A"), ticket(2, row="B")], 2) == ()


def test_seats_of_two_sections_are_no_neighbours() -> None:
    assert adjacent([ticket(1, section="stalls"), ticket(2, section="balcony")], 2) == ()


def test_places_without_seats_are_neighbours_in_the_order_of_their_positions() -> None:
    floor = [ticket(ordinal, row="", seat="") for ordinal in range(3)]
    assert adjacent(floor, 3) == tuple(place.ticket_id for place in floor)
