"""What a caller may take of the front, and that it ends what takes too long."""

import asyncio
import resource
import time
from collections.abc import AsyncIterator

import pytest

from tests.e2e.office import eventually
from tests.frontend.alone import Alone, alone, desk
from tests.frontend.servicer import Desk
from tests.frontend.visitors import Refused, new_id, refused
from ticketrush.v1 import ticketing_pb2 as pb

BROWSERS = 2_000
CHANGES = 20
PATIENCE_S = 120
LINE_BYTES_MAX = 1024 * 1024
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
async def scene(program: str) -> AsyncIterator[tuple[Desk, Alone]]:
    async with desk() as (played, address), alone(program, address) as front:
        yield played, front


async def conversation(front: Alone, *said: bytes) -> bytes:
    """All that it answers to these bytes, until it hangs up."""
    reader, writer = await asyncio.open_connection(*front.address.split(":"))
    try:
        for part in said:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(30):
            return await reader.read()
    finally:
        writer.close()


async def test_a_body_has_its_largest_size_and_that_of_many_seats_a_larger_one(scene: tuple[Desk, Alone]) -> None:
    _, front = scene
    seats = b'{"blocks":[' + b",".join([b'{"section":"stalls","quantity":1}'] * 5_000) + b"]}"
    response = await front.client.post(f"/v1/events/{new_id()}/tickets", content=seats, headers=JSON)
    assert response.json()["ticket_count"] == 5_000
    for path, size in (("/v1/reservations", 65_537), (f"/v1/events/{new_id()}/tickets", 16 * 1024 * 1024 + 1)):
        response = await front.client.post(path, content=b" " * size, headers=JSON)
        assert refused(response) == Refused(413, 3, "REQUEST_TOO_LARGE")

    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b" " * 8_192

    response = await front.client.post("/v1/reservations", content=in_pieces(), headers=JSON)
    assert refused(response) == Refused(413, 3, "REQUEST_TOO_LARGE")


async def test_headers_have_their_largest_size(scene: tuple[Desk, Alone]) -> None:
    _, front = scene
    response = await front.client.get("/v1/events", headers={"x-large": "x" * 16_384})
    assert refused(response) == Refused(431, 3, "REQUEST_TOO_LARGE")
    response = await front.client.get("/v1/events", params={"page_token": "x" * 16_384})
    assert refused(response) == Refused(431, 3, "REQUEST_TOO_LARGE")


async def test_two_thousand_browsers_cost_it_less_than_100_mb(program: str) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    seats = [pb.Ticket(ticket_id=new_id(), section="stalls", row="1", seat=str(number)) for number in range(1_000)]
    async with desk() as (played, address), alone(program, address) as front:
        await played.tell(pb.WatchTicketsResponse(tickets=seats, snapshot_complete=True))
        path = f"/v1/events/{new_id()}/tickets:watch"
        request = f"GET {path} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n".encode()
        crowd: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

        async def sees(reader: asyncio.StreamReader, ticket: pb.Ticket) -> None:
            while ticket.ticket_id.encode() not in await reader.readline():
                assert not reader.at_eof()

        try:
            for _ in range(BROWSERS):
                crowd.append(await asyncio.open_connection(*front.address.split(":"), limit=LINE_BYTES_MAX))
                crowd[-1][1].write(request)
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*(sees(reader, seats[-1]) for reader, _ in crowd))
                # Each change by itself, as they come in a sale.
                for _ in range(CHANGES):
                    added = pb.Ticket(ticket_id=new_id(), section="stalls", row="2")
                    await played.tell(pb.WatchTicketsResponse(tickets=[added], snapshot_complete=True))
                await asyncio.gather(*(sees(reader, added) for reader, _ in crowd))
            assert await front.figure("ticketrush_frontend_streams") == BROWSERS
            assert len(played.watched) == 1
            assert front.resident_mb() < 100
        finally:
            for _, writer in crowd:
                writer.close()


async def test_a_body_that_does_not_come_is_not_waited_for(scene: tuple[Desk, Alone]) -> None:
    _, front = scene
    head = b"POST /v1/reservations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    begin = time.monotonic()
    answer = await conversation(front, head + b"Content-Length: 100\r\n\r\n{")
    assert 9 < time.monotonic() - begin < 15
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"REQUEST_TOO_SLOW" in answer


async def test_headers_that_do_not_come_are_not_waited_for(scene: tuple[Desk, Alone]) -> None:
    _, front = scene
    begin = time.monotonic()
    await conversation(front, b"GET /v1/events HTTP/1.1\r\nHost: ")
    assert 4 < time.monotonic() - begin < 10


async def test_a_call_that_is_not_answered_is_given_up(program: str) -> None:
    async with desk() as (played, address), alone(program, address, REQUEST_TIMEOUT_S="1") as front:
        played.may_answer.clear()
        response = await front.client.post("/v1/reservations", json={})
        assert refused(response) == Refused(504, 4, "GATEWAY_UNAVAILABLE")
        assert "unknown" in response.json()["message"]
        played.may_answer.set()


async def test_an_address_has_so_many_streams_and_its_place_is_given_back(program: str) -> None:
    settings = {"ADDRESS_STREAMS": "2", "LIMIT_LOOPBACK": "yes", "TRUSTED_PROXIES": "127.0.0.1"}
    async with desk() as (played, address), alone(program, address, **settings) as front:
        await played.tell(pb.WatchTicketsResponse(snapshot_complete=True))
        path = f"/v1/events/{new_id()}/tickets:watch"

        async def opened(who: str) -> int:
            async with front.client.stream("GET", path, headers={"x-forwarded-for": who}) as response:
                return response.status_code

        async with (
            front.client.stream("GET", path, headers={"x-forwarded-for": "2001:db8::1"}),
            front.client.stream("GET", path, headers={"x-forwarded-for": "2001:db8::2"}),
        ):
            # One customer has a whole /64.
            response = await front.client.get(path, headers={"x-forwarded-for": "2001:db8::3"})
            assert refused(response) == Refused(429, 8, "TOO_MANY_STREAMS")
            assert response.headers["retry-after"] == "1"
            assert await opened("2001:db8:0:1::1") == 200

        async def is_given_back() -> bool:
            return await opened("2001:db8::3") == 200

        await eventually(is_given_back, lambda: "the places are still taken")


async def test_a_reader_who_takes_nothing_is_ended_and_costs_the_others_nothing(program: str) -> None:
    many = [pb.Ticket(ticket_id=new_id(), section="stalls", row=str(number), seat="1") for number in range(1_000)]
    async with desk() as (played, address), alone(program, address) as front:
        await played.tell(pb.WatchTicketsResponse(tickets=many, snapshot_complete=True))
        path = f"/v1/events/{new_id()}/tickets:watch"
        reader, writer = await asyncio.open_connection(*front.address.split(":"), limit=1)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        async with front.client.stream("GET", path) as quick:
            lines = quick.aiter_lines()
            await anext(lines)
            await anext(lines)
            assert await front.figure("ticketrush_frontend_streams") == 2
            begin = time.monotonic()
            # 30 MB of changes: more than the system keeps for a reader.
            for version in range(1, 151):
                for ticket in many:
                    ticket.version = version
                await played.tell(pb.WatchTicketsResponse(tickets=many, snapshot_complete=True))
                assert len(await anext(lines)) > 100_000

            async def is_ended() -> bool:
                return await front.figure("ticketrush_frontend_streams") == 1

            await eventually(is_ended, lambda: "whoever takes nothing still has his stream")
            assert time.monotonic() - begin < 30
            # Whoever reads goes on.
            many[0].version += 1
            await played.tell(pb.WatchTicketsResponse(tickets=many[:1], snapshot_complete=True))
            assert many[0].ticket_id in await anext(lines)
        writer.close()
        del reader
        assert front.resident_mb() < 150
