"""`ticketrush tickets`: the seats of an event."""

from typing import Annotated, Final

import typer

from cli import show
from cli.gateway import CALL_TIMEOUT_S, connect
from cli.options import Address, EventId, Json, RequestId
from cli.paging import pages
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

tickets_app = typer.Typer(no_args_is_help=True, help="Put tickets on sale and look at them.")

PAGE_SIZE_MAX: Final = 1_000
# Writing 100,000 rows takes a while.
CREATE_TIMEOUT_S = 60.0


def _layout(block: catalog.Block, rows: int, seats_per_row: int, quantity: int, seats: list[str]) -> None:
    if [bool(rows or seats_per_row), bool(quantity), bool(seats)].count(True) != 1:
        raise typer.BadParameter("say one of: --rows with --seats-per-row, --quantity, --seat (as often as needed)")
    if quantity:
        block.quantity = quantity
    elif seats:
        for text in seats:
            row, separator, seat = text.partition("/")
            if not separator:
                raise typer.BadParameter(f"--seat {text!r}: write ROW/SEAT, for example A/12")
            block.seats.seats.add(row=row, seat=seat)
    else:
        block.grid.rows, block.grid.seats_per_row = rows, seats_per_row


@tickets_app.command(
    "add",
    epilog="Example: ticketrush tickets add EVENT_ID --section stalls --price-minor 4500 --rows 20 --seats-per-row 50",
)
def add(
    event_id: EventId,
    *,
    section: Annotated[str, typer.Option(metavar="NAME", help="Section of the venue, for example stalls.")],
    price_minor: Annotated[
        int, typer.Option(min=0, max=100_000_000, help="Price of one ticket in minor units: 4500 is 45.00 EUR.")
    ],
    address: Address,
    request_id: RequestId,
    rows: Annotated[int, typer.Option(min=0, max=10_000, help="Rows of numbered seats.")] = 0,
    seats_per_row: Annotated[int, typer.Option(min=0, max=10_000, help="Seats in each row.")] = 0,
    quantity: Annotated[int, typer.Option(min=0, max=100_000, help="Places without a seat (general admission).")] = 0,
    seat: Annotated[list[str] | None, typer.Option(metavar="ROW/SEAT", help="One named seat; repeatable.")] = None,
    as_json: Json = False,
) -> None:
    """Add tickets of one section at one price: a grid of seats, named seats, or places without a seat."""
    block = catalog.Block(section=section, price_minor=price_minor)
    _layout(block, rows, seats_per_row, quantity, seat or [])
    request = catalog.CreateTicketsRequest(request_id=request_id, event_id=event_id, blocks=[block])
    with connect(address, as_json=as_json, request_id=request_id) as gateway:
        answer = gateway.catalog.CreateTickets(request, timeout=CREATE_TIMEOUT_S)
    if as_json:
        show.print_json(answer)
    else:
        show.console().print(f"{answer.ticket_count} tickets added.")
        show.event(answer.event)


@tickets_app.command("list", epilog="Example: ticketrush tickets list EVENT_ID --available")
def list_tickets(
    event_id: EventId,
    *,
    address: Address,
    available: Annotated[bool, typer.Option("--available", help="Only those on sale now.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most.")] = 100,
    as_json: Json = False,
) -> None:
    """List the tickets of an event in seat order, with the ids that `reserve --ticket` takes."""
    state = pb.Ticket.STATE_AVAILABLE if available else pb.Ticket.STATE_UNSPECIFIED
    answer = pb.ListTicketsResponse()
    with connect(address, as_json=as_json) as gateway:

        def ask(size: int, token: str) -> pb.ListTicketsResponse:
            request = pb.ListTicketsRequest(event_id=event_id, state=state, page_size=size, page_token=token)
            return gateway.ticketing.ListTickets(request, timeout=CALL_TIMEOUT_S)

        for page in pages(ask, lambda page: page.tickets, limit=limit, page_size_max=PAGE_SIZE_MAX):
            answer.tickets.extend(page.tickets)
            answer.next_page_token = page.next_page_token
        event = gateway.catalog.GetEvent(catalog.GetEventRequest(event_id=event_id), timeout=CALL_TIMEOUT_S).event
    if as_json:
        show.print_json(answer)
    else:
        show.tickets(answer.tickets, event.currency)
    if answer.next_page_token:
        show.note(f"There are more than these {len(answer.tickets)}: --limit shows up to 100000.")


@tickets_app.command("watch", epilog="Example: ticketrush tickets watch EVENT_ID")
def watch(event_id: EventId, *, address: Address, as_json: Json = False) -> None:
    """Follow the tickets of an event until Ctrl-C: a table on a terminal, else a line for each change.

    With --json each message of the gateway on a line, the first ones the tickets as they are.
    """
    from cli.seats import follow

    request = pb.WatchTicketsRequest(event_id=event_id)
    with connect(address, as_json=as_json) as gateway:
        if as_json:
            for message in gateway.ticketing.WatchTickets(request):
                show.print_json(message)
        else:
            event = gateway.catalog.GetEvent(catalog.GetEventRequest(event_id=event_id), timeout=CALL_TIMEOUT_S).event
            follow(gateway.ticketing.WatchTickets(request), event.name)
