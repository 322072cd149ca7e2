"""The end of the show: the summary as tables, and what to type next."""

from typing import Final

from rich.columns import Columns
from rich.console import Console
from rich.rule import Rule
from rich.table import Table

from cli import show
from cli.demo.box_office import CURRENCY
from cli.demo.summary import Summary
from cli.money import written

# `make venv` brings it.
GRPCURL: Final = ".venv/bin/grpcurl -plaintext"
# In a pipe lines may be longer than anybody's eyes.
HEADING_COLUMNS_MAX: Final = 100


def draw(console: Console, summary: Summary) -> None:
    """Prints reservations by state, tickets, payments by state, and the money on all sides."""
    console.print()
    _heading(console, "What the services say now")
    console.print(Columns([_reservations(summary), _tickets(summary), _payments(summary)], padding=(0, 3)))
    console.print(_money(summary))
    sold = written(summary.sold_minor(), CURRENCY)
    if summary.agrees():
        console.print(f"[bold green]Reservations, payments and provider agree to the cent[/]; kept = sold = {sold}.")
    else:
        console.print(f"[bold red]The books do not agree[/] (sold: {sold}).")


def what_next(console: Console, address: str, event_id: str) -> None:
    """Prints commands that go on from here, ready to paste."""
    lines = [
        f"{GRPCURL} {address} list",
        ". .run/stack.env",
        _grpcurl(address, "CatalogService/GetEvent", f'{{"event_id": "{event_id}"}}'),
        _grpcurl(
            address,
            "TicketingService/Reserve",
            f'{{"request_id": "\'$(cat /proc/sys/kernel/random/uuid)\'", "event_id": "{event_id}", "buyer_id": "me", '
            f'"best_available": {{"section": "stalls", "quantity": 2}}}}',
        ),
        _grpcurl(address, "TicketingService/ListReservations", f'{{"event_id": "{event_id}"}}'),
        _grpcurl(address, "TicketingService/WatchTickets", f'{{"event_id": "{event_id}"}}'),
        f".venv/bin/ticketrush reserve {event_id} --buyer me --section balcony --quantity 2",
    ]
    console.print()
    _heading(console, "Go on from here")
    for line in lines:
        # Whole, so that it can be pasted.
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _heading(console: Console, title: str) -> None:
    console.print(Rule(title), width=min(console.width, HEADING_COLUMNS_MAX))


def _grpcurl(address: str, method: str, body: str) -> str:
    bearing = '-H "authorization: Bearer $OPERATOR_TOKEN"'
    return f"{GRPCURL} {bearing} -d '{body}' {address} ticketrush.v1.{method}"


def _reservations(summary: Summary) -> Table:
    table = Table("reservations", "how many")
    for name, count in sorted(summary.reservations_by_state().items()):
        table.add_row(show.state(name), str(count))
    return table


def _tickets(summary: Summary) -> Table:
    table = Table("event", "available", "held", "sold")
    for event in summary.events:
        counts = (event.available_count, event.held_count, event.sold_count)
        table.add_row(event.name, *(f"{count:,}" for count in counts))
    return table


def _payments(summary: Summary) -> Table:
    table = Table("payments", "how many", "sum")
    for name, (count, sum_minor) in summary.payments_by_state().items():
        table.add_row(show.state(name), str(count), written(sum_minor, CURRENCY))
    return table


def _money(summary: Summary) -> Table:
    table = Table("the money, by", "charged", "given back", "kept")
    for side, money in summary.books().items():
        amounts = (money.charged_minor, money.given_back_minor, money.kept_minor)
        table.add_row(side, *(written(amount, CURRENCY) for amount in amounts))
    return table
