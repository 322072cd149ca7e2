"""Blocks of seats as tickets: every place in seat order, numbered so that neighbours are seen. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Final, NamedTuple

from ticketrush.v1 import catalog_pb2 as pb

POSITION_MAX: Final = 2**31 - 1
"""What the column holds; a longer seat number is a name."""

_PIECES = re.compile(r"[0-9]+|[^0-9]+")
_NUMBER_AT_END = re.compile(r"[0-9]+$")


class Place(NamedTuple):
    """One ticket to be: where it is and what it costs. Row and seat are empty for general admission."""

    section: str
    row: str
    seat: str
    position: int
    price_minor: int


class SeatNamedTwice(Exception):
    """The same seat stands in the blocks twice."""

    def __init__(self, place: Place) -> None:
        super().__init__(f"seat {place.seat} of row {place.row} in section {place.section} comes twice")


def lay_out(blocks: Iterable[pb.Block]) -> list[Place]:
    """Every place in seat order: sections as they first come, rows and seats in natural order, general admission last.

    Blocks of one section are joined, so that a row sold at two prices is still one row. Positions of neighbours differ
    by one: a seat's is the number that its name ends in, else its place in the row; general admission is counted.
    Raises SeatNamedTwice.
    """
    sections: dict[str, list[pb.Block]] = {}
    for block in blocks:
        sections.setdefault(block.section, []).append(block)
    return [
        place for section in sections.values() for places in (_seats(section), _standing(section)) for place in places
    ]


def _seats(section: Iterable[pb.Block]) -> Iterator[Place]:
    seats = [(row, seat, block.section, block.price_minor) for block in section for row, seat in _names(block)]
    seats.sort(key=lambda named: (_natural(named[0]), _natural(named[1])))
    for _, row_seats in groupby(seats, key=lambda named: named[0]):
        before = ""
        for index, (row, seat, name, price_minor) in enumerate(row_seats, start=1):
            place = Place(name, row, seat, _position(seat, index), price_minor)
            if seat == before:
                raise SeatNamedTwice(place)
            before = seat
            yield place


def _standing(section: Sequence[pb.Block]) -> Iterator[Place]:
    name = section[0].section
    prices = (block.price_minor for block in section for _ in range(block.quantity))
    return (Place(name, "", "", position, price_minor) for position, price_minor in enumerate(prices, start=1))


def _names(block: pb.Block) -> Iterator[tuple[str, str]]:
    if block.HasField("grid"):
        seats = [str(seat) for seat in range(1, block.grid.seats_per_row + 1)]
        return ((str(row), seat) for row in range(1, block.grid.rows + 1) for seat in seats)
    return ((named.row, named.seat) for named in block.seats.seats)


@lru_cache(maxsize=20_000)
def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts as people count: 2 before 10, B before AA."""
    return tuple(
        (0, int(piece), piece) if piece[0] in "0123456789" else (1, len(piece), piece)
        for piece in _PIECES.findall(name)
    )


def _position(seat: str, index: int) -> int:
    number = _NUMBER_AT_END.search(seat)
    return int(number[0]) if number and int(number[0]) <= POSITION_MAX else index
