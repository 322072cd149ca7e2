"""What organisers do: put events and tickets on sale, change them, take them off again."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from chassis.database import Database
from chassis.errors import CallError, already_exists, failed_precondition, not_found
from chassis.outbox import Outbox, Written
from contract import access, ids, reasons
from reservations import validation
from reservations.domain.model import EventState, TicketState
from reservations.event_messages import changed_terms, event_updated
from reservations.keyset import Position
from reservations.layout import Place
from reservations.organiser_requests import Claim, is_first, tickets_added
from reservations.store import catalog as store
from reservations.store import seats
from reservations.store.books import Connection
from reservations.store.catalog import CatalogEvent, Terms
from ticketrush.v1 import catalog_pb2 as pb

TICKETS_PER_STATEMENT_MAX: Final = 2_000
"""Some 50 ms of work: far from the statement timeout, and other calls have their turn in between."""

TICKETS_ANALYZED_MIN: Final = 1_000
"""From here on the planner must know at once. Until autovacuum comes round it would take the event for a few rows, and
sort all that is left of it for every page of the seat map and every best-available search: 65 ms instead of 0.4 ms."""


@dataclass(frozen=True)
class Catalog:
    """The organisers' use cases. Each raises CallError as the contract's comment on its RPC says.

    A change locks its event first and tickets after it, ascending, as decisions about reservations do.
    """

    database: Database
    outbox: Outbox

    async def create_event(self, claim: Claim, currency: str, terms: Terms) -> CatalogEvent:
        """A new event without tickets; `claim.subject_id` is its id."""
        validation.sale_window(terms)
        written: Written = ()
        async with self.database.transaction() as conn:
            if await is_first(conn, claim):
                await store.insert_event(conn, claim.subject_id, claim.caller.subject, currency, terms)
                written = await self._tell(conn, claim.subject_id, "EVENT_CREATED")
            event = await _known(conn, claim.subject_id)
            if not access.may_for_organiser(claim.rpc, claim.caller, event.organiser_id):
                raise already_exists(reasons.REQUEST_ID_REUSED, f"request_id {claim.request_id} is somebody else's")
        self.outbox.publish(written)
        return event

    async def update_event(self, claim: Claim, given: pb.Event, paths: Collection[str]) -> CatalogEvent:
        """Takes the fields named by `paths`. Live holds keep the terms they began with."""
        written: Written = ()
        async with self.database.transaction() as conn:
            await _refuse_unless_own(conn, claim)
            if await is_first(conn, claim):
                event = await _locked(conn, claim.subject_id)
                _refuse_if_cancelled(event)
                terms = changed_terms(event.terms, given, paths)
                validation.sale_window(terms)
                await store.update_event(conn, event.event_id, terms, event.state)
                written = await self._tell(conn, event.event_id, "EVENT_UPDATED")
            event = await _known(conn, claim.subject_id)
        self.outbox.publish(written)
        return event

    async def close_event(self, claim: Claim) -> CatalogEvent:
        """Sells no more from the commit on. Waits for decisions under way, which may still sell."""
        written: Written = ()
        async with self.database.transaction() as conn:
            await _refuse_unless_own(conn, claim)
            if await is_first(conn, claim):
                event = await _locked(conn, claim.subject_id)
                _refuse_if_cancelled(event)
                if event.state is EventState.OPEN:
                    await store.update_event(conn, event.event_id, event.terms, EventState.CLOSED)
                    written = await self._tell(conn, event.event_id, "EVENT_CLOSED")
            event = await _known(conn, claim.subject_id)
        self.outbox.publish(written)
        return event

    async def cancel_event(self, claim: Claim) -> CatalogEvent:
        """Calls the event off. Its reservations are cancelled by the sweep that settles cancelled events."""
        written: Written = ()
        async with self.database.transaction() as conn:
            await _refuse_unless_own(conn, claim)
            if await is_first(conn, claim):
                event = await _locked(conn, claim.subject_id)
                if event.state is not EventState.CANCELLED:
                    await store.update_event(conn, event.event_id, event.terms, EventState.CANCELLED)
                    written = await self._tell(conn, event.event_id, "EVENT_CANCELLED")
            event = await _known(conn, claim.subject_id)
        self.outbox.publish(written)
        return event

    async def create_tickets(self, claim: Claim, places: Sequence[Place]) -> tuple[CatalogEvent, int]:
        """Adds a ticket for each place, which come in seat order; answers how many this request added."""
        written: Written = ()
        async with self.database.transaction() as conn:
            await _refuse_unless_own(conn, claim)
            if await is_first(conn, claim, ticket_count=len(places)):
                _refuse_unless_open(await _known(conn, claim.subject_id))
                for begin in range(0, len(places), TICKETS_PER_STATEMENT_MAX):
                    await _insert(conn, claim, begin, places[begin : begin + TICKETS_PER_STATEMENT_MAX])
                # Locked only now, so that buyers do not wait for the tickets; closed meanwhile, it takes none of them.
                event = await _locked(conn, claim.subject_id)
                _refuse_unless_open(event)
                await store.add_available(conn, event.event_id, len(places))
                await store.update_event(conn, event.event_id, event.terms, event.state)
                written = await self._tell(conn, event.event_id, "TICKETS_CREATED", tickets_changed=True)
            event = await _known(conn, claim.subject_id)
            ticket_count = await tickets_added(conn, claim)
        self.outbox.publish(written)
        if written and len(places) >= TICKETS_ANALYZED_MIN:
            async with self.database.transaction() as conn:
                await seats.analyze_tickets(conn)
        return event, ticket_count

    async def withdraw_tickets(self, claim: Claim, ticket_ids: Sequence[UUID]) -> CatalogEvent:
        """Takes tickets off sale, all or none; those already withdrawn stay so."""
        written: Written = ()
        async with self.database.transaction() as conn:
            await _refuse_unless_own(conn, claim)
            if await is_first(conn, claim):
                event = await _locked(conn, claim.subject_id)
                on_sale = await _lock_untaken(conn, event.event_id, ticket_ids)
                if on_sale:
                    await seats.withdraw_tickets(conn, event.event_id, on_sale)
                    await store.add_available(conn, event.event_id, -len(on_sale))
                    await store.update_event(conn, event.event_id, event.terms, event.state)
                    written = await self._tell(conn, event.event_id, "TICKETS_WITHDRAWN", tickets_changed=True)
            event = await _known(conn, claim.subject_id)
        self.outbox.publish(written)
        return event

    async def event(self, event_id: UUID) -> CatalogEvent:
        """The event as it is now."""
        async with self.database.transaction() as conn:
            return await _known(conn, event_id)

    async def events(self, *, behind: Position | None, size: int) -> list[CatalogEvent]:
        """A page of events, the newest first."""
        async with self.database.transaction() as conn:
            return await store.page_of_events(conn, behind=behind, size=size)

    async def _tell(self, conn: Connection, event_id: UUID, kind: str, *, tickets_changed: bool = False) -> Written:
        event = await _known(conn, event_id)
        return await self.outbox.write(conn, [event_updated(event, kind, tickets_changed=tickets_changed)])


async def _refuse_unless_own(conn: Connection, claim: Claim) -> None:
    """Whose event it is never changes, so that this needs no lock. Others are told what they would be told of none."""
    organiser_id = await store.organiser_of(conn, claim.subject_id)
    if organiser_id is None or not access.may_for_organiser(claim.rpc, claim.caller, organiser_id):
        raise _unknown(claim.subject_id)


async def _known(conn: Connection, event_id: UUID) -> CatalogEvent:
    event = await store.event(conn, event_id)
    if event is None:
        raise _unknown(event_id)
    return event


async def _locked(conn: Connection, event_id: UUID) -> CatalogEvent:
    event = await store.lock_event(conn, event_id)
    if event is None:
        raise _unknown(event_id)
    return event


async def _insert(conn: Connection, claim: Claim, first_ordinal: int, places: Sequence[Place]) -> None:
    request_id = str(claim.request_id)
    ticket_ids = [
        ids.ticket_id(claim.subject_id, request_id, ordinal)
        for ordinal in range(first_ordinal, first_ordinal + len(places))
    ]
    if await seats.insert_tickets(conn, claim.subject_id, ticket_ids, places) < len(places):
        missing, *_ = await seats.missing_tickets(conn, claim.subject_id, ticket_ids)
        place = places[ticket_ids.index(missing)]
        raise already_exists(
            reasons.SEAT_EXISTS, f"section {place.section} has a seat {place.seat} in row {place.row} already"
        )


async def _lock_untaken(conn: Connection, event_id: UUID, ticket_ids: Sequence[UUID]) -> list[UUID]:
    """Locks the tickets and answers those on sale; the others are withdrawn. Raises CallError."""
    states = await seats.lock_tickets(conn, event_id, ticket_ids)
    for ticket_id in ticket_ids:
        if ticket_id not in states:
            raise not_found(reasons.UNKNOWN_TICKET, f"event {event_id} has no ticket {ticket_id}")
    taken = [ticket_id for ticket_id, state in states.items() if state in (TicketState.HELD, TicketState.SOLD)]
    if taken:
        raise failed_precondition(
            reasons.TICKETS_TAKEN, f"{len(taken)} of the tickets are held or sold, ticket {taken[0]} among them"
        )
    return [ticket_id for ticket_id, state in states.items() if state is TicketState.AVAILABLE]


def _unknown(event_id: UUID) -> CallError:
    return not_found(reasons.UNKNOWN_EVENT, f"there is no event {event_id}")


def _refuse_if_cancelled(event: CatalogEvent) -> None:
    if event.state is EventState.CANCELLED:
        raise failed_precondition(reasons.EVENT_CANCELLED, f"event {event.event_id} was called off")


def _refuse_unless_open(event: CatalogEvent) -> None:
    _refuse_if_cancelled(event)
    if event.state is EventState.CLOSED:
        raise failed_precondition(reasons.EVENT_CLOSED, f"event {event.event_id} is closed and takes no more tickets")
