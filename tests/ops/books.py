"""Books that tell of every way in which a sale can go, and copies of them to be broken."""

import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import psycopg
from psycopg.conninfo import conninfo_to_dict

from chassis.paging import PageTokens
from chassis.server import Health, build
from ops.fsck.inspection import Inspection
from ops.fsck.report import Report
from provider.group_commit import GroupCommit
from provider.servicer import Servicer
from provider.store import Store
from tests.conftest import database_like
from tests.e2e.house import House
from tests.e2e.office import Payment, Reservation, eventually
from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceStub

if TYPE_CHECKING:  # exists only in the stubs
    from ticketrush.provider.v1.provider_pb2_grpc import PaymentProviderServiceAsyncStub

Processor: TypeAlias = "PaymentProviderServiceAsyncStub"
LONG_S = 3_600
EXAMPLES_MAX = 5
# Lets a test write what no service could: triggers and foreign keys are silent.
UNGUARDED = "SET session_replication_role = replica"

# Whose reservation, payment, event or ticket: names for the statements of tests, as in %(ada)s, %(ada_payment)s.
Actors = Mapping[str, str]


async def live_a_life(house: House) -> Actors:
    """Sells, refuses, expires, cancels and refunds; returns when only ivy's refund is left, which her bank refuses."""
    office = house.office
    sale = await office.put_on_sale(12, hold_s=LONG_S, instalment_hold_s=LONG_S)
    seats = sale.tickets
    actors = {"event": sale.event_id, "free_seat": seats[11]}

    def note(name: str, reservation: Reservation, payment: Payment | None = None) -> None:
        actors[name] = reservation.reservation_id
        if payment:
            actors[f"{name}_payment"] = payment.payment_id

    held = await office.held(sale, "ada", seats[:1])
    actors["ada_seat"] = seats[0]
    note("ada", held, (await office.pay(held)).payment)
    held = await office.held(sale, "bob", seats[1:3])
    await office.pay(held, 3_000)
    note("bob", held, (await office.pay(held)).payment)
    held = await office.held(sale, "cyd", seats[3:5])
    note("cyd", await office.cancel(held))
    held = await office.held(sale, "dan", seats[3:4])
    note("dan", held, (await office.pay(held, card="pm_card_declined")).payment)
    held = await office.held(sale, "eve", seats[4:5])
    note("eve", held, (await office.pay(held)).payment)
    await office.refund(held)
    held = await office.held(sale, "fay", seats[5:7])
    note("fay", held, (await office.pay(held, 2_000)).payment)
    note("gus", await office.reserve(sale, "gus", seats[:1]))
    held = await office.held(sale, "ivy", seats[7:8])
    note("ivy", held, (await office.pay(held, card="pm_card_refund_refused")).payment)
    await office.refund(held)

    brief = await office.put_on_sale(2, hold_s=1)
    note("hal", await office.held(brief, "hal"))
    gift = await office.put_on_sale(1, price_minor=0)
    note("jon", await office.reserve(gift, "jon"))
    doomed = await office.put_on_sale(2)
    note("kim", await office.buy(doomed, "kim"))
    await office.call_off(doomed.event_id)

    house.refused_refunds.add(actors["ivy_payment"])
    await eventually(lambda: _expired(house, actors["hal"]))
    await house.balances()
    return actors


def copy_store(source: Path, target: Path) -> None:
    """Copies what the card processor remembers, also what is still in its write-ahead log."""
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)


async def _expired(house: House, reservation_id: str) -> bool:
    rows = await house.rows("SELECT state FROM reservations.reservation WHERE reservation_id = %s", reservation_id)
    return rows == [("EXPIRED",)]


@dataclass(frozen=True)
class Books:
    """A database at rest and the file that holds the card processor's statement."""

    admin_url: str
    database_url: str
    store: Path
    actors: Actors

    @asynccontextmanager
    async def copied(self) -> AsyncIterator["Copy"]:
        """A copy of both."""
        name = str(conninfo_to_dict(self.database_url)["dbname"])
        with database_like(self.admin_url, name) as url, TemporaryDirectory() as folder:
            store = Path(folder) / "provider.sqlite"
            copy_store(self.store, store)
            yield Copy(url, store, self.actors)


@dataclass(frozen=True)
class Copy:
    """Books to be broken."""

    database_url: str
    store: Path
    actors: Actors

    async def write(self, *statements: str) -> None:
        """Writes past every trigger."""
        async with await psycopg.AsyncConnection.connect(self.database_url) as conn:
            await conn.execute(UNGUARDED)
            for statement in statements:
                await conn.execute(statement.encode(), self.actors)

    def write_statement(self, sql: str, *actors: str) -> None:
        """Changes what the card processor remembers."""
        with closing(sqlite3.connect(self.store, isolation_level=None)) as conn:
            conn.execute(sql, [self.actors[actor] for actor in actors])

    @asynccontextmanager
    async def processor(self) -> AsyncIterator[tuple[Processor, str]]:
        """The card processor with its memory, and where it listens."""
        group = GroupCommit(self.store)
        store = Store(group)
        await store.open()
        server, _ = build(Servicer(store, PageTokens()).register, Health({}))
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            async with grpc.aio.insecure_channel(address) as channel:
                yield PaymentProviderServiceStub(channel), address
        finally:
            await server.stop(None)
            await group.close()

    async def inspect(self, *, settled: bool = False) -> Report:
        """What fsck finds."""
        async with self.processor() as (processor, _):
            return await Inspection(self.database_url, processor, examples_max=EXAMPLES_MAX).run(settled=settled)


def broken(report: Report) -> Sequence[Any]:
    """The invariants that do not hold."""
    assert not any(verdict.problem for verdict in report.verdicts), report
    return [verdict.invariant for verdict in report.verdicts if verdict.violations]
