"""What the message alone shows to be wrong is refused by the name of its field, and changes nothing."""

from collections.abc import Callable, Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import CallError
from reservations import validation
from reservations.checks import VIOLATIONS_MAX
from tests.reservations.organiser import CatalogStub, concert, grid, new_id, refusal
from ticketrush.v1 import catalog_pb2 as pb

LATEST = Timestamp(seconds=253_402_300_799, nanos=999_999_999)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "n" * 201),
        ("name", "with \0 inside"),
        ("name", "with \x1b[31m inside"),
        ("name", "two\nlines"),
        ("name", "\x9b31m"),
        ("name", "   "),
        ("venue", "v" * 201),
        ("currency", ""),
        ("currency", "eur"),
        ("currency", "EURO"),
        ("currency", "ÄÖÜ"),
        ("currency", "EUR\n"),
        ("hold_duration", Duration()),
        ("hold_duration", Duration(nanos=999_999_999)),
        ("hold_duration", Duration(seconds=-1)),
        ("hold_duration", Duration(seconds=86_400, nanos=1)),
        ("hold_duration", Duration(seconds=2**62)),
        ("payment_grace", Duration(seconds=-1)),
        ("payment_grace", Duration(seconds=600, nanos=1)),
        ("instalment_hold", Duration(nanos=-1)),
        ("instalment_hold", Duration(seconds=30 * 86_400 + 1)),
        ("max_tickets_per_buyer", -1),
        ("max_tickets_per_buyer", 10_001),
        ("start_time", Timestamp(seconds=253_402_300_800)),
        ("sale_start_time", Timestamp(seconds=-62_135_596_801)),
        ("sale_end_time", Timestamp(nanos=-1)),
        ("event_id", "11d72fd5-3756-4072-a7d8-6d1fa6069d29"),
        ("state", pb.Event.STATE_OPEN),
        ("available_count", 1),
        ("held_count", 1),
        ("sold_count", 1),
        ("create_time", Timestamp()),
        ("version", 1),
    ],
)
def test_a_wrong_field_of_an_event_is_named(field: str, value: Any) -> None:
    request = pb.CreateEventRequest(request_id=new_id(), event=concert(**{field: value}))
    assert fields_refused(request) == [f"event.{field}"]


def test_an_event_at_the_limits_is_taken() -> None:
    validation.create_event(
        pb.CreateEventRequest(
            request_id=new_id(),
            event=concert(
                name="ü" * 200,
                venue="",
                hold_duration=Duration(seconds=86_400),
                payment_grace=Duration(seconds=600),
                instalment_hold=Duration(seconds=30 * 86_400),
                max_tickets_per_buyer=10_000,
                start_time=LATEST,
                sale_start_time=Timestamp(seconds=-62_135_596_800),
            ),
        )
    )


@pytest.mark.parametrize(
    "request_id", ["", "1", "{0b5e2c1c-8d0e-8f5e-9d3a-111111111111}", "0b5e2c1c8d0e8f5e9d3a111111111111"]
)
def test_a_request_id_that_is_no_uuid_is_named(request_id: str) -> None:
    assert fields_refused(pb.CreateEventRequest(request_id=request_id, event=concert())) == ["request_id"]


def test_every_wrong_field_is_named_at_once() -> None:
    assert fields_refused(pb.CreateEventRequest()) == ["request_id", "event.currency", "event.name"]


@pytest.mark.parametrize("paths", [[], ["currency"], ["event_id"], ["state"], ["version"], ["name", "seats"], ["*"]])
def test_an_update_of_nothing_or_of_what_cannot_change_is_refused(paths: Sequence[str]) -> None:
    request = pb.UpdateEventRequest(
        request_id=new_id(), event=concert(event_id=new_id()), update_mask=FieldMask(paths=paths)
    )
    assert fields_refused(request) == ["update_mask"]


def test_an_update_is_judged_by_the_fields_it_names() -> None:
    request = pb.UpdateEventRequest(
        request_id=new_id(),
        event=pb.Event(event_id=new_id(), venue="v" * 201, max_tickets_per_buyer=-1),
        update_mask=FieldMask(paths=["name", "venue"]),
    )
    assert fields_refused(request) == ["event.name", "event.venue"]


@pytest.mark.parametrize("reason", ["", "r" * 201])
def test_calling_off_needs_a_reason(reason: str) -> None:
    assert fields_refused(pb.CancelEventRequest(request_id=new_id(), event_id=new_id(), reason=reason)) == ["reason"]


@pytest.mark.parametrize(
    ("block", "field"),
    [
        (pb.Block(section="", quantity=1), "section"),
        (pb.Block(section="s" * 65, quantity=1), "section"),
        (pb.Block(section="s", quantity=1, price_minor=-1), "price_minor"),
        (pb.Block(section="s", quantity=1, price_minor=100_000_001), "price_minor"),
        (pb.Block(section="s", quantity=0), "quantity"),
        (pb.Block(section="s", quantity=100_001), "quantity"),
        (grid(0, 1), "grid.rows"),
        (grid(10_001, 1), "grid.rows"),
        (grid(1, -1), "grid.seats_per_row"),
        (grid(1, 10_001), "grid.seats_per_row"),
        (pb.Block(section="s", seats=pb.Seats()), "seats.seats"),
        (pb.Block(section="s", seats=pb.Seats(seats=[pb.Seat(row="1")])), "seats.seats[0].seat"),
        (pb.Block(section="s", seats=pb.Seats(seats=[pb.Seat(row="r" * 17, seat="1")])), "seats.seats[0].row"),
        (pb.Block(section="s", seats=pb.Seats(seats=[pb.Seat(row="1", seat="\0")])), "seats.seats[0].seat"),
    ],
)
def test_a_wrong_field_of_a_block_is_named(block: pb.Block, field: str) -> None:
    assert fields_refused(_tickets(grid(), block)) == [f"blocks[1].{field}"]


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        [pb.Block(section="s", quantity=1)] * 1_001,
        [grid(1_000, 100), pb.Block(section="s", quantity=1)],
        [grid(10_000, 10_000)],
        [grid(1, 4), pb.Block(section="stalls", seats=pb.Seats(seats=[pb.Seat(row="1", seat="3")]))],
    ],
    ids=["none", "too many blocks", "one ticket too many", "far too many tickets", "a seat twice"],
)
def test_blocks_that_do_not_work_together_are_refused(blocks: Sequence[pb.Block]) -> None:
    assert fields_refused(_tickets(*blocks)) == ["blocks"]


def test_a_block_without_a_layout_is_named() -> None:
    assert fields_refused(_tickets(pb.Block(section="s"))) == ["blocks[0]"]


@pytest.mark.parametrize(
    ("ticket_ids", "field"),
    [
        ([], "ticket_ids"),
        ([new_id()] * 2, "ticket_ids"),
        ([new_id() for _ in range(1_001)], "ticket_ids"),
        ([new_id(), "seat 4"], "ticket_ids[1]"),
    ],
    ids=["none", "one twice", "too many", "no id"],
)
def test_wrong_ticket_ids_are_named(ticket_ids: Sequence[str], field: str) -> None:
    request = pb.WithdrawTicketsRequest(request_id=new_id(), event_id=new_id(), ticket_ids=ticket_ids)
    assert fields_refused(request) == [field]


@pytest.mark.parametrize("page_size", [-1, 501])
def test_a_page_size_out_of_bounds_is_named(page_size: int) -> None:
    assert fields_refused(pb.ListEventsRequest(page_size=page_size)) == ["page_size"]


async def test_a_refusal_of_thousands_of_fields_still_reaches_its_caller(catalog: CatalogStub) -> None:
    request = _tickets(pb.Block(section="s", seats=pb.Seats(seats=[pb.Seat()] * 5_000)))
    refused = await refusal(catalog.CreateTickets(request))
    assert (refused.code, len(refused.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, VIOLATIONS_MAX)


@pytest.mark.parametrize(
    "rpc", ["CreateEvent", "UpdateEvent", "GetEvent", "CloseEvent", "CancelEvent", "CreateTickets", "WithdrawTickets"]
)
async def test_every_call_checks_its_message(catalog: CatalogStub, rpc: str) -> None:
    empty = getattr(pb, f"{rpc}Request")()
    refused = await refusal(getattr(catalog, rpc)(empty))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    assert refused.violations


def _tickets(*blocks: pb.Block) -> pb.CreateTicketsRequest:
    return pb.CreateTicketsRequest(request_id=new_id(), event_id=new_id(), blocks=blocks)


_VALIDATIONS: dict[type, Callable[[Any], object]] = {
    pb.CreateEventRequest: validation.create_event,
    pb.UpdateEventRequest: validation.update_event,
    pb.CancelEventRequest: validation.cancel_event,
    pb.CreateTicketsRequest: validation.create_tickets,
    pb.WithdrawTicketsRequest: validation.withdraw_tickets,
    pb.ListEventsRequest: validation.list_events,
}


def fields_refused(request: Any) -> list[str]:
    """The fields that its validation names."""
    with pytest.raises(CallError) as caught:
        _VALIDATIONS[type(request)](request)
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    return list(caught.value.violations)
