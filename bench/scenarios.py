"""What is asked of the subjects: each scenario makes its event, and the requests of all its callers beforehand."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID, uuid4

from google.protobuf.duration_pb2 import Duration
from psycopg import AsyncConnection

from bench.serving import METHOD, SERVICE
from contract import ids
from deploy.stack import Stack
from loadgen import Call
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

if TYPE_CHECKING:  # exist only in the stubs
    from ticketrush.v1.catalog_pb2_grpc import CatalogServiceAsyncStub
    from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceAsyncStub

RESERVE: Final = f"/{SERVICE}/{METHOD}"
PAY: Final = f"/{SERVICE}/Pay"
SECTION: Final = "floor"
PRICE_MINOR: Final = 2_500
SEATS_PER_ROW: Final = 50
FEW_TICKETS: Final = 10
WAIT_S: Final = 20
SCHEMA: Final = "-c search_path=reservations -c enable_seqscan=off -c jit=off"
PAGE: Final = 1_000
SQL: Final = Path(__file__).with_name("past.sql")
State = pb.Reservation.State


class Office(Protocol):
    """Where events are made."""

    async def sale(self, seats: int) -> tuple[str, list[str]]:
        """A new event with so many seats, and their ids in order."""


@dataclass(frozen=True)
class PublicOffice:
    """By the public API of TicketRush."""

    catalog: "CatalogServiceAsyncStub"
    ticketing: "TicketingServiceAsyncStub"

    async def sale(self, seats: int) -> tuple[str, list[str]]:
        event = catalog.Event(name="bench", currency="EUR", hold_duration=Duration(seconds=3_600))
        made = await self.catalog.CreateEvent(catalog.CreateEventRequest(request_id=str(uuid4()), event=event))
        block = catalog.Block(section=SECTION, price_minor=PRICE_MINOR)
        block.grid.rows, block.grid.seats_per_row = -(-seats // SEATS_PER_ROW), SEATS_PER_ROW
        event_id = made.event.event_id
        await self.catalog.CreateTickets(
            catalog.CreateTicketsRequest(request_id=str(uuid4()), event_id=event_id, blocks=[block])
        )
        found: list[str] = []
        request = pb.ListTicketsRequest(event_id=event_id, page_size=PAGE)
        while len(found) < seats:
            page = await self.ticketing.ListTickets(request)
            found += [ticket.ticket_id for ticket in page.tickets]
            request.page_token = page.next_page_token
        return event_id, found


@dataclass(frozen=True)
class BackOffice:
    """Straight into the tables of the baseline."""

    database_url: str

    async def sale(self, seats: int) -> tuple[str, list[str]]:
        async with await AsyncConnection.connect(self.database_url, options=SCHEMA) as conn:
            cursor = await conn.execute("SELECT * FROM bench_sale(%s, %s, %s)", (seats, SEATS_PER_ROW, PRICE_MINOR))
            [(event_id, ticket_ids)] = await cursor.fetchall()
        return str(event_id), [str(ticket_id) for ticket_id in ticket_ids]


class NoOffice:
    """For who looks at nothing."""

    async def sale(self, seats: int) -> tuple[str, list[str]]:
        return str(uuid4()), [str(uuid4()) for _ in range(seats)]


@dataclass(frozen=True)
class Scenario:
    """`requests` makes those of so many errands; `counts` tells which answers are what is counted."""

    name: str
    what: str
    counted: str
    requests: Callable[[Office, int], Awaitable[Sequence[bytes]]]
    counts: Callable[[Call], bool]
    errands: int
    methods: Sequence[str] = (RESERVE,)
    # Whether the baseline can do it.
    compared: bool = True


async def _seats(office: Office, errands: int) -> Sequence[bytes]:
    event_id, seats = await office.sale(errands)
    return [reserve(event_id, [seat]).SerializeToString() for seat in seats[:errands]]


async def _carts(office: Office, errands: int) -> Sequence[bytes]:
    event_id, seats = await office.sale(4 * errands)
    return [reserve(event_id, seats[4 * n : 4 * n + 4]).SerializeToString() for n in range(errands)]


async def _hot_seat(office: Office, errands: int) -> Sequence[bytes]:
    event_id, [seat, *_] = await office.sale(1)
    return [reserve(event_id, [seat]).SerializeToString() for _ in range(errands)]


async def _few(office: Office, errands: int) -> Sequence[bytes]:
    event_id, seats = await office.sale(FEW_TICKETS)
    return [reserve(event_id, [seats[number % FEW_TICKETS]]).SerializeToString() for number in range(errands)]


async def _flash(office: Office, errands: int) -> Sequence[bytes]:
    event_id, _ = await office.sale(FLASH_PAIRS * 2)
    requests = []
    for _ in range(errands):
        request = reserve(event_id, [])
        request.best_available.section, request.best_available.quantity = SECTION, 2
        requests.append(request.SerializeToString())
    return requests


async def _orders(office: Office, errands: int) -> Sequence[bytes]:
    event_id, seats = await office.sale(errands)
    requests = []
    for seat in seats[:errands]:
        hold = reserve(event_id, [seat])
        reservation_id = ids.reservation_id(UUID(event_id), hold.buyer_id, hold.request_id)
        pay = pb.PayRequest(
            request_id=str(uuid4()),
            buyer_id=hold.buyer_id,
            reservation_id=str(reservation_id),
            payment_method="pm_card_ok",
            wait=Duration(seconds=WAIT_S),
        )
        requests += [hold.SerializeToString(), pay.SerializeToString()]
    return requests


def reserve(event_id: str, ticket_ids: Sequence[str]) -> pb.ReserveRequest:
    """By a buyer of its own."""
    request_id = str(uuid4())
    return pb.ReserveRequest(
        request_id=request_id,
        event_id=event_id,
        buyer_id=f"buyer-{request_id[:13]}",
        ticket_ids=ticket_ids,
        wait=Duration(seconds=WAIT_S),
    )


def state_of(call: Call) -> "pb.Reservation.State.ValueType | None":
    """In which state a Reserve shows its reservation."""
    return pb.ReserveResponse.FromString(call.body).reservation.state if call.code == "OK" else None


def _held(call: Call) -> bool:
    return state_of(call) == State.STATE_HELD


def _decided(call: Call) -> bool:
    return state_of(call) in {State.STATE_HELD, State.STATE_REJECTED}


def _confirmed(call: Call) -> bool:
    if call.number % 2 == 0 or call.code != "OK":
        return False
    return pb.PayResponse.FromString(call.body).reservation.state == State.STATE_CONFIRMED


async def on_sale(scenario: Scenario, office: Office) -> Scenario:
    """The same with its event and its requests made now, so that it begins at once."""
    requests = await scenario.requests(office, scenario.errands)

    async def made(*_: object) -> Sequence[bytes]:
        return requests

    return replace(scenario, requests=made)


@asynccontextmanager
async def books(stack: Stack) -> AsyncIterator[AsyncConnection[Any]]:
    """The tables of reservations, with what makes a past."""
    url = stack.env["DATABASE_URL"]
    async with await AsyncConnection.connect(url, options=SCHEMA, autocommit=True) as conn:
        await conn.execute(SQL.read_bytes())
        yield conn


FLASH_PAIRS: Final = 2_000
SEATS: Final = Scenario("seats", "everybody another seat", "holds", _seats, _held, 30_000)
SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        SEATS,
        Scenario("carts", "everybody four other seats", "holds", _carts, _held, 20_000),
        Scenario("hot-seat", "everybody the same seat", "decisions", _hot_seat, _decided, 40_000),
        Scenario("few", "ten seats, and everybody wants one of them", "decisions", _few, _decided, 40_000),
        Scenario("flash", "best-available pairs, long after they are gone", "decisions", _flash, _decided, 40_000),
        Scenario("orders", "reserve, pay, confirmed", "orders", _orders, _confirmed, 20_000, (RESERVE, PAY), False),
    )
}
