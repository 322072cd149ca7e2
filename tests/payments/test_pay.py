"""A Pay charges once, is answered the same however often it is said, and leaves nothing of the card behind."""

import asyncio
from uuid import UUID, uuid4

import pytest

from contract import ids, keys
from payments import claims
from payments.charger import CHARGES_IN_FLIGHT_MAX
from tests.chassis.broker import until
from tests.payments.fakes import FakeProvider, FakeReservations
from tests.payments.system import System, id_of, pay_command


async def test_a_payment_is_approved_with_history_fact_and_ledger(system: System, provider: FakeProvider) -> None:
    command = pay_command(reply_to="gateway.1")
    async with system.running():
        await system.pay(command)
        row = await system.until_state(id_of(command), "APPROVED")
    assert (row["amount_minor"], row["currency"], row["version"]) == (5_000, "EUR", 2)
    assert await system.history(id_of(command)) == [
        (1, "request_payment", None),
        (2, "payment_approved", keys.PAYMENT_APPROVED),
    ]
    [fact] = await system.facts(id_of(command))
    assert fact.message_id == str(ids.derived_id(UUID(id_of(command)), "approved"))
    assert (fact.reply_to, fact.command_id) == ("gateway.1", command.message_id)
    assert fact.payment_approved.payment.amount_minor == 5_000
    assert await system.ledger(id_of(command)) == {"provider_clearing": 5_000, "deferred_revenue": -5_000}
    assert provider.taken_minor() == 5_000


async def test_a_declined_card_is_rejected_with_the_providers_reason_and_no_ledger(
    system: System, provider: FakeProvider
) -> None:
    command = pay_command(amount_minor=700)
    provider.script[id_of(command)].append("decline")
    async with system.running():
        await system.pay(command)
        row = await system.until_state(id_of(command), "REJECTED")
    assert (row["decline_reason"], row["amount_minor"], row["currency"]) == ("CARD_DECLINED", 700, "EUR")
    [fact] = await system.facts(id_of(command))
    assert fact.payment_rejected.payment.decline_reason == "CARD_DECLINED"
    assert await system.ledger(id_of(command)) == {}


async def test_a_declined_payment_of_all_that_is_due_shows_the_amount_that_was_opened(
    system: System, provider: FakeProvider
) -> None:
    command = pay_command(amount_minor=0)
    provider.script[id_of(command)].append("decline")
    async with system.running():
        await system.pay(command)
        assert (await system.until_state(id_of(command), "REJECTED"))["amount_minor"] == 5_000


async def test_a_payment_that_reservations_refuse_is_never_charged(
    system: System, provider: FakeProvider, reservations: FakeReservations
) -> None:
    command = pay_command()
    reservations.refuse[id_of(command)] = "HOLD_ENDED"
    async with system.running():
        await system.pay(command)
        row = await system.until_state(id_of(command), "REJECTED")
    assert row["decline_reason"] == "HOLD_ENDED"
    assert provider.calls == []


async def test_an_unknown_payment_method_is_rejected_only_behind_a_tombstone(
    system: System, provider: FakeProvider
) -> None:
    command = pay_command()
    provider.script[id_of(command)].append("unknown_method")
    async with system.running():
        await system.pay(command)
        row = await system.until_state(id_of(command), "REJECTED")
    assert row["decline_reason"] == "UNKNOWN_PAYMENT_METHOD"
    assert [call for call, _ in provider.calls] == ["Charge", "CancelCharge"]


async def test_the_same_pay_many_times_is_one_payment_and_one_charge(system: System, provider: FakeProvider) -> None:
    command = pay_command()
    async with system.running():
        await system.pay(command, command, command)
        await system.pay(command)
        await system.until_state(id_of(command), "APPROVED")
        await system.pay(command)
    assert await system.rows("SELECT count(*) AS count FROM payment") == [{"count": 1}]
    assert provider.count("Charge") == 1
    assert await system.history(id_of(command)) == [
        (1, "request_payment", None),
        (2, "payment_approved", keys.PAYMENT_APPROVED),
    ]


async def test_the_same_pay_from_twenty_sides_at_once_is_one_charge(system: System, provider: FakeProvider) -> None:
    command = pay_command()
    async with system.running():
        await asyncio.gather(*(system.handlers.request_payments([command]) for _ in range(20)))
        await system.until_state(id_of(command), "APPROVED")
    assert provider.count("Charge") == 1


async def test_a_pending_payment_answers_the_latest_call(system: System, provider: FakeProvider) -> None:
    request_id, reservation_id = str(uuid4()), uuid4()
    first = pay_command(request_id=request_id, reservation_id=reservation_id, reply_to="gateway.1")
    provider.gate.clear()
    async with system.running():
        await system.pay(first)
        await until(lambda: provider.in_flight == 1)
        await system.pay(pay_command(request_id=request_id, reservation_id=reservation_id, reply_to="gateway.2"))
        provider.gate.set()
        await system.until_state(id_of(first), "APPROVED")
    [fact] = await system.facts(id_of(first))
    assert fact.reply_to == "gateway.2"


async def test_the_card_token_is_erased_once_the_payment_is_decided(system: System, provider: FakeProvider) -> None:
    approved, declined = pay_command(payment_method="pm_secret_1"), pay_command(payment_method="pm_secret_2")
    provider.script[id_of(declined)].append("decline")
    async with system.running():
        await system.pay(approved, declined)
        await system.until_state(id_of(approved), "APPROVED")
        await system.until_state(id_of(declined), "REJECTED")
    for table in ("payment", "history", "ledger_entry"):
        [found] = await system.rows(
            f"SELECT count(*) AS count FROM {table} AS kept WHERE kept::text LIKE %s OR kept::text LIKE %s",  # noqa: S608
            "%pm_secret%",
            f"%{b'pm_secret'.hex()}%",
        )
        assert found == {"count": 0}, table


async def test_a_card_token_does_not_show_where_a_payment_is_printed(system: System) -> None:
    await system.pay(pay_command(payment_method="pm_secret"))
    [(_, payment)] = system.charger.loop._handed
    assert "pm_secret" not in repr(payment)
    assert payment.payment_method == "pm_secret"


async def test_no_more_than_64_charges_are_in_flight_and_all_are_made(
    system: System, provider: FakeProvider, reservations: FakeReservations
) -> None:
    commands = [pay_command() for _ in range(100)]
    provider.gate.clear()
    async with system.running():
        await system.pay(*commands)
        await until(lambda: provider.in_flight == CHARGES_IN_FLIGHT_MAX)
        provider.gate.set()
        for command in commands:
            await system.until_state(id_of(command), "APPROVED")
    assert provider.in_flight_max == CHARGES_IN_FLIGHT_MAX
    assert provider.count("Charge") == 100
    # Opened in batches, not one by one.
    assert len(reservations.batches[0]) == CHARGES_IN_FLIGHT_MAX


async def test_a_slow_card_delays_nobody(system: System, provider: FakeProvider) -> None:
    slow, quick = pay_command(), pay_command()
    provider.script[id_of(slow)].append("late")
    async with system.running():
        await system.pay(slow)
        await until(lambda: provider.in_flight == 1)
        await system.pay(quick)
        await system.until_state(id_of(quick), "APPROVED")
        assert (await system.payment(id_of(slow)))["state"] == "PENDING"


async def test_a_lone_pay_waits_for_no_poll(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "POLL_INTERVAL_S", 3_600.0)
    async with system.running():
        # The first may still meet the look around at the start, the next ones find the charger asleep.
        for command in (pay_command(), pay_command(), pay_command()):
            await system.pay(command)
            await system.until_state(id_of(command), "APPROVED")


async def test_what_cannot_begin_at_once_begins_as_soon_as_there_is_room(
    system: System, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "POLL_INTERVAL_S", 3_600.0)
    # Whoever were handed over to wait would be left to the end of a lease.
    monkeypatch.setattr(claims, "HANDED_AGE_MAX_S", 0.0)
    slow, behind = [pay_command() for _ in range(CHARGES_IN_FLIGHT_MAX + 1)], pay_command()
    provider.gate.clear()
    async with system.running():
        await system.pay(*slow)
        await until(lambda: provider.in_flight == CHARGES_IN_FLIGHT_MAX)
        await system.pay(behind)
        provider.gate.set()
        for command in (*slow, behind):
            await system.until_state(id_of(command), "APPROVED")
