"""The real handlers on a real database, put together for one scenario of the model, and shown as a world of it."""

from types import SimpleNamespace
from typing import Any, Final, cast
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.sql import SQL, Identifier

from chassis.callers import ANYBODY, calling
from chassis.database import Database
from chassis.outbox import Outbox
from chassis.paging import PageTokens
from contract import ids
from payments.charger import Charger
from payments.domain import Payment
from payments.handlers import Handlers
from payments.peers import Peers
from payments.refunder import Refunder
from reservations.catalog import Catalog
from reservations.catalog_servicer import CatalogServicer
from reservations.handlers.answers import Answers
from reservations.handlers.desk import Desk
from reservations.handlers.opening import OpeningHandler
from reservations.handlers.refund import RefundHandler
from reservations.handlers.reserve import ReserveHandler
from reservations.handlers.settle import SettleHandler
from reservations.handlers.sweeps import Sweeps
from reservations.servicer import ReservationsServicer
from tests.model.machine import Pay, Scenario, World
from tests.payments.system import pay_command
from tests.proof.outside import Doorway, Processor, Wire
from tests.reservations.sayings import Hall, reserve
from ticketrush.v1 import catalog_pb2 as catalog

UNIT_MINOR: Final = 1_000
_STATES: Final = """
    SELECT 'reservation', reservation_id::text, state, paid_minor FROM reservations.reservation
    WHERE reservation_id = ANY(%(reservations)s::uuid[])
    UNION ALL SELECT 'credit', payment_id::text, state, 0 FROM reservations.credit
    WHERE payment_id = ANY(%(payments)s::uuid[])
    UNION ALL SELECT 'payment', payment_id::text, state, 0 FROM payments.payment
    WHERE payment_id = ANY(%(payments)s::uuid[])"""
# The model's letters for the states.
_RESERVATION: Final = {
    "-": "-",
    "HELD": "H",
    "PARTIALLY_PAID": "P",
    "CONFIRMED": "C",
    "REJECTED": "R",
    "EXPIRED": "E",
    "CANCELLED": "A",
}
_CREDIT: Final = {"-": "-", "OPEN": "O", "APPLIED": "A", "CLOSED": "C", "REFUND_DUE": "D", "REFUNDED": "F"}
_PAYMENT: Final = {"-": "-", "PENDING": "P", "APPROVED": "A", "REJECTED": "R", "REFUND_DUE": "D", "REFUNDED": "F"}


class Databases:
    """A pool for each of the two services, on one database, and a look into both from outside."""

    def __init__(self, url: str) -> None:
        self.reservations = Database(url, schema="reservations", application="reservations")
        self.payments = Database(url, schema="payments", application="payments")
        self._url = url

    async def open(self) -> None:
        """Nothing here has to outlive a crash of the server, so nobody waits for its disk."""
        self.outside = await AsyncConnection.connect(self._url, autocommit=True)
        name = Identifier(self.outside.info.dbname)
        await self.outside.execute(SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))
        await self.reservations.open()
        await self.payments.open()

    async def close(self) -> None:
        await self.reservations.close()
        await self.payments.close()
        await self.outside.close()


class Twin:
    """One scenario of the model, in an event of its own, once `begin` is done.

    Payments knows some things in memory: `opened` are the payments that it may charge, with what it was told of their
    amounts; `calling` those whose charge call is in the network.
    """

    def __init__(self, scenario: Scenario, databases: Databases) -> None:
        self.scenario = scenario
        self.wire = Wire()
        self.processor = Processor()
        self.databases = databases
        self.opened: dict[int, Payment] = {}
        self.calling: set[int] = set()
        self._compose_reservations()
        self._compose_payments()

    def _compose_reservations(self) -> None:
        outbox = Outbox(self.databases.reservations, self.wire)
        desk, answers = Desk(self.databases.reservations, outbox), Answers(self.wire)
        self._catalog = CatalogServicer(Catalog(self.databases.reservations, outbox), PageTokens())
        self.reserve, self.settle = ReserveHandler(desk, answers), SettleHandler(desk, answers)
        self.refunds, self.sweeps = RefundHandler(desk), Sweeps(desk)
        self.doorway = Doorway(ReservationsServicer(OpeningHandler(desk)).OpenPayments)

    def _compose_payments(self) -> None:
        self.peers = cast(Peers, SimpleNamespace(reservations=self.doorway, provider=self.processor))
        outbox = Outbox(self.databases.payments, self.wire)
        self.charger = Charger(self.databases.payments, outbox, self.peers)
        self.refunder = Refunder(self.databases.payments, outbox, self.peers)
        self.handlers = Handlers(self.databases.payments, outbox, self.wire, self.charger, self.refunder)

    async def begin(self) -> None:
        """Puts the tickets on sale and names everything that the scenario will ask for."""
        carts = self.scenario.carts
        # No server around the servicer: nobody else says who calls.
        calling.set(ANYBODY)
        event = catalog.CreateEventRequest(request_id=str(uuid4()), event=catalog.Event(name="Concert", currency="EUR"))
        event_id = (await self._catalog.CreateEvent(event, cast(Any, None))).event.event_id
        seats = sorted(frozenset().union(*carts))
        price_minor = self.scenario.totals[0] // len(carts[0]) * UNIT_MINOR
        grid = catalog.Grid(rows=1, seats_per_row=len(seats))
        block = catalog.Block(section="stalls", price_minor=price_minor, grid=grid)
        tickets = catalog.CreateTicketsRequest(request_id=str(uuid4()), event_id=event_id, blocks=[block])
        await self._catalog.CreateTickets(tickets, cast(Any, None))
        event_uuid = UUID(event_id)
        hall = Hall(event_uuid, [ids.ticket_id(event_uuid, tickets.request_id, at) for at in range(len(seats))])
        self.commands = [
            reserve(hall, *(seats.index(seat) for seat in sorted(cart)), buyer_id=f"buyer-{index}")
            for index, cart in enumerate(carts)
        ]
        self.payments = [
            pay_command(
                reservation_id=UUID(self.commands[owner].subject_id),
                buyer_id=f"buyer-{owner}",
                amount_minor=amount * UNIT_MINOR,
            )
            for owner, amount in self.scenario.payments
        ]

    async def world(self) -> World:
        """How things stand, in the model's words."""
        payment_ids = [command.subject_id for command in self.payments]
        cursor = await self.databases.outside.execute(
            _STATES, {"reservations": [command.subject_id for command in self.commands], "payments": payment_ids}
        )
        rows = {(of, key): (state, paid_minor) for of, key, state, paid_minor in await cursor.fetchall()}
        reservations = [rows.get(("reservation", command.subject_id), ("-", 0)) for command in self.commands]
        pays = [
            self._pay(index, rows.get(("credit", key), ("-", 0))[0], rows.get(("payment", key), ("-", 0))[0])
            for index, key in enumerate(payment_ids)
        ]
        states = "".join(_RESERVATION[state] for state, _ in reservations)
        return World(states, tuple(pays), tuple(paid_minor // UNIT_MINOR for _, paid_minor in reservations))

    def _pay(self, index: int, credit: str, state: str) -> Pay:
        payment_id = self.payments[index].subject_id
        return Pay(
            credit=_CREDIT[credit],
            state="O" if state == "PENDING" and index in self.opened else _PAYMENT[state],
            charge=self.processor.letter(payment_id),
            calling=index in self.calling,
            wire=self.wire.letters(payment_id),
        )
