"""`ticketrush event`: what is on sale."""

import sys
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from cli import show
from cli.gateway import CALL_TIMEOUT_S, connect
from cli.options import NO_TIME, Address, EventId, Json, Reason, RequestId, instant, instant_or_none, span
from cli.printable import printable
from ticketrush.v1 import catalog_pb2 as pb

event_app = typer.Typer(no_args_is_help=True, help="Create events, look at them, change and end them.")


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


@event_app.command("update", epilog="Example: ticketrush event update EVENT_ID --venue Arena --sale-ends none")
def update(
    event_id: EventId,
    *,
    address: Address,
    request_id: RequestId,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="What people will see.")] = None,
    venue: Annotated[str | None, typer.Option(metavar="NAME", help="Where it is.")] = None,
    starts: Annotated[
        Timestamp | None,
        typer.Option(metavar="TIME", parser=instant_or_none, help="When the doors open; none: not known."),
    ] = None,
    hold: Annotated[Duration | None, typer.Option(metavar="SPAN", parser=span, help="How long a hold lasts.")] = None,
    grace: Annotated[
        Duration | None,
        typer.Option(metavar="SPAN", parser=span, help="How long a charge under way keeps the tickets."),
    ] = None,
    instalment_hold: Annotated[
        Duration | None, typer.Option(metavar="SPAN", parser=span, help="How long a part payment keeps the tickets.")
    ] = None,
    max_per_buyer: Annotated[
        int | None, typer.Option(min=0, max=10_000, help="Most tickets one buyer may have; 0 for any number.")
    ] = None,
    sale_starts: Annotated[
        Timestamp | None,
        typer.Option(metavar="TIME", parser=instant_or_none, help="When selling begins; none: at once."),
    ] = None,
    sale_ends: Annotated[
        Timestamp | None, typer.Option(metavar="TIME", parser=instant_or_none, help="When selling ends; none: never.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change what is named of an event, and nothing else. Live holds keep the terms they began with."""
    event = pb.Event(
        event_id=event_id,
        name=name or "",
        venue=venue or "",
        start_time=starts,
        hold_duration=hold,
        payment_grace=grace,
        instalment_hold=instalment_hold,
        max_tickets_per_buyer=max_per_buyer or 0,
        sale_start_time=sale_starts,
        sale_end_time=sale_ends,
    )
    given = {
        "name": name,
        "venue": venue,
        "start_time": starts,
        "hold_duration": hold,
        "payment_grace": grace,
        "instalment_hold": instalment_hold,
        "max_tickets_per_buyer": max_per_buyer,
        "sale_start_time": sale_starts,
        "sale_end_time": sale_ends,
    }
    named = [field for field, value in given.items() if value is not None]
    if not named:
        raise typer.BadParameter("say what is to be changed, for example --venue Arena")
    for field in named:
        if given[field] == NO_TIME:  # taken away: named in the mask, and unset
            event.ClearField(field)  # type: ignore[arg-type] # the stubs know literal names alone
    request = pb.UpdateEventRequest(request_id=request_id, event=event, update_mask=FieldMask(paths=named))
    with connect(address, as_json=as_json, request_id=request_id) as gateway:
        answer = gateway.catalog.UpdateEvent(request, timeout=CALL_TIMEOUT_S)
    _print_event(answer.event, as_json=as_json)


@event_app.command("close", epilog="Example: ticketrush event close EVENT_ID")
def close(event_id: EventId, *, address: Address, request_id: RequestId, as_json: Json = False) -> None:
    """Stop selling, for good. Holds run on and may be paid."""
    request = pb.CloseEventRequest(request_id=request_id, event_id=event_id)
    with connect(address, as_json=as_json, request_id=request_id) as gateway:
        answer = gateway.catalog.CloseEvent(request, timeout=CALL_TIMEOUT_S)
    _print_event(answer.event, as_json=as_json)


@event_app.command("cancel", epilog="Example: ticketrush event cancel EVENT_ID --reason 'the lead is ill'")
def cancel(
    event_id: EventId,
    *,
    address: Address,
    request_id: RequestId,
    reason: Reason,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask whether it is meant, as is done on a terminal.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Call an event off, for ever: every reservation of it is cancelled, and all that was paid goes back."""
    request = pb.CancelEventRequest(request_id=request_id, event_id=event_id, reason=reason)
    with connect(address, as_json=as_json, request_id=request_id) as gateway:
        if sys.stdin.isatty() and not yes:
            found = gateway.catalog.GetEvent(pb.GetEventRequest(event_id=event_id), timeout=CALL_TIMEOUT_S).event
            counts = f"{found.held_count} tickets held, {found.sold_count} sold"
            question = f"Call off {printable(found.name)} ({counts}) for ever, and give all the money back?"
            typer.confirm(question, abort=True, err=True)
        answer = gateway.catalog.CancelEvent(request, timeout=CALL_TIMEOUT_S)
    _print_event(answer.event, as_json=as_json)


def _print_event(event: pb.Event, *, as_json: bool) -> None:
    if as_json:
        show.print_json(event)
    else:
        show.event(event)
