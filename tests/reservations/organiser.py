"""What organisers say in the tests, what they hear when they are refused, and what the database then holds."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID, uuid4

import grpc
import pytest

from chassis.database import Database
from chassis.errors import CallError, from_upstream
from tests.chassis.broker import until
from ticketrush.v1 import catalog_pb2 as pb

if TYPE_CHECKING:  # exist only in the stubs
    from ticketrush.v1.catalog_pb2_grpc import CatalogServiceAsyncStub
    from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceAsyncStub

CatalogStub: TypeAlias = "CatalogServiceAsyncStub"
TicketingStub: TypeAlias = "TicketingServiceAsyncStub"


def new_id() -> str:
    """A request_id for one intention."""
    return str(uuid4())


def concert(**fields: Any) -> pb.Event:
    """An event as an organiser describes it."""
    return pb.Event(**{"name": "Concert", "venue": "Town hall", "currency": "EUR", **fields})


def grid(rows: int = 1, seats_per_row: int = 4, *, section: str = "stalls", price_minor: int = 4_200) -> pb.Block:
    """Rows of numbered seats."""
    return pb.Block(section=section, price_minor=price_minor, grid=pb.Grid(rows=rows, seats_per_row=seats_per_row))


async def create_event(catalog: CatalogStub, **fields: Any) -> pb.Event:
    """An event on sale, without tickets."""
    answer = await catalog.CreateEvent(pb.CreateEventRequest(request_id=new_id(), event=concert(**fields)))
    return answer.event


async def create_tickets(catalog: CatalogStub, event_id: str, *blocks: pb.Block) -> pb.Event:
    """The event with tickets of these blocks more."""
    answer = await catalog.CreateTickets(
        pb.CreateTicketsRequest(request_id=new_id(), event_id=event_id, blocks=blocks or [grid()])
    )
    return answer.event


async def refusal(call: Awaitable[Any]) -> CallError:
    """How a call is refused; the test fails when it is not."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_upstream(caught.value)


async def ticket_ids(database: Database, event_id: str) -> list[UUID]:
    """The tickets of an event in seat order."""
    async with database.transaction() as conn:
        cursor = await conn.execute("SELECT ticket_id FROM ticket WHERE event_id = %s ORDER BY ticket_id", (event_id,))
        return [row[0] async for row in cursor]


async def kinds_of_history(database: Database, event_id: str) -> list[tuple[int, str]]:
    """What is recorded of an event: (version, kind) in order."""
    async with database.transaction() as conn:
        cursor = await conn.execute(
            "SELECT subject_version, kind FROM history WHERE subject_id = %s ORDER BY history_id", (event_id,)
        )
        return [(version, kind) async for version, kind in cursor]


async def someone_waits_for_a_lock(database: Database) -> None:
    """Returns once a session of the same database waits for a lock."""

    async def waits() -> bool:
        async with database.transaction() as conn:
            cursor = await conn.execute(
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return await cursor.fetchone() is not None

    await until(waits)
