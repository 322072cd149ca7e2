"""How answers look: text for people, JSON for programs."""

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.advice import ADVICE
from cli.money import written
from cli.printable import printable
from ticketrush.v1 import catalog_pb2, ticketing_pb2

PIPE_WIDTH: Final = 2_000
"""Columns where there is no terminal: what is on one line stays on it, for those who cut lines up."""
_WIDTH_MAX: Final = 10_000
# What a shell says of a program that SIGPIPE ended.
_NOBODY_READS: Final = 141

_COLOURS: Final = {
    "AVAILABLE": "green",
    "OPEN": "green",
    "HELD": "yellow",
    "PENDING": "yellow",
    "PARTIALLY_PAID": "yellow",
    "CONFIRMED": "bold green",
    "APPROVED": "bold green",
    "SOLD": "blue",
    "REJECTED": "bold red",
    "EXPIRED": "red",
    "CANCELLED": "red",
    "CLOSED": "red",
    "REFUND_DUE": "magenta",
    "REFUNDED": "magenta",
}

_IDS: Final = ("event", "ticket", "reservation")

_KEPT: Final = (ticketing_pb2.Reservation.STATE_HELD, ticketing_pb2.Reservation.STATE_PARTIALLY_PAID)

Rows = Iterable[tuple[str, str | Text]]


class _Output(Console):
    def on_broken_pipe(self) -> None:
        """Ends as other programs do when nobody reads on (`| head`): with 1 we would say that we were refused."""
        try:
            super().on_broken_pipe()
        except SystemExit:
            raise SystemExit(_NOBODY_READS) from None


def console() -> Console:
    """Standard output, as wide as the terminal or as a line should be in a pipe."""
    probe = _Output()
    return probe if probe.is_terminal else _Output(width=PIPE_WIDTH)


def print_json(message: Message) -> None:
    """The message as one line of JSON: names as in the protos, 64-bit integers as strings."""
    fields = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    _Output(soft_wrap=True).print(json.dumps(fields), markup=False, highlight=False, emoji=False)


def state(name: str) -> Text:
    """The name of a state without its prefix, in its colour."""
    plain = name.removeprefix("STATE_")
    return Text(plain, style=_COLOURS.get(plain, ""))


def reservation_state(reservation: ticketing_pb2.Reservation) -> Text:
    """The state of a reservation."""
    return state(ticketing_pb2.Reservation.State.Name(reservation.state))


def ticket_state(ticket: ticketing_pb2.Ticket) -> Text:
    """The state of a ticket."""
    return state(ticketing_pb2.Ticket.State.Name(ticket.state))


def seat(ticket: ticketing_pb2.Ticket) -> str:
    """For example `stalls 4/12`, or the section alone for general admission."""
    return f"{ticket.section} {ticket.row}/{ticket.seat}" if ticket.seat else ticket.section


def event(found: catalog_pb2.Event) -> None:
    """One event, a line per fact."""
    _print_rows(
        [
            ("event", found.event_id),
            ("name", found.name),
            ("venue", found.venue),
            ("starts", _instant(found.start_time)),
            ("state", state(catalog_pb2.Event.State.Name(found.state))),
            (
                "hold",
                f"{found.hold_duration.ToTimedelta()} (a charge keeps it {found.payment_grace.ToTimedelta()} more)",
            ),
            ("per buyer", str(found.max_tickets_per_buyer or "any number of tickets")),
            ("on sale from", _instant(found.sale_start_time)),
            ("on sale until", _instant(found.sale_end_time)),
            ("tickets", f"{found.available_count} available, {found.held_count} held, {found.sold_count} sold"),
        ]
    )


def events(found: Iterable[catalog_pb2.Event]) -> None:
    """Events, a line each."""
    _print_table(
        ("event", "name", "state", "available", "held", "sold"),
        [
            (
                each.event_id,
                each.name,
                state(catalog_pb2.Event.State.Name(each.state)),
                str(each.available_count),
                str(each.held_count),
                str(each.sold_count),
            )
            for each in found
        ],
    )


def tickets(found: Iterable[ticketing_pb2.Ticket], currency: str) -> None:
    """Tickets, a line each."""
    _print_table(
        ("ticket", "seat", "price", "state"),
        [(each.ticket_id, seat(each), written(each.price_minor, currency), ticket_state(each)) for each in found],
    )


def reservations(found: Iterable[ticketing_pb2.Reservation]) -> None:
    """Reservations, a line each."""
    _print_table(
        ("reservation", "buyer", "event", "state", "tickets", "total", "decided"),
        [
            (
                each.reservation_id,
                each.buyer_id,
                each.event_id,
                reservation_state(each),
                str(len(each.tickets)),
                _amount(each.total_minor, each.currency),
                _instant(each.create_time),
            )
            for each in found
        ],
    )


def reservation(found: ticketing_pb2.Reservation) -> None:
    """One reservation, a line per fact."""
    _print_rows(
        [
            ("reservation", found.reservation_id),
            ("state", reservation_state(found)),
            ("because", found.reject_reason),
            ("tickets", ", ".join(seat(ticket) for ticket in found.tickets)),
            ("total", _amount(found.total_minor, found.currency)),
            ("paid", _amount(found.paid_minor, found.currency)),
            ("under way", _amount(found.open_minor, found.currency)),
            ("refund due", _amount(found.refund_due_minor, found.currency)),
            ("refunded", _amount(found.refunded_minor, found.currency)),
            ("held until", _instant(found.release_time) if found.state in _KEPT else ""),
        ]
    )
    _advise(found.reject_reason)


def payment(found: ticketing_pb2.Payment) -> None:
    """One payment, a line per fact."""
    _print_rows(
        [
            ("payment", found.payment_id),
            ("amount", _payment_amount(found)),
            ("state", state(ticketing_pb2.Payment.State.Name(found.state))),
            ("because", found.decline_reason),
        ]
    )
    _advise(found.decline_reason)


def change(found: ticketing_pb2.Reservation) -> None:
    """One step of a watched reservation, on one line."""
    line = Text(f"{datetime.now().astimezone():%H:%M:%S}  ").append_text(reservation_state(found))
    for name, amount_minor in (
        ("paid", found.paid_minor),
        ("under way", found.open_minor),
        ("refund due", found.refund_due_minor),
        ("refunded", found.refunded_minor),
    ):
        if amount_minor:
            line.append(printable(f"  {name} {written(amount_minor, found.currency)}"))
    if found.reject_reason:
        line.append(f"  because {printable(found.reject_reason)}")
    console().print(line)
    _advise(found.reject_reason)


def note(text: str) -> None:
    """What to know about the output, on standard error: the output itself stays whole."""
    Console(stderr=True).print(Text(printable(text), style="dim"), soft_wrap=True)


def hint(text: str) -> None:
    """What to do next, on one line that can be pasted."""
    console().print(Text(printable(text), style="dim"), soft_wrap=True)


def called() -> str:
    """How this command was called, to begin a hint with: its name where PATH leads to it, else its shortest path."""
    path = Path(sys.argv[0])
    on_path = shutil.which(path.name)
    if on_path and path.exists() and path.samefile(on_path):
        return path.name
    return min(str(path), os.path.relpath(path), key=len)


def _advise(reason: str) -> None:
    if reason in ADVICE:
        hint(ADVICE[reason])


def _amount(amount_minor: int, currency: str) -> str:
    return written(amount_minor, currency) if amount_minor else ""


def _payment_amount(found: ticketing_pb2.Payment) -> str:
    if found.state != ticketing_pb2.Payment.STATE_PENDING or found.currency:
        return _amount(found.amount_minor, found.currency)
    # What a minor unit is depends on the currency.
    amount = f"{found.amount_minor} minor units" if found.amount_minor else "all that is due"
    return f"{amount}, {'currency' if found.amount_minor else 'amount'} not known yet"


def _instant(time: Timestamp) -> str:
    return f"{time.ToDatetime():%Y-%m-%d %H:%M:%S} UTC" if time.seconds else ""


def _print_rows(rows: Rows) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # an id that is cut short is worth nothing
    for name, value in rows:
        if value:
            table.add_row(Text(name, style="dim"), value if isinstance(value, Text) else _cell(value))
    console().print(table)


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """A line for each row; where a terminal is too narrow for its ids, a block for each, so that they stay whole."""
    table = Table(box=None)
    for column in columns:
        table.add_column(column, no_wrap=column in _IDS, overflow="fold")
    for row in rows:
        table.add_row(*(value if isinstance(value, Text) else _cell(value) for value in row))
    out = console()
    if not rows or out.measure(table, options=out.options.update(max_width=_WIDTH_MAX)).minimum <= out.width:
        out.print(table)
        return
    for number, row in enumerate(rows):
        if number:
            out.print()
        _print_rows(zip(columns, row, strict=True))


def _cell(text: str) -> Text:
    return Text(printable(text))
