"""A first honest measurement: a closed loop of Reserve calls, and lone ones, through the public gRPC API.

`python -m bench.smoke` measures the stack that `.run/stack.env` (or GATEWAY_ADDRESS) names. The load generator runs on
the same machine and its CPU time is shown, for it takes its share from the system it measures. Every answer is checked,
and at the end the event's own counts must agree with what the callers were told.
"""

import asyncio
import os
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from google.protobuf.duration_pb2 import Duration
from rich.console import Console
from rich.table import Table

from deploy import environment
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb
from ticketrush.v1.catalog_pb2_grpc import CatalogServiceStub
from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceStub

if TYPE_CHECKING:
    # The generated code has only the stubs; their asyncio faces exist for type checkers.
    from ticketrush.v1.catalog_pb2_grpc import CatalogServiceAsyncStub
    from ticketrush.v1.ticketing_pb2_grpc import TicketingServiceAsyncStub

IN_FLIGHT = 256
RESERVATIONS = 10_000
WARM_UP = 1_000
LONE_CALLS = 100
CALL_TIMEOUT_S = 30.0
WAIT_S = 20
REFUSED_PAUSE_S = 0.5
REFUSALS_MAX = 20
PAGE = 1_000
SERVICES = ("gateway", "reservations", "payments", "scheduler", "provider")


@dataclass(frozen=True)
class Measured:
    """What a closed loop gave. Latencies in seconds, ascending; `refused` counts calls that were one too many."""

    elapsed_s: float
    latencies_s: Sequence[float]
    refused: int

    def percentile_ms(self, percent: float) -> float:
        """The latency that so many percent of the calls did not exceed, in milliseconds."""
        return self.latencies_s[min(len(self.latencies_s) - 1, int(len(self.latencies_s) * percent / 100))] * 1e3


async def make_event(catalog_stub: "CatalogServiceAsyncStub", ticket_count: int) -> str:
    """A new event with so many tickets; returns its id."""
    created = await catalog_stub.CreateEvent(
        catalog.CreateEventRequest(
            request_id=str(uuid.uuid4()),
            event=catalog.Event(name="bench", currency="EUR", hold_duration=Duration(seconds=3600)),
        )
    )
    block = catalog.Block(section="floor", price_minor=2_500, quantity=ticket_count)
    event_id = created.event.event_id
    await catalog_stub.CreateTickets(
        catalog.CreateTicketsRequest(request_id=str(uuid.uuid4()), event_id=event_id, blocks=[block])
    )
    return event_id


async def ticket_ids(ticketing: "TicketingServiceAsyncStub", event_id: str) -> list[str]:
    """All tickets of the event."""
    found: list[str] = []
    token = ""
    while True:
        page = await ticketing.ListTickets(pb.ListTicketsRequest(event_id=event_id, page_size=PAGE, page_token=token))
        found += [ticket.ticket_id for ticket in page.tickets]
        token = page.next_page_token
        if not token:
            return found


async def reserve(ticketing: "TicketingServiceAsyncStub", event_id: str, ticket_id: str) -> tuple[float, int]:
    """Seconds until this ticket was HELD, and how often it was refused. Raises RuntimeError when it was not HELD."""
    request = pb.ReserveRequest(
        request_id=str(uuid.uuid4()),
        event_id=event_id,
        buyer_id=f"buyer-{ticket_id}",
        ticket_ids=[ticket_id],
        wait=Duration(seconds=WAIT_S),
    )
    begin = time.perf_counter()
    answer, refusals = await _insist(ticketing, request)
    elapsed_s = time.perf_counter() - begin
    if answer.reservation.state != pb.Reservation.STATE_HELD:
        raise RuntimeError(f"not held but {pb.Reservation.State.Name(answer.reservation.state)}: {answer.reservation}")
    return elapsed_s, refusals


async def _insist(ticketing: "TicketingServiceAsyncStub", request: pb.ReserveRequest) -> tuple[pb.ReserveResponse, int]:
    """The answer, and how often the caller was one too many: then it comes back, and the time counts."""
    for refusals in range(REFUSALS_MAX + 1):
        try:
            return await ticketing.Reserve(request, timeout=CALL_TIMEOUT_S), refusals
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED or refusals == REFUSALS_MAX:
                raise
        await asyncio.sleep(REFUSED_PAUSE_S)
    raise AssertionError("unreachable")


async def closed_loop(
    ticketing: "TicketingServiceAsyncStub", event_id: str, tickets: Sequence[str], callers: int
) -> Measured:
    """So many callers, each reserving the next ticket as soon as its last one is held."""
    left: Iterator[str] = iter(tickets)
    latencies_s: list[float] = []
    refused: list[int] = []

    async def caller() -> None:
        for ticket_id in left:
            latency_s, refusals = await reserve(ticketing, event_id, ticket_id)
            latencies_s.append(latency_s)
            refused.append(refusals)

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return Measured(time.perf_counter() - begin, sorted(latencies_s), sum(refused))


def cpu_s(pid: int) -> float:
    """User and system time of a process and its children that ended, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    """Memory of a process that is in RAM, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def service_pids(run_dir: Path) -> dict[str, int]:
    """The local stack's Python services; none when it runs elsewhere."""
    files = ((name, run_dir / f"{name}.pid") for name in SERVICES)
    pids = {name: int(file.read_text().split()[0]) for name, file in files if file.exists()}
    return {name: pid for name, pid in pids.items() if Path(f"/proc/{pid}").exists()}


async def measure(address: str, pids: dict[str, int], console: Console) -> bool:
    """Runs it all, prints what came of it; returns whether the event's counts agree with the answers."""
    at_rest_mb = {name: resident_mb(pid) for name, pid in pids.items()}
    async with grpc.aio.insecure_channel(address) as channel:
        events, ticketing = CatalogServiceStub(channel), TicketingServiceStub(channel)
        total = WARM_UP + LONE_CALLS + RESERVATIONS
        with console.status(f"an event with {total:,} tickets"):
            event_id = await make_event(events, total)
            tickets = await ticket_ids(ticketing, event_id)
        with console.status(f"warming up with {WARM_UP:,} reservations"):
            await closed_loop(ticketing, event_id, tickets[:WARM_UP], IN_FLIGHT)
        with console.status(f"{LONE_CALLS} lone calls"):
            lone = await closed_loop(ticketing, event_id, tickets[WARM_UP : WARM_UP + LONE_CALLS], 1)
        before = {name: cpu_s(pid) for name, pid in pids.items()} | {"load generator": cpu_s(os.getpid())}
        with console.status(f"{RESERVATIONS:,} reservations, {IN_FLIGHT} in flight"):
            rush = await closed_loop(ticketing, event_id, tickets[WARM_UP + LONE_CALLS :], IN_FLIGHT)
        pids_of_all = pids | {"load generator": os.getpid()}
        spent_s = {name: cpu_s(pids_of_all[name]) - begin for name, begin in before.items()}
        event = (await events.GetEvent(catalog.GetEventRequest(event_id=event_id))).event
    show(console, lone, rush, spent_s, at_rest_mb)
    agrees = (event.available_count, event.held_count) == (0, total)
    console.print(
        f"held by the event's own count: {event.held_count:,} of {total:,}" + ("" if agrees else "  MISMATCH")
    )
    return agrees


def show(
    console: Console, lone: Measured, rush: Measured, spent_s: dict[str, float], at_rest_mb: dict[str, float]
) -> None:
    """The figures, as tables."""
    latency = Table("", "holds/s", "p50 ms", "p99 ms", "refused", title="Reserve, confirmed HELD")
    for name, measured in ((f"{IN_FLIGHT} in flight", rush), ("one at a time", lone)):
        rate = len(measured.latencies_s) / measured.elapsed_s
        p50, p99 = (f"{measured.percentile_ms(percent):.1f}" for percent in (50, 99))
        latency.add_row(name, f"{rate:,.0f}", p50, p99, str(measured.refused))
    console.print(latency)
    cost = Table("process", "CPU us per hold", "MB before", title="What it cost")
    for name, seconds in spent_s.items():
        memory = f"{at_rest_mb[name]:.0f}" if name in at_rest_mb else ""
        cost.add_row(name, f"{seconds / RESERVATIONS * 1e6:.0f}", memory)
    console.print(cost)


def main() -> int:
    """Exit code 0 when every answer was as it must be."""
    run_dir = Path(os.environ.get("TICKETRUSH_RUN_DIR", ".run"))
    address = os.environ.get("GATEWAY_ADDRESS") or environment.read(run_dir / "stack.env").get("GATEWAY_ADDRESS")
    if not address:
        sys.stderr.write("No stack found: start one with `make up`, or set GATEWAY_ADDRESS.\n")
        return 2
    return 0 if asyncio.run(measure(address, service_pids(run_dir), Console())) else 1


if __name__ == "__main__":
    sys.exit(main())
