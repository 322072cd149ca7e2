"""fsck on a system at work: never a false alarm, whatever is under way, and an exit code for scripts."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from contract.invariants import Invariant
from ops.fsck import statement
from ops.fsck.inspection import Inspection
from ops.fsck.report import Report
from tests.e2e.crowd import shopping
from tests.e2e.house import House
from tests.e2e.office import Office, Payment, Reservation, eventually
from tests.ops.books import EXAMPLES_MAX, Books, Processor, broken
from tests.ops.desk import Desk
from ticketrush.provider.v1 import provider_pb2 as provider

Meanwhile = Callable[[], Awaitable[object]]


class SlowReader:
    """The house's card processor. Once its statement is read, something happens before anything else is looked at."""

    def __init__(self, processor: Processor, meanwhile: Meanwhile) -> None:
        self._processor = processor
        self._meanwhile = meanwhile
        self.asked: list[str] = []

    async def ListCharges(self, request: Any, timeout: float) -> provider.ListChargesResponse:  # noqa: N802 - gRPC's name
        page = await self._processor.ListCharges(request, timeout=timeout)
        if not page.next_page_token:
            await self._meanwhile()
        return page

    async def GetCharge(self, request: Any, timeout: float) -> provider.GetChargeResponse:  # noqa: N802 - gRPC's name
        self.asked.append(request.payment_id)
        return await self._processor.GetCharge(request, timeout=timeout)


async def inspect(house: House, processor: Any = None) -> Report:
    """What fsck finds in the house."""
    url = house.stack.env["DATABASE_URL"]
    return await Inspection(url, processor or house.provider, examples_max=EXAMPLES_MAX).run(settled=False)


async def test_a_charge_recorded_after_the_statement_was_read_is_no_alarm(house: House, office: Office) -> None:
    held = await office.held(await office.put_on_sale(), "late")
    paid: list[Payment] = []

    async def pay() -> None:
        paid.append((await office.pay(held)).payment)

    reader = SlowReader(house.provider, pay)
    assert broken(await inspect(house, reader)) == []
    assert reader.asked == [paid[0].payment_id]


async def test_a_refund_recorded_after_the_statement_was_read_is_no_alarm(house: House, office: Office) -> None:
    bought = await office.buy(await office.put_on_sale(), "sorry")
    [payment] = await office.payments(bought)

    async def refund() -> None:
        await office.refund(bought)
        await office.payment_becomes(payment, Payment.STATE_REFUNDED)

    reader = SlowReader(house.provider, refund)
    assert broken(await inspect(house, reader)) == []
    assert reader.asked == [payment.payment_id]


async def test_a_charge_that_nobody_has_heard_of_yet_is_no_alarm_but_not_settled(
    house: House, office: Office, desk: Desk
) -> None:
    held = await office.held(await office.put_on_sale(), "patient")
    paid = await office.pay(held, card="pm_card_lost_reply", wait_s=0)

    async def charged() -> bool:
        return (await house.statement()).get(paid.payment.payment_id) is not None

    await eventually(charged)
    typed = await desk.type("fsck", "--settled", "--json")
    assert (await office.payment(paid.payment)).state == Payment.STATE_PENDING, "its reply is still awaited"
    assert typed.code == 1
    assert [one["violations"] for one in typed.answer["invariants"]] == [0] * 7
    under_way = {one["what"]: one["count"] for one in typed.answer["under_way"]}
    assert under_way["payments"] == under_way["credits"] == 1
    await office.becomes(held, Reservation.STATE_CONFIRMED)


async def test_a_busy_house_is_never_called_broken(house: House, office: Office) -> None:
    async with shopping(office) as crowd:
        for _ in range(6):
            await crowd.buys(5)
            async with asyncio.TaskGroup() as tasks:
                looked = tasks.create_task(inspect(house))
                tasks.create_task(crowd.buys(5))
                held = await office.held(await office.put_on_sale(), "fickle")
                await office.pay(held, 1_000)
                await office.cancel(held)
            assert broken(looked.result()) == []


async def test_a_house_where_all_is_done_is_settled(house: House, desk: Desk) -> None:
    await house.settled()
    typed = await desk.type("fsck", "--settled")
    assert typed.code == 0, typed
    assert typed.out.count("holds") >= 7
    assert typed.out.count("settled") == 6


async def test_a_broken_invariant_is_told_to_people_and_programs(books: Books) -> None:
    async with books.copied() as copy, copy.processor() as (_, address):
        await copy.write("UPDATE reservations.ticket SET state = 'AVAILABLE' WHERE ticket_id = %(ada_seat)s")
        desk = Desk({"DATABASE_URL": copy.database_url, "PROVIDER_ADDRESS": address})
        people, programs = await asyncio.gather(desk.type("fsck"), desk.type("fsck", "--json"))
    assert people.code == programs.code == 1
    assert "BROKEN" in people.out
    assert copy.actors["ada_seat"] in people.out
    first = programs.answer["invariants"][0]
    assert (first["number"], first["name"], first["violations"]) == (1, "tickets", 2), (
        "the ticket, and its event's count"
    )
    assert not programs.answer["sound"]


async def test_examples_are_bounded_and_the_count_is_not(books: Books) -> None:
    async with books.copied() as copy, copy.processor() as (_, address):
        await copy.write("DELETE FROM reservations.history")
        desk = Desk({"DATABASE_URL": copy.database_url, "PROVIDER_ADDRESS": address})
        typed = await desk.type("fsck", "--json", "--examples", "2")
    [verdict] = [one for one in typed.answer["invariants"] if one["violations"]]
    assert verdict["violations"] > 2
    assert len(verdict["examples"]) == 2


async def test_without_the_processor_the_rest_is_looked_at(books: Books) -> None:
    async with books.copied() as copy:
        desk = Desk({"DATABASE_URL": copy.database_url, "PROVIDER_ADDRESS": "127.0.0.1:1"})
        sound = await desk.type("fsck", "--json")
        await copy.write("UPDATE reservations.ticket SET state = 'AVAILABLE' WHERE ticket_id = %(ada_seat)s")
        messy = await desk.type("fsck", "--json")
    assert (sound.code, messy.code) == (3, 1)
    assert [one["name"] for one in sound.answer["invariants"] if one["problem"]] == [Invariant.LEDGER]


async def test_without_a_database_it_could_not_look(desk: Desk) -> None:
    gone = Desk({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "PROVIDER_ADDRESS": "127.0.0.1:1"})
    typed = await gone.type("fsck")
    assert typed.code == 3
    assert len(typed.err.strip().splitlines()) == 1, typed.err
    typed = await desk.without("OPERATOR_DATABASE_URL").type("fsck")
    assert typed.code == 3
    assert "TICKETRUSH_DATABASE_URL" in typed.err


async def test_a_statement_longer_than_a_page_is_read_to_its_end(
    house: House, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statement, "PAGE_SIZE", 2)
    sale = await office.put_on_sale(5)
    for ticket in sale.tickets:
        await office.buy(sale, "collector", [ticket])
    reader = SlowReader(house.provider, lambda: asyncio.sleep(0))
    assert broken(await inspect(house, reader)) == []
    assert reader.asked == []


@pytest.mark.parametrize(
    ("service", "invariants"),
    [
        ("scheduler", ("tickets", "totals", "releases", "history", "repeats")),
        ("payments", ("ledger", "history", "repeats")),
    ],
)
async def test_the_services_show_it_as_numbers(house: House, service: str, invariants: Sequence[str]) -> None:
    for invariant in invariants:

        async def looked_at(invariant: str = invariant) -> bool:
            return await house.figure(service, "ticketrush_fsck_last_run_time_seconds", invariant=invariant) > 0

        await eventually(looked_at)
        assert await house.figure(service, "ticketrush_fsck_violations", invariant=invariant) == 0
