"""A refund made past the card processor: recorded once, and never while the processor may be giving it back too."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest

from contract import keys
from payments import by_hand, processor, refunder
from payments.domain import Payment
from tests.chassis.broker import until
from tests.payments.fakes import FakeProvider
from tests.payments.system import System, id_of, pay_command, refund_command
from ticketrush.messages.v1 import messages_pb2 as pb


@pytest.fixture
async def due(system: System) -> pb.Envelope:
    """The Pay of a payment of 5,000 that must go back, which nobody has tried yet."""
    command = pay_command()
    async with system.running():
        await system.pay(command)
        await system.until_state(id_of(command), "APPROVED")
    await system.request_refund(refund_command(command))
    return command


async def take(system: System, payment_id: str) -> Payment | None:
    async with system.database.transaction() as conn:
        return await by_hand.take(conn, UUID(payment_id))


async def settle(system: System, taken: Payment) -> None:
    async with system.database.transaction() as conn:
        written = await by_hand.settle(conn, system.outbox, taken, datetime.now(UTC))
    system.outbox.publish(written)


async def rest(system: System, payment_id: str, seconds: float) -> None:
    """The refunder has tried and waits so long until it tries again."""
    await system.rows(
        "UPDATE payment SET due_time = clock_timestamp() + make_interval(secs => %s) WHERE payment_id = %s",
        seconds,
        payment_id,
    )


async def test_it_is_recorded_with_history_fact_and_a_posting_of_its_own(system: System, due: pb.Envelope) -> None:
    await rest(system, id_of(due), 3_600)
    taken = await take(system, id_of(due))
    assert taken is not None
    await settle(system, taken)
    assert (await system.payment(id_of(due)))["state"] == "REFUNDED"
    assert await system.ledger(id_of(due)) == {
        "provider_clearing": 5_000,
        "deferred_revenue": 0,
        "refunds_payable": 0,
        "bank": -5_000,
    }
    assert (await system.history(id_of(due)))[-1] == (4, "refund_completed", keys.REFUND_COMPLETED)
    with pytest.raises(by_hand.NotDue):
        await take(system, id_of(due))
    with pytest.raises(by_hand.NotDue):
        await settle(system, taken)


async def test_it_waits_while_the_processor_may_be_asked(
    system: System, provider: FakeProvider, due: pb.Envelope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "REFUND_TIMEOUT_S", 60.0)
    provider.script[id_of(due)].append("lose_reply")
    async with system.running():
        await until(lambda: provider.count("Refund") == 1)
        assert await take(system, id_of(due)) is None


async def test_it_waits_while_the_next_attempt_is_near(system: System, due: pb.Envelope) -> None:
    await rest(system, id_of(due), refunder.LEASE_S - 1)
    assert await take(system, id_of(due)) is None


async def test_nobody_asks_the_processor_while_it_is_taken(
    system: System, provider: FakeProvider, due: pb.Envelope, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refunder, "LEASE_S", 0.01)
    await rest(system, id_of(due), 0.5)
    next_attempt = (await system.payment(id_of(due)))["due_time"]
    taken = await take(system, id_of(due))
    assert taken is not None
    other = pay_command()

    async def attempt_was_due() -> bool:
        return await system.rows("SELECT clock_timestamp() > %s AS passed", next_attempt) == [{"passed": True}]

    await until(attempt_was_due)
    async with system.running():
        # Another refund goes through meanwhile: the refunder is at work.
        await system.pay(other)
        await system.until_state(id_of(other), "APPROVED")
        await system.request_refund(refund_command(other))
        await system.until_state(id_of(other), "REFUNDED")
        assert ("Refund", id_of(due)) not in provider.calls
        await settle(system, taken)
    assert (await system.payment(id_of(due)))["state"] == "REFUNDED"


async def test_a_payment_that_owes_nothing_is_refused(system: System) -> None:
    command = pay_command()
    async with system.running():
        await system.pay(command)
        await system.until_state(id_of(command), "APPROVED")
    for payment_id in (id_of(command), str(uuid4())):
        with pytest.raises(by_hand.NotDue):
            await take(system, payment_id)


async def test_the_ledger_takes_one_way_back_only(system: System, due: pb.Envelope) -> None:
    async with system.running():
        await system.until_state(id_of(due), "REFUNDED")
    with pytest.raises(psycopg.errors.UniqueViolation) as refused:
        await system.rows(
            """INSERT INTO ledger_entry VALUES
                   (%(id)s, 'REFUND_BY_HAND', 'refunds_payable', 5000, 'EUR', now()),
                   (%(id)s, 'REFUND_BY_HAND', 'bank', -5000, 'EUR', now())""".replace("%(id)s", f"'{id_of(due)}'")
        )
    assert refused.value.diag.constraint_name == "money_goes_back_once"
