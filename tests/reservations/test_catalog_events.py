"""Events are created once and changed only by what is named."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.callers import ANYBODY
from chassis.database import Database
from reservations.organiser_requests import claim_of
from tests.reservations.organiser import (
    CatalogStub,
    concert,
    create_event,
    create_tickets,
    kinds_of_history,
    new_id,
    refusal,
    someone_waits_for_a_lock,
)
from ticketrush.v1 import catalog_pb2 as pb
from ticketrush.v1.ticketing_pb2 import RefundReservationRequest


async def test_an_event_is_shown_as_it_was_created(catalog: CatalogStub) -> None:
    given = concert(
        start_time=_timestamp("2030-06-01T19:00:00Z"),
        hold_duration=Duration(seconds=120),
        payment_grace=Duration(),
        instalment_hold=Duration(seconds=86_400),
        max_tickets_per_buyer=6,
        sale_start_time=_timestamp("2030-01-01T09:00:00.123456Z"),
        sale_end_time=_timestamp("2030-06-01T18:00:00Z"),
    )
    event = (await catalog.CreateEvent(pb.CreateEventRequest(request_id=new_id(), event=given))).event
    assert (await catalog.GetEvent(pb.GetEventRequest(event_id=event.event_id))).event == event
    assert UUID(event.event_id).version == 8
    assert event.state == pb.Event.STATE_OPEN
    assert event.version == 1
    assert abs(event.create_time.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=1)
    for field in ("event_id", "state", "create_time", "version"):
        event.ClearField(field)
    assert event == given


async def test_spans_that_are_unset_get_their_defaults(catalog: CatalogStub) -> None:
    event = await create_event(catalog)
    assert _seconds(event) == (300, 60, 60)
    assert not event.HasField("start_time")
    assert not event.HasField("sale_start_time")
    assert not event.HasField("sale_end_time")


async def test_an_instalment_hold_that_is_unset_is_the_payment_grace(catalog: CatalogStub) -> None:
    assert _seconds(await create_event(catalog, payment_grace=Duration(seconds=90))) == (300, 90, 90)


async def test_no_payment_grace_is_not_the_default_payment_grace(catalog: CatalogStub) -> None:
    assert _seconds(await create_event(catalog, payment_grace=Duration())) == (300, 0, 0)


async def test_the_same_request_creates_one_event_and_shows_it_as_it_is_now(
    catalog: CatalogStub, database: Database
) -> None:
    request = pb.CreateEventRequest(request_id=new_id(), event=concert())
    event_id = (await catalog.CreateEvent(request)).event.event_id
    await create_tickets(catalog, event_id)
    again = (await catalog.CreateEvent(request)).event
    assert (again.event_id, again.version, again.available_count) == (event_id, 2, 4)
    assert await kinds_of_history(database, event_id) == [(1, "EVENT_CREATED"), (2, "TICKETS_CREATED")]


async def test_five_times_the_same_request_at_once_create_one_event(catalog: CatalogStub, database: Database) -> None:
    request = pb.CreateEventRequest(request_id=new_id(), event=concert())
    answers = await asyncio.gather(*(catalog.CreateEvent(request) for _ in range(5)))
    assert len({answer.event.SerializeToString(deterministic=True) for answer in answers}) == 1
    assert await kinds_of_history(database, answers[0].event.event_id) == [(1, "EVENT_CREATED")]


async def test_a_request_id_written_in_capitals_is_the_same_request_id(catalog: CatalogStub) -> None:
    request_id = new_id()
    first = await catalog.CreateEvent(pb.CreateEventRequest(request_id=request_id, event=concert()))
    again = await catalog.CreateEvent(pb.CreateEventRequest(request_id=request_id.upper(), event=concert()))
    assert again == first


async def test_a_request_id_with_another_body_is_refused(catalog: CatalogStub) -> None:
    request_id = new_id()
    await catalog.CreateEvent(pb.CreateEventRequest(request_id=request_id, event=concert()))
    other = pb.CreateEventRequest(request_id=request_id, event=concert(name="Another concert"))
    refused = await refusal(catalog.CreateEvent(other))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_a_request_id_never_names_two_different_calls(catalog: CatalogStub) -> None:
    event = await create_event(catalog)
    request_id = new_id()
    await catalog.CloseEvent(pb.CloseEventRequest(request_id=request_id, event_id=event.event_id))
    cancel = pb.CancelEventRequest(request_id=request_id, event_id=event.event_id, reason="rain")
    assert (await refusal(catalog.CancelEvent(cancel))).reason == "REQUEST_ID_REUSED"


def test_two_calls_are_different_even_with_the_same_body() -> None:
    subject_id = uuid4()
    cancel = pb.CancelEventRequest(request_id=new_id(), event_id=str(subject_id), reason="rain")
    refund = RefundReservationRequest.FromString(cancel.SerializeToString())
    assert claim_of(cancel, subject_id, ANYBODY) != claim_of(refund, subject_id, ANYBODY)


async def test_a_refused_request_leaves_its_request_id_free(catalog: CatalogStub) -> None:
    request_id = new_id()
    event = await create_event(catalog)
    unknown = pb.CloseEventRequest(request_id=request_id, event_id=new_id())
    assert (await refusal(catalog.CloseEvent(unknown))).reason == "UNKNOWN_EVENT"
    closed = await catalog.CloseEvent(pb.CloseEventRequest(request_id=request_id, event_id=event.event_id))
    assert closed.event.state == pb.Event.STATE_CLOSED


async def test_an_update_takes_the_named_fields_and_no_others(catalog: CatalogStub) -> None:
    event = await create_event(catalog, hold_duration=Duration(seconds=100), max_tickets_per_buyer=2)
    given = pb.Event(
        event_id=event.event_id,
        name="New name",
        hold_duration=Duration(seconds=5),
        sale_end_time=Timestamp(seconds=-(2**60)),
    )
    updated = await _update(catalog, given, "name", "max_tickets_per_buyer")
    assert (updated.name, updated.max_tickets_per_buyer, updated.version) == ("New name", 0, 2)
    assert (updated.venue, updated.hold_duration.seconds) == ("Town hall", 100)
    assert not updated.HasField("sale_end_time")


async def test_a_named_field_that_is_unset_gets_its_default(catalog: CatalogStub) -> None:
    event = await create_event(
        catalog, start_time=Timestamp(seconds=1), hold_duration=Duration(seconds=9), payment_grace=Duration(seconds=30)
    )
    updated = await _update(
        catalog, pb.Event(event_id=event.event_id), "start_time", "hold_duration", "instalment_hold", "venue"
    )
    assert not updated.HasField("start_time")
    assert _seconds(updated) == (300, 30, 30)
    assert updated.venue == ""


async def test_an_instalment_hold_that_is_reset_follows_the_new_payment_grace(catalog: CatalogStub) -> None:
    event = await create_event(catalog, instalment_hold=Duration(seconds=7))
    given = pb.Event(event_id=event.event_id, payment_grace=Duration(seconds=20))
    assert _seconds(await _update(catalog, given, "payment_grace")) == (300, 20, 7)
    assert _seconds(await _update(catalog, given, "payment_grace", "instalment_hold")) == (300, 20, 20)


async def test_the_same_update_changes_the_event_once(catalog: CatalogStub) -> None:
    event = await create_event(catalog)
    first = pb.UpdateEventRequest(
        request_id=new_id(),
        event=pb.Event(event_id=event.event_id, name="First"),
        update_mask=FieldMask(paths=["name"]),
    )
    await catalog.UpdateEvent(first)
    await _update(catalog, pb.Event(event_id=event.event_id, name="Second"), "name")
    again = (await catalog.UpdateEvent(first)).event
    assert (again.name, again.version) == ("Second", 3)


async def test_two_updates_at_once_lose_neither(catalog: CatalogStub, database: Database) -> None:
    event = await create_event(catalog)
    async with database.transaction() as other:
        await other.execute("UPDATE event SET name = 'Theirs' WHERE event_id = %s", (event.event_id,))
        updating = asyncio.ensure_future(_update(catalog, pb.Event(event_id=event.event_id, venue="Ours"), "venue"))
        await someone_waits_for_a_lock(database)
    updated = await updating
    assert (updated.name, updated.venue) == ("Theirs", "Ours")


async def test_a_sale_may_not_end_before_it_begins_not_even_by_an_update(catalog: CatalogStub) -> None:
    event = await create_event(catalog, sale_start_time=_timestamp("2030-01-02T00:00:00Z"))
    given = pb.Event(event_id=event.event_id, sale_end_time=_timestamp("2030-01-01T00:00:00Z"))
    request = pb.UpdateEventRequest(request_id=new_id(), event=given, update_mask=FieldMask(paths=["sale_end_time"]))
    refused = await refusal(catalog.UpdateEvent(request))
    assert (refused.code, list(refused.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, ["event.sale_end_time"])


async def _update(catalog: CatalogStub, given: pb.Event, *paths: str) -> pb.Event:
    request = pb.UpdateEventRequest(request_id=new_id(), event=given, update_mask=FieldMask(paths=paths))
    return (await catalog.UpdateEvent(request)).event


def _seconds(event: pb.Event) -> tuple[int, int, int]:
    return event.hold_duration.seconds, event.payment_grace.seconds, event.instalment_hold.seconds


def _timestamp(text: str) -> Timestamp:
    stamp = Timestamp()
    stamp.FromJsonString(text)
    return stamp
