"""Tickets come in seat order, and neighbours are seen as neighbours."""

import pytest

from reservations.layout import POSITION_MAX, Place, SeatNamedTwice, lay_out
from ticketrush.v1 import catalog_pb2 as pb


def test_a_grid_is_laid_out_row_by_row_and_seat_by_seat() -> None:
    assert lay_out([grid("stalls", rows=2, seats_per_row=3, price_minor=4_200)]) == [
        Place("stalls", "1", "1", 1, 4_200),
        Place("stalls", "1", "2", 2, 4_200),
        Place("stalls", "1", "3", 3, 4_200),
        Place("stalls", "2", "1", 1, 4_200),
        Place("stalls", "2", "2", 2, 4_200),
        Place("stalls", "2", "3", 3, 4_200),
    ]


def test_the_tenth_row_and_seat_come_after_the_ninth() -> None:
    places = lay_out([grid("stalls", rows=10, seats_per_row=10)])
    assert [place.seat for place in places[:10]] == [str(seat) for seat in range(1, 11)]
    assert [place.row for place in places[::10]] == [str(row) for row in range(1, 11)]


def test_named_seats_come_in_natural_order_whatever_the_order_they_are_given_in() -> None:
    assert names(lay_out([seats("stalls", "B 2", "AA 1", "A 10", "A 2", "B 1")])) == [
        "A 2",
        "A 10",
        "B 1",
        "B 2",
        "AA 1",
    ]


def test_sections_come_in_the_order_in_which_they_are_first_named() -> None:
    places = lay_out([seats("upper", "1 1"), seats("lower", "1 1"), seats("upper", "1 2")])
    assert [place.section for place in places] == ["upper", "upper", "lower"]


def test_a_row_sold_at_two_prices_is_one_row() -> None:
    places = lay_out([seats("stalls", "1 3", "2 1", price_minor=100), seats("stalls", "1 1", "1 2", price_minor=900)])
    assert [(place.row, place.seat, place.position, place.price_minor) for place in places] == [
        ("1", "1", 1, 900),
        ("1", "2", 2, 900),
        ("1", "3", 3, 100),
        ("2", "1", 1, 100),
    ]


def test_a_gap_in_the_numbers_is_a_gap_between_the_seats() -> None:
    assert positions(lay_out([seats("stalls", "1 7", "1 8", "1 10")])) == [7, 8, 10]


def test_the_number_at_the_end_of_a_name_counts() -> None:
    assert positions(lay_out([seats("stalls", "1 A7", "1 A8", "1 A11")])) == [7, 8, 11]


def test_seats_without_numbers_are_neighbours_in_the_order_of_their_names() -> None:
    assert positions(lay_out([seats("box", "1 left", "1 aisle", "2 left")])) == [1, 2, 1]


def test_a_number_that_does_not_fit_is_only_a_name() -> None:
    assert positions(lay_out([seats("stalls", f"1 {POSITION_MAX}", "1 9999999999999999")])) == [POSITION_MAX, 2]


def test_general_admission_is_counted_through_and_comes_after_the_seats() -> None:
    blocks = [standing("floor", 2, price_minor=100), seats("floor", "1 1"), standing("floor", 1, price_minor=50)]
    assert lay_out(blocks) == [
        Place("floor", "1", "1", 1, 0),
        Place("floor", "", "", 1, 100),
        Place("floor", "", "", 2, 100),
        Place("floor", "", "", 3, 50),
    ]


def test_a_seat_named_twice_in_a_block_is_refused() -> None:
    with pytest.raises(SeatNamedTwice, match="seat 2 of row A in section stalls"):
        lay_out([seats("stalls", "A 2", "A 1", "A 2")])


def test_a_seat_of_a_grid_named_again_by_another_block_is_refused() -> None:
    with pytest.raises(SeatNamedTwice, match="seat 3 of row 2"):
        lay_out([grid("stalls", rows=2, seats_per_row=3), seats("upper", "2 3"), seats("stalls", "2 3")])


def test_01_and_1_are_two_seats() -> None:
    assert names(lay_out([seats("stalls", "1 1", "1 01")])) == ["1 01", "1 1"]


def grid(section: str, *, rows: int, seats_per_row: int, price_minor: int = 0) -> pb.Block:
    return pb.Block(section=section, price_minor=price_minor, grid=pb.Grid(rows=rows, seats_per_row=seats_per_row))


def seats(section: str, *named: str, price_minor: int = 0) -> pb.Block:
    """Each name is "row seat"."""
    pairs = (name.split() for name in named)
    return pb.Block(
        section=section,
        price_minor=price_minor,
        seats=pb.Seats(seats=[pb.Seat(row=row, seat=seat) for row, seat in pairs]),
    )


def standing(section: str, quantity: int, *, price_minor: int = 0) -> pb.Block:
    return pb.Block(section=section, price_minor=price_minor, quantity=quantity)


def names(places: list[Place]) -> list[str]:
    return [f"{place.row} {place.seat}" for place in places]


def positions(places: list[Place]) -> list[int]:
    return [place.position for place in places]
