"""Money that must go back goes back once, whole, however often it is asked for and whatever fails."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from chassis.attempts import Poison
from chassis.publisher import Publisher
from contract import keys
from payments import backoff, claims, figures, processor
from payments.domain import RefundTooEarly
from tests.chassis.broker import until
from tests.payments.fakes import FakeProvider
from tests.payments.system import System, id_of, pay_command, refund_command
from ticketrush.messages.v1 import messages_pb2 as pb

NOTHING_LEFT = {"provider_clearing": 0, "deferred_revenue": 0, "refunds_payable": 0}


@pytest.fixture
async def approved(system: System) -> pb.Envelope:
    """The Pay of an approved payment of 5,000."""
    command = pay_command()
    async with system.running():
        await system.pay(command)
        await system.until_state(id_of(command), "APPROVED")
    return command


@pytest.fixture
def said(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Routing key and message_id of what is handed to the broker from now on."""
    said: list[tuple[str, str]] = []
    publish = publisher.publish

    def note(routing_key: str, message_id: str, envelope: bytes, *, shard: int = 0) -> object:
        said.append((routing_key, message_id))
        return publish(routing_key, message_id, envelope, shard=shard)

    monkeypatch.setattr(publisher, "publish", note)
    return said


async def test_a_refund_is_due_then_done_with_history_fact_and_ledger(
    system: System, provider: FakeProvider, approved: pb.Envelope
) -> None:
    assert await system.request_refund(refund_command(approved)) == []
    assert (await system.payment(id_of(approved)))["state"] == "REFUND_DUE"
    assert await system.ledger(id_of(approved)) == {
        "provider_clearing": 5_000,
        "deferred_revenue": 0,
        "refunds_payable": -5_000,
    }
    async with system.running():
        await system.until_state(id_of(approved), "REFUNDED")
    assert await system.ledger(id_of(approved)) == NOTHING_LEFT
    assert (await system.history(id_of(approved)))[2:] == [
        (3, "request_refund", None),
        (4, "refund_completed", keys.REFUND_COMPLETED),
    ]
    assert (await system.facts(id_of(approved)))[-1].refund_completed.payment.amount_minor == 5_000
    assert provider.taken_minor() == 0


async def test_a_refund_asked_for_again_is_one_refund(
    system: System, provider: FakeProvider, approved: pb.Envelope
) -> None:
    command = refund_command(approved)
    await system.request_refund(command, command)
    await system.request_refund(command)
    async with system.running():
        await system.until_state(id_of(approved), "REFUNDED")
    assert provider.count("Refund") == 1
    assert len(await system.history(id_of(approved))) == 4


async def test_a_completed_refund_asked_for_again_says_its_fact_again(
    system: System, approved: pb.Envelope, said: list[tuple[str, str]]
) -> None:
    await system.request_refund(refund_command(approved))
    async with system.running():
        await system.until_state(id_of(approved), "REFUNDED")
    [fact] = said
    await system.request_refund(refund_command(approved))
    assert said == [fact, fact]
    assert fact[0] == keys.REFUND_COMPLETED
    assert len(await system.history(id_of(approved))) == 4


async def test_a_refund_of_an_unknown_or_pending_payment_is_asked_for_again_later(system: System) -> None:
    pending = pay_command()
    await system.pay(pending)
    failures = await system.request_refund(refund_command(pay_command()), refund_command(pending))
    assert [type(failure.error) for failure in failures] == [RefundTooEarly, RefundTooEarly]
    assert (await system.payment(id_of(pending)))["state"] == "PENDING"


async def test_a_refund_of_a_rejected_payment_is_parked(system: System, provider: FakeProvider) -> None:
    command = pay_command()
    provider.script[id_of(command)].append("decline")
    async with system.running():
        await system.pay(command)
        await system.until_state(id_of(command), "REJECTED")
    [failure] = await system.request_refund(refund_command(command))
    assert isinstance(failure.error, Poison)


async def test_a_refund_of_another_amount_or_reservation_is_parked_and_its_neighbour_goes_through(
    system: System, approved: pb.Envelope
) -> None:
    another_reservation = refund_command(approved)
    another_reservation.request_refund.reservation_id = str(uuid4())
    garbled = refund_command(approved)
    garbled.request_refund.payment_id = "garbled"
    failures = await system.request_refund(
        refund_command(approved, amount_minor=4_999), another_reservation, garbled, refund_command(approved)
    )
    assert [type(failure.error) for failure in failures] == [Poison] * 3
    assert (await system.payment(id_of(approved)))["state"] == "REFUND_DUE"


async def test_an_unavailable_provider_is_asked_again_without_a_poll(
    system: System, provider: FakeProvider, approved: pb.Envelope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "POLL_INTERVAL_S", 3_600.0)
    provider.script[id_of(approved)].extend(["unavailable", "unavailable"])
    await system.request_refund(refund_command(approved))
    async with system.running():
        await system.until_state(id_of(approved), "REFUNDED")
    assert provider.count("Refund") == 3


async def test_a_provider_that_was_away_for_long_is_asked_soon_after_its_return(
    system: System, provider: FakeProvider, approved: pb.Envelope
) -> None:
    provider.script[id_of(approved)].append("unavailable")
    await system.request_refund(refund_command(approved))
    await system.rows("UPDATE payment SET attempts = 20 WHERE payment_id = %s", id_of(approved))
    async with system.running():

        async def tried_again() -> bool:
            return bool((await system.payment(id_of(approved)))["attempts"] == 21)

        await until(tried_again)
        payment = await system.payment(id_of(approved))
    assert payment["due_time"] - datetime.now(UTC) <= timedelta(seconds=backoff.UNANSWERED_MAX_S)


async def test_a_refused_refund_stays_due_with_backoff_and_raises_the_alarm(
    system: System, provider: FakeProvider, approved: pb.Envelope
) -> None:
    before = figures.refunds_refused._value.get()
    provider.script[id_of(approved)].extend(["refuse"] * 2)
    await system.request_refund(refund_command(approved))
    async with system.running():

        async def refused_once() -> bool:
            return bool((await system.payment(id_of(approved)))["attempts"] == 1)

        await until(refused_once)
        assert (await system.payment(id_of(approved)))["state"] == "REFUND_DUE"
        # It is tried again by itself.
        await system.until_state(id_of(approved), "REFUNDED")
    assert figures.refunds_refused._value.get() == before + 2
    assert provider.count("Refund") == 3


async def test_killed_after_the_money_went_back(
    new_system: Callable[[], System],
    provider: FakeProvider,
    approved: pb.Envelope,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processor, "REFUND_TIMEOUT_S", 60.0)
    dead, alive = new_system(), new_system()
    provider.script[id_of(approved)].append("lose_reply")
    async with dead.running():
        await dead.request_refund(refund_command(approved))
        await until(lambda: provider.taken_minor() == 0)
    await alive.let_leases_run_out()
    async with alive.running():
        await alive.until_state(id_of(approved), "REFUNDED")
    assert provider.count("Refund") == 2
    assert await alive.ledger(id_of(approved)) == NOTHING_LEFT


async def test_refunds_due_for_long_are_counted(system: System, approved: pb.Envelope) -> None:
    await system.request_refund(refund_command(approved))
    await system.rows(
        """UPDATE payment SET state_time = state_time - interval '2 minutes',
                              due_time = clock_timestamp() + interval '1 hour'"""
    )
    async with system.running():
        await until(lambda: figures.refunds_overdue._value.get() == 1)
