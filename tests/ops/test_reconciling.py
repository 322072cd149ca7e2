"""The database came back from the past, the card processor did not: every cent ends with its ticket or its buyer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier

from chassis.database import Database
from contract.invariants import Invariant
from deploy.stack import Stack
from ops.audit import RECONCILE, Doing
from ops.reconciling.differences import Difference, Remedy, find
from ops.reconciling.settling import give_back
from tests.conftest import database_like
from tests.e2e.house import SERVICES, House, beside, furnished
from tests.e2e.office import Payment, Reservation, new_id, reserve_request
from tests.gateway.vhosts import vhost
from tests.ops.books import Books, Copy, broken
from tests.ops.desk import OPERATOR, Desk
from ticketrush.v1 import ticketing_pb2 as pb

LONG_S = 3_600


@pytest.fixture
async def own_house(stack: Stack, template: str, tmp_path: Path) -> AsyncIterator[House]:
    """A house whose database may be set back."""
    with database_like(stack.env["DATABASE_URL"], template) as database_url, vhost(stack, "past") as amqp_url:
        own = beside(stack, tmp_path / "stack", database_url=database_url, amqp_url=amqp_url)
        async with furnished(own, SERVICES) as house:
            yield house


@asynccontextmanager
async def soon_forgotten(house: House) -> AsyncIterator[None]:
    """What happens within the block happens to all but the database: afterwards it is as it was before."""
    url = house.stack.env["DATABASE_URL"]
    name = str(conninfo_to_dict(url)["dbname"])
    admin_url = make_conninfo(url, dbname="postgres")
    await house.settled()
    working = ("gateway", "scheduler", "payments", "reservations")
    await house.kill(*working)
    await asyncio.to_thread(_copy, admin_url, name, f"{name}past")
    await house.up(*working)
    yield
    await house.settled()
    await house.kill(*working)
    await asyncio.to_thread(_restore, admin_url, f"{name}past", name)
    await house.up(*working)


def _copy(admin_url: str, name: str, copy: str) -> None:
    with psycopg.connect(admin_url, autocommit=True) as conn:
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        conn.execute(SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(copy), Identifier(name)))
        # A copy lacks what the database itself was granted.
        grant = "GRANT CONNECT, TEMPORARY ON DATABASE {} TO PUBLIC"
        conn.execute(SQL(grant).format(Identifier(copy)))


def _restore(admin_url: str, past: str, name: str) -> None:
    with psycopg.connect(admin_url, autocommit=True) as conn:
        conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
        conn.execute(SQL("ALTER DATABASE {} RENAME TO {}").format(Identifier(past), Identifier(name)))


async def test_a_past_that_came_back_is_brought_together_with_the_processor(own_house: House) -> None:
    house, office = own_house, own_house.office
    desk = Desk(house.stack.env | {"TOKEN": house.stack.operator_token}).without("DATABASE_URL", "AMQP_URL")
    sale = await office.put_on_sale(6, hold_s=LONG_S, instalment_hold_s=LONG_S)
    ann, cyd = await office.buy(sale, "ann", sale.tickets[:1]), await office.buy(sale, "cyd", sale.tickets[1:2])
    dee = await office.held(sale, "dee", sale.tickets[2:3])
    await office.pay(dee, 1_000)
    asked = reserve_request(sale, "bob", sale.tickets[3:4])
    hasty, hasty_pays = new_id(), new_id()
    async with soon_forgotten(house):
        bob = (await office.ticketing.Reserve(asked)).reservation
        pay = pb.PayRequest(
            request_id=new_id(), buyer_id="bob", reservation_id=bob.reservation_id, payment_method="pm_card_ok"
        )
        bobs = (await office.ticketing.Pay(pay)).payment
        fay = await office.reserve(sale, "fay", sale.tickets[5:6], request_id=hasty)
        fays = (await office.pay(fay, request_id=hasty_pays)).payment
        eve = await office.buy(sale, "eve", sale.tickets[4:5])
        await office.refund(eve)
        await office.refund(cyd)
        await office.cancel(dee)
    known = {payment.payment_id for one in (ann, cyd, dee) for payment in await office.payments(one)}
    [eves] = set(await house.statement()) - known - {bobs.payment_id, fays.payment_id}

    # Who insists before anybody reconciles has what he paid for.
    await office.reserve(sale, "fay", sale.tickets[5:6], request_id=hasty)
    again = await office.pay(fay, request_id=hasty_pays)
    assert (again.payment.payment_id, again.reservation.state) == (fays.payment_id, Reservation.STATE_CONFIRMED)

    assert (await desk.type("fsck")).code == 1
    looked = await desk.type("payments", "differences", "--json")
    assert looked.code == 1, looked
    remedies = {one["payment_id"]: one["remedy"] for one in looked.answer["differences"]}
    [cyds], [dees] = await office.payments(cyd), await office.payments(dee)
    assert remedies == {
        bobs.payment_id: "REFUND",
        eves: "NOTE",
        cyds.payment_id: "TAKE_BACK",
        dees.payment_id: "CANCEL",
    }
    assert looked.answer["denied"] == []

    settled = await desk.change("payments", "reconcile", reason="restored to 20:10")
    assert settled.code == 0, settled
    await office.becomes(cyd, Reservation.STATE_CANCELLED)
    await office.becomes(dee, Reservation.STATE_CANCELLED)
    await house.settled()
    sound = await desk.type("fsck", "--settled")
    assert sound.code == 0, sound.out
    assert (await office.reservation(ann)).state == Reservation.STATE_CONFIRMED
    charges = await house.statement()
    kept = {payment.payment_id for one in (ann, fay) for payment in await office.payments(one)}
    assert {payment_id for payment_id, charge in charges.items() if not charge.refunded_minor} == kept
    entries = [one for one in await desk.look("audit") if one["action"] == RECONCILE]
    assert {one["subject"] for one in entries} == {f"payment {payment_id}" for payment_id in remedies}
    assert {(one["operator"], one["reason"]) for one in entries} == {(OPERATOR, "restored to 20:10")}
    nothing = await desk.type("payments", "differences")
    assert nothing.code == 0, nothing

    # Who sends the same requests again holds the seat and has not paid for it; another payment buys it.
    assert (await office.ticketing.Reserve(asked)).reservation.state == Reservation.STATE_HELD
    repeated = await office.ticketing.Pay(pay)
    assert (repeated.payment.payment_id, repeated.payment.state) == (bobs.payment_id, Payment.STATE_REJECTED)
    assert (await office.pay(bob)).reservation.state == Reservation.STATE_CONFIRMED
    await house.settled()
    assert (await desk.type("fsck", "--settled")).code == 0


FORGET = (
    "DELETE FROM payments.payment WHERE payment_id = %(dan_payment)s",
    "DELETE FROM payments.history WHERE subject_id = %(dan_payment)s",
    "DELETE FROM reservations.credit WHERE payment_id = %(dan_payment)s",
)
CHARGE = "UPDATE charge SET state = 'APPROVED', decline_reason = '' WHERE payment_id = ?"
NOTE = f"""INSERT INTO payments.audit_entry (operator, action, subject, reason, detail)
           VALUES ('x', '{RECONCILE}', 'payment ' || %(dan_payment)s, 'x', '{{}}')"""  # noqa: S608 - constant
DOING = Doing(OPERATOR, RECONCILE, "a drill")


async def found_in(copy: Copy) -> list[Difference]:
    async with (
        copy.processor() as (processor, _),
        await psycopg.AsyncConnection.connect(copy.database_url, autocommit=True) as conn,
    ):
        differences, denied = await find(conn, processor)
    assert denied == []
    return differences


@pytest.mark.parametrize(
    ("refunded", "noted", "sound"), [(True, True, True), (True, False, False), (False, True, False)]
)
async def test_an_unknown_charge_is_in_order_only_when_it_is_back_and_an_operator_said_so(
    books: Books, refunded: bool, noted: bool, sound: bool
) -> None:
    async with books.copied() as copy:
        await copy.write(*FORGET, *([NOTE] if noted else []))
        copy.write_statement(CHARGE, "dan_payment")
        if refunded:
            copy.write_statement("UPDATE charge SET refunded_minor = amount_minor WHERE payment_id = ?", "dan_payment")
        report = await copy.inspect()
        left = [one.remedy for one in await found_in(copy)]
    assert broken(report) == ([] if sound else [Invariant.LEDGER]), report
    assert left == ([] if sound else [Remedy.NOTE if refunded else Remedy.REFUND])


async def test_a_charge_of_a_payment_that_came_to_nothing_here_goes_back(books: Books) -> None:
    async with books.copied() as copy:
        copy.write_statement(CHARGE, "dan_payment")
        [found] = await found_in(copy)
        assert (found.state, found.remedy) == ("REJECTED", Remedy.REFUND)
        assert [problem for _, problem in await settled_in(copy, found)] == [""]
        assert await found_in(copy) == []
        assert broken(await copy.inspect()) == []


async def test_a_payment_that_has_begun_meanwhile_is_not_given_back(books: Books) -> None:
    async with books.copied() as copy:
        copy.write_statement(CHARGE, "dan_payment")
        [found] = await found_in(copy)
        live = replace(found, payment_id=type(found.payment_id)(copy.actors["ada_payment"]))
        [(_, problem)] = await settled_in(copy, live)
        assert "look again" in problem
        assert broken(await copy.inspect()) == [Invariant.LEDGER], "dan's is still to be settled, ada's is as it was"


async def test_what_the_processor_will_not_give_back_is_told_and_not_noted(books: Books) -> None:
    async with books.copied() as copy:
        copy.write_statement(CHARGE, "dan_payment")
        copy.write_statement(
            "UPDATE charge SET payment_method = 'pm_card_refund_refused' WHERE payment_id = ?", "dan_payment"
        )
        [found] = await found_in(copy)
        [(_, problem)] = await settled_in(copy, found)
        assert "FAILED_PRECONDITION" in problem
        assert await found_in(copy) == [found]


async def test_nobody_can_begin_a_payment_while_its_charge_is_given_back(books: Books) -> None:
    async with books.copied() as copy:
        copy.write_statement(CHARGE, "dan_payment")
        [found] = await found_in(copy)
        async with await psycopg.AsyncConnection.connect(copy.database_url) as conn:
            await conn.execute("LOCK TABLE payments.payment IN ROW EXCLUSIVE MODE")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                await settled_in(copy, found)
        assert await found_in(copy) == [found]


async def settled_in(copy: Copy, *found: Difference) -> list[tuple[Difference, str]]:
    database = Database(copy.database_url, schema="payments", application="ops")
    await database.open()
    try:
        async with copy.processor() as (processor, _):
            return await give_back(database, processor, DOING, found)
    finally:
        await database.close()
