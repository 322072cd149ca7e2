"""What a message to the catalogue or the reads must be, judged by itself: requests in, checked values out.

Every function raises CallError (INVALID_ARGUMENT) that names each wrong field. Limits are those of the contract.
"""

import re
from collections.abc import Collection
from dataclasses import fields
from typing import Final
from uuid import UUID

from chassis.errors import invalid
from reservations.checks import Checks
from reservations.layout import Place, SeatNamedTwice, lay_out
from reservations.store.catalog import Terms
from ticketrush.v1 import catalog_pb2, ticketing_pb2

NAME_LENGTH_MAX: Final = 200
REASON_LENGTH_MAX: Final = 200
SECTION_LENGTH_MAX: Final = 64
SEAT_LENGTH_MAX: Final = 16
HOLD_DURATION_S_MAX: Final = 24 * 3600
PAYMENT_GRACE_S_MAX: Final = 600
INSTALMENT_HOLD_S_MAX: Final = 30 * 24 * 3600
TICKETS_PER_BUYER_MAX: Final = 10_000
PRICE_MINOR_MAX: Final = 100_000_000
BLOCKS_MAX: Final = 1_000
GRID_SIDE_MAX: Final = 10_000
TICKETS_CREATED_MAX: Final = 100_000
TICKETS_WITHDRAWN_MAX: Final = 1_000
PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 500
TICKET_PAGE_SIZE_DEFAULT: Final = 100
TICKET_PAGE_SIZE_MAX: Final = 1_000

_CURRENCY = re.compile(r"[A-Z]{3}")
_BUYER = re.compile(r"[A-Za-z0-9._@:-]{1,64}")
_GIVEN_BY_THE_SYSTEM: Final = (
    "event_id",
    "state",
    "available_count",
    "held_count",
    "sold_count",
    "create_time",
    "version",
    "organiser_id",
)
_TERMS: Final = tuple(field.name for field in fields(Terms))


def create_event(request: catalog_pb2.CreateEventRequest) -> UUID:
    """The request_id."""
    checks = Checks()
    request_id = checks.uuid("request_id", request.request_id)
    given = {field.name for field, _ in request.event.ListFields()}
    for field in _GIVEN_BY_THE_SYSTEM:
        if field in given:
            checks.fail(f"event.{field}", "is given by the system and must be unset")
    if not _CURRENCY.fullmatch(request.event.currency):
        checks.fail("event.currency", "must be an ISO 4217 code, three capital letters")
    _terms(checks, request.event, _TERMS)
    checks.end()
    return request_id


def update_event(request: catalog_pb2.UpdateEventRequest) -> tuple[UUID, frozenset[str]]:
    """Which event, and which of its terms are taken."""
    checks = Checks()
    checks.uuid("request_id", request.request_id)
    event_id = checks.uuid("event.event_id", request.event.event_id)
    paths = frozenset(request.update_mask.paths)
    if not paths or not paths.issubset(_TERMS):
        checks.fail("update_mask", f"must name some of {', '.join(_TERMS)}, and nothing else")
    _terms(checks, request.event, paths)
    checks.end()
    return event_id, paths


def _terms(checks: Checks, event: catalog_pb2.Event, paths: Collection[str]) -> None:
    if "name" in paths:
        checks.text("event.name", event.name, length_max=NAME_LENGTH_MAX)
    if "venue" in paths:
        checks.text("event.venue", event.venue, length_min=0, length_max=NAME_LENGTH_MAX)
    # A time that is unset reads as 1970 and a span as 0 s, which pass.
    for field, time in (
        ("start_time", event.start_time),
        ("sale_start_time", event.sale_start_time),
        ("sale_end_time", event.sale_end_time),
    ):
        if field in paths:
            checks.time(f"event.{field}", time)
    if "hold_duration" in paths and event.HasField("hold_duration"):
        checks.span("event.hold_duration", event.hold_duration, minimum_s=1, maximum_s=HOLD_DURATION_S_MAX)
    if "payment_grace" in paths:
        checks.span("event.payment_grace", event.payment_grace, minimum_s=0, maximum_s=PAYMENT_GRACE_S_MAX)
    if "instalment_hold" in paths:
        checks.span("event.instalment_hold", event.instalment_hold, minimum_s=0, maximum_s=INSTALMENT_HOLD_S_MAX)
    if "max_tickets_per_buyer" in paths:
        checks.number(
            "event.max_tickets_per_buyer", event.max_tickets_per_buyer, minimum=0, maximum=TICKETS_PER_BUYER_MAX
        )


def sale_window(terms: Terms) -> None:
    """When the event sells, once the terms are complete."""
    if terms.sale_start_time and terms.sale_end_time and terms.sale_end_time <= terms.sale_start_time:
        raise invalid({"event.sale_end_time": "must be after sale_start_time"})


def get_event(request: catalog_pb2.GetEventRequest) -> UUID:
    """Which event."""
    checks = Checks()
    event_id = checks.uuid("event_id", request.event_id)
    checks.end()
    return event_id


def list_events(request: catalog_pb2.ListEventsRequest) -> int:
    """How many events to show."""
    checks = Checks()
    size = checks.page_size(request.page_size, default=PAGE_SIZE_DEFAULT, maximum=PAGE_SIZE_MAX)
    checks.end()
    return size


def close_event(request: catalog_pb2.CloseEventRequest) -> UUID:
    """Which event."""
    checks = Checks()
    checks.uuid("request_id", request.request_id)
    event_id = checks.uuid("event_id", request.event_id)
    checks.end()
    return event_id


def cancel_event(request: catalog_pb2.CancelEventRequest) -> UUID:
    """Which event."""
    checks = Checks()
    checks.uuid("request_id", request.request_id)
    event_id = checks.uuid("event_id", request.event_id)
    checks.text("reason", request.reason, length_max=REASON_LENGTH_MAX)
    checks.end()
    return event_id


def create_tickets(request: catalog_pb2.CreateTicketsRequest) -> tuple[UUID, list[Place]]:
    """Which event, and a place for each ticket in seat order. Takes half a second for the most tickets."""
    checks = Checks()
    checks.uuid("request_id", request.request_id)
    event_id = checks.uuid("event_id", request.event_id)
    ticket_count = 0
    if checks.count("blocks", request.blocks, maximum=BLOCKS_MAX):
        ticket_count = sum(_block(checks, f"blocks[{index}]", block) for index, block in enumerate(request.blocks))
    if checks.passed and ticket_count > TICKETS_CREATED_MAX:
        checks.fail("blocks", f"must be {TICKETS_CREATED_MAX:,} tickets at most, these are {ticket_count:,}")
    checks.end()
    try:
        return event_id, lay_out(request.blocks)
    except SeatNamedTwice as error:
        raise invalid({"blocks": str(error)}) from error


def _block(checks: Checks, name: str, block: catalog_pb2.Block) -> int:
    """Checks one block and counts its tickets."""
    checks.text(f"{name}.section", block.section, length_max=SECTION_LENGTH_MAX)
    checks.number(f"{name}.price_minor", block.price_minor, minimum=0, maximum=PRICE_MINOR_MAX)
    match block.WhichOneof("layout"):
        case "grid":
            checks.number(f"{name}.grid.rows", block.grid.rows, minimum=1, maximum=GRID_SIDE_MAX)
            checks.number(f"{name}.grid.seats_per_row", block.grid.seats_per_row, minimum=1, maximum=GRID_SIDE_MAX)
            return block.grid.rows * block.grid.seats_per_row
        case "seats":
            if checks.count(f"{name}.seats.seats", block.seats.seats, maximum=TICKETS_CREATED_MAX):
                for index, seat in enumerate(block.seats.seats):
                    checks.text(f"{name}.seats.seats[{index}].row", seat.row, length_max=SEAT_LENGTH_MAX)
                    checks.text(f"{name}.seats.seats[{index}].seat", seat.seat, length_max=SEAT_LENGTH_MAX)
            return len(block.seats.seats)
        case "quantity":
            checks.number(f"{name}.quantity", block.quantity, minimum=1, maximum=TICKETS_CREATED_MAX)
            return block.quantity
        case _:
            checks.fail(name, "must have one of grid, seats, quantity")
            return 0


def withdraw_tickets(request: catalog_pb2.WithdrawTicketsRequest) -> tuple[UUID, list[UUID]]:
    """Which event, and which of its tickets."""
    checks = Checks()
    checks.uuid("request_id", request.request_id)
    event_id = checks.uuid("event_id", request.event_id)
    ticket_ids = checks.uuids("ticket_ids", request.ticket_ids, count_max=TICKETS_WITHDRAWN_MAX)
    checks.end()
    return event_id, ticket_ids


def get_reservation(request: ticketing_pb2.GetReservationRequest) -> UUID:
    """Which reservation."""
    checks = Checks()
    reservation_id = checks.uuid("reservation_id", request.reservation_id)
    checks.end()
    return reservation_id


def list_reservations(request: ticketing_pb2.ListReservationsRequest) -> tuple[UUID | None, int]:
    """Of which event (None for any), and how many to show."""
    checks = Checks()
    if request.buyer_id and not _BUYER.fullmatch(request.buyer_id):
        checks.fail("buyer_id", "must be 1 to 64 letters, digits, or characters out of . _ - @ :")
    event_id = checks.uuid("event_id", request.event_id) if request.event_id else None
    size = checks.page_size(request.page_size, default=PAGE_SIZE_DEFAULT, maximum=PAGE_SIZE_MAX)
    checks.end()
    return event_id, size


def list_tickets(request: ticketing_pb2.ListTicketsRequest) -> tuple[UUID, int]:
    """Of which event, and how many to show."""
    checks = Checks()
    event_id = checks.uuid("event_id", request.event_id)
    if request.state not in ticketing_pb2.Ticket.State.values():
        checks.fail("state", "must be a Ticket.State")
    size = checks.page_size(request.page_size, default=TICKET_PAGE_SIZE_DEFAULT, maximum=TICKET_PAGE_SIZE_MAX)
    checks.end()
    return event_id, size
