"""What HTTP costs beside gRPC: of one call, and of the many browsers that watch one seat map."""

import asyncio
import http.client
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import grpc

from bench.report import Figure
from deploy.services import FRONTEND
from ticketrush.v1 import ticketing_pb2 as pb
from ticketrush.v1.catalog_pb2 import GetEventRequest
from ticketrush.v1.catalog_pb2_grpc import CatalogServiceStub
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

if TYPE_CHECKING:  # it imports us
    from bench.__main__ import Bench

CALLS: Final = 500
BROWSERS: Final = 2_000
SEATS: Final = 2_000
# One after the other, so that each is told to all by itself.
CHANGES: Final = 100
SEEN_TIMEOUT_S: Final = 120.0
_COMPLETE: Final = b'"snapshot_complete":true}'
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


async def rest(bench: "Bench", rounds: int, _: float) -> list[Figure]:
    """One caller by gRPC and by HTTP in turns; then what so many browsers cost the front."""
    await asyncio.to_thread(bench.stack.up, (FRONTEND.name,))
    found: list[Figure] = []
    for _round in range(rounds):
        bench.say("rest: one caller, by gRPC and by HTTP")
        event_id, seats = await bench.public_office.sale(2 * CALLS)
        found += await asyncio.to_thread(_latencies, bench, event_id, seats)
        found += await _browsers(bench)
    return found


def _latencies(bench: "Bench", event_id: str, seats: list[str]) -> list[Figure]:
    """Medians, in microseconds. The two take turns: what else the machine does befalls both."""
    token = ("authorization", f"Bearer {bench.stack.operator_token}")
    metadata = (token,)
    line = http.client.HTTPConnection(bench.stack.address(FRONTEND.name))
    with grpc.insecure_channel(bench.stack.address("gateway")) as channel:
        catalog, ticketing = CatalogServiceStub(channel), TicketingServiceStub(channel)

        def asked(method: str, path: str, body: str | None = None) -> None:
            line.request(method, path, body, dict([token, ("content-type", "application/json")]))
            answer = line.getresponse()
            if answer.status != http.client.OK:
                raise RuntimeError(answer.read())
            answer.read()

        def reserved(seat: str) -> dict[str, object]:
            return {"request_id": str(uuid4()), "event_id": event_id, "buyer_id": seat, "ticket_ids": [seat]}

        ways: dict[str, tuple[Callable[[str], object], Callable[[str], object]]] = {
            "GetEvent": (
                lambda _: catalog.GetEvent(GetEventRequest(event_id=event_id), metadata=metadata),
                lambda _: asked("GET", f"/v1/events/{event_id}"),
            ),
            "Reserve": (
                lambda seat: ticketing.Reserve(_request(reserved(seat)), metadata=metadata),
                lambda seat: asked("POST", "/v1/reservations", json.dumps(reserved(seat))),
            ),
        }
        figures = []
        for name, both in ways.items():
            took: tuple[list[float], list[float]] = ([], [])
            for number in range(CALLS):
                for way, times in enumerate(took):
                    begin = time.perf_counter()
                    both[way](seats[2 * number + way])
                    times.append(time.perf_counter() - begin)
            by_grpc, by_http = (statistics.median(times) * 1e6 for times in took)
            figures += [
                Figure(f"us median, {name} by gRPC", by_grpc),
                Figure(f"us median, {name} by HTTP", by_http),
                Figure(f"us that HTTP adds to {name}", by_http - by_grpc),
            ]
    line.close()
    return figures


async def _browsers(bench: "Bench") -> list[Figure]:
    event_id, seats = await bench.public_office.sale(SEATS)
    pid = bench.stack.pid(FRONTEND.name)
    before = _resident_mb(pid)
    bench.say(f"rest: {BROWSERS:,} browsers begin to look")
    crowd = [Browser(bench.stack.address(FRONTEND.name), event_id) for _ in range(BROWSERS)]
    try:
        async with asyncio.timeout(SEEN_TIMEOUT_S):
            for some in range(0, BROWSERS, 100):
                await asyncio.gather(*(browser.look() for browser in crowd[some : some + 100]))
        quiet, cpu_s, begin = _resident_mb(pid), _cpu_s(pid), time.monotonic()
        for seat in seats[:CHANGES]:
            request = {"request_id": str(uuid4()), "event_id": event_id, "buyer_id": seat, "ticket_ids": [seat]}
            await bench.public_office.ticketing.Reserve(_request(request))
        async with asyncio.timeout(SEEN_TIMEOUT_S):
            await asyncio.gather(*(browser.sees(seats[CHANGES - 1]) for browser in crowd))
        took_s, spent_s = time.monotonic() - begin, _cpu_s(pid) - cpu_s
        return [
            Figure("MB of the front, nobody looks", before),
            Figure(f"MB of the front, {BROWSERS:,} look", quiet),
            Figure(f"MB of the front, {BROWSERS:,} look and seats are sold", _resident_mb(pid)),
            Figure("ms of the front's CPU a second while seats are sold", spent_s / took_s * 1e3),
        ]
    finally:
        for browser in crowd:
            browser.leave()


class Browser:
    """One that watches a seat map."""

    def __init__(self, address: str, event_id: str) -> None:
        self._address = address
        self._event_id = event_id
        self._writer: asyncio.StreamWriter | None = None

    async def look(self) -> None:
        """Returns when it has seen all of it."""
        host, port = self._address.split(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port), limit=1024 * 1024)
        path = f"/v1/events/{self._event_id}/tickets:watch"
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n".encode())
        while _COMPLETE not in await self._line():
            pass

    async def sees(self, ticket_id: str) -> None:
        """Returns when it is told of a ticket."""
        while ticket_id.encode() not in await self._line():
            pass

    def leave(self) -> None:
        if self._writer:
            self._writer.close()

    async def _line(self) -> bytes:
        if not (line := await self._reader.readline()):
            raise RuntimeError("the stream was ended")
        return line


def _request(fields: Mapping[str, object]) -> pb.ReserveRequest:
    return pb.ReserveRequest(**fields)  # type: ignore[arg-type] # the same as for JSON


def _resident_mb(pid: int | None) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES / 1e6


def _cpu_s(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
