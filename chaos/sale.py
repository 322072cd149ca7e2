"""What is on sale while a cell is played: an event for people who take their time, and one for people in a hurry."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final
from uuid import UUID

import grpc
from google.protobuf.duration_pb2 import Duration

from chaos.clients import SECTION, Client
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

PRICE_MINOR: Final = 4_500
PAGE: Final = 1_000
SET_UP_TIMEOUT_S: Final = 30.0
AGAIN_AFTER_S: Final = 0.2


@dataclass(frozen=True)
class Terms:
    """How long things are kept, and how many seats there are; buyers look only at the foremost `window` not sold."""

    hold_s: int
    grace_s: int
    instalment_s: int
    seats: int
    window: int


PATIENT: Final = Terms(hold_s=8, grace_s=8, instalment_s=6, seats=4_000, window=120)
# A slow card takes 5 s: its charge lands when the hold is over.
HASTY: Final = Terms(hold_s=2, grace_s=1, instalment_s=1, seats=1_500, window=14)


SEATS_PER_ROW: Final = 50
CREATED_AT_ONCE_MAX: Final = 100_000


@dataclass
class Sale:
    """An event, its seats in order, and those of which the buyers know that they are sold."""

    event_id: str
    terms: Terms
    seats: Sequence[str]
    sold: set[str] = field(default_factory=set)
    _first: int = 0

    def pick(self, random: Random, count: int) -> tuple[str, ...]:
        """Some of the foremost seats that are not known to be sold."""
        while self._first < len(self.seats) - self.terms.window and self.seats[self._first] in self.sold:
            self._first += 1
        window = self.seats[self._first : self._first + 4 * self.terms.window]
        free = [seat for seat in window if seat not in self.sold][: self.terms.window]
        return tuple(random.sample(free, count)) if len(free) >= count else tuple(window[-count:])


async def put_on_sale(client: Client, terms: Terms, random: Random) -> Sale:
    """Creates the event with its seats; insists, within SET_UP_TIMEOUT_S, on the same request each time."""
    event = catalog.Event(
        name="Hamlet",
        currency="EUR",
        hold_duration=Duration(seconds=terms.hold_s),
        payment_grace=Duration(seconds=terms.grace_s),
        instalment_hold=Duration(seconds=terms.instalment_s),
    )
    create = catalog.CreateEventRequest(request_id=drawn_id(random), event=event)
    adds = [
        catalog.CreateTicketsRequest(request_id=drawn_id(random), blocks=[_block(SECTION + "'" * number, seats)])
        for number, seats in enumerate(_portions(terms.seats))
    ]
    give_up_at = time.monotonic() + SET_UP_TIMEOUT_S
    while True:
        try:
            event_id = (await client.catalog.CreateEvent(create, timeout=SET_UP_TIMEOUT_S)).event.event_id
            for add in adds:
                add.event_id = event_id
                await client.catalog.CreateTickets(add, timeout=SET_UP_TIMEOUT_S)
            return Sale(event_id, terms, await _seats(client, event_id))
        except grpc.aio.AioRpcError:
            if time.monotonic() > give_up_at:
                raise
        await asyncio.sleep(AGAIN_AFTER_S)


def _block(section: str, seats: int) -> catalog.Block:
    block = catalog.Block(section=section, price_minor=PRICE_MINOR)
    block.grid.rows, block.grid.seats_per_row = seats // SEATS_PER_ROW, SEATS_PER_ROW
    return block


def _portions(seats: int) -> list[int]:
    """What one call may add, and the rest."""
    full, rest = divmod(seats, CREATED_AT_ONCE_MAX)
    return [CREATED_AT_ONCE_MAX] * full + [rest] * bool(rest)


async def _seats(client: Client, event_id: str) -> list[str]:
    found: list[str] = []
    request = pb.ListTicketsRequest(event_id=event_id, page_size=PAGE)
    while True:
        page = await client.ticketing.ListTickets(request, timeout=SET_UP_TIMEOUT_S)
        found += [ticket.ticket_id for ticket in page.tickets]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def drawn_id(random: Random) -> str:
    """A request_id that the seed decides."""
    return str(UUID(int=random.getrandbits(128), version=4))
