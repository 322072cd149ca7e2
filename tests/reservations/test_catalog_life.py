"""Events are closed, called off, counted and listed; each change is recorded and told to the world."""

import asyncio
from uuid import UUID

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from psycopg.errors import LockNotAvailable

from chassis.database import Database
from contract import keys
from contract.ids import derived_id
from reservations.domain.model import Books
from reservations.store.books import lock_events
from tests.chassis.broker import channel_to, next_message
from tests.reservations.organiser import (
    CatalogStub,
    create_event,
    create_tickets,
    kinds_of_history,
    new_id,
    refusal,
    someone_waits_for_a_lock,
)
from ticketrush.messages.v1 import messages_pb2 as msg
from ticketrush.v1 import catalog_pb2 as pb


async def test_a_closed_event_stays_closed_and_is_answered_as_it_is(catalog: CatalogStub, database: Database) -> None:
    event = await create_event(catalog)
    closed = (await catalog.CloseEvent(pb.CloseEventRequest(request_id=new_id(), event_id=event.event_id))).event
    assert (closed.state, closed.version) == (pb.Event.STATE_CLOSED, 2)
    assert (
        await catalog.CloseEvent(pb.CloseEventRequest(request_id=new_id(), event_id=event.event_id))
    ).event == closed
    assert await kinds_of_history(database, event.event_id) == [(1, "EVENT_CREATED"), (2, "EVENT_CLOSED")]


async def test_a_closed_event_can_still_be_changed_and_called_off(catalog: CatalogStub) -> None:
    event = await create_event(catalog)
    await catalog.CloseEvent(pb.CloseEventRequest(request_id=new_id(), event_id=event.event_id))
    assert (await _update(catalog, pb.Event(event_id=event.event_id, name="Moved"), "name")).name == "Moved"
    assert (await _cancel(catalog, event.event_id)).state == pb.Event.STATE_CANCELLED


async def test_an_event_that_was_called_off_is_final(catalog: CatalogStub, database: Database) -> None:
    event = await create_event(catalog)
    cancelled = await _cancel(catalog, event.event_id)
    assert (cancelled.state, cancelled.version) == (pb.Event.STATE_CANCELLED, 2)
    assert await _cancel(catalog, event.event_id) == cancelled
    closing = await refusal(catalog.CloseEvent(pb.CloseEventRequest(request_id=new_id(), event_id=event.event_id)))
    updating = await refusal(_update(catalog, pb.Event(event_id=event.event_id, name="Late"), "name"))
    for refused in (closing, updating):
        assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EVENT_CANCELLED")
    assert await kinds_of_history(database, event.event_id) == [(1, "EVENT_CREATED"), (2, "EVENT_CANCELLED")]
    async with database.transaction() as conn:
        cursor = await conn.execute("SELECT settled FROM event WHERE event_id = %s", (event.event_id,))
        assert await cursor.fetchone() == (False,)


async def test_an_unknown_event_is_not_found(catalog: CatalogStub) -> None:
    unknown = new_id()
    for call in (
        catalog.GetEvent(pb.GetEventRequest(event_id=unknown)),
        catalog.CloseEvent(pb.CloseEventRequest(request_id=new_id(), event_id=unknown)),
        catalog.CancelEvent(pb.CancelEventRequest(request_id=new_id(), event_id=unknown, reason="rain")),
        _update(catalog, pb.Event(event_id=unknown, name="Nothing"), "name"),
        create_tickets(catalog, unknown),
        catalog.WithdrawTickets(
            pb.WithdrawTicketsRequest(request_id=new_id(), event_id=unknown, ticket_ids=[new_id()])
        ),
    ):
        refused = await refusal(call)
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_EVENT")


async def test_closing_waits_for_a_decision_under_way(catalog: CatalogStub, database: Database) -> None:
    event = await create_event(catalog)
    async with database.transaction() as decision:
        await lock_events(decision, Books(), [UUID(event.event_id)])
        closing = asyncio.ensure_future(
            catalog.CloseEvent(pb.CloseEventRequest(request_id=new_id(), event_id=event.event_id))
        )
        await someone_waits_for_a_lock(database)
        assert not closing.done()
    assert (await closing).event.state == pb.Event.STATE_CLOSED


async def test_an_organiser_who_waits_to_close_is_not_overtaken(catalog: CatalogStub, database: Database) -> None:
    event = await create_event(catalog)
    event_id = UUID(event.event_id)
    async with database.transaction() as decision, database.transaction() as newcomer:
        await lock_events(decision, Books(), [event_id])
        closing = asyncio.ensure_future(
            catalog.CloseEvent(pb.CloseEventRequest(request_id=new_id(), event_id=event.event_id))
        )
        await someone_waits_for_a_lock(database)
        await newcomer.execute("SET LOCAL lock_timeout = '100ms'")
        with pytest.raises(LockNotAvailable):
            await lock_events(newcomer, Books(), [event_id])
    assert (await closing).event.state == pb.Event.STATE_CLOSED


async def test_the_counts_of_an_event_are_the_sums_over_its_slots(catalog: CatalogStub, database: Database) -> None:
    event = await create_tickets(catalog, (await create_event(catalog)).event_id)
    async with database.transaction() as conn:
        for slot, available, held, sold in ((1, -3, 2, 1), (2, 1, -1, 0)):
            await conn.execute(
                "INSERT INTO event_count VALUES (%s, %s, %s, %s, %s)", (event.event_id, slot, available, held, sold)
            )
    shown = (await catalog.GetEvent(pb.GetEventRequest(event_id=event.event_id))).event
    listed = (await catalog.ListEvents(pb.ListEventsRequest())).events[0]
    assert (shown.available_count, shown.held_count, shown.sold_count) == (2, 1, 1)
    assert listed == shown


async def test_events_are_listed_the_newest_first_page_by_page(catalog: CatalogStub) -> None:
    created = [(await create_event(catalog)).event_id for _ in range(5)]
    listed, token = [], ""
    for size in (2, 2, 1):
        page = await catalog.ListEvents(pb.ListEventsRequest(page_size=2, page_token=token))
        assert len(page.events) == size
        listed += [event.event_id for event in page.events]
        token = page.next_page_token
    assert listed == created[::-1]
    assert token == ""


async def test_a_tampered_page_token_is_refused(catalog: CatalogStub) -> None:
    for _ in range(2):
        await create_event(catalog)
    token = (await catalog.ListEvents(pb.ListEventsRequest(page_size=1))).next_page_token
    altered = ("A" if token[0] != "A" else "B") + token[1:]
    refused = await refusal(catalog.ListEvents(pb.ListEventsRequest(page_size=1, page_token=altered)))
    assert (refused.code, list(refused.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_token"])


@pytest.mark.parametrize("kind", ["EVENT_CREATED", "TICKETS_CREATED"])
async def test_each_change_is_told_to_the_world(
    catalog: CatalogStub, database: Database, amqp_url: str, unique: str, kind: str
) -> None:
    async with channel_to(amqp_url) as channel:
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(unique, keys.EVENT_UPDATED)
        event = await create_event(catalog)
        if kind == "TICKETS_CREATED":
            await next_message(queue)
            event = await create_tickets(catalog, event.event_id)
        [said] = msg.EnvelopeBatch.FromString((await next_message(queue)).body).envelopes
    assert said.event_updated.event == event
    assert said.event_updated.tickets_changed is (kind == "TICKETS_CREATED")
    assert (said.subject_id, said.subject_version) == (event.event_id, event.version)
    assert said.message_id == str(derived_id(UUID(event.event_id), f"event.updated:{event.version}"))
    assert (await kinds_of_history(database, event.event_id))[-1] == (event.version, kind)


async def _update(catalog: CatalogStub, given: pb.Event, *paths: str) -> pb.Event:
    request = pb.UpdateEventRequest(request_id=new_id(), event=given, update_mask=FieldMask(paths=paths))
    return (await catalog.UpdateEvent(request)).event


async def _cancel(catalog: CatalogStub, event_id: str) -> pb.Event:
    request = pb.CancelEventRequest(request_id=new_id(), event_id=event_id, reason="The singer is ill")
    return (await catalog.CancelEvent(request)).event
