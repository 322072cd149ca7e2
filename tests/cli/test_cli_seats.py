"""The tickets of an event, watched."""

import json
from collections import deque

import grpc
import pytest
from rich.console import Console
from rich.text import Text

from chassis.errors import CallError, not_found, overloaded
from cli.seats import Seats, picture
from tests.cli.conftest import Terminal
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

EVENT = "00000000-0000-8000-8000-0000000000e1"
AVAILABLE, HELD, SOLD = pb.Ticket.STATE_AVAILABLE, pb.Ticket.STATE_HELD, pb.Ticket.STATE_SOLD
HOSTILE = "floor\x1b[2J\u202e"


def ticket(
    number: int, state: "pb.Ticket.State.ValueType" = AVAILABLE, version: int = 1, section: str = "floor"
) -> pb.Ticket:
    return pb.Ticket(ticket_id=f"t{number}", section=section, state=state, version=version)


def message(*tickets: pb.Ticket, is_complete: bool = True) -> pb.WatchTicketsResponse:
    return pb.WatchTicketsResponse(tickets=tickets, snapshot_complete=is_complete)


def seats_with(*tickets: pb.Ticket) -> Seats:
    seats = Seats()
    assert list(seats.take(message(*tickets))) == []
    return seats


def counts(seats: Seats) -> dict[str, dict[int, int]]:
    return {section: {state: count for state, count in found.items() if count} for section, found in seats.sections()}


def test_a_snapshot_in_chunks_is_counted_and_tells_no_change() -> None:
    seats = Seats()
    assert list(seats.take(message(ticket(1), ticket(2, HELD), is_complete=False))) == []
    assert not seats.is_complete
    assert list(seats.take(message(ticket(3, section="gods")))) == []
    assert seats.is_complete
    assert counts(seats) == {"floor": {AVAILABLE: 1, HELD: 1}, "gods": {AVAILABLE: 1}}


def test_a_change_moves_a_ticket_from_one_count_to_another() -> None:
    seats = seats_with(ticket(1), ticket(2))
    [(now, before)] = seats.take(message(ticket(1, HELD, 2)))
    assert before is not None
    assert (now.state, before.state) == (HELD, AVAILABLE)
    assert counts(seats) == {"floor": {AVAILABLE: 1, HELD: 1}}


def test_of_two_messages_the_higher_version_holds() -> None:
    seats = seats_with(ticket(1, SOLD, 3))
    assert list(seats.take(message(ticket(1, HELD, 2)))) == []
    assert counts(seats) == {"floor": {SOLD: 1}}


def test_of_a_second_snapshot_only_what_was_missed_is_told() -> None:
    seats = seats_with(ticket(1), ticket(2))
    changed = list(seats.take(message(ticket(1), ticket(2, HELD, 2), ticket(3), is_complete=False)))
    assert [(now.ticket_id, before is None) for now, before in changed] == [("t2", False), ("t3", True)]


def test_without_a_terminal_it_is_a_line_for_each_section_and_each_change(terminal: Terminal) -> None:
    terminal.type("tickets", "watch", EVENT)
    terminal.answer("CatalogService", "GetEvent", catalog.GetEventResponse())
    chunks = (message(ticket(1), is_complete=False), message(ticket(2, section="gods")), message(ticket(1, HELD, 2)))
    assert terminal.stream("TicketingService", "WatchTickets", *chunks).event_id == EVENT
    result = terminal.ended()
    assert result.exit_code == 0
    lines = [line.partition("  ")[2] for line in result.stdout.splitlines()]
    assert lines == ["floor: 1 available", "gods: 1 available", "floor  HELD  was available  t1"]


def test_each_message_is_a_line_of_json(terminal: Terminal) -> None:
    terminal.type("tickets", "watch", EVENT, "--json")
    terminal.stream("TicketingService", "WatchTickets", message(ticket(1)), message(ticket(1, HELD, 2)))
    lines = [json.loads(line) for line in terminal.ended().stdout.splitlines()]
    assert [line["tickets"][0]["state"] for line in lines] == ["STATE_AVAILABLE", "STATE_HELD"]


@pytest.mark.parametrize(
    ("error", "exit_code", "told"),
    [
        (overloaded("SLOW_READER", "too slow", 1.0), 3, "SLOW_READER: too slow"),
        (CallError(grpc.StatusCode.UNAVAILABLE, "STOPPING", "watch again"), 3, "STOPPING: watch again"),
        (CallError(grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED", "it is old"), 1, "TOKEN_EXPIRED: it is old. "),
    ],
)
def test_a_stream_that_breaks_off_is_told_after_what_it_brought(
    terminal: Terminal, error: CallError, exit_code: int, told: str
) -> None:
    terminal.type("tickets", "watch", EVENT)
    terminal.answer("CatalogService", "GetEvent", catalog.GetEventResponse())
    terminal.stream("TicketingService", "WatchTickets", message(ticket(1)), error=error)
    result = terminal.ended()
    assert (result.exit_code, "1 available" in result.stdout) == (exit_code, True)
    assert result.stderr.startswith(told)
    assert result.stderr.count("\n") == 1


def test_an_unknown_event_is_told_in_a_line(terminal: Terminal) -> None:
    terminal.type("tickets", "watch", EVENT)
    terminal.refuse("CatalogService", "GetEvent", not_found("UNKNOWN_EVENT", "there is no such event"))
    result = terminal.ended()
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "UNKNOWN_EVENT: there is no such event. `event list` shows those that there are.\n"


def test_the_names_of_sections_do_nothing_to_the_terminal(terminal: Terminal) -> None:
    terminal.type("tickets", "watch", EVENT)
    terminal.answer("CatalogService", "GetEvent", catalog.GetEventResponse())
    hostile = (message(ticket(1, section=HOSTILE)), message(ticket(1, HELD, 2, section=HOSTILE)))
    terminal.stream("TicketingService", "WatchTickets", *hostile)
    assert terminal.ended().stdout.count(r"floor\x1b[2J\u202e") == 2


def lines_of(seats: Seats, changes: int = 0, *, width: int = 40, height: int = 20) -> list[str]:
    """The live picture as the terminal shows it, without its colours."""
    console = Console(width=width, height=height, color_system=None, force_terminal=True)
    newest = deque(Text(f"20:15:00  floor 1/{number}  AVAILABLE  was available") for number in range(changes))
    with console.capture() as captured:
        console.print(picture(seats, newest, HOSTILE, height))
    return captured.get().splitlines()


def test_the_live_picture_fits_a_narrow_terminal() -> None:
    lines = lines_of(seats_with(ticket(1), ticket(2, SOLD, section="gods")), changes=3)
    assert max(map(len, lines)) <= 40
    assert lines[0] == r"floor\x1b[2J\u202e"
    assert [line.split() for line in lines[1:5]] == [
        ["section", "available", "held", "sold"],
        ["floor", "1", "0", "0"],
        ["gods", "0", "0", "1"],
        ["all", "1", "0", "1"],
    ]


def test_the_live_picture_is_no_higher_than_the_terminal() -> None:
    many = seats_with(*(ticket(number, section=f"block {number}") for number in range(200)))
    lines = lines_of(many, changes=10, height=12)
    assert len(lines) <= 12
    assert ["all", "200", "0", "0"] in [line.split() for line in lines]
    assert len(lines_of(seats_with(ticket(1)), changes=10, height=12)) <= 12


def test_withdrawn_tickets_have_a_column_once_there_are_any() -> None:
    withdrawn = ticket(1, pb.Ticket.STATE_WITHDRAWN)
    assert "withdrawn" not in lines_of(seats_with(ticket(2)))[1]
    assert "withdrawn" in lines_of(seats_with(withdrawn))[1]
