"""Absence is never an answer: it is asked again under the same key, and given up only behind a tombstone."""

from datetime import UTC, datetime, timedelta

import pytest

from payments import claims, openings, processor
from payments.domain import CHARGE_GIVE_UP_AFTER_S
from tests.chassis.broker import until
from tests.payments.fakes import FakeProvider, FakeReservations
from tests.payments.system import System, id_of, pay_command
from ticketrush.messages.v1 import messages_pb2 as pb


async def test_an_unavailable_provider_is_asked_again_under_the_same_key_without_a_poll(
    system: System, provider: FakeProvider, reservations: FakeReservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "POLL_INTERVAL_S", 3_600.0)
    command = pay_command()
    provider.script[id_of(command)].extend(["unavailable", "unavailable"])
    async with system.running():
        await system.pay(command)
        await system.until_state(id_of(command), "APPROVED")
    assert provider.calls == [("Charge", id_of(command))] * 3
    # What was opened is known from the first attempt.
    assert reservations.batches == [[id_of(command)]]


async def test_a_lost_reply_is_asked_for_again_and_charges_once(
    system: System, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "CHARGE_TIMEOUT_S", 0.2)
    command = pay_command()
    provider.script[id_of(command)].append("lose_reply")
    async with system.running():
        await system.pay(command)
        await system.until_state(id_of(command), "APPROVED")
    assert provider.count("Charge") == 2
    assert provider.taken_minor() == 5_000
    assert await system.ledger(id_of(command)) == {"provider_clearing": 5_000, "deferred_revenue": -5_000}


async def test_unreachable_reservations_are_asked_again_and_nothing_is_charged_before(
    system: System, provider: FakeProvider, reservations: FakeReservations
) -> None:
    command = pay_command()
    reservations.unavailable = 2
    async with system.running():
        await system.pay(command)
        await until(lambda: len(reservations.batches) == 2)
        assert provider.calls == []
        await system.until_state(id_of(command), "APPROVED")
    assert reservations.batches == [[id_of(command)]] * 3


async def test_a_payment_stays_pending_as_long_as_reservations_are_unreachable_however_old_it_is(
    system: System, reservations: FakeReservations
) -> None:
    command = await _pay_long_ago(system)
    reservations.unavailable = 2
    async with system.running():
        await until(lambda: len(reservations.batches) >= 2)
        assert (await system.payment(id_of(command)))["state"] == "PENDING"
        await system.until_state(id_of(command), "REJECTED")


async def test_a_payment_that_the_answer_leaves_out_is_not_charged(
    system: System, provider: FakeProvider, reservations: FakeReservations
) -> None:
    left_out, other = pay_command(), pay_command()
    reservations.leave_out.add(id_of(left_out))
    async with system.running():
        await system.pay(left_out, other)
        await system.until_state(id_of(other), "APPROVED")
        await until(lambda: len(reservations.batches) >= 2)
    assert (await system.payment(id_of(left_out)))["state"] == "PENDING"
    assert provider.calls == [("Charge", id_of(other))]


async def test_a_payment_given_up_is_rejected_behind_a_tombstone(system: System, provider: FakeProvider) -> None:
    command = await _pay_long_ago(system)
    async with system.running():
        row = await system.until_state(id_of(command), "REJECTED")
    assert row["decline_reason"] == "PROVIDER_UNAVAILABLE"
    assert [call for call, _ in provider.calls] == ["CancelCharge"]


async def test_a_charge_found_while_giving_up_is_approved(system: System, provider: FakeProvider) -> None:
    command = pay_command(amount_minor=900)
    provider.script[id_of(command)].append("lose_reply")
    async with system.running():
        await system.pay(command)
        await provider.charged.wait()
    await _make_old(system)
    async with system.running():
        row = await system.until_state(id_of(command), "APPROVED")
    assert [call for call, _ in provider.calls] == ["Charge", "CancelCharge"]
    assert row["amount_minor"] == 900
    assert provider.taken_minor() == 900


async def test_a_charge_that_lands_after_it_was_given_up_takes_no_money(system: System, provider: FakeProvider) -> None:
    command = pay_command()
    provider.script[id_of(command)].append("late")
    async with system.running():
        await system.pay(command)
        await until(lambda: provider.in_flight == 1)
    await _make_old(system)
    async with system.running():
        await system.until_state(id_of(command), "REJECTED")
    provider.land.set()
    await provider.landed.wait()
    assert provider.taken_minor() == 0


async def test_giving_up_goes_on_until_the_provider_answers(system: System, provider: FakeProvider) -> None:
    command = await _pay_long_ago(system)
    provider.script[id_of(command)].extend(["unavailable", "unavailable"])
    async with system.running():
        await until(lambda: provider.count("CancelCharge") >= 2)
        assert (await system.payment(id_of(command)))["state"] == "PENDING"
        await system.until_state(id_of(command), "REJECTED")


async def test_the_first_retry_is_due_within_a_fraction_of_a_second_and_later_ones_wait_longer(
    system: System, reservations: FakeReservations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openings, "OPEN_TIMEOUT_S", 1.0)
    reservations.unavailable = 1_000
    command = pay_command()
    async with system.running():
        await system.pay(command)

        async def tried_five_times() -> bool:
            return bool((await system.payment(id_of(command)))["attempts"] >= 5)

        await until(tried_five_times)
    row = await system.payment(id_of(command))
    assert timedelta(0) < row["due_time"] - datetime.now(UTC) < timedelta(seconds=16)


async def _pay_long_ago(system: System) -> pb.Envelope:
    """A Pay that was stored too long ago to charge for it any more."""
    command = pay_command()
    await system.pay(command)
    system.charger.loop._handed.clear()
    await _make_old(system)
    return command


async def _make_old(system: System) -> None:
    await system.rows(
        "UPDATE payment SET create_time = create_time - make_interval(secs => %s)", CHARGE_GIVE_UP_AFTER_S
    )
    await system.let_leases_run_out()
