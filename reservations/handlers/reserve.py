"""Reserve: a batch of commands, decided in the order of arrival, in one transaction."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from prometheus_client import Counter as Figure

from chassis.consumer import Failure, Poison
from contract import reasons
from reservations.domain.holds import ReserveTickets, Section, reserve
from reservations.domain.model import OPEN_HOLDS_MAX, Books
from reservations.handlers.answers import Answers
from reservations.handlers.desk import Desk
from reservations.messages import reservation_message, reserve_command
from reservations.store import books as store
from reservations.store import reads
from ticketrush.messages.v1.messages_pb2 import Envelope
from ticketrush.v1 import ticketing_pb2 as pb

SECTION_SLACK = 200
"""Tickets seen beyond what a batch asks for, so that neighbours can be found among them."""
SECTION_MAX = 2_000
"""Tickets of a section that one decision looks at; neighbours further back are not sought."""
_NOTHING = Section()

_decided = Figure(
    "ticketrush_reservations_decided",
    "Reserve commands decided, by the state they led to or the reason why not.",
    ("outcome",),
)


@dataclass
class _Batch:
    """Commands of one transaction and what came of them, by command."""

    commands: Sequence[ReserveTickets]
    waiting: bool
    books: Books
    known: dict[UUID, UUID] = field(default_factory=dict)
    reused: set[UUID] = field(default_factory=set)
    undecided: list[ReserveTickets] = field(default_factory=list)


class ReserveHandler:
    """Takes `ReserveTickets` commands and answers each."""

    def __init__(self, desk: Desk, answers: Answers) -> None:
        self._desk = desk
        self._answers = answers

    async def __call__(self, envelopes: Sequence[Envelope]) -> list[Failure]:
        """Decides all of them; those that are malformed come back as failures."""
        failures: list[Failure] = []
        asked: dict[UUID, list[Envelope]] = {}
        commands: dict[UUID, ReserveTickets] = {}
        for envelope in envelopes:
            try:
                command = reserve_command(envelope)
            except Poison as error:
                failures.append(Failure(envelope, error))
            else:
                # The same command twice in a batch is one command with two to answer.
                commands.setdefault(command.command_id, command)
                asked.setdefault(command.command_id, []).append(envelope)
        undecided = await self._take(list(commands.values()), asked, waiting=False)
        for command in undecided:
            # Alone, so that waiting for a section's locks keeps nobody else's tickets locked.
            await self._take([command], asked, waiting=True)
        return failures

    async def _take(
        self, commands: Sequence[ReserveTickets], asked: dict[UUID, list[Envelope]], *, waiting: bool
    ) -> list[ReserveTickets]:
        if not commands:
            return []
        batch = await self._desk.decide(lambda conn, books: _decide(conn, _Batch(commands, waiting, books)))
        _count(batch)
        await self._answer(batch, asked)
        return batch.undecided

    async def _answer(self, batch: _Batch, asked: dict[UUID, list[Envelope]]) -> None:
        repeated = await self._read(set(batch.known.values()))
        steps = batch.books.steps
        new = {step.reservation.command_id: reservation_message(step.reservation, step.tickets) for step in steps}
        for command in batch.commands:
            refuse_reason = reasons.REQUEST_ID_REUSED if command.command_id in batch.reused else ""
            shown = new.get(command.command_id) or repeated.get(batch.known.get(command.command_id))
            if shown or refuse_reason:
                for envelope in asked[command.command_id]:
                    self._answers.to(envelope, reservation=shown, refuse_reason=refuse_reason)

    async def _read(self, reservation_ids: set[UUID]) -> dict[UUID | None, pb.Reservation]:
        if not reservation_ids:
            return {}
        async with self._desk.database.transaction() as conn:
            found = await reads.reservations(conn, reservation_ids)
        return {key: reservation_message(reservation, tickets) for key, (reservation, tickets) in found.items()}


def _count(batch: _Batch) -> None:
    outcomes = Counter(step.reservation.reject_reason or step.reservation.state for step in batch.books.steps)
    for outcome, count in outcomes.items():
        _decided.labels(outcome).inc(count)


async def _decide(conn: store.Connection, batch: _Batch) -> _Batch:
    books = batch.books
    new = await _without_known(conn, batch)
    if not new:
        return batch
    await store.lock_events(conn, books, {command.event_id for command in new})
    asked = Counter((command.event_id, command.buyer_id) for command in new)
    await store.lock_allowances(conn, books, asked)
    # A hold has a ticket at least: who has few tickets has few holds, and need not be counted.
    if many := [pair for pair, count in asked.items() if books.allowances.get(pair, 0) + count > OPEN_HOLDS_MAX]:
        await store.count_holds(conn, books, many)
    if named := [(command.event_id, ticket_id) for command in new for ticket_id in command.ticket_ids]:
        await store.lock_tickets(conn, books, named)
    sections = await _claim_sections(conn, batch, new)
    await store.read_clock(conn, books)
    for command in new:
        if not reserve(books, command, sections.get(_shelf(command), _NOTHING)):
            batch.undecided.append(command)
    return batch


async def _without_known(conn: store.Connection, batch: _Batch) -> list[ReserveTickets]:
    known = await store.requests_known(conn, {(command.buyer_id, command.request_id) for command in batch.commands})
    new: list[ReserveTickets] = []
    claimed: set[UUID] = set()
    for command in batch.commands:
        request = (command.buyer_id, command.request_id)
        decided_under = known.get(request)
        if decided_under is None and command.reservation_id in claimed:
            # Another request under the same id: alone, it meets what has been decided.
            batch.undecided.append(command)
        elif decided_under is None:
            known[request] = (command.reservation_id, command.command_id)
            claimed.add(command.reservation_id)
            new.append(command)
        elif decided_under == (command.reservation_id, command.command_id):
            batch.known[command.command_id] = command.reservation_id
        else:
            batch.reused.add(command.command_id)
    return new


async def _claim_sections(
    conn: store.Connection, batch: _Batch, commands: Sequence[ReserveTickets]
) -> dict[tuple[UUID, str], Section]:
    wanted: Counter[tuple[UUID, str]] = Counter()
    for command in commands:
        if command.best:
            wanted[command.event_id, command.best.section] += command.best.quantity
    sections = {}
    for (event_id, name), count in sorted(wanted.items()):
        limit = SECTION_MAX if batch.waiting else min(count + SECTION_SLACK, SECTION_MAX)
        ticket_ids, unseen_count = await store.claim_section(
            conn, batch.books, event_id, name, limit, waiting=batch.waiting
        )
        # Whoever waited and looked as far as anybody may is decided by what it sees.
        sections[event_id, name] = Section(ticket_ids, 0 if batch.waiting else unseen_count)
    return sections


def _shelf(command: ReserveTickets) -> tuple[UUID, str]:
    return (command.event_id, command.best.section if command.best else "")
