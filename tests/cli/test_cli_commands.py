"""What each command asks of the gateway, prints, and exits with."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from typer.main import get_command

from chassis.errors import CallError, already_exists, invalid, overloaded
from cli import show
from cli.__main__ import app
from cli.advice import ADVICE
from cli.printable import printable
from gateway.validation import AMOUNT_MINOR_MAX, WAIT_MAX_S
from reservations.validation import GRID_SIDE_MAX, PRICE_MINOR_MAX, TICKETS_CREATED_MAX, TICKETS_PER_BUYER_MAX
from tests.cli.conftest import Terminal
from ticketrush.v1 import catalog_pb2 as catalog
from ticketrush.v1 import ticketing_pb2 as pb

EVENT = "00000000-0000-8000-8000-0000000000e1"
RESERVATION = "00000000-0000-8000-8000-0000000000f1"
TICKETS = ["00000000-0000-8000-8000-0000000000a1", "00000000-0000-8000-8000-0000000000a2"]
REQUEST = "00000000-0000-4000-8000-0000000000b1"
GRID = ["tickets", "add", EVENT, "--section", "stalls", "--price-minor", "1"]
State = pb.Reservation


def reserved(state: pb.Reservation.State.ValueType, **fields: str | int) -> pb.ReserveResponse:
    reservation = pb.Reservation(reservation_id=RESERVATION, event_id=EVENT, currency="EUR", state=state)
    for name, value in fields.items():
        setattr(reservation, name, value)
    return pb.ReserveResponse(reservation=reservation)


def test_reserve_asks_for_the_tickets_named_and_shows_the_hold(terminal: Terminal) -> None:
    terminal.type("reserve", EVENT, "--buyer", "ada", "--ticket", TICKETS[0], "--ticket", TICKETS[1], "--wait", "5s")
    request = terminal.answer("TicketingService", "Reserve", reserved(State.STATE_HELD, total_minor=9_000))
    assert (request.event_id, request.buyer_id, list(request.ticket_ids)) == (EVENT, "ada", TICKETS)
    assert not request.HasField("best_available")
    assert request.wait == Duration(seconds=5)
    assert UUID(request.request_id)
    result = terminal.ended()
    assert result.exit_code == 0
    assert RESERVATION in result.stdout
    assert "HELD" in result.stdout
    assert "90.00 EUR" in result.stdout
    assert f"{show.called()} pay {RESERVATION} --buyer ada --card pm_card_ok" in result.stdout


def test_reserve_asks_for_the_best_of_a_section_and_leaves_the_wait_to_the_gateway(terminal: Terminal) -> None:
    terminal.type("reserve", EVENT, "--buyer", "ada", "--section", "stalls", "--quantity", "2")
    request = terminal.answer("TicketingService", "Reserve", reserved(State.STATE_HELD))
    assert request.best_available == pb.BestAvailable(section="stalls", quantity=2)
    assert not request.ticket_ids
    assert not request.HasField("wait")
    assert terminal.ended().exit_code == 0


def test_a_refused_reservation_exits_with_1_and_says_why(terminal: Terminal) -> None:
    terminal.type("reserve", EVENT, "--buyer", "ada", "--section", "stalls")
    terminal.answer("TicketingService", "Reserve", reserved(State.STATE_REJECTED, reject_reason="SOLD_OUT"))
    result = terminal.ended()
    assert result.exit_code == 1
    assert "SOLD_OUT" in result.stdout
    assert ADVICE["SOLD_OUT"] in result.stdout


def test_a_declined_payment_says_what_to_do(terminal: Terminal) -> None:
    terminal.type("pay", RESERVATION, "--buyer", "ada", "--card", "pm_card_declined")
    payment = pb.Payment(state=pb.Payment.STATE_REJECTED, decline_reason="CARD_DECLINED")
    terminal.answer("TicketingService", "Pay", pb.PayResponse(payment=payment))
    assert ADVICE["CARD_DECLINED"] in terminal.ended().stdout


def test_every_reason_that_the_contract_names_for_a_rejection_has_advice() -> None:
    contract = (Path(__file__).parents[2] / "protos/ticketrush/v1/ticketing.proto").read_text()
    named = " ".join(re.findall(r"// One of ([^;]+); empty", contract))
    assert set(re.findall("[A-Z_]{3,}", named)) == ADVICE.keys()


def test_a_reason_that_is_new_is_shown_without_advice(terminal: Terminal) -> None:
    terminal.type("reserve", EVENT, "--buyer", "ada", "--section", "stalls")
    terminal.answer("TicketingService", "Reserve", reserved(State.STATE_REJECTED, reject_reason="BRAND_NEW"))
    result = terminal.ended()
    assert (result.exit_code, "BRAND_NEW" in result.stdout) == (1, True)


def test_a_hint_calls_the_command_as_it_was_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / ".venv/bin/ticketrush"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    for typed in (".venv/bin/ticketrush", str(program)):
        monkeypatch.setattr(sys, "argv", [typed])
        assert show.called() == ".venv/bin/ticketrush"
    monkeypatch.setenv("PATH", str(program.parent))
    assert show.called() == "ticketrush"


def test_an_undecided_reservation_exits_with_3_and_says_how_to_ask_again(terminal: Terminal) -> None:
    terminal.type("reserve", EVENT, "--buyer", "ada", "--section", "stalls", "--request-id", REQUEST)
    request = terminal.answer("TicketingService", "Reserve", reserved(State.STATE_PENDING))
    assert request.request_id == REQUEST
    result = terminal.ended()
    assert result.exit_code == 3
    assert f"--request-id {REQUEST}" in result.stderr


@pytest.mark.parametrize(
    ("state", "exit_code"),
    [("APPROVED", 0), ("REJECTED", 1), ("REFUND_DUE", 1), ("REFUNDED", 1), ("PENDING", 3)],
)
def test_pay_exits_with_0_only_if_the_money_bought_something(terminal: Terminal, state: str, exit_code: int) -> None:
    terminal.type("pay", RESERVATION, "--buyer", "ada", "--card", "pm_card_ok", "--amount-minor", "100")
    payment = pb.Payment(payment_id=REQUEST, state=pb.Payment.State.Value(f"STATE_{state}"))
    request = terminal.answer("TicketingService", "Pay", pb.PayResponse(payment=payment))
    assert (request.reservation_id, request.buyer_id) == (RESERVATION, "ada")
    assert (request.payment_method, request.amount_minor) == ("pm_card_ok", 100)
    result = terminal.ended()
    assert result.exit_code == exit_code
    assert state in result.stdout


@pytest.mark.parametrize(
    ("amount_minor", "currency", "shown"),
    [
        (10, "EUR", "0.10 EUR"),
        (10, "", "10 minor units, currency not known yet"),
        (0, "", "all that is due, amount not known yet"),
    ],
)
def test_a_pending_payment_says_what_is_known_of_its_amount(
    terminal: Terminal, amount_minor: int, currency: str, shown: str
) -> None:
    terminal.type("pay", RESERVATION, "--buyer", "ada", "--card", "pm_card_slow")
    payment = pb.Payment(state=pb.Payment.STATE_PENDING, amount_minor=amount_minor, currency=currency)
    terminal.answer("TicketingService", "Pay", pb.PayResponse(payment=payment))
    assert re.search(rf"^amount +{shown} *$", terminal.ended().stdout, re.MULTILINE)


@pytest.mark.parametrize(("state", "exit_code"), [("CANCELLED", 0), ("EXPIRED", 0), ("HELD", 3)])
def test_cancel_exits_with_0_once_the_hold_is_gone(terminal: Terminal, state: str, exit_code: int) -> None:
    terminal.type("cancel", RESERVATION, "--buyer", "ada")
    reservation = pb.Reservation(state=State.State.Value(f"STATE_{state}"))
    answer = pb.CancelReservationResponse(reservation=reservation)
    request = terminal.answer("TicketingService", "CancelReservation", answer)
    assert (request.reservation_id, request.buyer_id) == (RESERVATION, "ada")
    assert terminal.ended().exit_code == exit_code


def test_watch_prints_a_line_for_each_change(terminal: Terminal) -> None:
    terminal.type("watch", RESERVATION)
    steps = (State.STATE_HELD, State.STATE_PARTIALLY_PAID, State.STATE_CONFIRMED)
    request = terminal.stream(
        "TicketingService",
        "WatchReservation",
        *(pb.WatchReservationResponse(reservation=pb.Reservation(state=s)) for s in steps),
    )
    assert request.reservation_id == RESERVATION
    result = terminal.ended()
    assert result.exit_code == 0
    assert [line.split()[1] for line in result.stdout.splitlines()] == ["HELD", "PARTIALLY_PAID", "CONFIRMED"]


def test_watch_prints_a_json_object_for_each_change(terminal: Terminal) -> None:
    terminal.type("watch", RESERVATION, "--json")
    change = pb.WatchReservationResponse(reservation=pb.Reservation(state=State.STATE_HELD, version=7))
    terminal.stream("TicketingService", "WatchReservation", change, change)
    lines = [json.loads(line) for line in terminal.ended().stdout.splitlines()]
    assert [(line["reservation"]["state"], line["reservation"]["version"]) for line in lines] == [
        ("STATE_HELD", "7")
    ] * 2


def test_watch_says_why_and_what_to_do_when_it_was_rejected(terminal: Terminal) -> None:
    terminal.type("watch", RESERVATION)
    rejected = pb.Reservation(state=State.STATE_REJECTED, reject_reason="TOO_LATE")
    terminal.stream("TicketingService", "WatchReservation", pb.WatchReservationResponse(reservation=rejected))
    result = terminal.ended()
    assert result.stdout.splitlines()[0].split()[1:] == ["REJECTED", "because", "TOO_LATE"]
    assert ADVICE["TOO_LATE"] in result.stdout


def test_a_watch_that_the_gateway_ends_says_so_and_exits_with_3(terminal: Terminal) -> None:
    terminal.type("watch", RESERVATION)
    held = pb.WatchReservationResponse(reservation=pb.Reservation(state=State.STATE_HELD))
    error = CallError(grpc.StatusCode.UNAVAILABLE, "STOPPING", "watch again")
    terminal.stream("TicketingService", "WatchReservation", held, error=error)
    result = terminal.ended()
    assert (result.exit_code, "HELD" in result.stdout) == (3, True)
    assert result.stderr == "STOPPING: watch again\n"


def test_event_create_sends_what_was_typed_and_nothing_that_the_system_gives(terminal: Terminal) -> None:
    terminal.type("event", "create", "Proms", "--venue", "Arena", "--hold", "5m", "--grace", "0", "--currency", "USD")
    request = terminal.answer("CatalogService", "CreateEvent", catalog.CreateEventResponse())
    assert request.event == catalog.Event(
        name="Proms",
        venue="Arena",
        currency="USD",
        hold_duration=Duration(seconds=300),
        payment_grace=Duration(),
    )
    assert terminal.ended().exit_code == 0


def test_event_show_prints_the_event(terminal: Terminal) -> None:
    terminal.type("event", "show", EVENT)
    event = catalog.Event(event_id=EVENT, name="Proms [live]", available_count=7)
    assert terminal.answer("CatalogService", "GetEvent", catalog.GetEventResponse(event=event)).event_id == EVENT
    result = terminal.ended()
    assert "Proms [live]" in result.stdout
    assert "7 available" in result.stdout


def test_event_list_as_json_is_one_object(terminal: Terminal) -> None:
    terminal.type("event", "list", "--limit", "2", "--json")
    answer = catalog.ListEventsResponse(events=[catalog.Event(event_id=EVENT, held_count=3)])
    assert terminal.answer("CatalogService", "ListEvents", answer).page_size == 2
    shown = json.loads(terminal.ended().stdout)
    assert [(event["event_id"], event["held_count"]) for event in shown["events"]] == [(EVENT, "3")]


@pytest.mark.parametrize(
    ("typed", "block"),
    [
        (
            ["--rows", "20", "--seats-per-row", "50"],
            catalog.Block(section="stalls", price_minor=4_500, grid=catalog.Grid(rows=20, seats_per_row=50)),
        ),
        (["--quantity", "7"], catalog.Block(section="stalls", price_minor=4_500, quantity=7)),
        (
            ["--seat", "A/1", "--seat", "A/2"],
            catalog.Block(
                section="stalls",
                price_minor=4_500,
                seats=catalog.Seats(seats=[catalog.Seat(row="A", seat="1"), catalog.Seat(row="A", seat="2")]),
            ),
        ),
    ],
)
def test_tickets_add_sends_the_block(terminal: Terminal, typed: list[str], block: catalog.Block) -> None:
    terminal.type("tickets", "add", EVENT, "--section", "stalls", "--price-minor", "4500", *typed)
    answer = catalog.CreateTicketsResponse(ticket_count=1_000)
    request = terminal.answer("CatalogService", "CreateTickets", answer)
    assert (request.event_id, list(request.blocks)) == (EVENT, [block])
    assert "1000 tickets added" in terminal.ended().stdout


def test_tickets_list_shows_ids_seats_and_prices(terminal: Terminal) -> None:
    terminal.type("tickets", "list", EVENT, "--available")
    ticket = pb.Ticket(ticket_id=TICKETS[0], section="stalls", row="4", seat="12", price_minor=4_500)
    request = terminal.answer("TicketingService", "ListTickets", pb.ListTicketsResponse(tickets=[ticket]))
    assert request.state == pb.Ticket.STATE_AVAILABLE
    event = catalog.Event(currency="JPY")
    terminal.answer("CatalogService", "GetEvent", catalog.GetEventResponse(event=event))
    assert terminal.ended().stdout.splitlines()[1].split() == [
        TICKETS[0],
        "stalls",
        "4/12",
        "4500",
        "JPY",
        "UNSPECIFIED",
    ]


@pytest.mark.parametrize(
    ("error", "exit_code", "told"),
    [
        (invalid({"buyer_id": "must not be empty"}), 2, "INVALID_ARGUMENT: buyer_id must not be empty"),
        (already_exists("BRAND_NEW", "another body"), 1, "BRAND_NEW: another body"),
        (overloaded("OVERLOADED", "too many calls", 1.0), 3, "OVERLOADED: too many calls"),
    ],
)
def test_a_refused_call_is_told_in_one_line(terminal: Terminal, error: CallError, exit_code: int, told: str) -> None:
    terminal.type("reserve", EVENT, "--buyer", "ada", "--section", "stalls")
    terminal.refuse("TicketingService", "Reserve", error)
    result = terminal.ended()
    assert (result.exit_code, result.stderr.splitlines()) == (exit_code, [told])


def test_an_unknown_outcome_says_how_to_ask_again(terminal: Terminal) -> None:
    terminal.type("pay", RESERVATION, "--buyer", "ada", "--card", "pm_card_ok", "--request-id", REQUEST)
    error = CallError(grpc.StatusCode.UNAVAILABLE, "BROKER_UNAVAILABLE", "the broker is away")
    terminal.refuse("TicketingService", "Pay", error)
    result = terminal.ended()
    assert result.exit_code == 3
    assert "BROKER_UNAVAILABLE: the broker is away" in result.stderr
    assert f"--request-id {REQUEST}" in result.stderr


def test_a_refused_call_as_json_keeps_its_parts(terminal: Terminal) -> None:
    terminal.type("event", "show", EVENT, "--json")
    terminal.refuse("CatalogService", "GetEvent", invalid({"event_id": "must be a UUID"}))
    result = terminal.ended()
    assert result.stdout == ""
    assert json.loads(result.stderr)["violations"] == {"event_id": "must be a UUID"}


@pytest.mark.parametrize(
    "typed",
    [
        ["reserve", EVENT, "--buyer", "ada"],
        ["reserve", EVENT, "--buyer", "ada", "--section", "stalls", "--ticket", TICKETS[0]],
        ["reserve", "not-an-id", "--buyer", "ada", "--section", "stalls"],
        ["reserve", EVENT, "--buyer", "ada", "--section", "stalls", "--wait", "soon"],
        ["reserve", EVENT, "--section", "stalls"],
        ["tickets", "add", EVENT, "--section", "stalls", "--price-minor", "1"],
        ["tickets", "add", EVENT, "--section", "stalls", "--price-minor", "1", "--quantity", "1", "--seat", "A/1"],
        ["tickets", "add", EVENT, "--section", "stalls", "--price-minor", "1", "--seat", "A12"],
        ["event", "create", "Proms", "--max-per-buyer", str(TICKETS_PER_BUYER_MAX + 1)],
        ["event", "create", "Proms", "--starts", "9" * 30],
        ["event", "create", "Proms", "--starts", "9999-12-31T23:59:59-12:00"],
        ["event", "create", "Proms", "--sale-starts", "0001-01-01T00:00+12:00"],
        ["event", "create", "Proms", "--sale-ends", "tomorrow"],
        ["event", "create", "Proms", "--hold", "9" * 30],
        ["event", "create", "Proms", "--grace", "9" * 400],
        ["event", "update", EVENT],
        ["event", "update", EVENT, "--starts", "soon"],
        ["event", "cancel", EVENT],
        ["refund", RESERVATION],
        ["refund", "not-an-id", "--reason", "broken"],
        ["orders", "--event", "not-an-id"],
        ["orders", "--state", "lost"],
        ["tickets", "watch", "not-an-id"],
        ["load", "--address", "tickets.example.com:443"],
        ["load", "--seconds", "61"],
        ["tickets", "add", EVENT, "--section", "stalls", "--price-minor", str(PRICE_MINOR_MAX + 1), "--quantity", "1"],
        ["tickets", "add", EVENT, "--section", "a", "--price-minor", "1", "--quantity", str(TICKETS_CREATED_MAX + 1)],
        [*GRID, "--rows", str(GRID_SIDE_MAX + 1), "--seats-per-row", "1"],
        [*GRID, "--rows", "1", "--seats-per-row", str(GRID_SIDE_MAX + 1)],
        ["pay", RESERVATION, "--buyer", "ada", "--card", "pm_card_ok", "--amount-minor", str(AMOUNT_MINOR_MAX + 1)],
        ["pay", RESERVATION, "--buyer", "ada", "--card", "pm_card_ok", "--wait", f"{WAIT_MAX_S + 0.001}s"],
        ["pay", RESERVATION, "--buyer", "ada", "--card", "pm_card_ok", "--wait", "99999999999999d"],
    ],
)
def test_what_makes_no_sense_is_refused_without_a_call(terminal: Terminal, typed: list[str]) -> None:
    terminal.type(*typed)
    result = terminal.ended()
    assert (result.exit_code, result.stdout) == (2, "")


def test_the_most_that_the_services_take_is_sent(terminal: Terminal) -> None:
    sides = ("--rows", str(GRID_SIDE_MAX), "--seats-per-row", str(GRID_SIDE_MAX))
    terminal.type("tickets", "add", EVENT, "--section", "a", "--price-minor", str(PRICE_MINOR_MAX), *sides)
    grid = catalog.Grid(rows=GRID_SIDE_MAX, seats_per_row=GRID_SIDE_MAX)
    request = terminal.answer("CatalogService", "CreateTickets", catalog.CreateTicketsResponse())
    assert list(request.blocks) == [catalog.Block(section="a", price_minor=PRICE_MINOR_MAX, grid=grid)]
    terminal.ended()
    terminal.type("tickets", "add", EVENT, "--section", "a", "--price-minor", "0", "--quantity", "100000")
    request = terminal.answer("CatalogService", "CreateTickets", catalog.CreateTicketsResponse())
    assert request.blocks[0].quantity == TICKETS_CREATED_MAX
    terminal.ended()
    terminal.type("event", "create", "Proms", "--max-per-buyer", str(TICKETS_PER_BUYER_MAX))
    request = terminal.answer("CatalogService", "CreateEvent", catalog.CreateEventResponse())
    assert request.event.max_tickets_per_buyer == TICKETS_PER_BUYER_MAX
    terminal.ended()
    most = ("--amount-minor", str(AMOUNT_MINOR_MAX), "--wait", f"{WAIT_MAX_S}s")
    terminal.type("pay", RESERVATION, "--buyer", "ada", "--card", "pm_card_ok", *most)
    payment = pb.Payment(state=pb.Payment.STATE_APPROVED)
    request = terminal.answer("TicketingService", "Pay", pb.PayResponse(payment=payment))
    assert (request.amount_minor, request.wait.seconds) == (AMOUNT_MINOR_MAX, WAIT_MAX_S)
    assert terminal.ended().exit_code == 0


def test_every_number_that_can_be_typed_is_bounded() -> None:
    def options(command: Any) -> Iterator[Any]:
        for below in getattr(command, "commands", {}).values():
            yield from options(below)
        yield from command.params

    whole: Any = get_command(app)
    whole.list_commands(None)  # fetches the operators' too
    known = [option.type_descriptor for option in options(whole)]
    numbers = [each.parameter_info for each in known if each.annotation is int]
    assert numbers
    assert not [option.help for option in numbers if option.max is None]


@pytest.mark.parametrize(
    ("typed", "sent"),
    [("2026-12-31T20:00+01:00", "2026-12-31T19:00:00Z"), ("2026-12-31 20:00:00Z", "2026-12-31T20:00:00Z")],
)
def test_a_time_is_sent_as_the_instant_that_it_is(terminal: Terminal, typed: str, sent: str) -> None:
    terminal.type("event", "create", "Proms", "--starts", typed)
    request = terminal.answer("CatalogService", "CreateEvent", catalog.CreateEventResponse())
    assert request.event.start_time.ToJsonString() == sent
    assert terminal.ended().exit_code == 0


# Clears the screen, begins a line of its own, reverses what follows.
HOSTILE = "Proms\x1b[2J\nGratis\u202e\x9b"
ESCAPED = r"Proms\x1b[2J\nGratis\u202e\x9b"


@pytest.mark.parametrize(
    ("typed", "service", "method", "answer"),
    [
        (
            ["event", "list"],
            "CatalogService",
            "ListEvents",
            catalog.ListEventsResponse(events=[catalog.Event(name=HOSTILE)]),
        ),
        (
            ["event", "show", EVENT],
            "CatalogService",
            "GetEvent",
            catalog.GetEventResponse(event=catalog.Event(venue=HOSTILE)),
        ),
        (
            ["cancel", RESERVATION, "--buyer", "ada"],
            "TicketingService",
            "CancelReservation",
            pb.CancelReservationResponse(reservation=pb.Reservation(tickets=[pb.Ticket(section=HOSTILE)])),
        ),
        (
            ["pay", RESERVATION, "--buyer", "ada", "--card", "pm_card_ok"],
            "TicketingService",
            "Pay",
            pb.PayResponse(payment=pb.Payment(decline_reason=HOSTILE)),
        ),
    ],
)
def test_what_others_named_does_nothing_to_the_terminal(
    terminal: Terminal, typed: list[str], service: str, method: str, answer: Message
) -> None:
    terminal.type(*typed)
    terminal.answer(service, method, answer)
    assert ESCAPED in terminal.ended().stdout


def test_the_names_of_seats_do_nothing_to_the_terminal(terminal: Terminal) -> None:
    terminal.type("tickets", "list", EVENT)
    ticket = pb.Ticket(section=HOSTILE, row="1", seat="2")
    terminal.answer("TicketingService", "ListTickets", pb.ListTicketsResponse(tickets=[ticket]))
    terminal.answer("CatalogService", "GetEvent", catalog.GetEventResponse(event=catalog.Event(currency=HOSTILE)))
    assert terminal.ended().stdout.count(ESCAPED) == 2


def test_a_watched_change_does_nothing_to_the_terminal(terminal: Terminal) -> None:
    terminal.type("watch", RESERVATION)
    paid = pb.Reservation(state=State.STATE_HELD, paid_minor=1, currency=HOSTILE)
    terminal.stream("TicketingService", "WatchReservation", pb.WatchReservationResponse(reservation=paid))
    assert ESCAPED in terminal.ended().stdout


def test_a_refusal_does_nothing_to_the_terminal(terminal: Terminal) -> None:
    terminal.type("event", "show", EVENT)
    terminal.refuse("CatalogService", "GetEvent", already_exists("REASON", HOSTILE))
    assert terminal.ended().stderr == f"REASON: {ESCAPED}\n"


def test_json_says_names_as_they_are(terminal: Terminal) -> None:
    terminal.type("event", "show", EVENT, "--json")
    event = catalog.Event(name=f"{HOSTILE} :warning: [bold]")
    terminal.answer("CatalogService", "GetEvent", catalog.GetEventResponse(event=event))
    printed = terminal.ended().stdout
    assert printed.count("\n") == 1
    assert json.loads(printed)["name"] == event.name


def test_words_and_emoji_stay_whole() -> None:
    for text in ("Kølner Bühne, 8 €", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "👩\u200d🎤"):
        assert printable(text) == text
