"""What changes an event, ends it, lists its orders and takes a sale back."""

import json
import re

import grpc
import pytest

from chassis.errors import CallError, failed_precondition, not_found
from cli import orders
from cli.advice import ADVICE_ON_ERRORS
from tests.cli.conftest import Terminal
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

EVENT = "00000000-0000-8000-8000-0000000000e1"
RESERVATION = "00000000-0000-8000-8000-0000000000f1"
REQUEST = "00000000-0000-4000-8000-0000000000b1"
Reservation = pb.Reservation


def page(count: int, token: str = "", **fields: object) -> pb.ListReservationsResponse:
    values = {"reservation_id": RESERVATION, "event_id": EVENT, "buyer_id": "ada"} | fields
    found = [pb.Reservation(**values) for _ in range(count)]  # type: ignore[arg-type] # of many types
    return pb.ListReservationsResponse(reservations=found, next_page_token=token)


def test_an_update_takes_what_was_named_and_nothing_else(terminal: Terminal) -> None:
    terminal.type("event", "update", EVENT, "--venue", "", "--hold", "5m", "--max-per-buyer", "0")
    request = terminal.answer("CatalogService", "UpdateEvent", catalog.UpdateEventResponse())
    assert set(request.update_mask.paths) == {"venue", "hold_duration", "max_tickets_per_buyer"}
    assert request.event.event_id == EVENT
    assert request.event.hold_duration.seconds == 300
    assert terminal.ended().exit_code == 0


def test_a_time_that_is_taken_away_is_named_and_unset(terminal: Terminal) -> None:
    terminal.type("event", "update", EVENT, "--sale-ends", "none", "--sale-starts", "2026-12-31T20:00Z")
    request = terminal.answer("CatalogService", "UpdateEvent", catalog.UpdateEventResponse())
    assert set(request.update_mask.paths) == {"sale_start_time", "sale_end_time"}
    assert not request.event.HasField("sale_end_time")
    assert request.event.sale_start_time.ToJsonString() == "2026-12-31T20:00:00Z"
    assert terminal.ended().exit_code == 0


def test_close_shows_the_closed_event(terminal: Terminal) -> None:
    terminal.type("event", "close", EVENT, "--request-id", REQUEST)
    closed = catalog.Event(event_id=EVENT, state=catalog.Event.STATE_CLOSED)
    request = terminal.answer("CatalogService", "CloseEvent", catalog.CloseEventResponse(event=closed))
    assert (request.event_id, request.request_id) == (EVENT, REQUEST)
    assert "CLOSED" in terminal.ended().stdout


def test_a_script_calls_an_event_off_without_being_asked(terminal: Terminal) -> None:
    terminal.type("event", "cancel", EVENT, "--reason", "the lead is ill")
    request = terminal.answer("CatalogService", "CancelEvent", catalog.CancelEventResponse())
    assert (request.event_id, request.reason) == (EVENT, "the lead is ill")
    assert terminal.ended().exit_code == 0


def test_a_refund_shows_what_goes_back(terminal: Terminal) -> None:
    terminal.type("refund", RESERVATION, "--reason", "the seat is broken")
    answered = pb.Reservation(state=Reservation.STATE_CANCELLED, refund_due_minor=4_500, currency="EUR")
    answer = pb.RefundReservationResponse(reservation=answered)
    request = terminal.answer("TicketingService", "RefundReservation", answer)
    assert (request.reservation_id, request.reason) == (RESERVATION, "the seat is broken")
    result = terminal.ended()
    assert result.exit_code == 0
    assert "CANCELLED" in result.stdout
    assert "45.00 EUR" in result.stdout
    assert f"watch {RESERVATION}" in result.stdout


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (failed_precondition("NOT_CONFIRMED", "only a CONFIRMED reservation can be refunded"), 1),
        (not_found("UNKNOWN_RESERVATION", "there is no reservation like that"), 1),
    ],
)
def test_a_refund_that_is_refused_says_what_to_do_instead(terminal: Terminal, error: CallError, exit_code: int) -> None:
    terminal.type("refund", RESERVATION, "--reason", "broken")
    terminal.refuse("TicketingService", "RefundReservation", error)
    result = terminal.ended()
    assert result.exit_code == exit_code
    assert result.stderr == f"{error.reason}: {error.message}. {ADVICE_ON_ERRORS[error.reason]}\n"


def test_a_refund_of_which_nothing_was_heard_can_be_said_again(terminal: Terminal) -> None:
    terminal.type("refund", RESERVATION, "--reason", "broken", "--request-id", REQUEST)
    error = CallError(grpc.StatusCode.DEADLINE_EXCEEDED, "", "too slow")
    terminal.refuse("TicketingService", "RefundReservation", error)
    result = terminal.ended()
    assert (result.exit_code, f"--request-id {REQUEST}" in result.stderr) == (3, True)


def test_pages_are_followed_to_the_limit(terminal: Terminal) -> None:
    terminal.type("orders", "--buyer", "ada", "--event", EVENT, "--limit", "600", "--json")
    first = terminal.answer("TicketingService", "ListReservations", page(500, "more"))
    assert (first.buyer_id, first.event_id, first.page_size, first.page_token) == ("ada", EVENT, 500, "")
    second = terminal.answer("TicketingService", "ListReservations", page(100, "and more"))
    assert (second.buyer_id, second.event_id, second.page_size, second.page_token) == ("ada", EVENT, 100, "more")
    result = terminal.ended()
    assert result.exit_code == 0
    assert [json.loads(line)["buyer_id"] for line in result.stdout.splitlines()] == ["ada"] * 600
    assert "There may be more than these 600" in result.stderr


def test_the_last_page_is_the_end(terminal: Terminal) -> None:
    terminal.type("orders", "--limit", "2")
    terminal.answer("TicketingService", "ListReservations", page(2, total_minor=4_500, currency="EUR"))
    result = terminal.ended()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("45.00 EUR") == 2


def test_those_in_a_state_are_looked_for_page_after_page(terminal: Terminal) -> None:
    terminal.type("orders", "--state", "HELD", "--limit", "1", "--json")
    confirmed, held = Reservation.STATE_CONFIRMED, Reservation.STATE_HELD
    first = terminal.answer("TicketingService", "ListReservations", page(500, "more", state=confirmed))
    assert first.page_size == 500
    terminal.answer("TicketingService", "ListReservations", page(2, state=held))
    result = terminal.ended()
    assert [json.loads(line)["state"] for line in result.stdout.splitlines()] == ["STATE_HELD"]
    assert "There may be more" in result.stderr


def test_looking_for_a_state_ends_somewhere(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "READ_MAX", 600)
    terminal.type("orders", "--state", "held")
    terminal.answer("TicketingService", "ListReservations", page(500, "more", state=Reservation.STATE_EXPIRED))
    terminal.answer("TicketingService", "ListReservations", page(100, "more", state=Reservation.STATE_EXPIRED))
    result = terminal.ended()
    assert (result.exit_code, "There may be more than these 0" in result.stderr) == (0, True)


def test_a_page_without_anything_is_the_last_whatever_its_token_says(terminal: Terminal) -> None:
    terminal.type("orders")
    terminal.answer("TicketingService", "ListReservations", page(0, "again"))
    assert terminal.ended().exit_code == 0


def test_an_id_stays_whole_on_a_terminal_that_is_too_narrow_for_its_line(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    terminal.type("orders")
    terminal.answer("TicketingService", "ListReservations", page(2, state=Reservation.STATE_HELD))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.ended().stdout)
    assert max(map(len, plain.splitlines())) <= 60
    assert plain.count(RESERVATION) == plain.count(EVENT) == 2


def test_whoever_ordered_does_nothing_to_the_terminal(terminal: Terminal) -> None:
    terminal.type("orders")
    terminal.answer("TicketingService", "ListReservations", page(1, buyer_id="ada\x1b[2J\u202e"))
    assert r"ada\x1b[2J\u202e" in terminal.ended().stdout


def test_tickets_are_listed_page_after_page(terminal: Terminal) -> None:
    terminal.type("tickets", "list", EVENT, "--limit", "1500", "--json")
    many = pb.ListTicketsResponse(tickets=[pb.Ticket(section="a")] * 1_000, next_page_token="more")
    assert terminal.answer("TicketingService", "ListTickets", many).page_size == 1_000
    rest = pb.ListTicketsResponse(tickets=[pb.Ticket(section="b")])
    request = terminal.answer("TicketingService", "ListTickets", rest)
    assert (request.page_size, request.page_token) == (500, "more")
    terminal.answer("CatalogService", "GetEvent", catalog.GetEventResponse())
    printed = json.loads(terminal.ended().stdout)
    assert (len(printed["tickets"]), printed["next_page_token"]) == (1_001, "")
