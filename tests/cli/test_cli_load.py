"""The small load: what it counts, when it gives up, and what it leaves behind."""

import json
from itertools import cycle
from threading import Thread

import grpc
import pytest
from google.protobuf.message import Message
from typer.testing import CliRunner

from chassis.errors import CallError, overloaded
from cli.__main__ import app
from cli.load import Figures
from tests.cli.conftest import Terminal
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

EVENT = "00000000-0000-8000-8000-0000000000e1"
HELD = pb.ReserveResponse(reservation=pb.Reservation(state=pb.Reservation.STATE_HELD))
SOLD_OUT = pb.ReserveResponse(reservation=pb.Reservation(state=pb.Reservation.STATE_REJECTED, reject_reason="SOLD_OUT"))
AWAY = CallError(grpc.StatusCode.UNAVAILABLE, "BROKER_UNAVAILABLE", "the broker is away")


def begin(terminal: Terminal, *options: str) -> None:
    """Types it and makes the event that it asks for."""
    terminal.type("load", "--seconds", "1", "--buyers", "1", *options)
    made = catalog.CreateEventResponse(event=catalog.Event(event_id=EVENT))
    terminal.answer("CatalogService", "CreateEvent", made)
    added = terminal.answer("CatalogService", "CreateTickets", catalog.CreateTicketsResponse())
    assert (added.event_id, added.blocks[0].quantity) == (EVENT, 1_000)


def play(terminal: Terminal, *answers: Message | CallError) -> None:
    """Answers every Reserve from now on, with one after the other."""

    def forever() -> None:
        for answer in cycle(answers):
            if isinstance(answer, CallError):
                terminal.refuse("TicketingService", "Reserve", answer)
            else:
                terminal.answer("TicketingService", "Reserve", answer)

    Thread(target=forever, daemon=True).start()


def expect_called_off(terminal: Terminal) -> None:
    request = terminal.answer("CatalogService", "CancelEvent", catalog.CancelEventResponse())
    assert (request.event_id, bool(request.reason)) == (EVENT, True)


def test_it_counts_what_became_of_each(terminal: Terminal) -> None:
    begin(terminal, "--json")
    play(terminal, HELD, SOLD_OUT, overloaded("OVERLOADED", "too many calls", 1.0))
    expect_called_off(terminal)
    result = terminal.ended()
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["outcomes"].keys() == {"HELD", "REJECTED SOLD_OUT", "OVERLOADED"}
    assert told["reservations_per_s"] == pytest.approx(told["outcomes"]["HELD"] / told["seconds"], abs=0.2)
    assert 0 < told["p50_ms"] <= told["p99_ms"]


def test_people_are_told_while_it_runs(terminal: Terminal) -> None:
    begin(terminal)
    play(terminal, HELD)
    expect_called_off(terminal)
    lines = terminal.ended().stdout.splitlines()
    assert len(lines) >= 2
    assert all("reservations/s  p50 " in line and "HELD" in line for line in lines)


def test_a_load_that_held_nothing_exits_with_1(terminal: Terminal) -> None:
    begin(terminal)
    play(terminal, SOLD_OUT)
    expect_called_off(terminal)
    assert terminal.ended().exit_code == 1


def test_a_load_that_nobody_answered_exits_with_3(terminal: Terminal) -> None:
    begin(terminal)
    play(terminal, AWAY)
    expect_called_off(terminal)
    result = terminal.ended()
    assert (result.exit_code, result.stderr) == (3, "BROKER_UNAVAILABLE: the broker is away\n")


def test_a_refusal_that_all_would_get_ends_it_at_once(terminal: Terminal) -> None:
    begin(terminal)
    not_allowed = CallError(grpc.StatusCode.PERMISSION_DENIED, "NOT_ALLOWED", "not with this token")
    terminal.refuse("TicketingService", "Reserve", not_allowed)
    expect_called_off(terminal)
    result = terminal.ended()
    assert result.exit_code == 1
    assert result.stderr.startswith("NOT_ALLOWED: not with this token")


def test_an_event_that_was_named_is_left_as_it_is(terminal: Terminal) -> None:
    terminal.type("load", EVENT, "--seconds", "1", "--buyers", "1", "--json")
    on_sale = pb.ListTicketsResponse(tickets=[pb.Ticket(section="stalls")])
    assert terminal.answer("TicketingService", "ListTickets", on_sale).state == pb.Ticket.STATE_AVAILABLE
    request = terminal.answer("TicketingService", "Reserve", HELD)
    assert (request.event_id, request.best_available.section) == (EVENT, "stalls")
    play(terminal, HELD)
    assert terminal.ended().exit_code == 0


def test_an_event_that_has_nothing_on_sale_is_no_load(terminal: Terminal) -> None:
    terminal.type("load", EVENT)
    terminal.answer("TicketingService", "ListTickets", pb.ListTicketsResponse())
    result = terminal.ended()
    assert (result.exit_code, result.stderr) == (1, "None of its tickets is on sale.\n")


def test_each_buyer_reserves_once(terminal: Terminal) -> None:
    begin(terminal)
    requests = [terminal.answer("TicketingService", "Reserve", HELD) for _ in range(3)]
    play(terminal, HELD)
    expect_called_off(terminal)
    terminal.ended()
    assert len({request.buyer_id for request in requests}) == len({request.request_id for request in requests}) == 3


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", "[::1]:1"])
def test_this_machine_may_be_loaded_without_asking(terminal: Terminal, address: str) -> None:
    terminal.type("load", "--address", address)
    terminal.refuse("CatalogService", "CreateEvent", AWAY)
    assert terminal.ended().exit_code == 3


def test_another_machine_only_if_it_is_meant() -> None:
    refused = CliRunner().invoke(app, ["load", "--address", "tickets.example.com:1"])
    assert (refused.exit_code, "--yes" in refused.stderr) == (2, True)


def test_another_machine_is_loaded_if_it_is_meant(terminal: Terminal) -> None:
    terminal.type("load", "--address", "tickets.example.com:1", "--yes")
    terminal.refuse("CatalogService", "CreateEvent", AWAY)
    assert terminal.ended().exit_code == 3


def test_percentiles_are_of_the_answers() -> None:
    figures = Figures()
    assert figures.percentile_ms(0.5) == 0
    for time_ms in range(101):
        figures.answered("HELD", time_ms / 1_000)
    assert (figures.percentile_ms(0.5), figures.percentile_ms(0.99)) == pytest.approx((50, 99))
