"""Two reservations processes on one database, as far as their handlers go, and a gateway that hears the answers."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from chassis.consumer import Failure
from chassis.database import Database
from chassis.outbox import Outbox
from chassis.publisher import Publisher
from contract import ids, keys
from reservations.domain.model import Reservation, Ticket
from reservations.handlers.answers import Answers
from reservations.handlers.desk import Desk
from reservations.handlers.opening import Opening, OpeningHandler
from reservations.handlers.refund import RefundHandler
from reservations.handlers.reserve import ReserveHandler
from reservations.handlers.settle import SettleHandler
from reservations.handlers.sweeps import Sweeps
from reservations.store import reads
from tests.chassis.broker import DEADLINE_S, channel_to, running, until
from tests.conftest import database_like
from tests.reservations.sayings import ANN, Hall, approved, opening, reserve
from tests.reservations.soundness import check_event
from ticketrush.messages.v1 import messages_pb2 as msg
from ticketrush.v1 import ticketing_pb2 as pb

PRICE_MINOR = 5_000
HOLD_IS_OVER = timedelta(minutes=6)
Handler = Callable[[Sequence[msg.Envelope]], Awaitable[list[Failure]]]


class Inbox:
    """What arrives in a queue of the test's own, by the command it answers, and all of it in order."""

    def __init__(self) -> None:
        self.queue = ""
        self.heard: list[tuple[str, msg.Envelope]] = []
        self._answers: dict[str, asyncio.Queue[msg.Outcome]] = defaultdict(asyncio.Queue)

    async def open(self, channel: AbstractChannel, exchange: str = "") -> None:
        """Begins to listen: to answers, and to all that an exchange is told."""
        queue = await channel.declare_queue(exclusive=True)
        if exchange:
            await queue.bind(exchange, "#")
        await queue.consume(self._take, no_ack=True)
        self.queue = queue.name

    async def answer(self, command_id: str) -> msg.Outcome:
        """The next answer to this command."""
        async with asyncio.timeout(DEADLINE_S):
            return await self._answers[command_id].get()

    async def _take(self, message: AbstractIncomingMessage) -> None:
        for envelope in msg.EnvelopeBatch.FromString(message.body).envelopes:
            self.heard.append((message.routing_key or "", envelope))
            if envelope.HasField("outcome"):
                self._answers[envelope.command_id].put_nowait(envelope.outcome)


@dataclass(frozen=True)
class Service:
    """The use cases of one process, with a pool of connections of its own."""

    database: Database
    desk: Desk
    reserve: ReserveHandler
    settle: SettleHandler
    opening: OpeningHandler
    refunds: RefundHandler
    sweeps: Sweeps


@dataclass
class Shop:
    """Two services, their database, and what the outside world sends and hears."""

    url: str
    one: Service
    two: Service
    exchange: str
    channel: AbstractChannel
    inbox: Inbox = field(default_factory=Inbox)

    async def rows(self, query: str, *values: Any) -> list[Any]:
        """What a statement returns; its changes are committed."""
        async with self.one.database.transaction() as conn:
            cursor = await conn.execute(query, values)
            return await cursor.fetchall() if cursor.description else []

    async def event(self, seats: int = 4, *, rows: int = 1, price_minor: int = PRICE_MINOR, **terms: Any) -> Hall:
        """An event on sale with rows of so many seats in its section `stalls`. `terms` are columns of its table."""
        event_id = uuid4()
        columns = {
            "hold_duration": timedelta(minutes=5),
            "payment_grace": timedelta(minutes=1),
            "instalment_hold": timedelta(minutes=1),
            "max_tickets_per_buyer": 0,
            "sale_start_time": None,
            "sale_end_time": None,
            "state": "OPEN",
            **terms,
        }
        await self.rows(
            f"""INSERT INTO event (event_id, name, venue, currency, create_time, version, {", ".join(columns)})
                VALUES (%s, 'Concert', 'Town hall', 'EUR', now(), 1, {", ".join(["%s"] * len(columns))})""",  # noqa: S608 - own names
            event_id,
            *columns.values(),
        )
        places = [(str(row), seat) for row in range(1, rows + 1) for seat in range(1, seats + 1)]
        hall = Hall(event_id, [ids.ticket_id(event_id, "seats", ordinal) for ordinal in range(len(places))])
        await self.rows(
            """INSERT INTO ticket (event_id, ticket_id, section, "row", seat, position, price_minor, state, version)
               SELECT %s, ticket_id, 'stalls', "row", position::text, position, %s, 'AVAILABLE', 1
               FROM unnest(%s::uuid[], %s::text[], %s::int[]) AS new (ticket_id, "row", position)""",
            event_id,
            price_minor,
            hall.ticket_ids,
            [row for row, _ in places],
            [seat for _, seat in places],
        )
        await self.rows("INSERT INTO event_count VALUES (%s, 0, %s, 0, 0)", event_id, len(places))
        return hall

    async def ask(self, handler: Handler, *envelopes: msg.Envelope) -> list[msg.Outcome]:
        """Hands a batch to a handler and returns what each envelope is answered."""
        for envelope in envelopes:
            envelope.reply_to = self.inbox.queue
        assert await handler(envelopes) == []
        return [await self.inbox.answer(envelope.command_id or envelope.message_id) for envelope in envelopes]

    async def hold(self, envelope: msg.Envelope) -> str:
        """The reservation_id of the hold that a Reserve ends as."""
        [outcome] = await self.ask(self.one.reserve, envelope)
        assert outcome.reservation.state == pb.Reservation.STATE_HELD, outcome
        return outcome.reservation.reservation_id

    async def open(self, *openings: Opening) -> list[str]:
        """Why each payment is refused; "" for those that may charge."""
        return [opened.refuse_reason for opened in await self.one.opening.open(openings)]

    async def opened(self, reservation_id: str, amount_minor: int = 0, buyer_id: str = ANN) -> Opening:
        """A payment that may charge."""
        payment = opening(reservation_id, amount_minor, buyer_id)
        assert await self.open(payment) == [""]
        return payment

    async def sold(self, hall: Hall, *seats: int) -> tuple[str, Opening]:
        """A reservation of these seats that is paid for at once."""
        reservation_id = await self.hold(reserve(hall, *seats))
        payment = await self.opened(reservation_id)
        await self.ask(self.one.settle.payment_approved, approved(payment))
        assert await self.state(reservation_id) == "CONFIRMED"
        return reservation_id, payment

    async def expired(self, hall: Hall, *reservations: str) -> None:
        """The holds of the event are over, and the sweep has come."""
        await self.time_passes(hall, HOLD_IS_OVER)
        await self.one.sweeps.expire_due()
        assert {await self.state(one) for one in reservations} == {"EXPIRED"}

    async def reservation(self, reservation_id: UUID | str) -> tuple[Reservation, tuple[Ticket, ...]]:
        """A reservation and its tickets as they are stored."""
        async with self.one.database.transaction() as conn:
            found = await reads.reservation(conn, UUID(str(reservation_id)))
        assert found is not None
        return found

    async def state(self, reservation_id: UUID | str) -> str:
        """The state of a reservation."""
        return str((await self.reservation(reservation_id))[0].state)

    async def tickets(self, hall: Hall) -> list[str]:
        """The states of an event's tickets in seat order."""
        query = "SELECT state FROM ticket WHERE event_id = %s ORDER BY ticket_id"
        return [state for (state,) in await self.rows(query, hall.event_id)]

    async def credits(self, reservation_id: UUID | str) -> dict[UUID, str]:
        """The state of each payment of a reservation."""
        query = "SELECT payment_id, state FROM credit WHERE reservation_id = %s"
        return dict(await self.rows(query, reservation_id))

    async def kinds(self, subject_id: UUID | str) -> list[str]:
        """What history tells of a reservation or a payment, in order."""
        query = "SELECT kind FROM history WHERE subject_id = %s ORDER BY history_id"
        return [kind for (kind,) in await self.rows(query, subject_id)]

    async def refund_commands(self, payment: Opening) -> list[msg.Envelope]:
        """The commands to give a payment back that are in the outbox."""
        rows = await self.rows(
            """SELECT envelope FROM outbox JOIN history USING (history_id)
               WHERE subject_id = %s AND routing_key = %s ORDER BY history_id""",
            payment.payment_id,
            keys.REFUND_REQUESTED,
        )
        return [msg.Envelope.FromString(envelope) for (envelope,) in rows]

    async def time_passes(self, hall: Hall, span: timedelta) -> None:
        """All that is stored of an event's reservations happened that much earlier."""
        await self.rows(
            """UPDATE reservation SET create_time = create_time - span, expire_time = expire_time - span,
                   release_time = release_time - span, instalment_time = instalment_time - span
               FROM (SELECT %s::interval AS span) AS passed,
                    (SELECT reservation_id FROM reservation WHERE event_id = %s
                     ORDER BY reservation_id FOR UPDATE) AS locked
               WHERE reservation.reservation_id = locked.reservation_id""",
            span,
            hall.event_id,
        )
        await self.rows(
            """UPDATE credit SET open_time = open_time - span, reconcile_time = reconcile_time - span
               FROM reservation, (SELECT %s::interval AS span) AS passed
               WHERE credit.reservation_id = reservation.reservation_id AND event_id = %s""",
            span,
            hall.event_id,
        )

    async def check(self, hall: Hall) -> None:
        """Whatever happened to an event: what must always be true is."""
        await check_event(self.rows, hall.event_id)


@asynccontextmanager
async def open_shop(database_url: str, amqp_url: str) -> AsyncIterator[Shop]:
    """Nobody deletes from the outbox here, so that its rows can be read."""
    exchange = f"t{uuid4().hex[:12]}"
    async with AsyncExitStack() as exits:
        channel = await exits.enter_async_context(channel_to(amqp_url))
        services = [await exits.enter_async_context(_service(database_url, amqp_url, exchange)) for _ in range(2)]
        shop = Shop(database_url, services[0], services[1], exchange, channel)
        await shop.inbox.open(channel)
        yield shop


@asynccontextmanager
async def _service(database_url: str, amqp_url: str, exchange: str) -> AsyncIterator[Service]:
    database = Database(database_url, schema="reservations", application="reservations")
    publisher = Publisher(amqp_url, exchange=exchange, mandatory_keys=frozenset(), name="reservations")
    desk, answers = Desk(database, Outbox(database, publisher)), Answers(publisher)
    await database.open()
    async with running(publisher.run()):
        await until(lambda: publisher.connected)
        yield Service(
            database,
            desk,
            ReserveHandler(desk, answers),
            SettleHandler(desk, answers),
            OpeningHandler(desk),
            RefundHandler(desk),
            Sweeps(desk),
        )
        await publisher.drain()
    await database.close()


@pytest.fixture(scope="module")
async def shop(postgres_url: str, template: str, amqp_url: str) -> AsyncIterator[Shop]:
    """One for a file of tests: each makes events of its own."""
    with database_like(postgres_url, template) as url:
        async with open_shop(url, amqp_url) as shop:
            yield shop
