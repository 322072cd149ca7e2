"""`ticketrush event`: what is on sale."""

from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from cli import show
from cli.gateway import CALL_TIMEOUT_S, connect
from cli.options import Address, EventId, Json, RequestId, instant, span
from ticketrush.v1 import catalog_pb2 as pb

event_app = typer.Typer(no_args_is_help=True, help="Create events and look at them.")


@event_app.command("create", epilog="Example: ticketrush event create 'Night of the Proms' --venue Arena --hold 5m")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people will see, at most 200 characters.")],
    *,
    address: Address,
    request_id: RequestId,
    currency: Annotated[str, typer.Option(metavar="CODE", help="ISO 4217 code; cannot be changed later.")] = "EUR",
    venue: Annotated[str, typer.Option(metavar="NAME", help="Where it is.")] = "",
    starts: Annotated[
        Timestamp | None, typer.Option(metavar="TIME", parser=instant, help="When the doors open.")
    ] = None,
    hold: Annotated[
        Duration | None, typer.Option(metavar="SPAN", parser=span, help="How long a hold lasts.", show_default="5m")
    ] = None,
    grace: Annotated[
        Duration | None,
        typer.Option(
            metavar="SPAN", parser=span, help="How long a charge under way keeps the tickets.", show_default="60s"
        ),
    ] = None,
    instalment_hold: Annotated[
        Duration | None,
        typer.Option(
            metavar="SPAN", parser=span, help="How long a part payment keeps the tickets.", show_default="as --grace"
        ),
    ] = None,
    max_per_buyer: Annotated[
        int, typer.Option(min=0, max=10_000, help="Most tickets one buyer may have; 0 for any number.")
    ] = 0,
    sale_starts: Annotated[
        Timestamp | None,
        typer.Option(metavar="TIME", parser=instant, help="When selling begins.", show_default="now"),
    ] = None,
    sale_ends: Annotated[
        Timestamp | None,
        typer.Option(metavar="TIME", parser=instant, help="When selling ends.", show_default="never"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Create an event, open for sale. Times without a zone are local. Add its tickets with `ticketrush tickets add`."""
    wanted = pb.Event(
        name=name,
        venue=venue,
        currency=currency,
        start_time=starts,
        hold_duration=hold,
        payment_grace=grace,
        instalment_hold=instalment_hold,
        max_tickets_per_buyer=max_per_buyer,
        sale_start_time=sale_starts,
        sale_end_time=sale_ends,
    )
    request = pb.CreateEventRequest(request_id=request_id, event=wanted)
    with connect(address, as_json=as_json, request_id=request_id) as gateway:
        answer = gateway.catalog.CreateEvent(request, timeout=CALL_TIMEOUT_S)
    _print_event(answer.event, as_json=as_json)


@event_app.command("show", epilog="Example: ticketrush event show 0b6cd0f3-...")
def show_event(event_id: EventId, *, address: Address, as_json: Json = False) -> None:
    """Show one event and how many of its tickets are available, held and sold."""
    with connect(address, as_json=as_json) as gateway:
        answer = gateway.catalog.GetEvent(pb.GetEventRequest(event_id=event_id), timeout=CALL_TIMEOUT_S)
    _print_event(answer.event, as_json=as_json)


@event_app.command("list", epilog="Example: ticketrush event list --limit 10")
def list_events(
    address: Address,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many at most.")] = 50,
    as_json: Json = False,
) -> None:
    """List events, the newest first."""
    with connect(address, as_json=as_json) as gateway:
        answer = gateway.catalog.ListEvents(pb.ListEventsRequest(page_size=limit), timeout=CALL_TIMEOUT_S)
    if as_json:
        show.print_json(answer)
    else:
        show.events(answer.events)


def _print_event(event: pb.Event, *, as_json: bool) -> None:
    if as_json:
        show.print_json(event)
    else:
        show.event(event)
