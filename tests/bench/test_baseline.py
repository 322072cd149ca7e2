"""The baseline keeps the promises it is measured for: idempotent, never twice the same seat, on the same tables."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast
from uuid import uuid4

import grpc
import psycopg
import pytest

from bench import subjects
from bench.scenarios import BackOffice
from deploy.stack import Stack
from ticketrush.v1 import ticketing_pb2 as pb
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

if TYPE_CHECKING:  # exists only in the stubs
    from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceAsyncStub

SQL = Path(subjects.__file__).with_name("baseline.sql")
State = pb.Reservation.State


@pytest.fixture
async def reserve(database_url: str) -> AsyncIterator["TicketingServiceAsyncStub"]:
    async with await psycopg.AsyncConnection.connect(database_url, options="-c search_path=reservations") as conn:
        await conn.execute(SQL.read_bytes())
    # Whose PostgreSQL it is matters only to what is measured.
    stack = cast("Stack", SimpleNamespace(pid=lambda _: 1))
    subject = await asyncio.to_thread(subjects.baseline, stack, database_url, 2)
    try:
        async with grpc.aio.insecure_channel(subject.addresses[0]) as channel:
            yield TicketingServiceStub(channel)
    finally:
        await asyncio.to_thread(subject.stop)


def ask(event_id: str, *ticket_ids: str, buyer: str = "ada", request_id: str = "") -> pb.ReserveRequest:
    return pb.ReserveRequest(
        request_id=request_id or str(uuid4()), event_id=event_id, buyer_id=buyer, ticket_ids=ticket_ids
    )


async def test_of_many_who_want_a_seat_one_has_it(reserve: "TicketingServiceAsyncStub", database_url: str) -> None:
    event_id, [seat, *_] = await BackOffice(database_url).sale(50)
    answers = await asyncio.gather(*(reserve.Reserve(ask(event_id, seat, buyer=f"b{n}")) for n in range(60)))
    told = Counter((answer.reservation.state, answer.reservation.reject_reason) for answer in answers)
    assert told == {(State.STATE_HELD, ""): 1, (State.STATE_REJECTED, "TICKETS_TAKEN"): 59}


async def test_the_same_request_again_has_one_effect(reserve: "TicketingServiceAsyncStub", database_url: str) -> None:
    event_id, seats = await BackOffice(database_url).sale(50)
    request = ask(event_id, *seats[:3])
    first, again = await reserve.Reserve(request), await reserve.Reserve(request)
    assert first.reservation.state == again.reservation.state == State.STATE_HELD
    assert {ticket.ticket_id for ticket in again.reservation.tickets} == set(seats[:3])
    async with await psycopg.AsyncConnection.connect(database_url, options="-c search_path=reservations") as conn:
        cursor = await conn.execute(
            "SELECT (SELECT count(*) FROM reservation), (SELECT count(*) FROM history), sum(held), sum(available) "
            "FROM event_count WHERE event_id = %s",
            (event_id,),
        )
        assert await cursor.fetchall() == [(1, 1, 3, 47)]


async def test_pairs_are_sold_to_the_last_seat(reserve: "TicketingServiceAsyncStub", database_url: str) -> None:
    event_id, _ = await BackOffice(database_url).sale(50)
    request = [ask(event_id, buyer=f"b{n}") for n in range(40)]
    for one in request:
        one.best_available.section, one.best_available.quantity = "floor", 2
    answers = [(await reserve.Reserve(one)).reservation for one in request]
    told = Counter((answer.state, answer.reject_reason) for answer in answers)
    assert told == {(State.STATE_HELD, ""): 25, (State.STATE_REJECTED, "SOLD_OUT"): 15}
    taken = [ticket.ticket_id for answer in answers for ticket in answer.tickets]
    assert len(taken) == len(set(taken)) == 50


def test_what_a_process_spends_counts_its_children() -> None:
    spent = subjects._spent([1])
    alone = subjects._spent([2**22])
    assert spent.cpu_s > 0
    assert spent.resident_mb > 0
    assert alone == (0, 0)
