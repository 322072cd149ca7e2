"""`ticketrush load`: a few buyers who reserve as fast as they are answered, and how that feels."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from threading import Event, Lock
from typing import Annotated, Final
from uuid import uuid4

import grpc
import typer
from google.protobuf.duration_pb2 import Duration
from rich.text import Text

from chassis.addresses import is_loopback
from cli import failures, show
from cli.completion import event_ids
from cli.gateway import CALL_TIMEOUT_S, Gateway, connect
from cli.options import Address, Json, uuid
from cli.printable import printable
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

SECONDS_MAX: Final = 60
BUYERS_MAX: Final = 64
# More than these buyers can take; CreateTickets adds up to 100,000.
TICKETS_PER_S: Final = 1_000
CREATE_TIMEOUT_S: Final = 60.0
HOLD_S: Final = 60
FIGURES_INTERVAL_S: Final = 1.0
# A gateway that refuses answers at once: those who were refused should not keep it busy with that.
PAUSE_AFTER_ERROR_S: Final = 0.1
_INTERRUPTED: Final = 130
_SECTION: Final = "floor"
_HELD: Final = ("HELD", "CONFIRMED")


class Figures:
    """What became of the reservations so far."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._times_s: list[float] = []
        self.outcomes: Counter[str] = Counter()
        self.last_error: grpc.RpcError | None = None
        self.begin_s = time.monotonic()
        self.end_s: float | None = None

    def answered(self, outcome: str, time_s: float) -> None:
        with self._lock:
            self._times_s.append(time_s)
            self.outcomes[outcome] += 1

    def failed(self, outcome: str, error: grpc.RpcError) -> None:
        with self._lock:
            self.outcomes[outcome] += 1
            self.last_error = error

    @property
    def held(self) -> int:
        return sum(self.outcomes[state] for state in _HELD)

    @property
    def answers(self) -> int:
        return len(self._times_s)

    @property
    def elapsed_s(self) -> float:
        return (self.end_s or time.monotonic()) - self.begin_s

    def percentile_ms(self, share: float) -> float:
        """Of the answers; 0 without any."""
        with self._lock:
            times_s = sorted(self._times_s)
        return 1_000 * times_s[int(share * (len(times_s) - 1))] if times_s else 0.0

    def line(self) -> Text:
        """For people."""
        shown = Text(f"{self.elapsed_s:4.0f} s  {self.held / self.elapsed_s:,.0f} reservations/s  ")
        shown.append(f"p50 {self.percentile_ms(0.5):.0f} ms  p99 {self.percentile_ms(0.99):.0f} ms")
        for outcome, count in self.outcomes.most_common():
            shown.append(f"  {printable(outcome)} {count:,}")
        return shown

    def as_dict(self) -> dict[str, object]:
        """For programs."""
        return {
            "seconds": round(self.elapsed_s, 3),
            "reservations_per_s": round(self.held / self.elapsed_s, 1),
            "p50_ms": round(self.percentile_ms(0.5), 1),
            "p99_ms": round(self.percentile_ms(0.99), 1),
            "outcomes": dict(self.outcomes),
        }


def load(
    event_id: Annotated[
        str | None,
        typer.Argument(
            metavar="EVENT_ID",
            parser=uuid,
            autocompletion=event_ids,
            help="Hold tickets of this event; by default of one made for the load and called off afterwards.",
        ),
    ] = None,
    *,
    address: Address,
    seconds: Annotated[int, typer.Option(min=1, max=SECONDS_MAX, help="For how long.")] = 10,
    buyers: Annotated[int, typer.Option(min=1, max=BUYERS_MAX, help="How many reserve at a time.")] = 8,
    yes: Annotated[bool, typer.Option("--yes", help="Also against a gateway that is not on this machine.")] = False,
    as_json: Json = False,
) -> None:
    """Reserve one ticket after the other, and show how many a second, how fast, and what became of them.

    To see that all is well; `make bench` measures. Exit code 1 if nothing was held, 3 if nothing was answered.
    """
    if not (yes or is_loopback(address.rpartition(":")[0])):
        raise typer.BadParameter(f"{address} is not on this machine; say --yes if the load is meant for it")
    figures = Figures()
    is_interrupted = False
    with connect(address, as_json=as_json) as gateway, _sale(gateway, event_id, seconds) as (sale_id, section):
        try:
            _run(
                gateway,
                pb.ReserveRequest(event_id=sale_id, best_available=_one_of(section)),
                figures,
                seconds,
                buyers,
                is_quiet=as_json,
            )
        except KeyboardInterrupt:
            is_interrupted = True
        if figures.last_error and not figures.answers:
            raise figures.last_error
    if as_json:
        typer.echo(json.dumps({"event_id": sale_id, **figures.as_dict()}))
    else:
        show.console().print(figures.line(), soft_wrap=True)
    if is_interrupted:
        raise typer.Exit(_INTERRUPTED)
    if not figures.held:
        raise typer.Exit(failures.REFUSED)


def _one_of(section: str) -> pb.BestAvailable:
    return pb.BestAvailable(section=section, quantity=1)


@contextmanager
def _sale(gateway: Gateway, event_id: str | None, seconds: int) -> Iterator[tuple[str, str]]:
    """The event and the section to reserve in; an event of our own is called off at the end."""
    if event_id is not None:
        request = pb.ListTicketsRequest(event_id=event_id, state=pb.Ticket.STATE_AVAILABLE, page_size=1)
        found = gateway.ticketing.ListTickets(request, timeout=CALL_TIMEOUT_S).tickets
        if not found:
            show.note("None of its tickets is on sale.")
            raise typer.Exit(failures.REFUSED)
        yield event_id, found[0].section
        return
    event = catalog.Event(name="a load", currency="EUR", hold_duration=Duration(seconds=HOLD_S))
    create = catalog.CreateEventRequest(request_id=_fresh(), event=event)
    made = gateway.catalog.CreateEvent(create, timeout=CALL_TIMEOUT_S).event.event_id
    try:
        block = catalog.Block(section=_SECTION, price_minor=100, quantity=seconds * TICKETS_PER_S)
        add = catalog.CreateTicketsRequest(request_id=_fresh(), event_id=made, blocks=[block])
        gateway.catalog.CreateTickets(add, timeout=CREATE_TIMEOUT_S)
        yield made, _SECTION
    finally:
        over = catalog.CancelEventRequest(request_id=_fresh(), event_id=made, reason="the load is over")
        gateway.catalog.CancelEvent(over, timeout=CALL_TIMEOUT_S)


def _run(
    gateway: Gateway, wanted: pb.ReserveRequest, figures: Figures, seconds: int, buyers: int, *, is_quiet: bool
) -> None:
    """Returns when the time is over. Raises grpc.RpcError when a call is refused that all others would be, too."""
    stop = Event()
    run_id = uuid4().hex[:8]
    figures.begin_s = time.monotonic()
    with ThreadPoolExecutor(buyers) as threads:
        try:
            running = [
                threads.submit(_reserve_until, stop, gateway, wanted, f"load-{run_id}-{number}", figures)
                for number in range(buyers)
            ]
            _show_until(figures.begin_s + seconds, figures, running, is_quiet=is_quiet)
        finally:
            stop.set()
            figures.end_s = time.monotonic()
        for one in running:
            one.result()


def _show_until(end_s: float, figures: Figures, running: list[Future[None]], *, is_quiet: bool) -> None:
    """Until then, or until somebody gave up."""
    from rich.live import Live

    console = show.console()
    live = Live(console=console) if console.is_interactive and not is_quiet else None
    with live or nullcontext():
        while (left_s := end_s - time.monotonic()) > 0 and not any(one.done() for one in running):
            time.sleep(min(left_s, FIGURES_INTERVAL_S))
            if live:
                live.update(figures.line(), refresh=True)
            elif not is_quiet:
                console.print(figures.line(), soft_wrap=True)


def _reserve_until(stop: Event, gateway: Gateway, wanted: pb.ReserveRequest, name: str, figures: Figures) -> None:
    """One buyer after the other: each may hold only so much of an event."""
    number = 0
    while not stop.is_set():
        number += 1
        request = pb.ReserveRequest(request_id=_fresh(), buyer_id=f"{name}-{number}")
        request.MergeFrom(wanted)
        begin_s = time.monotonic()
        try:
            reservation = gateway.ticketing.Reserve(request, timeout=CALL_TIMEOUT_S).reservation
        except grpc.RpcError as error:
            if not isinstance(error, grpc.Call):
                raise
            failure = failures.understand(error)
            if failure.exit_code != failures.UNAVAILABLE:
                raise
            figures.failed(failure.reason or failure.code.name, error)
            stop.wait(PAUSE_AFTER_ERROR_S)
        else:
            state = pb.Reservation.State.Name(reservation.state).removeprefix("STATE_")
            figures.answered(f"{state} {reservation.reject_reason}".strip(), time.monotonic() - begin_s)


def _fresh() -> str:
    return str(uuid4())
