"""A process that dies at any point loses nothing and doubles nothing: another one goes on where the lease runs out."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from psycopg import AsyncConnection

from chassis.outbox import Outbox
from contract import keys
from payments.domain import Charged
from payments.recorder import Recorder
from tests.chassis.broker import until
from tests.payments.fakes import FakeProvider, FakeReservations
from tests.payments.system import System, id_of, pay_command

NewSystem = Callable[[], System]
APPROVED_ONCE = [(1, "request_payment", None), (2, "payment_approved", keys.PAYMENT_APPROVED)]


async def test_nobody_else_takes_a_payment_before_its_lease_runs_out(
    new_system: NewSystem, provider: FakeProvider
) -> None:
    dead, alive = new_system(), new_system()
    leased, other = pay_command(), pay_command()
    await dead.pay(leased)
    async with alive.running():
        # What comes later is charged, the leased one is not: the claims went past it.
        await alive.pay(other)
        await alive.until_state(id_of(other), "APPROVED")
        alive.charger.loop.look()
        assert (await alive.payment(id_of(leased)))["state"] == "PENDING"
    assert provider.calls == [("Charge", id_of(other))]


async def test_killed_after_the_payment_was_stored(new_system: NewSystem, provider: FakeProvider) -> None:
    dead = new_system()
    command = pay_command()
    await dead.pay(command)
    await _another_approves_it_once(new_system(), provider, id_of(command))


async def test_killed_after_it_was_opened(
    new_system: NewSystem, provider: FakeProvider, reservations: FakeReservations
) -> None:
    dead = new_system()
    command = pay_command()
    provider.gate.clear()
    async with dead.running():
        await dead.pay(command)
        await reservations.opened.wait()
        await until(lambda: provider.in_flight == 1)
    provider.gate.set()
    await _another_approves_it_once(new_system(), provider, id_of(command))
    assert reservations.batches == [[id_of(command)]] * 2


async def test_killed_after_the_card_was_charged(new_system: NewSystem, provider: FakeProvider) -> None:
    dead = new_system()
    command = pay_command()
    provider.script[id_of(command)].append("lose_reply")
    async with dead.running():
        await dead.pay(command)
        await provider.charged.wait()
    await _another_approves_it_once(new_system(), provider, id_of(command))
    assert provider.count("Charge") == 2


async def test_killed_while_recording(
    new_system: NewSystem, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = new_system()
    writing = asyncio.Event()

    async def hangs(_: Outbox, __: AsyncConnection, ___: object) -> Any:
        writing.set()
        await asyncio.Event().wait()

    command = pay_command()
    await dead.pay(command)
    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "write", hangs)
        async with dead.running():
            await writing.wait()
    # Row and ledger were written before the outbox, in the same transaction.
    assert (await dead.payment(id_of(command)))["state"] == "PENDING"
    assert await dead.ledger(id_of(command)) == {}
    await _another_approves_it_once(new_system(), provider, id_of(command))


async def test_a_result_that_comes_late_or_again_changes_nothing(system: System) -> None:
    command = pay_command()
    async with system.running():
        await system.pay(command)
        [(_, pending)] = system.charger.loop._handed
        approved = await system.until_state(id_of(command), "APPROVED")
    await system.charger._write([(pending, Charged(1, "USD"))])
    assert await system.payment(id_of(command)) == approved
    assert await system.history(id_of(command)) == APPROVED_ONCE
    assert await system.ledger(id_of(command)) == {"provider_clearing": 5_000, "deferred_revenue": -5_000}


async def test_two_processes_on_one_backlog_charge_each_payment_once(
    new_system: NewSystem, provider: FakeProvider
) -> None:
    dead = new_system()
    commands = [pay_command() for _ in range(150)]
    await dead.pay(*commands)
    await dead.let_leases_run_out()
    async with new_system().running(), new_system().running() as alive:
        for command in commands:
            await alive.until_state(id_of(command), "APPROVED")
    assert provider.count("Charge") == len(commands)


async def test_stopping_awaits_the_charges_in_flight(system: System, provider: FakeProvider) -> None:
    command = pay_command()
    provider.gate.clear()
    async with system.running():
        await system.pay(command)
        await until(lambda: provider.in_flight == 1)
        draining = asyncio.create_task(system.charger.loop.drain(10))
        provider.gate.set()
        await draining
        assert (await system.payment(id_of(command)))["state"] == "APPROVED"


async def test_what_a_process_that_stops_has_not_finished_another_goes_on_with_at_once(
    new_system: NewSystem, provider: FakeProvider
) -> None:
    stopping, command = new_system(), pay_command()
    provider.gate.clear()
    async with stopping.running():
        await stopping.pay(command)
        await until(lambda: provider.in_flight == 1)
        await stopping.charger.loop.drain(0.05)
        [due] = await stopping.rows("SELECT due_time <= clock_timestamp() AS now FROM payment")
    assert due == {"now": True}
    provider.gate.set()
    async with new_system().running() as alive:
        await alive.until_state(id_of(command), "APPROVED")
    assert provider.taken_minor() == 5_000


async def test_stopping_gives_a_slow_card_back_and_claims_nothing_more(system: System, provider: FakeProvider) -> None:
    slow, next_one = pay_command(), pay_command()
    provider.gate.clear()
    async with system.running():
        await system.pay(slow)
        await until(lambda: provider.in_flight == 1)
        await system.charger.loop.drain(0.05)
        await system.pay(next_one)
        await system.let_leases_run_out()
        system.charger.loop.look()
        provider.gate.set()
        await system.until_state(id_of(slow), "APPROVED")
    assert provider.count("Charge") == 1


async def test_one_result_that_cannot_be_written_spoils_no_other() -> None:
    written: list[int] = []

    async def write(results: Any) -> None:
        if 3 in results:
            raise ValueError("three")
        written.extend(results)

    recorder = Recorder[int](write, name="test")
    task = asyncio.create_task(recorder.run())
    outcomes = await asyncio.gather(*(recorder.record(number) for number in range(6)), return_exceptions=True)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert sorted(written) == [0, 1, 2, 4, 5]
    assert [type(outcome) for outcome in outcomes] == [type(None)] * 3 + [ValueError] + [type(None)] * 2


async def _another_approves_it_once(alive: System, provider: FakeProvider, payment_id: str) -> None:
    await alive.let_leases_run_out()
    async with alive.running():
        await alive.until_state(payment_id, "APPROVED")
    assert await alive.history(payment_id) == APPROVED_ONCE
    assert await alive.ledger(payment_id) == {"provider_clearing": 5_000, "deferred_revenue": -5_000}
    assert provider.taken_minor() == 5_000


async def test_a_result_outlives_lost_connections_to_the_database(
    system: System, provider: FakeProvider, database_url: str
) -> None:
    command = pay_command()
    provider.gate.clear()
    async with system.running(), await AsyncConnection.connect(database_url, autocommit=True) as admin:
        await system.pay(command)
        await until(lambda: provider.in_flight == 1)
        await admin.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()"""
        )
        provider.gate.set()

        async def approved() -> bool:
            cursor = await admin.execute("SELECT state FROM payments.payment WHERE payment_id = %s", (id_of(command),))
            return await cursor.fetchone() == ("APPROVED",)

        await until(approved)
    assert provider.count("Charge") == 1
